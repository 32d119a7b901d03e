"""What the journal keeps, and what can be done to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

JOB_ID_BYTES = 32
MAX_KEY_BYTES = 64
MAX_KIND = 0xFFFF
# A frame on the wire is at most 1 MiB, and a record is never more than one frame with its envelope.
MAX_BODY_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record. job_id: 32 bytes, or b"" for the whole node. kind: 0..65535. key: at most 64 bytes.

    Keys that rise with time (counters, first task of a range) keep the index compact; random ones cost more.
    """

    job_id: bytes
    kind: int
    key: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """A record without its body."""

    job_id: bytes
    kind: int
    key: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write the record; it replaces one of the same job, kind and key, in its place of the order."""

    record: StoredRecord


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove one record; nothing happens if there is none."""

    job_id: bytes
    kind: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove all records of one job."""

    job_id: bytes


Write: TypeAlias = Put | Delete | Forget


def checked_size_bytes(writes: Sequence[Write]) -> int:
    """The keys and bodies together. Raises ValueError for what the caller should never have built."""
    total = 0
    for write in writes:
        if isinstance(write, Forget):
            if len(write.job_id) != JOB_ID_BYTES:
                raise ValueError(f"only a job can be forgotten, not {write.job_id!r}")
            continue
        target = write.record if isinstance(write, Put) else write
        if len(target.job_id) not in (0, JOB_ID_BYTES):
            raise ValueError(f"job id of {len(target.job_id)} bytes")
        if not 0 <= target.kind <= MAX_KIND:
            raise ValueError(f"kind {target.kind}")
        if len(target.key) > MAX_KEY_BYTES:
            raise ValueError(f"key of {len(target.key)} bytes")
        total += len(target.key)
        if isinstance(write, Put):
            if len(write.record.body) > MAX_BODY_BYTES:
                raise ValueError(f"body of {len(write.record.body)} bytes")
            total += len(write.record.body)
    return total
