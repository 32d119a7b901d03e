"""What is to be seen of the demo at a moment: rooms, who took work from whom, progress, what happened.

Pure: told the time and each node's own status, it asks nobody. The view draws it, the report counts with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..crypto.identity import node_id_from_text
from .rooms import RoomPlan

# Over how long a rate is taken, and how long a flow of work between two rooms counts as recent.
RATE_WINDOW_S = 5.0
FLOW_WINDOW_S = 3.0

HERE, AWAY, DONE = "here", "away", "has everything"


class Condition(Enum):
    STARTING = "starting"
    UP = "up"
    KILLED = "killed"
    FROZEN = "frozen"
    LEFT = "left"


@dataclass(slots=True)
class Counters:
    """What a node counts from zero in each of its lives. Energies in joules, as its meter has them."""

    tasks: int = 0
    work_j: float = 0.0
    work_useful_j: float = 0.0
    idle_j: float = 0.0
    taken_from: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Counters:
        meter = status["meter"]
        return cls(
            status["tasks_done"], meter["work_j"], meter["work_useful_j"], meter["idle_j"], dict(status["stolen_from"])
        )

    def plus(self, other: Counters) -> Counters:
        taken = dict(self.taken_from)
        for victim, count in other.taken_from.items():
            taken[victim] = taken.get(victim, 0) + count
        return Counters(
            self.tasks + other.tasks,
            self.work_j + other.work_j,
            self.work_useful_j + other.work_useful_j,
            self.idle_j + other.idle_j,
            taken,
        )


@dataclass(slots=True)
class RoomState:
    """One room and its heater, as the heater last said. earlier: what its former lives counted."""

    name: str
    plan: RoomPlan
    peer_id: str
    condition: Condition = Condition.STARTING
    temperature_c: float = 0.0
    slots: int = 0
    running: int = 0
    waiting: int = 0
    keeps_job: bool = False
    pid: int = 0
    lives: int = 0
    earlier: Counters = field(default_factory=Counters)
    life: Counters = field(default_factory=Counters)
    tasks_while_warm: int = 0

    @property
    def total(self) -> Counters:
        return self.earlier.plus(self.life)

    @property
    def too_warm(self) -> bool:
        return self.temperature_c > self.plan.setpoint_c + self.plan.band_c

    def take(self, status: Mapping[str, Any]) -> dict[str, int]:
        """The heater's own word. Returns what it took from whom (peer ids) since its last word."""
        fresh = Counters.of(status)
        if status["pid"] != self.pid:
            self.earlier, self.life, self.pid = self.total, Counters(), status["pid"]
            self.lives += 1
        was_idle_and_warm = self.condition is Condition.UP and self.too_warm and not (self.slots or self.running)
        self.condition = Condition.UP
        self.temperature_c = status["temperature_c"]
        self.slots, self.running, self.waiting = status["slots"], status["running"], status["queued_tasks"]
        self.keeps_job = status["jobs_kept"] > 0
        if was_idle_and_warm and self.too_warm:
            self.tasks_while_warm += max(0, fresh.tasks - self.life.tasks)
        taken = {
            victim: count - self.life.taken_from.get(victim, 0)
            for victim, count in fresh.taken_from.items()
            if count > self.life.taken_from.get(victim, 0)
        }
        self.life = fresh
        return taken

    def doing(self) -> str:
        """In a word or two, for people."""
        if self.condition is not Condition.UP:
            word: str = self.condition.value
            return word
        if self.running:
            return "working" if self.slots else "finishing"
        if self.slots:
            return "looks for work"
        return "warm enough"


@dataclass(frozen=True, slots=True)
class Flow:
    """Tasks that one room took from another; names."""

    at_s: float
    thief: str
    victim: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Happening:
    at_s: float
    text: str


