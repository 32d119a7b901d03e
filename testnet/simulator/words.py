"""What machines say to each other, as text that a person can read: names for ids, records opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ...protocol.messages import (
    Announce,
    Consumed,
    Declined,
    Delivery,
    FindJob,
    FoundJobs,
    Granted,
    HandOn,
    HeldJob,
    JobStatus,
    KeyRefused,
    KeyShare,
    KeyWanted,
    Leaving,
    Message,
    Reconcile,
    ReconcileIds,
    Records,
    Refused,
    Rejected,
    Renew,
    Revocations,
    ShareGiven,
    SharePart,
    ShareWanted,
    Steal,
    Stored,
    Submit,
    Submitted,
    Subscribe,
    Superseded,
    Taken,
    Unsubscribe,
    Want,
)
from ...protocol.records import Record, RecordKind, open_record

Span = tuple[bytes, int, int]
"""Tasks of a job: (job id, lo, hi)."""


class Words:
    """who, job: names of nodes and jobs by their ids."""

    def __init__(self, who: Callable[[bytes], str], job: Callable[[bytes], str]) -> None:
        self.who = who
        self.job = job

    def message(self, message: Message) -> str:
        return f"{type(message).__name__} {self._body(message)}".rstrip()

    def _body(self, message: Message) -> str:
        match message:
            case Steal():
                kind = "lifeline" if message.lifeline else f"appetite {message.appetite_us // 1000} ms"
                return f"#{message.request} {kind}, {message.slots} slots, {message.deficit_w} W"
            case Granted():
                return f"#{message.request} {self.records(message.grants)}{_context(message.context)}"
            case HandOn():
                return self.records(message.grants) + _context(message.context)
            case Refused():
                return f"#{message.request}"
            case Renew(jobs) | Superseded(jobs):
                return "; ".join(self._held(job) for job in jobs)
            case Delivery(header, _):
                return self.records((header,))
            case Records(_, records) | Announce(records):
                return self.records(records)
            case Reconcile() | ReconcileIds() | Want():
                return self._comparison(message)
            case _:
                return self._plain_body(message)

    def _plain_body(self, message: Message) -> str:
        match message:
            case Stored() | Taken():
                return f"{self.job(message.job_id)} {len(message.batch_ids)} batch"
            case Declined():
                return f"{self.job(message.job_id)}: {message.reason}"
            case Submit() | Submitted():
                return f"#{message.request}"
            case Rejected():
                return f"#{message.request} {message.reason}"
            case Subscribe():
                have = "+".join(span(part.lo, part.hi) for part in message.have) or "nothing"
                return f"{self.job(message.job_id)} have {have}, window {message.window}"
            case Consumed():
                return f"{len(message.batch_ids)} batch"
            case Unsubscribe() | FindJob():
                return self.job(message.job_id)
            case FoundJobs():
                return self.records(message.context)
            case JobStatus():
                return f"{message.state} {message.done}/{message.tasks}, {message.leased} leased"
            case KeyWanted():
                return f"#{message.request} shows {self.records((message.grant,))}"
            case KeyShare():
                return f"#{message.request} {self.job(message.job_id)}"
            case KeyRefused():
                return f"#{message.request} {self.job(message.job_id)}: {message.reason}"
            case ShareGiven() | ShareWanted() | SharePart():
                return self.job(message.job_id)
            case Leaving() | Revocations():
                return ""
            case _:
                return repr(message)

    def _comparison(self, message: Reconcile | ReconcileIds | Want) -> str:
        if isinstance(message, Reconcile):
            return ", ".join(f"{part.count} records" for part in message.ranges)
        return f"{len(message.ids)} records"

    def _held(self, job: HeldJob) -> str:
        return f"{self.job(job.job_id)} " + "+".join(f"{span(part.lo, part.hi)} e{part.epoch}" for part in job.ranges)

    def records(self, raws: Iterable[bytes]) -> str:
        return "; ".join(self.record(open_record(raw, check_signature=False)) for raw in raws)

    def record(self, record: Record) -> str:
        body = record.body
        match record.kind:
            case RecordKind.SPEC:
                return f"spec {self.job(record.id)} of {body.tasks} tasks"
            case RecordKind.REPLICA_SET:
                return f"replicas e{body.epoch} {','.join(self.who(node) for node in body.members)}"
            case RecordKind.GRANT:
                by = f" by {self.who(record.author)}" if body.parent else ""
                return f"grant {span(body.lo, body.hi)} e{body.epoch} to {self.who(body.holder)}{by}"
            case RecordKind.RELEASE:
                return f"release {span(body.lo, body.hi)} by {self.who(record.author)}"
            case RecordKind.BATCH:
                return f"batch {span(body.first, body.first + body.count)} e{body.epoch} by {self.who(record.author)}"
            case RecordKind.ACCEPTANCE:
                return "acceptance " + "+".join(span(part.lo, part.hi) for part in body.accepted)
            case RecordKind.CANCELLATION:
                return f"cancellation of {self.job(body.job_id)}"
            case RecordKind.JOB_DIGEST:
                return f"digest of {self.job(body.job_id)}: {body.free_tasks} free"
            case _:
                return record.kind.name.lower()


def span(lo: int, hi: int) -> str:
    return f"[{lo},{hi})"


def _context(raws: tuple[bytes, ...]) -> str:
    return " (with spec and replicas)" if raws else ""


def spans_of(message: Message) -> list[Span]:
    """The tasks that a message speaks of."""
    match message:
        case Granted(_, raws, _) | HandOn(raws, _) | Records(_, raws) | Announce(raws):
            return [found for raw in raws for found in spans_of_record(open_record(raw, check_signature=False))]
        case Delivery(header, _):
            return spans_of_record(open_record(header, check_signature=False))
        case Renew(jobs) | Superseded(jobs):
            return [(job.job_id, part.lo, part.hi) for job in jobs for part in job.ranges]
        case Subscribe():
            return [(message.job_id, part.lo, part.hi) for part in message.have]
        case _:
            return []


def spans_of_record(record: Record) -> list[Span]:
    body = record.body
    match record.kind:
        case RecordKind.GRANT | RecordKind.RELEASE:
            return [(body.job_id, body.lo, body.hi)]
        case RecordKind.BATCH:
            return [(body.job_id, body.first, body.first + body.count)]
        case RecordKind.ACCEPTANCE:
            return [(body.job_id, part.lo, part.hi) for part in body.accepted]
        case _:
            return []


def job_of(message: Message) -> bytes | None:
    """The job that a message is about; None if it is about none, or about several."""
    job_id: bytes | None = getattr(message, "job_id", None)
    if job_id is None:
        jobs = {found[0]: None for found in spans_of(message)}
        return next(iter(jobs)) if len(jobs) == 1 else None
    return job_id
