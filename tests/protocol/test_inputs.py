"""Packs of inputs: one encoding each, and nothing from outside that is not one is taken."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.bounded import DecodeError
from hearthmesh.protocol.inputs import (
    INPUT_BYTES_MAX,
    PACK_BYTES_MAX,
    input_packs,
    pack_inputs,
    select,
    unpack_inputs,
)

inputs = st.lists(st.binary(max_size=40), max_size=50)


def test_pack_has_the_documented_bytes() -> None:
    assert pack_inputs([b"ab", b"", b"c"]) == bytes.fromhex("03000000 02000000 00000000 01000000 616263")


@given(inputs)
def test_unpacking_returns_what_was_packed(entries: list[bytes]) -> None:
    assert unpack_inputs(pack_inputs(entries), len(entries)) == entries


@given(inputs, st.data())
def test_selection_equals_a_slice_of_all_inputs(entries: list[bytes], data: st.DataObject) -> None:
    offset = data.draw(st.integers(0, len(entries)))
    count = data.draw(st.integers(0, len(entries) - offset))
    assert select(pack_inputs(entries), offset, count) == entries[offset : offset + count]


@given(inputs, st.integers(48, 200))
def test_packs_cover_all_inputs_in_order_within_their_bound(entries: list[bytes], most: int) -> None:
    unpacked: list[bytes] = []
    for first, count, pack in input_packs(entries, pack_bytes_max=most):
        assert first == len(unpacked) and count >= 1 and len(pack) <= most
        unpacked += unpack_inputs(pack, count)
    assert unpacked == entries


@given(st.binary(max_size=64))
def test_bytes_that_unpack_are_the_pack_of_what_they_unpack_to(pack: bytes) -> None:
    try:
        entries = unpack_inputs(pack, 16)
    except DecodeError:
        return
    assert pack_inputs(entries) == pack


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        (b"", "a pack of 0 bytes"),
        (bytes(PACK_BYTES_MAX + 1), "a pack of 1048577 bytes"),
        (b"\xff\xff\xff\xff", "4294967295 inputs; at most 100"),
        (struct.pack("<I", 100) + bytes(399), "100 lengths do not fit"),
        (struct.pack("<3I", 2, 0xFFFFFFFF, 0xFFFFFFFF) + bytes(8), "the inputs are 8 bytes, not 8589934590"),
        (struct.pack("<2I", 1, 1) + b"ab", "the inputs are 2 bytes, not 1"),
    ],
)
def test_hostile_packs_are_refused_with_a_reason(pack: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        unpack_inputs(pack, 100)


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, -1), (0, 3), (3, 0), (1, 1 << 62)])
def test_selection_outside_a_pack_is_refused(offset: int, count: int) -> None:
    with pytest.raises(DecodeError, match="the pack holds 2 inputs"):
        select(pack_inputs([b"a", b"b"]), offset, count)


def test_largest_input_fits_a_pack_alone_and_a_larger_one_is_named() -> None:
    packs = list(input_packs([b"a", bytes(INPUT_BYTES_MAX), b"b"]))
    assert [(first, count) for first, count, _ in packs] == [(0, 1), (1, 1), (2, 1)]
    assert len(packs[1][2]) == PACK_BYTES_MAX
    with pytest.raises(ValueError, match="the input of task 1 has 1048569 bytes"):
        list(input_packs([b"a", bytes(INPUT_BYTES_MAX + 1)]))


def test_packs_are_made_while_inputs_are_still_read() -> None:
    read: list[int] = []

    def entries() -> Iterator[bytes]:
        for task in range(100):
            read.append(task)
            yield bytes(100)

    next(input_packs(entries(), pack_bytes_max=220))
    assert read == [0, 1, 2]
