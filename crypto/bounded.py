"""MessagePack from strangers: bounds first, types second.

What an attacker can vary, and what holds it:

- length: `max_bytes`, before anything is read;
- containers: `max_items` each. The unpacker reserves a list as soon as it reads its header, so nested headers
  could reserve thousands of times the message's size; `_items_fit` refuses headers that declare more items
  than bytes follow;
- nesting: the unpacker's own stack ends at 1,024; below that nothing recurses deeper than the expected type
  does;
- trailing bytes, extension types, keys that are neither text nor bytes: refused;
- types: strict, without coercion (text is never bytes, a bool never a number).

Memory while decoding stays under about 90 times the message: an empty list is one byte there and 56 here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, overload

import msgpack  # type: ignore[import-untyped]
import msgspec

T = TypeVar("T")

MAX_ITEMS = 1 << 16
# Lists that may be reserved without looking: what a process can always spare.
_UNCHECKED_RESERVATION_BYTES = 1 << 20
_POINTER_BYTES = 8
_FEW_ITEMS = 256
_REASON_LENGTH_MAX = 200
# Types that are decoded to; the code names a few dozen.
_TYPES_KEPT = 256

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


class DecodeError(ValueError):
    """Bytes that are not what they should be.

    offset: where, in bytes from the start; 0 when it is the whole.  reason: printable, at most 200
    characters.
    """

    def __init__(self, offset: int, reason: str) -> None:
        self.offset = offset
        self.reason = "".join(c if c.isprintable() else "?" for c in reason[:_REASON_LENGTH_MAX])
        super().__init__(f"{self.reason} (at byte {offset})")


@overload
def decode_bounded(data: bytes, type: type[T], *, max_bytes: int, max_items: int = ...) -> T: ...


@overload
def decode_bounded(data: bytes, type: Any, *, max_bytes: int, max_items: int = ...) -> Any: ...


def decode_bounded(data: bytes, type: Any, *, max_bytes: int, max_items: int = MAX_ITEMS) -> Any:
    """One value of the type, from hostile MessagePack.

    type: anything msgspec converts to (a Struct, a union of tagged Structs, `tuple[int, ...]`).
    max_items: of each array and map.  Raises DecodeError and nothing else.
    """
    size_bytes = len(data)
    if size_bytes > max_bytes:
        raise DecodeError(0, f"{size_bytes} bytes, at most {max_bytes} allowed")
    limit = min(max_items, size_bytes)
    if not _reservation_is_bounded(data, limit):
        raise DecodeError(0, "more items declared than bytes follow")
    try:
        plain = msgpack.unpackb(
            data,
            max_str_len=size_bytes,
            max_bin_len=size_bytes,
            max_array_len=limit,
            max_map_len=limit,
            max_ext_len=0,
        )
    except msgpack.ExtraData as error:
        raise DecodeError(size_bytes - len(error.extra), "trailing bytes") from None
    except msgpack.StackError:
        raise DecodeError(0, "nested too deeply") from None
    except msgpack.FormatError:
        raise DecodeError(0, "not MessagePack") from None
    except ValueError as error:
        raise DecodeError(0, str(error)) from None
    try:
        return msgspec.convert((plain,), _held(type), strict=True, builtin_types=(bytes,)).value
    except msgspec.ValidationError as error:
        raise DecodeError(0, str(error).replace("$[0]", "$", 1)) from None
    except RecursionError:
        raise DecodeError(0, "nested too deeply") from None


@lru_cache(maxsize=_TYPES_KEPT)
def _held(type: Any) -> Any:
    """A struct with one field of the type.

    msgspec remembers how to convert to a struct, and works it out anew at each call for anything else: about 40 µs
    for the union of all messages.
    """
    return msgspec.defstruct("_Held", [("value", type)], array_like=True)


@overload
def decode_canonical(data: bytes, type: type[T], *, max_bytes: int, max_items: int = ...) -> T: ...


@overload
def decode_canonical(data: bytes, type: Any, *, max_bytes: int, max_items: int = ...) -> Any: ...


def decode_canonical(data: bytes, type: Any, *, max_bytes: int, max_items: int = MAX_ITEMS) -> Any:
    """As `decode_bounded`, and `encode` of the value gives the same bytes again: one value, one encoding.

    Raises DecodeError.
    """
    value = decode_bounded(data, type, max_bytes=max_bytes, max_items=max_items)
    if encode(value) != data:
        raise DecodeError(0, "not the canonical encoding")
    return value


def _reservation_is_bounded(data: bytes, limit: int) -> bool:
    """Whether the lists in the data reserve about its own size together, or little. Cheap for honest messages.

    A few large strings are walked over at once; many small items hold few bytes that could be list headers.
    """
    reservation_bytes = _POINTER_BYTES * limit
    if reservation_bytes * (len(data) // 3) <= _UNCHECKED_RESERVATION_BYTES:
        return True
    fits = _items_fit(data, _FEW_ITEMS)
    if fits is None:
        headers = data.count(b"\xdc") + data.count(b"\xdd")
        fits = reservation_bytes * headers <= _UNCHECKED_RESERVATION_BYTES or _items_fit(data, len(data))
    return fits is not False


# Bytes of the length field of strings, and of the count field of arrays and maps, by first byte.
_STRING_LENGTH_BYTES = {0xC4: 1, 0xD9: 1, 0xC5: 2, 0xDA: 2, 0xC6: 4, 0xDB: 4}
_ARRAY_COUNT_BYTES = {0xDC: 2, 0xDD: 4}
_MAP_COUNT_BYTES = {0xDE: 2, 0xDF: 4}
_SCALAR_BYTES = {
    **{0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9},
    **{0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9},
}


def _items_fit(data: bytes, items_max: int) -> bool | None:
    """False when a container declares more items than there can be, at one byte each, in what follows.

    None when `items_max` items did not tell; as many as there are bytes always do.

    Anything else that is wrong with the data is left to the unpacker, which reads the same bytes in the same
    order.
    """
    size_bytes = len(data)
    position = 0
    pending = 1
    for _ in range(items_max):
        if not pending or position >= size_bytes:
            return True
        pending -= 1
        first = data[position]
        if first < 0x80 or first >= 0xE0:
            position += 1
        elif first < 0xA0:
            pending += (first & 0x0F) * (2 if first < 0x90 else 1)
            position += 1
        elif first < 0xC0:
            position += 1 + (first & 0x1F)
        elif first in _SCALAR_BYTES:
            position += _SCALAR_BYTES[first]
        elif first in _STRING_LENGTH_BYTES:
            width = _STRING_LENGTH_BYTES[first]
            length = int.from_bytes(data[position + 1 : position + 1 + width])
            position += 1 + width + length
        elif first in _ARRAY_COUNT_BYTES or first in _MAP_COUNT_BYTES:
            is_map = first in _MAP_COUNT_BYTES
            width = _MAP_COUNT_BYTES[first] if is_map else _ARRAY_COUNT_BYTES[first]
            count = int.from_bytes(data[position + 1 : position + 1 + width])
            pending += 2 * count if is_map else count
            position += 1 + width
        else:
            return True  # an extension type or 0xc1: the unpacker stops here
        if pending > size_bytes - position:
            return False
    return None
