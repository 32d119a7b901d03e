"""The wire: golden bytes, round trips, and nothing but DecodeError from strangers' bytes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from hearthmesh.crypto.bounded import DecodeError
from hearthmesh.protocol.codec import MESSAGE_BYTES_MAX, WIRE_VERSION, decode_message, encode_message
from hearthmesh.protocol.messages import Message, Ping, TableRows
from hearthmesh.protocol.records import RecordError, RecordKind, open_record, sign_record
from tests.protocol.wire import (
    BODIES,
    MESSAGES,
    SIGNER,
    example_of,
    messages_file,
    plain,
    stored_vectors,
    values_of,
)

MESSAGE_VECTORS = stored_vectors(messages_file())
RECORD_VECTORS = stored_vectors("records.json")
VERSION = bytes([WIRE_VERSION])

_messages = st.one_of([values_of(struct) for struct in MESSAGES])
_kinds = st.sampled_from(MESSAGES)
_records = st.sampled_from(list(RecordKind)).flatmap(
    lambda kind: values_of(BODIES[kind]).map(lambda body: sign_record(SIGNER, kind, body))
)


# -- golden -------------------------------------------------------------------------------------------------


def test_every_message_and_record_kind_has_a_vector_and_no_other() -> None:
    assert sorted(MESSAGE_VECTORS) == sorted(struct.__name__ for struct in MESSAGES)
    assert sorted(RECORD_VECTORS) == sorted(kind.name for kind in RecordKind)


@pytest.mark.parametrize("name", sorted(MESSAGE_VECTORS))
def test_message_vector_means_what_it_meant_and_is_written_as_it_was(name: str) -> None:
    raw = bytes.fromhex(MESSAGE_VECTORS[name]["bytes"])
    message = decode_message(raw)
    assert type(message).__name__ == name
    assert plain(message) == MESSAGE_VECTORS[name]["message"]
    assert encode_message(message) == raw


@pytest.mark.parametrize("name", sorted(RECORD_VECTORS))
def test_record_vector_means_what_it_meant_and_is_signed_as_it_was(name: str) -> None:
    raw = bytes.fromhex(RECORD_VECTORS[name]["bytes"])
    record = open_record(raw)
    assert record.kind is RecordKind[name] and record.author == SIGNER.node_id
    assert plain(record.body) == RECORD_VECTORS[name]["body"]
    assert record.id.hex() == RECORD_VECTORS[name]["id"]
    assert sign_record(SIGNER, record.kind, record.body).raw == raw


@pytest.mark.parametrize("name", sorted(MESSAGE_VECTORS))
def test_any_other_byte_in_a_vector_is_another_message_or_none(name: str) -> None:
    raw = bytes.fromhex(MESSAGE_VECTORS[name]["bytes"])
    message = decode_message(raw)
    for at in range(len(raw)):
        for mask in (0x01, 0x80):
            changed = raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]
            try:
                assert decode_message(changed) != message
            except DecodeError:
                continue


@pytest.mark.parametrize("name", sorted(RECORD_VECTORS))
def test_any_other_byte_in_a_record_is_refused(name: str) -> None:
    raw = bytes.fromhex(RECORD_VECTORS[name]["bytes"])
    step = max(1, len(raw) // 60)
    for at in range(0, len(raw), step):
        with pytest.raises(RecordError):
            open_record(raw[:at] + bytes([raw[at] ^ 0x01]) + raw[at + 1 :])


# -- round trips --------------------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(_messages)
def test_message_comes_back_as_it_was(message: Message) -> None:
    assert decode_message(encode_message(message)) == message


@settings(max_examples=100, deadline=None)
@given(_records)
def test_record_comes_back_as_it_was(record: Any) -> None:
    assert open_record(record.raw) == record


# -- strangers ----------------------------------------------------------------------------------------------


def decodes_or_says_why(raw: bytes) -> None:
    try:
        message = decode_message(raw)
    except DecodeError as error:
        assert error.reason and len(str(error)) < 1_000
    else:
        assert isinstance(message, MESSAGES)


@settings(max_examples=300, deadline=None)
@given(_messages, st.data())
def test_damaged_bytes_are_a_message_or_a_decode_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.integers(0, 4))
        raw[at : at + cut] = data.draw(st.binary(max_size=8))
    decodes_or_says_why(bytes(raw))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_a_message_or_a_decode_error(garbage: bytes, versioned: bool) -> None:
    decodes_or_says_why(VERSION + garbage if versioned else garbage)


_objects = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(range(45)), st.lists(_objects, max_size=8))
def test_arrays_of_anything_are_a_message_or_a_decode_error(tag: int, fields: list[Any]) -> None:
    decodes_or_says_why(VERSION + msgpack.packb([tag, *fields]))


@settings(max_examples=100, deadline=None)
@given(_messages, st.data())
def test_part_of_a_message_is_no_message(message: Message, data: st.DataObject) -> None:
    raw = encode_message(message)
    with pytest.raises(DecodeError):
        decode_message(raw[: data.draw(st.integers(0, len(raw) - 1))])


@settings(max_examples=100, deadline=None)
@given(_messages, st.binary(min_size=1, max_size=20))
def test_message_with_more_after_it_is_no_message(message: Message, more: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_message(encode_message(message) + more)


@pytest.mark.parametrize("version", [0, WIRE_VERSION + 1, 255])
def test_other_version_is_refused_by_name(version: int) -> None:
    raw = encode_message(Ping(1))
    with pytest.raises(DecodeError, match=f"version {version}"):
        decode_message(bytes([version]) + raw[1:])


def test_nothing_is_no_message() -> None:
    with pytest.raises(DecodeError):
        decode_message(b"")


def test_message_over_the_limit_is_refused_whatever_it_says() -> None:
    rows = (b"r" * (1024 * 1024),) * 5
    raw = encode_message(TableRows(1, True, rows, (), (), ()))
    assert len(raw) > MESSAGE_BYTES_MAX
    with pytest.raises(DecodeError):
        decode_message(raw)
    with pytest.raises(DecodeError):
        decode_message(encode_message(Ping(1 << 40)), max_bytes=4)


_HEADERS = {
    "array 16": b"\xdc\xff\xff",
    "array 32": b"\xdd\xff\xff\xff\xff",
    "map 32": b"\xdf\xff\xff\xff\xff",
    "text 32": b"\xdb\xff\xff\xff\xff",
    "bytes 32": b"\xc6\xff\xff\xff\xff",
    "extension 32": b"\xc9\xff\xff\xff\xff\x01",
}


@pytest.mark.parametrize("name", sorted(_HEADERS))
@pytest.mark.parametrize("before", [b"", b"\x93\x01\x00", b"\x94\x17\xc4\x20" + bytes(32)])
def test_header_that_promises_too_much_reserves_nothing(name: str, before: bytes) -> None:
    for tail in (b"", b"\x00" * 1000, _HEADERS[name] * 200):
        raw = VERSION + before + _HEADERS[name] + tail
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError):
                decode_message(raw)
            assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("bracket", [b"\x91", b"\x81\x01", b"\x93\x01\x00"])
@pytest.mark.parametrize("depth", [100, 1_023, 1_025, 1_000_000])
def test_deep_nesting_is_refused(bracket: bytes, depth: int) -> None:
    with pytest.raises(DecodeError):
        decode_message(VERSION + bracket * depth + b"\x00")


# -- bounds -------------------------------------------------------------------------------------------------


def _beyond(info: inspect.Type) -> list[Any]:
    """Values of the right type that are out of the type's bounds."""
    match info:
        case inspect.IntType():
            return [bound for bound in (info.ge is not None and info.ge - 1, info.le is not None and info.le + 1)]
        case inspect.BytesType():
            short = [bytes(info.min_length - 1)] if info.min_length else []
            return short + [bytes((info.max_length or 0) + 1)]
        case inspect.StrType():
            return ["x" * ((info.max_length or 256) + 1)]
        case inspect.VarTupleType():
            item = msgspec.to_builtins(_minimal(info.item_type), builtin_types=(bytes,))
            return [[item] * ((info.max_length or 0) + 1)]
    return []


