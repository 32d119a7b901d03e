"""Result batches: columns of results, a Merkle root over their leaves, one signature for all.

One task's result can be shown alone: its leaf, the inclusion proof and the signed header. A batch covers the
contiguous tasks [first, first + count) under one epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b, sha256
from struct import Struct as Packing
from struct import error as StructError
from struct import pack, unpack
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ..crypto.bounded import DecodeError, decode_bounded
from ..crypto.merkle import leaf_hash, merkle_proof, merkle_root, verify_inclusion
from .records import BatchHeader, Bytes32, Record, UInt

# index u64, epoch u32, exit i32, output digest, stderr digest, fuel u64, CPU microseconds u32
_LEAF = Packing("<QIi32s32sQI")
_EMPTY_DIGEST = sha256(b"").digest()
_MARKED = b"hearthmesh mark"
STDERR_BYTES_MAX = 4096
# What stands inline beside a large output of a confidential job.
INLINE_MARK_BYTES_MAX = 128
COLUMN_BYTES_MAX = 2 * 1024 * 1024
# A leaf says a task's CPU time in 32 bits: 71 minutes, and "at least that" above.
TASK_CPU_US_MAX = 0xFFFF_FFFF


class ExternalOutput(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Output of the task at `offset` in the batch, kept in the blob store.

    Of a confidential job the inline output says, to its submitter alone, what the blob holds (see secrecy/results.py).
    """

    offset: Annotated[int, Meta(ge=0, le=65_535)]
    digest: Bytes32
    size_bytes: UInt


