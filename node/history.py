"""What a node did, for an audit: an append-only log of grants, leases, starts, results and acceptances.

One JSON object a line, in the order in which the machine did it; docs/chaos.md lists the events. A line is with the
kernel before any message that follows from it leaves, so whatever another node rests on is there, also after a SIGKILL.
Off unless the settings name a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from ..protocol.effects import CancelExecution, Effect, Execute, Notify, Persist, Send
from ..protocol.events import Event, ExecutionFailed, ExecutionSaved, Received, ResultsTaken, SubmitJob, TaskFinished
from ..protocol.messages import Granted, HandOn, Records
from ..protocol.records import Record, RecordKind, open_record
from ..protocol.verification.court import FIRST_TRIAL
from .heating.heater import Meter

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

VERSION = 1
# Records are told more than once: to each replica, and again. The log has each once a life.
REMEMBERED_MAX = 16_384
# The second byte of an encoded record is its kind.
_KIND_AT = 1
_OWN_WORDS = frozenset({RecordKind.RELEASE, RecordKind.ACCEPTANCE, RecordKind.CANCELLATION, RecordKind.RECHECK})
_encode = msgspec.json.Encoder().encode
# Why an execution was stopped that goes on from its checkpoint, here or elsewhere.
SAVED = "saved"


class Hands(Protocol):
    """What is asked of a machine's worker, which no effect says."""

    def took(self, grant_id: bytes) -> bool: ...

    def made(self, execution_id: int) -> Record | None: ...