def _minimal(info: inspect.Type) -> Any:
    match info:
        case inspect.StructType():
            return info.cls(*(_minimal(field.type) for field in info.fields))
        case inspect.IntType():
            return info.ge
        case inspect.BytesType():
            return bytes(info.min_length or 0)
        case inspect.StrType():
            return "x" * (info.min_length or 0)
        case inspect.BoolType():
            return False
        case inspect.TupleType():
            return tuple(_minimal(each) for each in info.item_types)
    return ()


@pytest.mark.parametrize("struct", MESSAGES, ids=lambda struct: struct.__name__)
def test_every_field_has_bounds_and_a_type_that_are_kept(struct: type[Any]) -> None:
    fields = inspect.type_info(struct).fields  # type: ignore[attr-defined]
    whole = msgspec.to_builtins(example_of(struct), builtin_types=(bytes,))
    for at, field in enumerate(fields, 1):
        wrong = [None, 0.5, {"x": 1}, *_beyond(field.type)]
        for value in wrong:
            raw = msgpack.packb([*whole[:at], value, *whole[at + 1 :]])
            with pytest.raises(DecodeError):
                decode_message(VERSION + raw)


@pytest.mark.parametrize("struct", [*MESSAGES, *BODIES.values()], ids=lambda struct: struct.__name__)
def test_no_type_on_the_wire_is_unbounded(struct: type[Any]) -> None:
    def check(info: inspect.Type, where: str) -> None:
        match info:
            case inspect.StructType():
                assert info.array_like and info.forbid_unknown_fields, where
                for field in info.fields:
                    check(field.type, f"{where}.{field.name}")
            case inspect.IntType():
                assert info.ge is not None and info.le is not None, where
            case inspect.StrType():
                assert info.max_length is not None or info.pattern is not None, where
            case inspect.VarTupleType():
                assert info.max_length is not None, where
                check(info.item_type, where + "[]")
            case inspect.TupleType():
                for item in info.item_types:
                    check(item, where + "[]")
            case inspect.UnionType():
                for item in info.types:
                    check(item, where)
            case inspect.NoneType():
                pass
            case _:
                assert isinstance(info, inspect.BytesType | inspect.BoolType), where

    check(inspect.type_info(struct), struct.__name__)


@given(_kinds)
def test_fields_beyond_the_last_are_refused(struct: type[Any]) -> None:
    whole = msgspec.to_builtins(example_of(struct), builtin_types=(bytes,))
    with pytest.raises(DecodeError):
        decode_message(VERSION + msgpack.packb([*whole, 0]))
