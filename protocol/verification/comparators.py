"""When two outputs of one task are the same: to the byte, by their pixels, or within a tolerance.

A comparator is a short text in the signed spec: `exact`, `pixels`, `numeric(abs=1e-9, rel=1e-6)`, where `rel.2=0.01`
is for the third field of each line alone, `values(rel=1e-9)`, for the packed values that Python functions return, or
`wasm(<sha256>)`, a module of the submitter's that says it. A command's output is its stdout and files: each of them
is compared by itself, but by a module, which is given the whole. Everything here is pure and bounded; what cannot be
read as the comparator wants it is compared to the byte. A module is run by whoever drives the machine: `same` raises
Undecided until it was told what came of it.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import accumulate
from typing import Any

import msgspec

from .verdict import Vote

# Four bytes for each pixel of 3840 x 2160. The slowest of PNG's filters takes up to some 0.3 s a MiB.
PIXEL_BYTES_MAX = 32 * 1024 * 1024
FIELDS_MAX = 1_000_000
_TOLERANT = re.compile(r"(numeric|values)\(([^()]{1,200})\)")
# Extensions of packed values that hold floats: a tuple, packed as a list is, and two doubles (docs/python.md).
_TUPLE, _COMPLEX = 2, 3
# How deep a packed value nests. Each extension within another is read anew, so this is what bounds that.
DEPTH_MAX = 64
_WASM = re.compile(r"wasm\(([0-9a-f]{64})\)")
# What a module is asked: outputs no longer than this, so many pairs waiting, so many answers remembered.
COMPARED_BYTES_MAX = 1 << 20
QUESTIONS_MAX = 1024
ANSWERS_MAX = 65_536
_TERM = re.compile(r"(abs|rel)(?:\.([0-9]{1,4}))?=([0-9.eE+-]{1,24})")
_SEPARATORS = re.compile(rb"[ \t,;]+")
_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|a - b| <= absolute + relative * max(|a|, |b|)."""

    absolute: float = 0.0
    relative: float = 0.0

    def allows(self, a: float, b: float) -> bool:
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        if math.isinf(a) or math.isinf(b):
            return a == b
        return abs(a - b) <= self.absolute + self.relative * max(abs(a), abs(b))


class Undecided(Exception):
    """Whether two outputs are the same is not known yet."""


# Two outputs by their digests, the lower first: so a module cannot judge a pair otherwise than the pair turned round.
Pair = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Comparator:
    """kind: "exact", "pixels", "numeric", "values" or "wasm".  by_field: tolerances of single fields of a line, from 0.

    parts: whether outputs are of commands, [stdout, files].  module: digest of the module.
    answers: what came of pairs.
    questions: pairs that wait for it, with their outputs.
    """

    kind: str
    tolerance: Tolerance = Tolerance()
    by_field: Mapping[int, Tolerance] = field(default_factory=dict)
    parts: bool = False
    module: bytes = b""
    answers: dict[Pair, bool] = field(default_factory=dict)
    questions: dict[Pair, tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        return self.kind == "exact"

    def same(self, a: Vote, b: Vote) -> bool:
        """Whether two results of one task agree. Where a worker's bytes did not come along, by their digests.

        Raises Undecided.
        """
        if a.exit_code != b.exit_code:
            return False
        if a.digest == b.digest:
            return True
        if self.is_exact or a.output is None or b.output is None:
            return False
        if a.digest > b.digest:
            a, b = b, a
        assert a.output is not None and b.output is not None
        pair = a.digest, b.digest
        known = self.answers.get(pair)
        if known is None:
            known = self._asked(pair, a.output, b.output) if self.module else self.same_output(a.output, b.output)
            self.learn(pair, known)
        return known

    def _asked(self, pair: Pair, first: bytes, second: bytes) -> bool:
        if len(first) > COMPARED_BYTES_MAX or len(second) > COMPARED_BYTES_MAX:
            return False
        if len(self.questions) < QUESTIONS_MAX:
            self.questions[pair] = (first, second)
        raise Undecided

    def learn(self, pair: Pair, same: bool) -> None:
        """What came of a pair: a case is looked at again at each of its votes."""
        self.questions.pop(pair, None)
        self.answers[pair] = same
        while len(self.answers) > ANSWERS_MAX:
            del self.answers[next(iter(self.answers))]

    def same_output(self, a: bytes, b: bytes) -> bool:
        if not self.parts:
            return self._same_part(a, b)
        one, other = _parts(a), _parts(b)
        if one is None or other is None or one.keys() != other.keys():
            return False
        return all(part == other[name] or self._same_part(part, other[name]) for name, part in one.items())

    def _same_part(self, a: bytes, b: bytes) -> bool:
        if self.kind == "pixels":
            first, second = pixel_digest(a), pixel_digest(b)
            return first is not None and first == second
        if self.kind == "numeric":
            return _same_numbers(a, b, self)
        if self.kind == "values":
            return _alike(_unpacked(a), _unpacked(b), self.tolerance)
        return a == b


EXACT = Comparator("exact")


def parse_comparator(text: str, *, parts: bool = False) -> Comparator:
    """The comparator of a spec. parts: whether the job's outputs are of commands, `abi` "command".
    Raises ValueError with what would be right."""
    if text in ("exact", "pixels"):
        return Comparator(text, parts=parts)
    if module := _WASM.fullmatch(text):
        return Comparator("wasm", module=bytes.fromhex(module[1]))
    found = _TOLERANT.fullmatch(text)
    if found is None:
        raise ValueError(
            'expected "exact", "pixels", "numeric(abs=1e-9, rel=1e-6)", "values(rel=1e-9)" '
            'or a WebAssembly module: "x.wasm" in a job file'
        )
    common: dict[str, float] = {}
    single: dict[int, dict[str, float]] = {}
    for part in found[2].split(","):
        term = _TERM.fullmatch(part.strip())
        if term is None or (term[2] is not None and found[1] == "values"):
            raise ValueError(f'"{part.strip()}" is no tolerance: write abs=…, rel=…, or rel.2=… for field 2')
        try:
            bound = float(term[3])
        except ValueError:
            bound = math.nan
        if not 0 <= bound < math.inf:
            raise ValueError(f'"{part.strip()}": a tolerance is a number of at least 0')
        (common if term[2] is None else single.setdefault(int(term[2]), {}))[term[1]] = bound
    everywhere = Tolerance(common.get("abs", 0.0), common.get("rel", 0.0))
    by_field = {
        number: Tolerance(own.get("abs", everywhere.absolute), own.get("rel", everywhere.relative))
        for number, own in single.items()
    }
    return Comparator(found[1], everywhere, by_field, parts)


def _parts(output: bytes) -> dict[str, bytes] | None:
    """A command's stdout, under a name that no file has, and its files; None for what is no command's output."""
    value = _unpacked(output)
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], dict):
        return None
    if "" in value[1]:  # it would stand for the stdout, and say what another's says
        return None
    named = {"": value[0], **value[1]}
    if not all(isinstance(name, str) and isinstance(part, bytes) for name, part in named.items()):
        return None
    return named


