"""The story of a run: who said what to whom, and when; of one task, one node or one job if that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...protocol.effects import Execute, Notify
from ...protocol.events import (
    Event,
    ExecutionFailed,
    PeerConnected,
    PeerLost,
    StorageFailed,
    StorageRecovered,
    TaskFinished,
)
from ...protocol.messages import Message
from ...protocol.records import Record
from .words import Span, Words, job_of, span, spans_of, spans_of_record

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

# Said all the time, and of no meaning to a story.
QUIET = (
    "Ping",
    "Ack",
    "PingRequest",
    "IndirectAck",
    "TableSync",
    "TableRows",
    "JobStatus",
    "Consumed",
    "Reconcile",
    "job.status",
    "job.signed",
    "jobs.asked",
    "jobs.found",
)
LINES_MAX = 200_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines to keep: all that fit each of these that is given. task: of any job, or of `job`.

    everything: what is said all the time too.
    """

    node: str | None = None
    job: str | None = None
    task: int | None = None
    everything: bool = False


@dataclass(slots=True)
class Line:
    at_us: int
    who: str
    to: list[str]
    what: str


class Story:
    """Told while a run goes on; `text()` afterwards."""

    def __init__(self, wanted: Wanted = Wanted()) -> None:
        self._wanted = wanted
        self._lines: list[Line] = []
        self._world: World | None = None
        self._words = Words(self._who, self._job)

    def watch(self, world: World) -> None:
        self._world = world

    def text(self) -> str:
        """`seconds  who -> whom  what`, one line for what is said to several at once."""
        lines = []
        for line in self._lines:
            source = f"{line.who} -> {', '.join(line.to)}" if line.to else line.who
            lines.append(f"{line.at_us / 1e6:12.6f}  {source:<22} {line.what}".rstrip())
        return "\n".join(lines) + "\n" if lines else ""

    # -- what is told --------------------------------------------------------------------------------------

    def say(self, machine: Machine | None, text: str) -> None:
        """What happens to a machine, or to the world."""
        if machine is None or self._wanted.node in (None, machine.name):
            self._add("---" if machine is None else machine.name, [], text)

    def sent(self, life: Life, peer: bytes, message: Message) -> None:
        name, to = life.machine.name, self._who(peer)
        if type(message).__name__ in QUIET and not self._wanted.everything:
            return
        if self._wanted.node in (None, name, to) and self._is_wanted(job_of(message), spans_of(message)):
            self._add(name, [to], self._words.message(message))

    def executes(self, life: Life, run: Execute) -> None:
        found = (run.job_id, run.first, run.first + run.count)
        text = f"* runs {self._job(run.job_id)} {span(*found[1:])} e{run.epoch}"
        self._about(life, [found], run.job_id, text)

    def event(self, life: Life, event: Event) -> None:
        match event:
            case TaskFinished():
                self._about(life, [], None, f"ran {len(event.exits)} tasks")
            case ExecutionFailed():
                self._about(life, [], None, f"could not run: {event.reason}")
            case StorageFailed() | StorageRecovered():
                self._about(life, [], None, "disk full" if isinstance(event, StorageFailed) else "disk has room again")
            case PeerLost() if self._wanted.everything or self._wanted.node is not None:
                how = " by a reset" if event.reset else ""
                self._about(life, [], None, f"lost the link to {self._who(event.peer)}{how}")
            case PeerConnected() if self._wanted.everything:
                self._about(life, [], None, f"has a link to {self._who(event.peer)}")
            case _:
                pass

    def noted(self, life: Life, note: Notify) -> None:
        if note.name in QUIET and not self._wanted.everything:
            return
        fields = note.fields
        if note.name == "member.changed":
            if fields["status"] == "alive" and not self._wanted.everything:
                return
            self._about(life, [], None, f"* thinks {self._who(fields['node'])} {fields['status']}")
            return
        spans = spans_of_record(fields["header"]) if "header" in fields else []
        shown = {key: value for key, value in fields.items() if key not in ("batch", "columns", "source")}
        text = f"* {note.name}" + "".join(f" {key}={self._field(key, value)}" for key, value in shown.items())
        self._about(life, spans, fields.get("job_id"), text)

    def _about(self, life: Life, spans: list[Span], job_id: bytes | None, text: str) -> None:
        if self._wanted.node in (None, life.machine.name) and self._is_wanted(job_id, spans):
            self._add(life.machine.name, [], text)

    # -- what is wanted ------------------------------------------------------------------------------------

    def _is_wanted(self, job_id: bytes | None, spans: list[Span]) -> bool:
        wanted = self._wanted
        if wanted.job is not None and (job_id is None or self._job(job_id) != wanted.job):
            return False
        if wanted.task is None:
            return True
        return any(lo <= wanted.task < hi for _, lo, hi in spans)

    def _add(self, who: str, to: list[str], what: str) -> None:
        assert self._world is not None, "watch() comes first"
        at_us = self._world.engine.now_us
        last = self._lines[-1] if self._lines else None
        if last is not None and to and last.to and (last.at_us, last.who, last.what) == (at_us, who, what):
            last.to.extend(to)
        elif len(self._lines) < LINES_MAX:
            self._lines.append(Line(at_us, who, to, what))

    # -- names ---------------------------------------------------------------------------------------------

    def _who(self, node: bytes) -> str:
        assert self._world is not None
        machine = self._world.by_id.get(node)
        return machine.name if machine is not None else node.hex()[:8]

    def _job(self, job_id: bytes) -> str:
        assert self._world is not None
        order = self._world.orders.get(job_id)
        return order.spec.name if order is not None else job_id.hex()[:8] or "all"

    def _field(self, key: str, value: Any) -> str:
        if isinstance(value, bytes):
            return self._job(value) if key == "job_id" else self._who(value)
        if isinstance(value, Record):
            return self._words.record(value)
        if key in ("replicas", "stored_by"):
            return ",".join(self._who(node) for node in value)
        if key == "parts":
            return "+".join(span(lo, hi) for lo, hi in value)
        return str(value)
