"""Hostile MessagePack is refused with a reason, at a bounded cost."""

import struct
import tracemalloc
from typing import Annotated

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.bounded import DecodeError, decode_bounded, decode_canonical, encode


class Point(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=8)]
    key: bytes
    parts: tuple[int, ...] = ()


class Circle(msgspec.Struct, array_like=True, frozen=True, tag=1, forbid_unknown_fields=True):
    radius: int


class Square(msgspec.Struct, array_like=True, frozen=True, tag=2, forbid_unknown_fields=True):
    side: int


class Nested(msgspec.Struct, array_like=True, frozen=True):
    inner: "Nested | None" = None


POINT = Point("a", b"k", (1, 2))


def reason_of(data: bytes, type: object = Point, **bounds: int) -> str:
    with pytest.raises(DecodeError) as caught:
        decode_bounded(data, type, **{"max_bytes": 1 << 20, **bounds})
    assert 0 <= caught.value.offset <= len(data)
    assert caught.value.reason.isprintable() and 0 < len(caught.value.reason) <= 200
    return caught.value.reason


@given(st.builds(Point, st.text(max_size=8), st.binary(max_size=99), st.tuples(st.integers(-(2**63), 2**64 - 1))))
def test_what_was_encoded_is_decoded(point: Point) -> None:
    assert decode_bounded(encode(point), Point, max_bytes=1000) == point
    assert decode_canonical(encode(point), Point, max_bytes=1000) == point


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_value_or_a_decode_error(data: bytes) -> None:
    for type in (Point, Circle | Square, Nested, dict[str, int], object):
        try:
            decode_bounded(data, type, max_bytes=200)
        except DecodeError:
            pass


@given(st.data())
def test_a_changed_byte_gives_a_value_or_a_decode_error(data: st.DataObject) -> None:
    encoded = bytearray(encode(POINT))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_bounded(bytes(encoded), Point, max_bytes=200)
    except DecodeError:
        pass


def test_a_union_of_tagged_structs_is_told_apart() -> None:
    assert decode_bounded(encode(Square(3)), Circle | Square, max_bytes=100) == Square(3)


def test_more_bytes_than_allowed_are_refused_unread() -> None:
    assert reason_of(encode(POINT), max_bytes=3) == f"{len(encode(POINT))} bytes, at most 3 allowed"


def test_more_items_than_allowed_are_refused() -> None:
    assert "max_array_len" in reason_of(encode(list(range(11))), list[int], max_items=10)
    assert decode_bounded(encode(list(range(10))), list[int], max_bytes=100, max_items=10) == list(range(10))
    assert "max_map_len" in reason_of(encode({str(i): i for i in range(11)}), dict[str, int], max_items=10)


def test_trailing_bytes_are_refused_with_their_offset() -> None:
    with pytest.raises(DecodeError, match="trailing bytes") as caught:
        decode_bounded(encode(POINT) + b"\0", Point, max_bytes=100)
    assert caught.value.offset == len(encode(POINT))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\xa1\xff",
        b"\xd4\x05\x00",
        b"\xd6\xff\0\0\0\1",
        b"\x81\x01\x02",
        b"\x81\x90\x00",
    ],
    ids=["empty", "unused", "cut", "utf-8", "extension", "timestamp", "number as key", "list as key"],
)
def test_what_no_record_contains_is_refused(data: bytes) -> None:
    reason_of(data, object)


@pytest.mark.parametrize(
    "plain",
    [
        ["a", "azE="],
        [b"a", b"k"],
        ["a", b"k", [True]],
        ["a", b"k", [1.0]],
        ["a", b"k", [], 0],
        ["a"],
        ["too long a name", b"k"],
        {"name": "a", "key": b"k"},
        None,
    ],
)
def test_types_are_not_coerced_and_fields_not_ignored(plain: object) -> None:
    reason_of(msgpack.packb(plain))


@pytest.mark.parametrize("depth", [900, 1_023, 1_025, 100_000])
def test_deep_nesting_ends_in_a_decode_error_or_a_value(depth: int) -> None:
    assert reason_of(b"\x91" * depth + b"\xc0")
    try:
        decode_bounded(b"\x91" * depth + b"\xc0", Nested, max_bytes=1 << 20)
    except DecodeError as error:
        assert error.reason == "nested too deeply"
    else:
        assert depth <= 1_024


def test_nested_headers_reserve_no_memory() -> None:
    # Unguarded, 1,024 levels of 16,000 promised items would reserve 130 MB for 17 kB of message.
    bomb = (b"\xdd" + struct.pack(">I", 16_000)) * 1_000 + bytes(16_000)
    assert peak_bytes(bomb) < 2_000_000
    assert reason_of(bomb, object) == "more items declared than bytes follow"
    late = b"\xdc\x01\x91" + bytes(400) + bomb
    assert peak_bytes(late) < 2_000_000
    assert reason_of(late, object) == "more items declared than bytes follow"
    maps = (b"\xdf" + struct.pack(">I", 16_000) + b"\xa1k") * 1_000 + b"\xdd" * 16_000
    assert peak_bytes(maps) < 2_000_000


@given(st.integers(1, 200), st.sampled_from([b"\x90", b"\x80", b"\xc0", b"\x91\x90"]))
def test_memory_stays_in_proportion_to_the_message(count: int, item: bytes) -> None:
    message = b"\xdc" + struct.pack(">H", count * 100) + item * count * 100
    assert peak_bytes(message) < 100 * len(message) + 10_000


def peak_bytes(message: bytes) -> int:
    tracemalloc.start()
    try:
        decode_bounded(message, tuple[Point, ...], max_bytes=1 << 20)
    except DecodeError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=40),
    max_leaves=60,
)


@given(PLAIN)
def test_the_guard_against_reservations_lets_honest_messages_pass(plain: object) -> None:
    # So many 0xdd that the cheap look suspects a bomb, and the exact look has to clear it.
    encoded = msgpack.packb([plain, b"\xdd" * 40_000])
    assert msgpack.packb(decode_bounded(encoded, object, max_bytes=1 << 20)) == encoded


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(["a", b"k", [1]], use_single_float=True).replace(b"\x91\x01", b"\x91\xcc\x01"),
        b"\xdc\x00\x03" + encode(POINT)[1:],
        encode(["a", b"k"]),
    ],
    ids=["wide integer", "wide array", "default left out"],
)
def test_a_second_encoding_of_a_value_is_not_canonical(data: bytes) -> None:
    decode_bounded(data, Point, max_bytes=100)
    with pytest.raises(DecodeError, match="canonical"):
        decode_canonical(data, Point, max_bytes=100)


def test_reasons_are_printable_and_short_whatever_the_peer_sent() -> None:
    assert DecodeError(0, "\x1b[31m" + "x" * 1_000).reason == "?[31m" + "x" * 195