class Scene:
    """Everything on stage. Times in seconds since the demo began."""

    def __init__(self, rooms: Mapping[str, RoomPlan], peer_ids: Mapping[str, str]) -> None:
        self.rooms = {
            name: RoomState(name, plan, peer_ids[name], temperature_c=plan.start_c) for name, plan in rooms.items()
        }
        # Statuses name nodes by their peer id, events by their key in hex.
        self._names = {peer: name for name, peer in peer_ids.items()}
        self._names |= {node_id_from_text(peer).hex(): name for name, peer in peer_ids.items()}
        # Unknown until the job is submitted.
        self.tasks = 0
        self.held = 0
        self.client = "not here yet"
        self.flows: deque[Flow] = deque(maxlen=256)
        self.happenings: list[Happening] = []
        self._freed: dict[str, dict[str, int]] = {}
        self._known_done = 0
        self._history: deque[tuple[float, int]] = deque(maxlen=256)

    def name_of(self, peer: str) -> str:
        """A room's name for a peer id, or for a key in hex; a short form for a stranger's."""
        return self._names.get(peer, peer[-8:])

    def tell(self, at_s: float, text: str) -> None:
        self.happenings.append(Happening(at_s, text))

    # -- what comes in ---------------------------------------------------------------------------------------

    def take_status(self, name: str, status: Mapping[str, Any], at_s: float) -> None:
        room = self.rooms[name]
        for peer, tasks in room.take(status).items():
            victim = self.name_of(peer)
            if victim != name:
                self.flows.append(Flow(at_s, name, victim, tasks))

    def take_event(self, name: str, event: Mapping[str, Any], at_s: float) -> None:
        """A notable event of a node. All replicas see the same loss; it is told once."""
        match event["name"]:
            case "lease.freed":
                self._on_freed(name, self.name_of(event["holder"]), event["tasks"], at_s)
            case "lease.expired":
                self._on_freed(name, self.name_of(event["holder"]), event["hi"] - event["lo"], at_s)
            case "replica.replaced":
                dead, successor = self.name_of(event["dead"]), self.name_of(event["successor"])
                self.tell(at_s, f"{successor} takes {dead}'s place in keeping the job")
                if dead in self.rooms:
                    self.rooms[dead].keeps_job = False
            case "worker.handed-on":
                self.tell(at_s, f"{name} is warm enough and hands unstarted tasks on to {self.name_of(event['heir'])}")

    def _on_freed(self, replica: str, holder: str, tasks: int, at_s: float) -> None:
        seen_by = self._freed.setdefault(holder, {})
        if not seen_by and self._is_hurt(holder):
            self.tell(at_s, f"{holder} is missed: the tasks that it held are free for others")
        seen_by[replica] = seen_by.get(replica, 0) + tasks

    def _is_hurt(self, name: str) -> bool:
        room = self.rooms.get(name)
        return room is not None and (room.condition in (Condition.KILLED, Condition.FROZEN) or room.lives > 1)

    def take_progress(self, done: int, at_s: float) -> None:
        """done: as a replica told the client, or counted from the heaters while the client is away."""
        self._known_done = max(self._known_done, min(done, self.tasks))
        self._history.append((at_s, self._known_done))

    def take_end(self) -> None:
        """All that were up have left in order."""
        for room in self.rooms.values():
            if room.condition is Condition.UP:
                room.condition = Condition.LEFT
                room.slots = room.running = room.waiting = 0

    # -- what is asked ---------------------------------------------------------------------------------------

    @property
    def done(self) -> int:
        return self._known_done

    @property
    def share(self) -> float:
        """Done of all, 0 to 1."""
        return self._known_done / self.tasks if self.tasks else 0.0

    def taken_back(self, *, hurt: bool = True) -> dict[str, int]:
        """Tasks taken back, by the room that had held them; as the replica that saw most of them counts.

        hurt: of rooms that were killed or frozen; else of others, whose leases may lapse too: on a machine that is too
        busy, or in the books of a replica that was away.
        """
        return {
            holder: max(seen_by.values()) for holder, seen_by in self._freed.items() if self._is_hurt(holder) == hurt
        }

    def computed(self) -> int:
        """Tasks that the heaters say they have finished, in all their lives."""
        return sum(room.total.tasks for room in self.rooms.values())

    def rate_per_s(self, now_s: float) -> float:
        """Over the last seconds; 0 without enough to tell."""
        recent = [(at_s, done) for at_s, done in self._history if at_s >= now_s - RATE_WINDOW_S]
        if len(recent) < 2 or recent[-1][0] - recent[0][0] < 0.5:
            return 0.0
        return (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])

    def eta_s(self, now_s: float) -> float | None:
        rate = self.rate_per_s(now_s)
        return (self.tasks - self._known_done) / rate if rate > 0 else None

    def recent_flows(self, now_s: float) -> dict[tuple[str, str], int]:
        """(thief, victim) → tasks in the last seconds, the most first."""
        found: dict[tuple[str, str], int] = {}
        for flow in self.flows:
            if flow.at_s >= now_s - FLOW_WINDOW_S:
                key = flow.thief, flow.victim
                found[key] = found.get(key, 0) + flow.tasks
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def taken_from(self, name: str) -> dict[str, int]:
        """What a room took of other rooms over all its lives, by name, the most first."""
        named: dict[str, int] = {}
        for peer, count in self.rooms[name].total.taken_from.items():
            if self.name_of(peer) != name:
                named[self.name_of(peer)] = named.get(self.name_of(peer), 0) + count
        return dict(sorted(named.items(), key=lambda item: -item[1]))

    def keepers(self) -> list[str]:
        """Rooms whose heater keeps the job's state, as it said last, and whose place nobody has taken since."""
        return [name for name, room in self.rooms.items() if room.keeps_job]