class StderrTail(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    offset: Annotated[int, Meta(ge=0, le=65_535)]
    text: Annotated[bytes, Meta(max_length=STDERR_BYTES_MAX)]


class Columns(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """exits: i32 each, or empty if all are 0.  sizes: u32 each, of the inline outputs (0 for external ones).

    fuels: u64 each, or empty if all are 0.  cpu_us: u32 each.  outputs: inline outputs, end to end.
    """

    exits: bytes
    sizes: bytes
    fuels: bytes
    cpu_us: bytes
    outputs: bytes
    externals: Annotated[tuple[ExternalOutput, ...], Meta(max_length=65_536)] = ()
    stderrs: Annotated[tuple[StderrTail, ...], Meta(max_length=65_536)] = ()


_encoder = msgspec.msgpack.Encoder()


class BatchError(ValueError):
    """Columns that do not fit their header: malformed, or not what the worker signed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded columns of a batch, one entry a task in each list."""

    first: int
    epoch: int
    exits: tuple[int, ...]
    outputs: tuple[bytes, ...]
    fuels: tuple[int, ...]
    cpu_us: tuple[int, ...]
    externals: dict[int, tuple[bytes, int]]
    stderrs: dict[int, bytes]

    def __len__(self) -> int:
        return len(self.exits)

    def output_digest(self, offset: int) -> bytes:
        """What the leaf says of a task's output.

        Of a marked one by another function than of an inline one: else whoever passes the columns on could take the
        first for the second, or turn it round, under the same root.
        """
        external, inline = self.externals.get(offset), self.outputs[offset]
        if external is None:
            return sha256(inline).digest()
        if not inline:
            return external[0]
        return blake2b(external[0] + inline, digest_size=32, person=_MARKED).digest()

    def leaves(self) -> list[bytes]:
        """Leaf hashes in task order; what the root is made of."""
        encode, stderrs = _LEAF.pack, self.stderrs
        if not self.externals and not stderrs:
            return self._plain_leaves()
        hashes = []
        for offset, (exit_code, fuel, cpu) in enumerate(zip(self.exits, self.fuels, self.cpu_us, strict=True)):
            output_digest = self.output_digest(offset)
            stderr = stderrs.get(offset) if stderrs else None
            stderr_digest = sha256(stderr).digest() if stderr else _EMPTY_DIGEST
            index = self.first + offset
            hashes.append(leaf_hash(encode(index, self.epoch, exit_code, output_digest, stderr_digest, fuel, cpu)))
        return hashes

    def _plain_leaves(self) -> list[bytes]:
        """The common case, where every output is inline and nobody complained: 2 hashes a task and little else."""
        encode, epoch, empty = _LEAF.pack, self.epoch, _EMPTY_DIGEST
        indices = range(self.first, self.first + len(self.exits))
        rows = zip(indices, self.exits, self.outputs, self.fuels, self.cpu_us, strict=True)
        return [
            leaf_hash(encode(index, epoch, exit_code, sha256(output).digest(), empty, fuel, cpu))
            for index, exit_code, output, fuel, cpu in rows
        ]

    def root(self) -> bytes:
        return merkle_root(self.leaves())

    def failed(self) -> int:
        """Number of tasks with an exit code other than 0."""
        return len(self.exits) - self.exits.count(0)


def encode_columns(batch: Batch) -> bytes:
    """Columns as they travel and are stored; `decode_columns` is the inverse."""
    count = len(batch)
    columns = Columns(
        exits=b"" if not any(batch.exits) else pack(f"<{count}i", *batch.exits),
        sizes=pack(f"<{count}I", *map(len, batch.outputs)),
        fuels=b"" if not any(batch.fuels) else pack(f"<{count}Q", *batch.fuels),
        cpu_us=pack(f"<{count}I", *batch.cpu_us),
        outputs=b"".join(batch.outputs),
        externals=tuple(
            ExternalOutput(offset, digest, size) for offset, (digest, size) in sorted(batch.externals.items())
        ),
        stderrs=tuple(StderrTail(offset, text) for offset, text in sorted(batch.stderrs.items())),
    )
    return _encoder.encode(columns)


def decode_columns(header: BatchHeader, encoded: bytes) -> Batch:
    """Typed columns from hostile bytes; raises BatchError. Says nothing of the root: see `check_batch`."""
    try:
        columns = decode_bounded(encoded, Columns, max_bytes=COLUMN_BYTES_MAX)
    except DecodeError as error:
        raise BatchError(str(error)) from error
    count = header.count

    def column(name: str, data: bytes, code: str, width: int, *, optional: bool) -> tuple[int, ...]:
        if optional and not data:
            return (0,) * count
        if len(data) != count * width:
            raise BatchError(f"column {name} has {len(data)} bytes, not {count * width}")
        return unpack(f"<{count}{code}", data)

    sizes = column("sizes", columns.sizes, "I", 4, optional=False)
    if sum(sizes) != len(columns.outputs):
        raise BatchError("the outputs' sizes do not add up")
    outputs, at = [], 0
    for size in sizes:
        outputs.append(columns.outputs[at : at + size])
        at += size
    externals: dict[int, tuple[bytes, int]] = {}
    for external in columns.externals:
        if external.offset >= count or external.offset in externals:
            raise BatchError(f"external output at offset {external.offset} does not fit")
        # Of a confidential job each is marked, of any other none.
        size = sizes[external.offset]
        if not 1 <= size <= INLINE_MARK_BYTES_MAX if header.box is not None else size:
            raise BatchError(f"external output at offset {external.offset} does not fit")
        externals[external.offset] = (external.digest, external.size_bytes)
    stderrs: dict[int, bytes] = {}
    for tail in columns.stderrs:
        if tail.offset >= count or tail.offset in stderrs or not tail.text:
            raise BatchError(f"stderr at offset {tail.offset} does not fit")
        stderrs[tail.offset] = tail.text
    return Batch(
        first=header.first,
        epoch=header.epoch,
        exits=column("exits", columns.exits, "i", 4, optional=True),
        outputs=tuple(outputs),
        fuels=column("fuels", columns.fuels, "Q", 8, optional=True),
        cpu_us=column("cpu_us", columns.cpu_us, "I", 4, optional=False),
        externals=externals,
        stderrs=stderrs,
    )


def check_batch(header: BatchHeader, encoded: bytes) -> Batch:
    """Columns that are exactly what the worker signed. Raises BatchError."""
    batch = decode_columns(header, encoded)
    if batch.root() != header.root:
        raise BatchError("the results do not hash to the signed root")
    if batch.failed() != header.failed:
        raise BatchError("the header miscounts its failed tasks")
    return batch


@dataclass(frozen=True, slots=True)
class TaskProof:
    """One task's result, checkable without the rest of its batch."""

    header: bytes
    index: int
    exit_code: int
    output_digest: bytes
    stderr_digest: bytes
    fuel: int
    cpu_us: int
    path: tuple[bytes, ...]


def prove_task(header: Record, batch: Batch, index: int) -> TaskProof:
    """Proof for one task of a batch. Raises IndexError if it is not in it."""
    offset = index - batch.first
    if not 0 <= offset < len(batch):
        raise IndexError(f"task {index} is not in [{batch.first}, {batch.first + len(batch)})")
    return TaskProof(
        header=header.raw,
        index=index,
        exit_code=batch.exits[offset],
        output_digest=batch.output_digest(offset),
        stderr_digest=sha256(batch.stderrs.get(offset, b"")).digest(),
        fuel=batch.fuels[offset],
        cpu_us=batch.cpu_us[offset],
        path=tuple(merkle_proof(batch.leaves(), offset)),
    )


def check_task(header: BatchHeader, proof: TaskProof) -> bool:
    """Whether the proof's result is under the root of a header whose signature was checked."""
    offset = proof.index - header.first
    if not 0 <= offset < header.count:
        return False
    try:
        row = _LEAF.pack(
            proof.index,
            header.epoch,
            proof.exit_code,
            proof.output_digest,
            proof.stderr_digest,
            proof.fuel,
            proof.cpu_us,
        )
    except StructError:
        return False
    leaf = leaf_hash(row)
    return verify_inclusion(header.root, leaf, offset, header.count, list(proof.path))
