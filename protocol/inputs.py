"""Packs: the inputs of many tasks in one blob, so that a million small inputs are not a million blobs.

A pack is `count`, `count` lengths (both unsigned 32 bits, little-endian), then the inputs one after another.
Nothing may follow them, so a list of inputs has exactly one encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from ..crypto.bounded import DecodeError

PACK_BYTES_MAX = 1024 * 1024
_WORD_BYTES = 4
# The largest input that still fits a pack, alone.
INPUT_BYTES_MAX = PACK_BYTES_MAX - 2 * _WORD_BYTES


def pack_inputs(inputs: Sequence[bytes]) -> bytes:
    """The pack of these inputs; `unpack_inputs` is its inverse.

    Raises ValueError if it would be longer than PACK_BYTES_MAX.
    """
    size_bytes = _WORD_BYTES * (1 + len(inputs)) + sum(map(len, inputs))
    if size_bytes > PACK_BYTES_MAX:
        raise ValueError(f"a pack of {size_bytes} bytes; at most {PACK_BYTES_MAX} are allowed")
    header = struct.pack(f"<{len(inputs) + 1}I", len(inputs), *map(len, inputs))
    return b"".join((header, *inputs))


def input_packs(inputs: Iterable[bytes], *, pack_bytes_max: int = PACK_BYTES_MAX) -> Iterator[tuple[int, int, bytes]]:
    """Packs in order of tasks: (first task, count, packed bytes), each filled up to `pack_bytes_max`.

    Holds one pack's inputs at a time. An input that is longer raises ValueError with its task.
    """
    first, size_bytes = 0, _WORD_BYTES
    waiting: list[bytes] = []
    for task, entry in enumerate(inputs):
        cost_bytes = _WORD_BYTES + len(entry)
        if _WORD_BYTES + cost_bytes > pack_bytes_max:
            raise ValueError(f"the input of task {task} has {len(entry)} bytes; at most {INPUT_BYTES_MAX} fit")
        if size_bytes + cost_bytes > pack_bytes_max:
            yield first, len(waiting), pack_inputs(waiting)
            first, size_bytes, waiting = task, _WORD_BYTES, []
        waiting.append(entry)
        size_bytes += cost_bytes
    if waiting:
        yield first, len(waiting), pack_inputs(waiting)


def unpack_inputs(pack: bytes, max_count: int) -> list[bytes]:
    """All inputs of a pack from outside. Raises DecodeError, before it copies any, if it is not one."""
    lengths = _lengths(pack, max_count)
    return _cut(pack, lengths, 0, len(lengths))


def select(pack: bytes, offset: int, count: int) -> list[bytes]:
    """`count` inputs of a pack from outside, from position `offset` on.

    Raises DecodeError if it is not a pack or holds fewer inputs.
    """
    lengths = _lengths(pack, PACK_BYTES_MAX // _WORD_BYTES)
    if offset < 0 or count < 0 or offset + count > len(lengths):
        raise DecodeError(0, f"the pack holds {len(lengths)} inputs, not [{offset}, {offset + count})")
    return _cut(pack, lengths, offset, count)


def _lengths(pack: bytes, max_count: int) -> tuple[int, ...]:
    if not _WORD_BYTES <= len(pack) <= PACK_BYTES_MAX:
        raise DecodeError(0, f"a pack of {len(pack)} bytes; {_WORD_BYTES} to {PACK_BYTES_MAX} are allowed")
    count = int.from_bytes(pack[:_WORD_BYTES], "little")
    if count > max_count:
        raise DecodeError(0, f"a pack of {count} inputs; at most {max_count} are allowed")
    header_bytes = _WORD_BYTES * (1 + count)
    if header_bytes > len(pack):
        raise DecodeError(_WORD_BYTES, f"{count} lengths do not fit {len(pack)} bytes")
    lengths = struct.unpack_from(f"<{count}I", pack, _WORD_BYTES)
    if header_bytes + sum(lengths) != len(pack):
        raise DecodeError(header_bytes, f"the inputs are {len(pack) - header_bytes} bytes, not {sum(lengths)}")
    return lengths


def _cut(pack: bytes, lengths: tuple[int, ...], offset: int, count: int) -> list[bytes]:
    start = _WORD_BYTES * (1 + len(lengths)) + sum(lengths[:offset])
    ends = accumulate(lengths[offset : offset + count], initial=start)
    begin = next(ends)
    inputs = []
    for end in ends:
        inputs.append(pack[begin:end])
        begin = end
    return inputs
