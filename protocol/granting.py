"""Which tasks of a kept job are free, who holds the rest until when, and who may be given what.

With no failure no two replicas grant the same task and none asks another first: each controls the section of its
rank, and the next living rank takes over the section of one that is dead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from .config import MINUTE, ProtocolConfig
from .intervals import IntervalMap, IntervalSet
from .jobs import JobState
from .records import Record, RecordKind
from .verification.lanes import COPIES_MAX, numbers_of, tasks_of


class LiveLease(NamedTuple):
    """A lease that this replica believes in. Expiry is rounded up to sweeps, so that neighbours merge."""

    holder: bytes
    expires_at_us: int


# Who hands on says for how long; no preset comes near this.
LEASE_US_MAX = 10 * MINUTE
# 1.5 us each, at every steal, where each has another holder.
LEASES_COUNTED_MAX = 256


class TaskState(IntEnum):
    """Where a task stands, as one replica knows it."""

    FREE = 0  # nobody was ever given it
    LEASED = 1
    RELEASED = 2  # free again: its holder gave it back
    LAPSED = 3  # free again: its holder fell silent; its late result still counts
    DONE = 4  # there is a result with a valid root
    ACCEPTED = 5  # the submitter has checked the result and signed for it


class TaskFinding(StrEnum):
    GRANTED = "granted"
    RENEWED = "renewed"
    RELEASED = "released"
    EXPIRED = "expired, overrun, or holder dead"
    RESTARTED = "replica restarted"
    DELIVERED = "result stored"
    ACCEPTED = "accepted"


TASK_TRANSITIONS: dict[tuple[TaskState, TaskFinding], TaskState] = {
    (TaskState.FREE, TaskFinding.GRANTED): TaskState.LEASED,
    (TaskState.FREE, TaskFinding.RELEASED): TaskState.RELEASED,  # the release overtook its grant, and embeds it
    (TaskState.FREE, TaskFinding.DELIVERED): TaskState.DONE,
    (TaskState.FREE, TaskFinding.ACCEPTED): TaskState.ACCEPTED,
    (TaskState.LEASED, TaskFinding.GRANTED): TaskState.LEASED,  # handed on, under the next epoch
    (TaskState.LEASED, TaskFinding.RENEWED): TaskState.LEASED,
    (TaskState.LEASED, TaskFinding.RESTARTED): TaskState.LEASED,
    (TaskState.LEASED, TaskFinding.RELEASED): TaskState.RELEASED,
    (TaskState.LEASED, TaskFinding.EXPIRED): TaskState.LAPSED,
    (TaskState.LEASED, TaskFinding.DELIVERED): TaskState.DONE,
    (TaskState.LEASED, TaskFinding.ACCEPTED): TaskState.ACCEPTED,
    (TaskState.RELEASED, TaskFinding.GRANTED): TaskState.LEASED,
    (TaskState.RELEASED, TaskFinding.DELIVERED): TaskState.DONE,
    (TaskState.RELEASED, TaskFinding.ACCEPTED): TaskState.ACCEPTED,
    (TaskState.LAPSED, TaskFinding.GRANTED): TaskState.LEASED,
    (TaskState.LAPSED, TaskFinding.RENEWED): TaskState.LEASED,
    (TaskState.LAPSED, TaskFinding.RESTARTED): TaskState.LEASED,
    (TaskState.LAPSED, TaskFinding.RELEASED): TaskState.RELEASED,
    (TaskState.LAPSED, TaskFinding.DELIVERED): TaskState.DONE,
    (TaskState.LAPSED, TaskFinding.ACCEPTED): TaskState.ACCEPTED,
    (TaskState.DONE, TaskFinding.DELIVERED): TaskState.DONE,
    (TaskState.DONE, TaskFinding.ACCEPTED): TaskState.ACCEPTED,
    (TaskState.ACCEPTED, TaskFinding.DELIVERED): TaskState.ACCEPTED,
}


def section(rank: int, replicas: int, tasks: int) -> tuple[int, int]:
    """Tasks [lo, hi) that the replica of a rank controls; the sections of all ranks tile [0, tasks).

    No rank has more than the one before it, so the first has the task of a job of one.
    """
    return -(-tasks * rank // replicas), -(-tasks * (rank + 1) // replicas)


def controlled_sections(
    members: Sequence[bytes], tasks: int, me: bytes, is_alive: Callable[[bytes], bool]
) -> list[tuple[int, int]]:
    """Sections that `me` controls: its own, and those of dead ranks for which it is the next living one."""
    found = []
    count = len(members)
    for rank in range(count):
        for step in range(count):
            candidate = members[(rank + step) % count]
            if candidate == me:
                found.append(section(rank, count, tasks))
                break
            if is_alive(candidate):
                break
    return found


@dataclass(slots=True)
class Ledger:
    """Soft state beside a JobState: after a restart it is rebuilt, each lease living one full term again."""

    state: JobState
    sweep_us: int
    free: IntervalSet = field(default_factory=IntervalSet)
    live: IntervalMap[LiveLease] = field(default_factory=IntervalMap)

    def task_state(self, index: int) -> TaskState:
        """index: within [0, tasks)."""
        if self.state.accepted_tasks.overlap(index, index + 1):
            return TaskState.ACCEPTED
        if self.state.done.overlap(index, index + 1):
            return TaskState.DONE
        if self.live.get(index) is not None:
            return TaskState.LEASED
        mark = self.state.leases.get(index)
        if mark is None:
            return TaskState.FREE
        return TaskState.RELEASED if mark.released else TaskState.LAPSED

    def rebuild(self, now_us: int, lease_us: int) -> None:
        """Everything neither settled nor leased is free; leases get a new term."""
        self.free = IntervalSet((0, self.state.spec.tasks), *self.state.to_recheck)
        self.live = IntervalMap()
        for lo, hi, mark in self.state.leases:
            if not mark.released:
                self._lease(lo, hi, mark.holder, now_us + lease_us)
        for lo, hi in (*self.state.done, *self.state.reruns.done):
            self._settle(lo, hi)
        for lo, hi in self.state.accepted_tasks:
            self._settle_tasks(lo, hi)

    def apply(self, record: Record, now_us: int) -> None:
        """Follow a record that changed the state."""
        match record.kind:
            case RecordKind.GRANT:
                expires_at_us = now_us + min(record.body.lease_us, LEASE_US_MAX)
                for lo, hi in self._marked(record):
                    self._lease(lo, hi, record.body.holder, expires_at_us)
            case RecordKind.RELEASE:
                for lo, hi in self._marked(record):
                    self.live.remove(lo, hi)
                    self.free.add(lo, hi)
            case RecordKind.BATCH:
                first, copy = record.body.first, record.body.copy
                lo, hi = numbers_of(first, first + record.body.count, copy, self.state.spec.tasks)
                for a, b in self.state.reruns.done.overlap(lo, hi) if copy else [(lo, hi)]:
                    self._settle(a, b)
            case RecordKind.ACCEPTANCE:
                # Its result may still be on the way here; the submitter has it, so nobody need run it again.
                for part in record.body.accepted:
                    self._settle_tasks(part.lo, part.hi)
            case RecordKind.RECHECK:
                recheck = record.body
                lo, hi = numbers_of(recheck.lo, recheck.hi, recheck.copy, self.state.spec.tasks)
                for a, b in self.state.reruns.done.overlap(lo, hi):
                    self._settle(a, b)
                self._free_unleased(self.state.open_parts(lo, hi))
            case RecordKind.REPLICA_SET if self.state.reruns.batches:
                # Copies may count that did not, or the other way round.
                for a, b in self.state.reruns.done:
                    self._settle(a, b)
                self._free_unleased(list(self.state.to_recheck))
            case _:
                pass

    def _free_unleased(self, parts: list[tuple[int, int]]) -> None:
        for a, b in parts:
            for lo, hi, lease in self.live.pieces(a, b):
                if lease is None:
                    self.free.add(lo, hi)

    def _settle(self, lo: int, hi: int) -> None:
        self.live.remove(lo, hi)
        self.free.discard(lo, hi)

    def _settle_tasks(self, lo: int, hi: int) -> None:
        """All copies of tasks [lo, hi)."""
        for copy in range(COPIES_MAX if self.state.rechecks else 1):
            self._settle(*numbers_of(lo, hi, copy, self.state.spec.tasks))

    def _marked(self, record: Record) -> list[tuple[int, int]]:
        """Where the record's mark counts."""
        found: list[tuple[int, int]] = []
        for a, b in self.state.open_parts(record.body.lo, record.body.hi):
            pieces = self.state.leases.pieces(a, b)
            found.extend((lo, hi) for lo, hi, mark in pieces if mark and mark.record_id == record.id)
        return found

    def _lease(self, lo: int, hi: int, holder: bytes, expires_at_us: int) -> None:
        rounded_us = -(-expires_at_us // self.sweep_us) * self.sweep_us
        self.live.assign(lo, hi, LiveLease(holder, rounded_us))
        self.free.discard(lo, hi)

    def steps(self, lo: int, hi: int) -> int:
        """At most so many pieces `renew` looks at for [lo, hi), numbers of one copy."""
        state = self.state
        settled = state.done_of(lo).count(lo, hi) + state.accepted_tasks.count(*tasks_of(lo, hi, state.spec.tasks))
        return 1 + settled + state.leases.count(lo, hi) + self.live.count(lo, hi)

    def renew(self, holder: bytes, lo: int, hi: int, epoch: int, expires_at_us: int) -> list[tuple[int, int, int]]:
        """Extend what is the holder's in [lo, hi); returns the (lo, hi, epoch) parts that are not any more.

        A lease that ran out here and was given to nobody else lives again.
        """
        open_parts = IntervalSet(*self.state.open_parts(lo, hi))
        lost = [(a, b, epoch) for a, b in open_parts.gaps(lo, hi)]
        for a, b in open_parts:
            for c, d, mark in self.state.leases.pieces(a, b):
                if mark is None or mark.epoch < epoch:
                    continue
                if mark.epoch == epoch and mark.holder == holder and not mark.released:
                    self._lease(c, d, holder, expires_at_us)
                else:
                    lost.append((c, d, mark.epoch))
        return lost

    def expire(self, now_us: int) -> list[tuple[int, int, bytes]]:
        """Free what ran out; returns (lo, hi, holder)."""
        gone = [(lo, hi, lease.holder) for lo, hi, lease in self.live if lease.expires_at_us <= now_us]
        self._free_all(gone)
        return gone

    def free_holder(self, holder: bytes) -> list[tuple[int, int, bytes]]:
        """Free all that a dead holder had."""
        gone = [(lo, hi, holder) for lo, hi, lease in self.live if lease.holder == holder]
        self._free_all(gone)
        return gone

    def _free_all(self, gone: list[tuple[int, int, bytes]]) -> None:
        for lo, hi, _ in gone:
            self.live.remove(lo, hi)
            self.free.add(lo, hi)

    def holds(self, holder: bytes) -> bool:
        """Whether it holds tasks; where there are too many leases to look through, anybody does."""
        return len(self.live) > LEASES_COUNTED_MAX or any(lease.holder == holder for _, _, lease in self.live)

    def leased_by(self) -> dict[bytes, int]:
        """Tasks held now, by holder."""
        held: dict[bytes, int] = {}
        for lo, hi, lease in self.live:
            held[lease.holder] = held.get(lease.holder, 0) + hi - lo
        return held

    def left_for_each(self) -> int:
        """Of the free tasks of all sections an equal part for each of the job's holders; all, if they are too many."""
        if len(self.live) > LEASES_COUNTED_MAX:
            return self.free.total
        return -(-self.free.total // max(1, len({lease.holder for _, _, lease in self.live})))

    def free_in(self, sections: Sequence[tuple[int, int]]) -> int:
        return sum(b - a for lo, hi in sections for a, b in self.free.overlap(lo, hi))

    def pick(self, sections: Sequence[tuple[int, int]], count: int, ranges_max: int) -> list[tuple[int, int]]:
        """At most `count` free tasks of the sections, in at most `ranges_max` ranges, lowest first."""
        picked: list[tuple[int, int]] = []
        for lo, hi in sections:
            for a, b in self.free.overlap(lo, hi):
                if count <= 0 or len(picked) >= ranges_max:
                    return picked
                b = min(b, a + count)
                picked.append((a, b))
                count -= b - a
        return picked


def steal_half(
    free_tasks: int,
    appetite_us: int,
    task_us: int,
    slots: int,
    config: ProtocolConfig,
    fair_share: int | None = None,
) -> int:
    """Tasks to give: half of what is free, or what is worth a message if that is more; at most what the thief can burn.

    task_us: CPU of one task, 0 if unknown (then `batch_tasks_first` tasks a slot).  fair_share: a bound, or one task a
    slot if that is more; see `Progress.fair_share`.  Returns 0 only if there is nothing to give or the thief can burn
    nothing.
    """
    if free_tasks <= 0 or slots <= 0:
        return 0
    share = -(-free_tasks // 2)
    if task_us <= 0:
        hungry_for = slots * config.batch_tasks_first
    else:
        hungry_for = max(slots, appetite_us // task_us)
        share = max(share, min(free_tasks, slots * config.batch_target_us // task_us))
    if fair_share is not None:
        worthwhile = slots * config.batch_floor_us // task_us if task_us > 0 else 0
        share = min(share, max(slots, fair_share, worthwhile))
    return max(1, min(share, hungry_for, config.grant_tasks_max))
