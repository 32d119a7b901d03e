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
from hearthmesh.protocol.messages import Message
from hearthmesh.protocol.records import Record
from hearthmesh.testnet.simulator.words import Words, span
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
    "Taken",
    "Renew",
    "Reconcile",
    "job.status",
    "job.signed",
    "jobs.asked",
    "jobs.found",
)


# Of a note: what nobody could read.
UNTOLD = ("batch", "columns", "source", "opened", "keys")


class Stage(Cluster):
    """hear, ignore: names of messages and notes that are quiet by default, or that are not."""

    def __init__(self, *, hear: tuple[str, ...] = (), ignore: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        self._quiet = {name for name in QUIET if name not in hear} | {*ignore}
        self._lines: list[tuple[int, str, list[str], str]] = []
        self._began_us: int | None = None
        self._names: dict[bytes, str] = {}
        self._words = Words(self.who, self.job)

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
            self._tell(node.name, [other.name], self._words.message(message) + lost)
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
                return f"* runs {self.job(job_id)} {span(first, first + count)} e{epoch}"
            case CancelExecution():
                return "* stops what runs"
            case FetchBlobs(_, digests, sources, _, _):
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
                shown = {key: value for key, value in fields.items() if key not in UNTOLD}
                return f"* {name}" + "".join(f" {key}={self._field(key, value)}" for key, value in shown.items())
            case _:
                return ""

    def _field(self, key: str, value: Any) -> str:
        if isinstance(value, bytes):
            return self.job(value) if key == "job_id" else self.who(value)
        if isinstance(value, Record):
            return self._words.record(value)
        if key in ("replicas", "stored_by"):
            return ",".join(self.who(node) for node in value)
        if key == "parts":
            return "+".join(span(lo, hi) for lo, hi in value)
        return str(value)