def _same_numbers(a: bytes, b: bytes, how: Comparator) -> bool:
    """Line by line, field by field: numbers within their tolerance, everything else to the byte."""
    left, right = a.split(b"\n"), b.split(b"\n")
    if len(left) != len(right):
        return False
    budget = FIELDS_MAX
    for one, other in zip(left, right, strict=True):
        if one == other:
            continue
        mine, theirs = _SEPARATORS.split(one.strip()), _SEPARATORS.split(other.strip())
        budget -= len(mine)
        if len(mine) != len(theirs) or budget < 0:
            return False
        for number, (x, y) in enumerate(zip(mine, theirs, strict=True)):
            if x != y and not _same_field(x, y, how.by_field.get(number, how.tolerance)):
                return False
    return True


def _same_field(x: bytes, y: bytes, tolerance: Tolerance) -> bool:
    try:
        return tolerance.allows(float(x), float(y))
    except ValueError:
        return False


# -- packed values -------------------------------------------------------------------------------------------------


def _unpacked(packed: bytes) -> Any:
    """The value; `_NOTHING`, which is like no value, for what is none."""
    try:
        return msgspec.msgpack.decode(packed)
    except (msgspec.MsgspecError, ValueError, OverflowError, TypeError, RecursionError):
        return _NOTHING


_NOTHING = object()


def _alike(a: Any, b: Any, tolerance: Tolerance) -> bool:
    """Of one form, and each float within its tolerance. Without recursion: what is nested was a stranger's choice."""
    pending = [(a, b, 0)]
    while pending:
        x, y, depth = pending.pop()
        if type(x) is not type(y) or x is _NOTHING:
            return False
        if isinstance(x, float):
            if not tolerance.allows(x, y):
                return False
        elif isinstance(x, list):
            if len(x) != len(y):
                return False
            pending += ((one, other, depth) for one, other in zip(x, y, strict=True))
        elif isinstance(x, dict):
            if list(x) != list(y):  # in order, as they are packed
                return False
            pending += ((x[key], y[key], depth) for key in x)
        elif isinstance(x, msgspec.msgpack.Ext):
            if x.code != y.code:
                return False
            if x.data != y.data:
                if depth == DEPTH_MAX:
                    return False
                pending.append((_floats_of(x), _floats_of(y), depth + 1))
        elif x != y:
            return False
    return True


