"""A `Cluster` that is heard: what machines say to each other, as text that a person can read.

Times are milliseconds since `begin`, nodes and jobs go by their names, records are opened. What is said all the
time and means nothing to a story (pings, tables, progress) is left out unless the story asks for it.
"""

from __future__ import annotations

from typing import Any

from hearthmesh.protocol.effects import (
    CancelExecution,
    Disconnect,
    Effect,
    Execute,
    FetchBlobs,
    Forget,
    Notify,
    Penalise,
    Publish,
    UnpinBlobs,
)
from hearthmesh.protocol.events import Event, TaskFinished
from hearthmesh.protocol.messages import (
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
    Leaving,
    Message,
    Reconcile,
    ReconcileIds,
    Records,
    Refused,
    Rejected,
    Renew,
    Revocations,
    Steal,
    Stored,
    Submit,
    Submitted,
    Subscribe,
    Superseded,
    Unsubscribe,
    Want,
)
from hearthmesh.protocol.records import Record, RecordKind, open_record
from tests.protocol.cluster import Cluster, SimNode

QUIET = (
    "Ping",
    "Ack",
    "PingRequest",
    "IndirectAck",
    "TableSync",
    "TableRows",
    "JobStatus",
    "Consumed",
    "Renew",
    "Reconcile",
    "job.status",
    "job.signed",
    "jobs.asked",
    "jobs.found",
)


