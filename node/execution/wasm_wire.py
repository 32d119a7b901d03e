"""What a worker process and its parent say to each other: length-prefixed MessagePack, columns of bulk bytes.

The worker runs strangers' code, so the parent takes its frames for hostile: bounded and typed.
"""

from __future__ import annotations

import struct
import sys
from array import array

import msgspec

HEADER = struct.Struct("<I")
MAX_OUTPUT_BYTES = 256 << 20
MAX_BATCH_OUTPUT_BYTES = 64 << 20
MAX_BATCH_STDERR_BYTES = 16 << 20
MAX_FRAME_BYTES = MAX_BATCH_OUTPUT_BYTES + MAX_OUTPUT_BYTES + (64 << 20)
"""The last output may start just under the batch's bound; the rest is for stderr and columns."""

assert sys.byteorder == "little", "columns are sent as they lie in memory"


class Run(msgspec.Struct, array_like=True, tag="run", frozen=True):
    """One batch. lengths: u32 each, of the pieces of `inputs`; empty for none. files: (name, path).

    secret: the compiled program is not kept on disk.  canonical_nans: see `BatchRequest`.
    """

    batch: int
    program: str
    digest: bytes
    abi: str
    entry: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    first: int
    count: int
    lengths: bytes
    inputs: bytes
    init: bytes
    seed: bytes
    memory_bytes: int
    wall_us: int
    fuel: int
    output_bytes: int
    stderr_bytes: int
    scratch_bytes: int
    checkpoints: str
    secret: bool
    canonical_nans: bool


class Check(msgspec.Struct, array_like=True, tag="check", frozen=True):
    """Load a module and say what it offers."""

    batch: int
    program: str
    digest: bytes


class Done(msgspec.Struct, array_like=True, tag="done", frozen=True):
    """exits: i16 each; lengths: u32 each, of the pieces of `outputs`; fuels: u64 each; cpu_us: u64 each."""

    batch: int
    exits: bytes
    lengths: bytes
    outputs: memoryview
    fuels: bytes
    cpu_us: bytes
    stderrs: dict[int, bytes]


class Checked(msgspec.Struct, array_like=True, tag="checked", frozen=True):
    batch: int
    imports: tuple[tuple[str, str], ...]
    exports: dict[str, str]
    memory_bytes: int
    compile_us: int


class Failed(msgspec.Struct, array_like=True, tag="failed", frozen=True):
    """An ExecutionError of the worker."""

    batch: int
    reason: str
    detail: str


ToWorker = Run | Check
FromWorker = Done | Checked | Failed
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_encoder = msgspec.msgpack.Encoder()


def encode(message: ToWorker | FromWorker) -> bytes:
    """A whole frame. Raises ValueError where it would pass MAX_FRAME_BYTES."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a batch of {len(body)} bytes is too big, at most {MAX_FRAME_BYTES} are taken")
    return HEADER.pack(len(body)) + body


def decode_to_worker(body: bytes | bytearray) -> ToWorker:
    return _to_worker.decode(body)


def decode_from_worker(body: bytes | bytearray) -> FromWorker:
    """Raises ValueError: msgspec's own errors, and UnicodeDecodeError for a tag that is not text."""
    return _from_worker.decode(body)


def pack_column(kind: str, values: list[int]) -> bytes:
    """kind: "h" i16, "I" u32, "Q" u64."""
    return array(kind, values).tobytes()


def unpack_column(kind: str, packed: bytes, count: int) -> list[int]:
    """Raises ValueError where the column has not `count` entries."""
    column = array(kind)
    if len(packed) != count * column.itemsize:
        raise ValueError("a column has the wrong length")
    column.frombytes(packed)
    return column.tolist()


def split(joined: bytes | memoryview, lengths: list[int]) -> list[bytes]:
    """Cut into pieces. Raises ValueError where the lengths do not add up."""
    if sum(lengths) != len(joined):
        raise ValueError("the lengths do not add up")
    pieces, start = [], 0
    for length in lengths:
        end = start + length
        pieces.append(bytes(joined[start:end]))
        start = end
    return pieces