class History:
    """One life's part of the file. Not for several threads."""

    def __init__(self, path: Path, node: bytes, name: str, now_us: int) -> None:
        """node: its id.  Raises OSError."""
        self._path = path
        self._node = node
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lines: list[bytes] = []
        self._count = 0
        self._seen: dict[bytes, None] = {}
        self._meter = Meter()
        self._end_torn_line()
        self._write("begin", now_us, version=VERSION, node=node, name=name)
        self.flush()

    def _end_torn_line(self) -> None:
        """The last life may have been killed in the middle of a line."""
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            self._lines.append(b"\n")

    # -- what the driver says ------------------------------------------------------------------------------

    def note(self, event: Event, effects: Sequence[Effect], now_us: int, worker: Hands) -> None:
        """One event and what came of it. worker: as it is afterwards."""
        match event:
            case Received(_, Granted(grants=grants) | HandOn(grants=grants)):
                for raw in grants:
                    grant = open_record(raw, check_signature=False)
                    if grant.kind is RecordKind.GRANT and worker.took(grant.id):
                        self._lease(grant, now_us)
            case ResultsTaken():
                self._write("take", now_us, job=event.job_id, batch=event.batch_id)
            case ExecutionSaved():
                self._stop(event.execution_id, SAVED, now_us)
            case TaskFinished() | ExecutionFailed():
                self._ended(event, worker.made(event.execution_id), now_us)
        for effect in effects:
            match effect:
                case Send(_, message):
                    self._sent(message, now_us)
                case Persist(_, kind, _, body):
                    self._persisted(kind, body, now_us, worker)
                # A trial of a liar is nobody's task, and under no lease.
                case Execute() if effect.execution_id <= FIRST_TRIAL:
                    self._write(
                        "start",
                        now_us,
                        execution=effect.execution_id,
                        job=effect.job_id,
                        lo=effect.first,
                        hi=effect.first + effect.count,
                        epoch=effect.epoch,
                        copy=effect.copy,
                    )
                case CancelExecution(execution_id):
                    self._stop(execution_id, "cancelled", now_us)
                case Notify(name, fields):
                    self._notified(name, fields, event, now_us)

    def meter(self, meter: Meter, now_us: int) -> None:
        """The heater's count, whenever it has changed."""
        if meter != self._meter:
            self._meter = meter
            self._write("meter", now_us, work_uj=meter.work_uj, useful_uj=meter.work_useful_uj)

    def flush(self) -> None:
        """Give the lines to the kernel; before anything that follows from them leaves."""
        if not self._lines:
            return
        waiting = memoryview(b"".join(self._lines))
        self._lines.clear()
        try:
            while waiting and self._handle >= 0:
                waiting = waiting[os.write(self._handle, waiting) :]
        except OSError as error:
            # A history with a hole proves nothing: better none from here on.
            log.error("history.failed", path=str(self._path), reason=error.strerror)
            self.close()

    def close(self) -> None:
        if self._handle >= 0:
            self.flush()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    # -- lines ---------------------------------------------------------------------------------------------

    def _write(self, event: str, now_us: int, **fields: Any) -> None:
        self._count += 1
        line = {"n": self._count, "at_us": now_us, "event": event}
        line.update((key, _plain(value)) for key, value in fields.items())
        self._lines.append(_encode(line) + b"\n")

    def _is_news(self, record_id: bytes) -> bool:
        if record_id in self._seen:
            return False
        self._seen[record_id] = None
        while len(self._seen) > REMEMBERED_MAX:
            del self._seen[next(iter(self._seen))]
        return True

    def _lease(self, grant: Record, now_us: int) -> None:
        if self._is_news(b"lease" + grant.id):
            self._write("lease", now_us, grant=grant.id, granter=grant.author, **_range(grant), epoch=grant.body.epoch)

    def _grant(self, grant: Record, now_us: int) -> None:
        if not self._is_news(grant.id):
            return
        body = grant.body
        parent = open_record(body.parent, check_signature=False).id if body.parent else b""
        holder = {"holder": body.holder, "parent": parent, "lease_us": body.lease_us}
        self._write("grant", now_us, grant=grant.id, **_range(grant), epoch=body.epoch, **holder)

    def _own(self, record: Record, now_us: int) -> None:
        """What this node signed itself, the first time that it is told or written."""
        if record.author != self._node or not self._is_news(record.id):
            return
        body = record.body
        match record.kind:
            case RecordKind.RELEASE:
                grant = open_record(body.grant, check_signature=False)
                self._write("release", now_us, grant=grant.id, **_range(record), epoch=grant.body.epoch)
            case RecordKind.ACCEPTANCE:
                parts = [[part.batch_id.hex(), part.lo, part.hi] for part in body.accepted]
                self._write("accept", now_us, acceptance=record.id, job=body.job_id, parts=parts)
            case RecordKind.RECHECK:
                self._write("recheck", now_us, **_range(record), copy=body.copy)
            case RecordKind.CANCELLATION:
                self._write("cancel", now_us, job=body.job_id)

    def _sent(self, message: object, now_us: int) -> None:
        match message:
            case Granted(grants=grants) | HandOn(grants=grants):
                for raw in grants:
                    self._grant(open_record(raw, check_signature=False), now_us)
            case Records(records=records):
                for raw in records:
                    if raw[_KIND_AT] in _OWN_WORDS:
                        self._own(open_record(raw, check_signature=False), now_us)

    def _persisted(self, kind: int, body: bytes, now_us: int, worker: Hands) -> None:
        if kind == RecordKind.GRANT:
            grant = open_record(body, check_signature=False)
            if grant.author == self._node:
                self._grant(grant, now_us)
                if grant.body.holder == self._node and worker.took(grant.id):
                    self._lease(grant, now_us)
        elif kind == RecordKind.BATCH:
            header = open_record(body, check_signature=False)
            self._write("keep", now_us, batch=header.id, worker=header.author, job=header.body.job_id)
        elif kind in _OWN_WORDS:
            self._own(open_record(body, check_signature=False), now_us)

    def _stop(self, execution_id: int, reason: str, now_us: int) -> None:
        """One that was cancelled may still say that it failed."""
        if execution_id <= FIRST_TRIAL and self._is_news(b"stop%d" % execution_id):
            self._write("stop", now_us, execution=execution_id, reason=reason)

    def _ended(self, event: TaskFinished | ExecutionFailed, header: Record | None, now_us: int) -> None:
        """An execution's batch, or that there is none: it was cancelled before, or could not run."""
        if header is None:
            if isinstance(event, ExecutionFailed):
                self._stop(event.execution_id, event.reason, now_us)
            return
        body = header.body
        self._write(
            "result",
            now_us,
            execution=event.execution_id,
            batch=header.id,
            job=body.job_id,
            lo=body.first,
            hi=body.first + body.count,
            epoch=body.epoch,
            copy=body.copy,
            failed=body.failed,
            cpu_us=body.cpu_us,
            energy_mj=body.energy_mj,
            useful_mj=body.useful_mj,
        )

    def _notified(self, name: str, fields: dict[str, Any], event: Event, now_us: int) -> None:
        match name:
            case "job.signed":
                assert isinstance(event, SubmitJob), "a job is signed when it is submitted"
                self._write("submit", now_us, job=fields["job_id"], tasks=event.spec.tasks)
            case "job.submitted":
                kept = {"replicas": fields["replicas"], "stored_by": fields["stored_by"]}
                self._write("kept", now_us, job=fields["job_id"], **kept)
            case "job.accepted":
                if self._is_news(b"finish" + fields["job_id"]):
                    self._write("finish", now_us, job=fields["job_id"])
            case "member.changed":
                self._write("peer", now_us, peer=fields["node"], status=fields["status"])
            case "lease.expired":
                lost = {"holder": fields["holder"], "lo": fields["lo"], "hi": fields["hi"]}
                self._write("expire", now_us, job=fields["job_id"], **lost)
            case "lease.overrun":
                self._write("overrun", now_us, job=fields["job_id"], holder=fields["holder"])


def _range(record: Record) -> dict[str, Any]:
    return {"job": record.body.job_id, "lo": record.body.lo, "hi": record.body.hi}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