class Stage(Cluster):
    """hear, ignore: names of messages and notes that are quiet by default, or that are not."""

    def __init__(self, *, hear: tuple[str, ...] = (), ignore: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        self._quiet = {name for name in QUIET if name not in hear} | {*ignore}
        self._lines: list[tuple[int, str, list[str], str]] = []
        self._began_us: int | None = None
        self._names: dict[bytes, str] = {}

    def begin(self) -> None:
        """From here on it is heard, and time is 0."""
        self._began_us = self.now_us

    def name_job(self, job_id: bytes, name: str) -> None:
        self._names[job_id] = name

    def say(self, text: str) -> None:
        """A line of the story's own."""
        self._tell("---", [], text)

    def text(self) -> str:
        """The transcript: `ms  who -> whom  what`, one line for what is said to several at once."""
        lines = []
        for at_us, who, to, what in self._lines:
            source = f"{who} -> {', '.join(to)}" if to else who
            lines.append(f"{at_us / 1000:9.1f}  {source:<22} {what}".rstrip())
        return "\n".join(lines) + "\n"

    def _tell(self, who: str, to: list[str], what: str) -> None:
        if self._began_us is None:
            return
        at_us = self.now_us - self._began_us
        last = self._lines[-1] if self._lines else None
        if last is not None and to and last[2] and (last[0], last[1], last[3]) == (at_us, who, what):
            last[2].extend(to)
        else:
            self._lines.append((at_us, who, to, what))

    # -- what is heard -------------------------------------------------------------------------------------

    def feed(self, node: SimNode, event: Event) -> None:
        if isinstance(event, TaskFinished) and node.alive and not node.frozen:
            self._tell(node.name, [], f"ran {len(event.exits)} tasks")
        super().feed(node, event)

    def _send(self, node: SimNode, peer: bytes, message: Message) -> None:
        other = self.nodes.get(peer)
        if other is not None and type(message).__name__ not in self._quiet:
            lost = " (lost)" if self.blocked(node, other, message) else ""
            self._tell(node.name, [other.name], self._message(message) + lost)
        super()._send(node, peer, message)

    def _perform(self, node: SimNode, effect: Effect) -> None:
        said = self._effect(effect)
        if said:
            self._tell(node.name, [], said)
        super()._perform(node, effect)

    def kill(self, node: SimNode, *, links_reset: bool = True) -> None:
        self.say(f"{node.name} is killed")
        super().kill(node, links_reset=links_reset)

    def restart(self, node: SimNode) -> None:
        self.say(f"{node.name} is started again")
        super().restart(node)

    def freeze(self, node: SimNode) -> None:
        self.say(f"{node.name} freezes")
        node.frozen = True

    # -- as text -------------------------------------------------------------------------------------------

    def who(self, node: bytes) -> str:
        return self.nodes[node].name if node in self.nodes else node.hex()[:8]

    def job(self, job_id: bytes) -> str:
        return self._names.setdefault(job_id, f"job{len(self._names) + 1}" if job_id else "all")

    def _effect(self, effect: Effect) -> str:
        match effect:
            case Execute(_, job_id, first, count, epoch):
                return f"* runs {self.job(job_id)} {_span(first, first + count)} e{epoch}"
            case CancelExecution():
                return "* stops what runs"
            case FetchBlobs(_, digests, sources, _):
                return f"* fetches {len(digests)} blobs from {', '.join(self.who(node) for node in sources)}"
            case UnpinBlobs() | Publish():
                return ""
            case Forget(job_id):
                return f"* forgets {self.job(job_id)}"
            case Disconnect(peer, reason):
                return f"* disconnects {self.who(peer)}: {reason}"
            case Penalise(peer, reason):
                return f"! penalises {self.who(peer)}: {reason}"
            case Notify(name, fields) if name == "member.changed":
                return "" if fields["status"] == "alive" else f"* thinks {self.who(fields['node'])} {fields['status']}"
            case Notify(name, fields) if name not in self._quiet:
                shown = {key: value for key, value in fields.items() if key not in ("batch", "columns", "source")}
                return f"* {name}" + "".join(f" {key}={self._field(key, value)}" for key, value in shown.items())
            case _:
                return ""

    def _field(self, key: str, value: Any) -> str:
        if isinstance(value, bytes):
            return self.job(value) if key == "job_id" else self.who(value)
        if isinstance(value, Record):
            return self._record(value)
        if key in ("replicas", "stored_by"):
            return ",".join(self.who(node) for node in value)
        if key == "parts":
            return "+".join(_span(lo, hi) for lo, hi in value)
        return str(value)

    def _message(self, message: Message) -> str:
        name = type(message).__name__
        return f"{name} {self._body(message)}".rstrip()

    def _body(self, message: Message) -> str:
        match message:
            case Steal():
                kind = "lifeline" if message.lifeline else f"appetite {message.appetite_us // 1000} ms"
                return f"#{message.request} {kind}, {message.slots} slots, {message.deficit_w} W"
            case Granted():
                return f"#{message.request} {self._records(message.grants)}{_context(message.context)}"
            case HandOn():
                return self._records(message.grants) + _context(message.context)
            case Refused():
                return f"#{message.request}" + (" parked" if message.parked else "")
            case Renew(jobs) | Superseded(jobs):
                return "; ".join(self._held(job) for job in jobs)
            case Delivery(header, _):
                return self._records((header,))
            case Records(_, records) | Announce(records):
                return self._records(records)
            case _:
                return self._plain_body(message)

    def _plain_body(self, message: Message) -> str:
        match message:
            case Stored():
                return f"{self.job(message.job_id)} {len(message.batch_ids)} batch"
            case Declined():
                return f"{self.job(message.job_id)}: {message.reason}"
            case Submit() | Submitted():
                return f"#{message.request}"
            case Rejected():
                return f"#{message.request} {message.reason}"
            case Subscribe():
                have = "+".join(_span(part.lo, part.hi) for part in message.have) or "nothing"
                return f"{self.job(message.job_id)} have {have}, window {message.window}"
            case Consumed():
                return f"{len(message.batch_ids)} batch"
            case Unsubscribe() | FindJob():
                return self.job(message.job_id)
            case FoundJobs():
                return self._records(message.context)
            case JobStatus():
                return f"{message.state} {message.done}/{message.tasks}, {message.leased} leased"
            case Leaving() | Revocations():
                return ""
            case Reconcile():
                return ", ".join(f"{part.count} records" for part in message.ranges)
            case ReconcileIds() | Want():
                return f"{len(message.ids)} records"
            case _:
                return repr(message)

    def _held(self, job: HeldJob) -> str:
        return f"{self.job(job.job_id)} " + "+".join(f"{_span(part.lo, part.hi)} e{part.epoch}" for part in job.ranges)

    def _records(self, raws: tuple[bytes, ...]) -> str:
        return "; ".join(self._record(open_record(raw, check_signature=False)) for raw in raws)

    def _record(self, record: Record) -> str:
        body = record.body
        match record.kind:
            case RecordKind.SPEC:
                return f"spec {self.job(record.id)} of {body.tasks} tasks"
            case RecordKind.REPLICA_SET:
                return f"replicas e{body.epoch} {','.join(self.who(node) for node in body.members)}"
            case RecordKind.GRANT:
                by = f" by {self.who(record.author)}" if body.parent else ""
                return f"grant {_span(body.lo, body.hi)} e{body.epoch} to {self.who(body.holder)}{by}"
            case RecordKind.RELEASE:
                return f"release {_span(body.lo, body.hi)} by {self.who(record.author)}"
            case RecordKind.BATCH:
                span = _span(body.first, body.first + body.count)
                return f"batch {span} e{body.epoch} by {self.who(record.author)}"
            case RecordKind.ACCEPTANCE:
                return "acceptance " + "+".join(_span(part.lo, part.hi) for part in body.accepted)
            case RecordKind.CANCELLATION:
                return f"cancellation of {self.job(body.job_id)}"
            case RecordKind.JOB_DIGEST:
                return f"digest of {self.job(body.job_id)}: {body.free_tasks} free"
            case _:
                return record.kind.name.lower()


def _span(lo: int, hi: int) -> str:
    return f"[{lo},{hi})"


def _context(raws: tuple[bytes, ...]) -> str:
    return " (with spec and replicas)" if raws else ""
