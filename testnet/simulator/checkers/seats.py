"""Who keeps a job is replaced when it is dead, and nobody is dead who lives."""

from __future__ import annotations

from typing import Any, NamedTuple

from ....protocol.kept_job import KeptJob
from ....protocol.placement import candidates_from, replacement
from ....protocol.records import RecordKind
from ..plan import FaultKind
from .base import Checker

# The grace time may begin anew once, where this node has become the first of the set meanwhile; an interval to notice.
GRACES_MAX = 3
INTERVALS_MAX = 4
# After one of these a node may be out of hearing, or begin a life that is older than its last.
_DISTURBING = (
    FaultKind.CUT,
    FaultKind.DEAF,
    FaultKind.MUTE,
    FaultKind.WEATHER,
    FaultKind.FREEZE,
    FaultKind.STARVE,
    FaultKind.CLOCK,
)


class Empty(NamedTuple):
    """A seat whose member is dead, in the life that is known of it, as the first living member of the set sees it.

    silences: of that one, until then.
    """

    silences: int
    job_id: bytes
    member: bytes
    incarnation: int


class SeatsFilled(Checker):
    """A dead replica of a job that goes on is replaced soon after the grace time, where somebody can take its seat."""

    name = "seats-filled"
    invariant = 1

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        # By machine, in the life that it has; nothing where no seat is empty.
        self._empty_since_us: dict[int, dict[Empty, int]] = {}
        config = world.config
        self._bound_us = GRACES_MAX * config.replica_grace_us + INTERVALS_MAX * config.reconcile_interval_us

    def died(self, life: Any) -> None:
        self._empty_since_us.pop(life.machine.index, None)

    def sampled(self, life: Any) -> None:
        before = self._empty_since_us.pop(life.machine.index, {})
        empty: dict[Empty, int] = {}
        for kept in life.mesh.replica.jobs.values():
            if kept.settled_us is None:
                for member in kept.state.replicas:
                    if life.mesh.members.is_gone(member):
                        self._look(life, kept, member, before, empty)
        if empty:
            self._empty_since_us[life.machine.index] = empty

    def _look(self, life: Any, kept: KeptJob, member: bytes, before: dict[Empty, int], empty: dict[Empty, int]) -> None:
        """before: seats that were empty at the last look.  empty: those that are."""
        machine, members = life.machine, kept.state.replicas
        incarnation = life.mesh.members.incarnation_of(member) or 0
        seat = Empty(machine.silences, kept.state.job_id, member, incarnation)
        first = next((node for node in members if not life.mesh.members.is_gone(node)), None)
        if first != machine.id or machine.frozen or life.missed or life.mesh.replica.storage_failed:
            return
        now_us = machine.clock.local_us(self.world.engine.now_us)
        since_us = before.get(seat, now_us)
        if now_us - since_us <= self._bound_us:
            empty[seat] = since_us
            return
        rows = [record.body for record in life.mesh.tables.rows(RecordKind.MEMBER)]
        alive = [row for row in rows if life.mesh.members.is_alive(row.node)]
        wall_us = life.mesh.ctx.wall_us(now_us)
        candidates = candidates_from(alive, wall_us // 1_000_000)
        if replacement(kept.state.job_id, members, member, candidates) is not None:
            dead = self.world.by_id[member]
            self.fail(f"{machine} has taken {dead} for dead for {now_us - since_us} us, and leaves it its seat")


class NoFalseAlarm(Checker):
    """Nobody who lives is called dead, where all could hear each other all the time and no clock was set."""

    name = "false-alarm"

    def at_rest(self) -> None:
        plan, alarms = self.world.plan, self.world.faults.false_alarms
        if alarms and not plan.liars and not any(fault.kind in _DISTURBING for fault in plan.faults):
            self.fail(f"living nodes were called dead {alarms} times")
