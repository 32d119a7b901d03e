"""Frames between a worker and its parent."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hearthmesh.node.execution.wasm_wire import (
    HEADER,
    Done,
    decode_from_worker,
    encode,
    pack_column,
    split,
    unpack_column,
)


@given(st.lists(st.binary(max_size=50)), st.dictionaries(st.integers(0, 99), st.binary(max_size=9)), st.integers(0, 99))
def test_an_outcome_comes_back_as_it_was_sent(outputs: list[bytes], stderrs: dict[int, bytes], batch: int) -> None:
    lengths = [*map(len, outputs)]
    sent = Done(batch, b"e", pack_column("I", lengths), memoryview(b"".join(outputs)), b"f", b"c", stderrs)
    frame = encode(sent)
    assert HEADER.unpack_from(frame) == (len(frame) - HEADER.size,)
    received = decode_from_worker(frame[HEADER.size :])
    assert isinstance(received, Done)
    assert split(received.outputs, unpack_column("I", received.lengths, len(outputs))) == outputs
    assert (received.batch, received.stderrs) == (batch, stderrs)


@given(st.lists(st.integers(-32_768, 32_767)))
def test_a_column_comes_back_as_it_was_packed(values: list[int]) -> None:
    assert unpack_column("h", pack_column("h", values), len(values)) == values


@given(st.binary(max_size=200))
@example(b"\x91\xa8\x00\x00\x00\x00\x00\x00\x00\x80").via("a tag that is not text")
def test_garbage_from_a_worker_is_a_value_error(garbage: bytes) -> None:
    try:
        found = decode_from_worker(garbage)
    except ValueError:
        return
    # What was taken for a message is one whole message: it can be sent, and is the same again.
    assert decode_from_worker(encode(found)[HEADER.size :]) == found


def test_columns_and_pieces_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="wrong length"):
        unpack_column("Q", bytes(15), 2)
    with pytest.raises(ValueError, match="add up"):
        split(b"abc", [1, 1])
