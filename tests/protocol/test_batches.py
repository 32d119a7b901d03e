"""Batches: columns round-trip, the root binds every field, one task can be shown alone."""

import dataclasses
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.batches import (
    Batch,
    BatchError,
    check_batch,
    check_task,
    decode_columns,
    encode_columns,
    prove_task,
)
from hearthmesh.protocol.records import BatchHeader, KeyBox, Record, RecordKind, sign_record

WORKER = Identity.from_seed(bytes(32))
digests = st.binary(min_size=32, max_size=32)


@st.composite
def batches(draw: Callable[..., Any]) -> Batch:
    count = draw(st.integers(1, 12))

    def column(each: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(each, min_size=count, max_size=count)))

    outputs = list(column(st.binary(max_size=20)))
    externals = draw(
        st.dictionaries(st.integers(0, count - 1), st.tuples(digests, st.integers(0, 1 << 40)), max_size=3)
    )
    for offset in externals:
        outputs[offset] = b""
    return Batch(
        first=draw(st.integers(0, 1 << 32)),
        epoch=draw(st.integers(0, 1 << 30)),
        exits=column(st.integers(-8, 255)),
        outputs=tuple(outputs),
        fuels=column(st.integers(0, (1 << 63) - 1)),
        cpu_us=column(st.integers(0, (1 << 32) - 1)),
        externals=externals,
        stderrs=draw(st.dictionaries(st.integers(0, count - 1), st.binary(min_size=1, max_size=9), max_size=3)),
    )


def header_of(batch: Batch, **changes: Any) -> BatchHeader:
    fields: dict[str, Any] = dict(
        job_id=bytes(32),
        first=batch.first,
        count=len(batch),
        epoch=batch.epoch,
        root=batch.root(),
        failed=batch.failed(),
        cpu_us=0,
        fuel=0,
        energy_mj=0,
        useful_mj=0,
        measured=False,
        certificate=b"",
    )
    return BatchHeader(**(fields | changes))


def signed(batch: Batch) -> Record:
    return sign_record(WORKER, RecordKind.BATCH, header_of(batch))


@given(batches())
def test_columns_round_trip(batch: Batch) -> None:
    assert check_batch(header_of(batch), encode_columns(batch)) == batch


@given(batches(), st.data())
def test_any_changed_field_breaks_the_root(batch: Batch, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(["exits", "outputs", "fuels", "cpu_us", "first", "epoch"]))
    value = getattr(batch, field)
    if isinstance(value, int):
        changed = dataclasses.replace(batch, **{field: value + 1})
    else:
        offset = data.draw(st.integers(0, len(batch) - 1))
        if field == "outputs" and offset in batch.externals:
            return
        other = value[offset] + (b"x" if field == "outputs" else -1 if value[offset] else 1)
        changed = dataclasses.replace(batch, **{field: (*value[:offset], other, *value[offset + 1 :])})
    assert changed.root() != batch.root()
    with pytest.raises(BatchError):
        check_batch(header_of(batch, first=changed.first, epoch=changed.epoch), encode_columns(changed))


def test_a_sealed_output_cannot_be_passed_on_as_a_large_one_nor_a_large_one_as_it() -> None:
    sealed, digest, mark = bytes(range(80)), bytes([7]) * 32, bytes([8]) * 80
    inline = Batch(0, 1, (0,), (sealed,), (0,), (0,), {}, {})
    large = Batch(0, 1, (0,), (mark,), (0,), (0,), {0: (digest, 5)}, {})
    box = KeyBox(bytes(32), bytes(81))
    for said, forgeries in (
        (
            inline,
            (
                dataclasses.replace(inline, outputs=(b"",), externals={0: (sha256(sealed).digest(), 80)}),
                dataclasses.replace(inline, outputs=(sealed[32:],), externals={0: (sealed[:32], 80)}),
            ),
        ),
        (large, (dataclasses.replace(large, outputs=(digest + mark,), externals={}),)),
    ):
        header = header_of(said, box=box)
        assert check_batch(header, encode_columns(said)) == said
        for forged in forgeries:
            with pytest.raises(BatchError):
                check_batch(header, encode_columns(forged))


@given(batches(), st.data())
def test_one_task_is_proved_without_the_others(batch: Batch, data: st.DataObject) -> None:
    record = signed(batch)
    index = batch.first + data.draw(st.integers(0, len(batch) - 1))
    proof = prove_task(record, batch, index)
    assert check_task(record.body, proof)
    assert not check_task(record.body, dataclasses.replace(proof, exit_code=proof.exit_code ^ 1))
    assert not check_task(record.body, dataclasses.replace(proof, index=proof.index + len(batch)))
    assert not check_task(record.body, dataclasses.replace(proof, output_digest=bytes(31) + b"\x01"))
    assert not check_task(record.body, dataclasses.replace(proof, fuel=-1))


@given(batches(), st.binary(max_size=200))
def test_garbage_columns_are_refused_with_a_reason(batch: Batch, garbage: bytes) -> None:
    with pytest.raises(BatchError):
        check_batch(header_of(batch), garbage)


@given(batches(), st.integers(0, 6), st.data())
def test_columns_of_wrong_length_are_refused(batch: Batch, which: int, data: st.DataObject) -> None:
    parts = msgspec.msgpack.decode(encode_columns(batch))
    if which < 5:
        parts[which] = parts[which] + b"\x00"
    elif which == 5:
        parts[5] = [[len(batch), bytes(32), 1]]
    else:
        parts[6] = [[len(batch), b"x"]]
    with pytest.raises(BatchError):
        check_batch(header_of(batch), msgspec.msgpack.encode(parts))


def test_a_header_that_hides_failures_is_refused() -> None:
    batch = Batch(0, 1, (0, 3), (b"", b""), (0, 0), (1, 1), {}, {})
    with pytest.raises(BatchError, match="miscounts"):
        check_batch(header_of(batch, failed=0), encode_columns(batch))


def test_equal_columns_take_no_room_where_all_tasks_succeeded() -> None:
    batch = Batch(0, 1, (0,) * 1000, (b"",) * 1000, (0,) * 1000, (5,) * 1000, {}, {})
    assert len(encode_columns(batch)) < 1000 * 8 + 100
    assert decode_columns(header_of(batch), encode_columns(batch)).exits == (0,) * 1000
