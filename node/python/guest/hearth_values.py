"""Values between a client and a Python task: MessagePack, typed and bounded; never code.

None, bool, int of any size up to 4 KiB, float, complex, str, bytes, list, tuple and dict come back as what they were;
everything else is refused by name. One value has one encoding, so results compare to the byte. Stands alone: it runs
in the client and in the sandboxed Python.
"""

import struct

DEPTH_MAX = 64
INT_BYTES_MAX = 4096
_BIG_INT, _TUPLE, _COMPLEX = 1, 2, 3
_NAN = struct.pack(">Q", 0x7FF8000000000000)


class ValueRefused(ValueError):
    """A value that cannot travel, or bytes that are none; one line."""


def pack(value: object) -> bytes:
    """Raises ValueRefused."""
    out = bytearray()
    _pack(value, out, 0)
    return bytes(out)


def unpack(packed: bytes) -> object:
    """Raises ValueRefused."""
    value, end = _unpack(memoryview(packed), 0, 0)
    if end != len(packed):
        raise ValueRefused(f"{len(packed) - end} bytes after the value")
    return value


def _pack(value: object, out: bytearray, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueRefused(f"nested deeper than {DEPTH_MAX}, or within itself")
    kind = type(value)
    if value is None:
        out.append(0xC0)
    elif kind is bool:
        out.append(0xC3 if value else 0xC2)
    elif kind is int:
        _pack_int(value, out)  # type: ignore[arg-type]
    elif kind is float:
        out.append(0xCB)
        out += _float(value)  # type: ignore[arg-type]
    elif kind is str:
        try:
            encoded = value.encode()  # type: ignore[attr-defined]
        except UnicodeEncodeError as error:
            raise ValueRefused(f"a text with half a character: {error.reason}") from error
        _head(out, len(encoded), 0xD9, 0xDA, 0xDB)
        out += encoded
    elif kind is bytes:
        _head(out, len(value), 0xC4, 0xC5, 0xC6)  # type: ignore[arg-type]
        out += value  # type: ignore[arg-type]
    elif kind is list:
        _pack_items(value, out, depth)  # type: ignore[arg-type]
    elif kind is tuple:
        inner = bytearray()
        _pack_items(value, inner, depth)  # type: ignore[arg-type]
        _extension(out, _TUPLE, bytes(inner))
    elif kind is dict:
        _head(out, len(value), None, 0xDE, 0xDF)  # type: ignore[arg-type]
        for key, item in value.items():  # type: ignore[attr-defined]
            _pack(key, out, depth + 1)
            _pack(item, out, depth + 1)
    elif kind is complex:
        _extension(out, _COMPLEX, _float(value.real) + _float(value.imag))  # type: ignore[attr-defined]
    else:
        raise ValueRefused(
            f"a {kind.__module__}.{kind.__qualname__} cannot travel; use None, bool, int, float, complex, str, "
            "bytes, list, tuple or dict"
        )


def _pack_int(value: int, out: bytearray) -> None:
    if -(1 << 63) <= value < 1 << 63:
        out.append(0xD3)
        out += value.to_bytes(8, "big", signed=True)
        return
    length = (value.bit_length() + 8) // 8
    if length > INT_BYTES_MAX:
        raise ValueRefused(f"an int of more than {INT_BYTES_MAX} bytes; send its bytes")
    _extension(out, _BIG_INT, value.to_bytes(length, "big", signed=True))


def _pack_items(items: "list[object] | tuple[object, ...]", out: bytearray, depth: int) -> None:
    _head(out, len(items), None, 0xDC, 0xDD)
    for item in items:
        _pack(item, out, depth + 1)


def _float(value: float) -> bytes:
    return _NAN if value != value else struct.pack(">d", value)


def _extension(out: bytearray, kind: int, payload: bytes) -> None:
    _head(out, len(payload), 0xC7, 0xC8, 0xC9)
    out.append(kind)
    out += payload


def _head(out: bytearray, length: int, small: "int | None", middle: int, large: int) -> None:
    if small is not None and length < 1 << 8:
        out.append(small)
        out.append(length)
    elif length < 1 << 16:
        out.append(middle)
        out += length.to_bytes(2, "big")
    elif length < 1 << 32:
        out.append(large)
        out += length.to_bytes(4, "big")
    else:
        raise ValueRefused("longer than 4 GiB")


_LENGTHS = {
    **dict.fromkeys((0xD9, 0xC4, 0xC7), 1),
    **dict.fromkeys((0xDA, 0xC5, 0xC8, 0xDC, 0xDE), 2),
    **dict.fromkeys((0xDB, 0xC6, 0xC9, 0xDD, 0xDF), 4),
}


def _unpack(packed: memoryview, at: int, depth: int) -> "tuple[object, int]":
    if depth > DEPTH_MAX:
        raise ValueRefused(f"nested deeper than {DEPTH_MAX}")
    head = _take(packed, at, 1)[0]
    at += 1
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if head == 0xD3:
        return int.from_bytes(_take(packed, at, 8), "big", signed=True), at + 8
    if head == 0xCB:
        return struct.unpack(">d", _take(packed, at, 8))[0], at + 8
    width = _LENGTHS.get(head)
    if width is None:
        raise ValueRefused(f"no value begins with 0x{head:02x} here")
    length = int.from_bytes(_take(packed, at, width), "big")
    at += width
    if head in (0xD9, 0xDA, 0xDB):
        try:
            return str(_take(packed, at, length), "utf-8"), at + length
        except UnicodeDecodeError as error:
            raise ValueRefused(f"a text that is not UTF-8: {error.reason}") from error
    if head in (0xC4, 0xC5, 0xC6):
        return bytes(_take(packed, at, length)), at + length
    if head in (0xDC, 0xDD):
        return _unpack_items(packed, at, length, depth)
    if head in (0xDE, 0xDF):
        return _unpack_pairs(packed, at, length, depth)
    kind = _take(packed, at, 1)[0]
    return _unpack_extension(kind, _take(packed, at + 1, length), depth), at + 1 + length


def _unpack_items(packed: memoryview, at: int, length: int, depth: int) -> "tuple[list[object], int]":
    items: list[object] = []
    for _ in range(length):  # each item takes a byte at least, so a false length ends soon
        item, at = _unpack(packed, at, depth + 1)
        items.append(item)
    return items, at


def _unpack_pairs(packed: memoryview, at: int, length: int, depth: int) -> "tuple[dict[object, object], int]":
    pairs: dict[object, object] = {}
    for _ in range(length):
        key, at = _unpack(packed, at, depth + 1)
        try:
            hash(key)
        except TypeError as error:
            raise ValueRefused(f"a key that is no key: {error}") from error
        pairs[key], at = _unpack(packed, at, depth + 1)
    return pairs, at


def _unpack_extension(kind: int, payload: memoryview, depth: int) -> object:
    if kind == _BIG_INT and 0 < len(payload) <= INT_BYTES_MAX:
        return int.from_bytes(payload, "big", signed=True)
    if kind == _COMPLEX and len(payload) == 16:
        return complex(*struct.unpack(">dd", payload))
    if kind == _TUPLE:
        items, end = _unpack(payload, 0, depth)
        if isinstance(items, list) and end == len(payload):
            return tuple(items)
    raise ValueRefused(f"an extension {kind} of {len(payload)} bytes is no value")


def _take(packed: memoryview, at: int, length: int) -> memoryview:
    if at + length > len(packed):
        raise ValueRefused("it ends too early")
    return packed[at : at + length]