def _floats_of(extension: msgspec.msgpack.Ext) -> Any:
    content = bytes(extension.data)
    if extension.code == _TUPLE:
        return _unpacked(content)
    if extension.code == _COMPLEX and len(content) == 16:
        return list(struct.unpack(">dd", content))
    return _NOTHING


# -- pixels --------------------------------------------------------------------------------------------------------


def pixel_digest(image: bytes) -> bytes | None:
    """Digest of an image's size and pixels, without dates, comments and compression; None if it is not understood.

    PNG without interlacing, and binary PPM and PGM. Palettes and gamma are part of what is hashed, text is not.
    """
    if image.startswith(_PNG):
        return _png_digest(image)
    if image[:2] in (b"P5", b"P6"):
        return _netpbm_digest(image)
    return None


def _netpbm_digest(image: bytes) -> bytes | None:
    found = re.match(rb"(P[56])(?:\s|#[^\n]*\n)+(\d{1,5})\s+(\d{1,5})\s+(\d{1,5})\s", image[:1024])
    if found is None:
        return None
    kind, width, height, top = found[1], int(found[2]), int(found[3]), int(found[4])
    size = width * height * (3 if kind == b"P6" else 1) * (2 if top > 255 else 1)
    pixels = image[found.end() :]
    if size != len(pixels) or size > PIXEL_BYTES_MAX:
        return None
    return sha256(b"%b %d %d %d " % (kind, width, height, top) + pixels).digest()


def _chunks(image: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at + 12 <= len(image):
        (size,) = struct.unpack_from(">I", image, at)
        if at + 12 + size > len(image):
            return
        yield image[at + 4 : at + 8], image[at + 8 : at + 8 + size]
        at += 12 + size


def _png_digest(image: bytes) -> bytes | None:
    head, colours, packed = b"", [], []
    for name, body in _chunks(image):
        if name == b"IHDR":
            head = body
        elif name == b"IDAT":
            packed.append(body)
        elif name in (b"PLTE", b"tRNS", b"gAMA", b"sRGB"):
            colours.append(name + body)
    if len(head) != 13:
        return None
    width, height, depth, colour, compression, filtering, interlaced = struct.unpack(">IIBBBBB", head)
    channels = _CHANNELS.get(colour)
    if channels is None or depth not in (1, 2, 4, 8, 16) or compression or filtering or interlaced:
        return None
    row_bytes = (width * channels * depth + 7) // 8
    size = height * (row_bytes + 1)
    if not size or size > PIXEL_BYTES_MAX:
        return None
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(b"".join(packed), size + 1)
    except zlib.error:
        return None
    if len(rows) != size:
        return None
    pixels = _unfilter(rows, row_bytes, max(1, channels * depth // 8))
    return None if pixels is None else sha256(head + b"".join(colours) + pixels).digest()


def _unfilter(rows: bytes, row_bytes: int, step: int) -> bytes | None:
    """PNG's five row filters undone. step: bytes of a pixel. None for a filter that there is not."""
    above = bytes(row_bytes)
    done = bytearray()
    for at in range(0, len(rows), row_bytes + 1):
        kind, row = rows[at], rows[at + 1 : at + 1 + row_bytes]
        if kind > 4:
            return None
        above = _FILTERS[kind](row, above, step)
        done += above
    return bytes(done)


def _plain(row: bytes, above: bytes, step: int) -> bytes:
    return row


def _sub(row: bytes, above: bytes, step: int) -> bytes:
    out = bytearray(row)
    for channel in range(step):
        out[channel::step] = bytes([value & 255 for value in accumulate(row[channel::step])])
    return bytes(out)


def _up(row: bytes, above: bytes, step: int) -> bytes:
    return bytes([(x + y) & 255 for x, y in zip(row, above, strict=True)])


def _average(row: bytes, above: bytes, step: int) -> bytes:
    out = bytearray(row)
    for channel in range(step):
        left = 0
        done = []
        for x, up in zip(row[channel::step], above[channel::step], strict=True):
            left = (x + ((left + up) >> 1)) & 255
            done.append(left)
        out[channel::step] = bytes(done)
    return bytes(out)


def _paeth(row: bytes, above: bytes, step: int) -> bytes:
    """Adds to each byte the one of left, up and corner that is nearest to left + up - corner; in this order."""
    out = bytearray(row)
    for channel in range(step):
        left = corner = 0
        done = []
        for x, up in zip(row[channel::step], above[channel::step], strict=True):
            from_left, from_up = abs(up - corner), abs(left - corner)
            from_corner = abs(left + up - corner - corner)
            if from_left <= from_up and from_left <= from_corner:
                left = (x + left) & 255
            elif from_up <= from_corner:
                left = (x + up) & 255
            else:
                left = (x + corner) & 255
            done.append(left)
            corner = up
        out[channel::step] = bytes(done)
    return bytes(out)


_FILTERS = (_plain, _sub, _up, _average, _paeth)
