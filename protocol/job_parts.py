"""What a job's state is made of, and why a record is none of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .records import Record, RecordError, RecordKind, open_record


class LeaseMark(NamedTuple):
    """Who holds a task. Tuples compare in order, and the highest wins: that is the join."""

    epoch: int
    holder: bytes
    released: bool
    record_id: bytes


class CandidateKey(NamedTuple):
    """Order among a task's candidates; the lowest is canonical.

    rank: 0 if the submitter accepted it, else 1 + its copy.
    """

    rank: int
    epoch: int
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class BatchInfo:
    """What stays in memory of a batch; its header and columns are on disk. first: a number of its copy."""

    batch_id: bytes
    worker: bytes
    first: int
    count: int
    epoch: int
    failed: int
    cpu_us: int
    energy_mj: int
    useful_mj: int
    cost_micro: int = 0


class RejectedRecord(Exception):
    """A record that this state cannot take. reason: the `Reason` value's text. fault: whether the sender lies."""

    def __init__(self, reason: str, *, fault: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fault = fault


@dataclass(slots=True)
class WorkerTotals:
    """Canonical work of one worker in a job."""

    done: int = 0
    cpu_us: int = 0
    energy_mj: int = 0
    useful_mj: int = 0
    cost_micro: int = 0


def open_embedded(raw: bytes, kind: RecordKind) -> Record:
    """A record within another's body. Raises RejectedRecord."""
    try:
        record = open_record(raw)
    except RecordError as error:
        # A kind that we do not know is as wrong here as bytes that are no record.
        raise RejectedRecord("bad-signature" if error.reason == "bad-signature" else "malformed") from error
    if record.kind is not kind:
        raise RejectedRecord("malformed")
    return record
