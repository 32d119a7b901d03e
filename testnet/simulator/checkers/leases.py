"""Who may run what: invariant 4, and what upholds it."""

from __future__ import annotations

from typing import Any, ClassVar

from ....protocol.effects import Execute, Persist
from ....protocol.granting import section
from ....protocol.intervals import IntervalMap, IntervalSet
from ....protocol.messages import Granted, Message, Superseded
from ....protocol.records import Record, RecordKind, open_record
from ....protocol.verification.court import FIRST_TRIAL
from ....protocol.verification.lanes import numbers_of, tasks_of
from ..memory import is_genuine
from .base import Checker

_SUBMITTERS = (RecordKind.ACCEPTANCE, RecordKind.CANCELLATION, RecordKind.RECHECK)
# A lease is looked at when a sweep passes; a sweep may itself be late by one.
SWEEPS_LATE = 4


def own_root_grants(node: bytes, message: Message) -> list[Record]:
    """Grants that the node signs as a replica, in a message to the one who gets them."""
    if not isinstance(message, Granted):
        return []
    records = [open_record(raw, check_signature=False) for raw in message.grants]
    return [record for record in records if record.author == node and not record.body.parent]


class OneLease(Checker):
    """No process starts a task twice under one grant; without faults no two start one copy under the same epoch.

    With faults they may: a replica that was cut off cannot know which epochs the others gave.
    """

    name = "one-lease"
    invariant = 4

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._by_epoch: dict[tuple[bytes, int, int], IntervalMap[int]] = {}
        self._by_grant: dict[tuple[int, int, bytes], IntervalSet] = {}

    def executing(self, life: Any, run: Execute) -> None:
        machine, lo, hi = life.machine, run.first, run.first + run.count
        if not machine.honest:
            return
        if run.execution_id > FIRST_TRIAL:
            return  # to judge an accusation, under nobody's grant
        grant_id = life.mesh.worker._executions[run.execution_id].grant.id
        under_grant = self._by_grant.setdefault((machine.index, machine.lives, grant_id), IntervalSet())
        for a, b in under_grant.overlap(lo, hi):
            self.fail(f"{machine} starts [{a}, {b}) e{run.epoch} again under the same grant")
        under_grant.add(lo, hi)
        if self.world.plan.calm:
            started = self._by_epoch.setdefault((run.job_id, run.copy, run.epoch), IntervalMap())
            for a, b, before in started.pieces(lo, hi):
                if before is None:
                    started.assign(a, b, machine.index)
                else:
                    self.fail(f"[{a}, {b}) under epoch {run.epoch} starts on {machine}, and did on {before}")

    def saved(self, life: Any, run: Execute) -> None:
        """What was stopped at a checkpoint may go on here, under the grant that it has."""
        if not life.machine.honest:
            return
        grant_id = life.mesh.worker._executions[run.execution_id].grant.id
        self._by_grant[life.machine.index, life.machine.lives, grant_id].discard(run.first, run.first + 1)
        if self.world.plan.calm:
            self._by_epoch[run.job_id, run.copy, run.epoch].remove(run.first, run.first + 1)


class NoDuplicates(Checker):
    """Without faults every task is run once, and every copy that its submitter asked for."""

    name = "no-duplicates"
    invariant = 4

    def at_rest(self) -> None:
        if not self.world.plan.calm:
            return
        run = sum(machine.executor.tasks_run for machine in self.world.nodes)
        wanted = sum(order.spec.tasks for order in self.world.orders.values())
        wanted += sum(copies_asked(self.world, job_id) for job_id in self.world.orders)
        if run > wanted:
            self.fail(f"{run} tasks were run, and {wanted} were wanted")


def copies_asked(world: Any, job_id: bytes) -> int:
    """Copies of tasks that submitters signed for, as far as they live."""
    asked = IntervalSet()
    for customer in world.customers:
        life = customer.machine.life
        own = life.mesh.submitter.jobs.get(job_id) if life is not None else None
        if own is None:
            continue
        for record in own.state.rechecks.values():
            asked.add(*numbers_of(record.body.lo, record.body.hi, record.body.copy, own.state.spec.tasks))
    return asked.total


class Fenced(Checker):
    """Who was told that a range went to somebody else starts nothing of it."""

    name = "fencing"
    invariant = 4
    hears: ClassVar[tuple[type[Message], ...]] = (Superseded,)

    def heard(self, life: Any, peer: bytes, message: Message) -> None:
        assert isinstance(message, Superseded)
        worker = life.mesh.worker
        for held in message.jobs:
            view = worker.view(held.job_id)
            if view is None or peer not in view.replicas:
                continue
            for part in held.ranges:
                for lease in worker._leases:
                    same = lease.body.job_id == held.job_id and lease.body.epoch <= part.epoch
                    if same and lease.next < part.hi and part.lo < lease.hi:
                        self.fail(f"{life.machine} keeps [{lease.next}, {lease.hi}) e{lease.body.epoch}, and was told")


class EpochRises(Checker):
    """A replica never grants a task under an epoch that it granted before, in this life or an earlier one."""

    name = "epoch-rises"
    invariant = 4
    says: ClassVar[tuple[type[Message], ...]] = (Granted,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._highest: dict[tuple[int, int, bytes], IntervalMap[int]] = {}

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not isinstance(message, Granted) or not life.machine.honest:
            return
        for record in own_root_grants(life.machine.id, message):
            grant = record.body
            key = (life.machine.index, life.machine.disk.wiped, grant.job_id)
            highest = self._highest.setdefault(key, IntervalMap())
            for lo, hi, epoch in highest.pieces(grant.lo, grant.hi):
                if epoch is not None and epoch >= grant.epoch:
                    self.fail(f"{life.machine} grants [{lo}, {hi}) under epoch {grant.epoch} after {epoch}")
            highest.assign(grant.lo, grant.hi, grant.epoch)


class OwnSection(Checker):
    """A replica grants of another's section only while it holds that one for dead, or unable."""

    name = "own-section"
    invariant = 4
    says: ClassVar[tuple[type[Message], ...]] = (Granted,)

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not isinstance(message, Granted) or not life.machine.honest or not self.world.plan.calm:
            return
        for record in own_root_grants(life.machine.id, message):
            kept = life.mesh.replica.jobs.get(record.body.job_id)
            if kept is None:
                continue
            members = kept.state.replicas
            first, last = tasks_of(record.body.lo, record.body.hi, kept.state.spec.tasks)
            for rank, member in enumerate(members):
                lo, hi = section(rank, len(members), kept.state.spec.tasks)
                foreign = member != life.machine.id and max(lo, first) < min(hi, last)
                if foreign and life.mesh.members.is_alive(member) and member not in kept.refusing:
                    self.fail(f"{life.machine} grants of the section of {self.world.by_id[member]}, which is well")


class LeasesExpire(Checker):
    """No replica believes in a lease long after it ran out, unless its sweep is still to come."""

    name = "lease-expiry"
    invariant = 4

    def sampled(self, life: Any) -> None:
        now_us = life.machine.clock.local_us(self.world.engine.now_us)
        sweep_us = life.timers.get(("sweep", b""))
        if life.machine.frozen or life.machine.overdue or life.missed or (sweep_us is not None and sweep_us <= now_us):
            return
        late_us = now_us - SWEEPS_LATE * self.world.config.lease_sweep_us
        for kept in life.mesh.replica.jobs.values():
            for lo, hi, lease in kept.ledger.live:
                if lease.expires_at_us < late_us:
                    ago_us = now_us - lease.expires_at_us
                    self.fail(f"{life.machine} believes in a lease of [{lo}, {hi}) that ran out {ago_us} us ago")
                    return


class CancelledStays(Checker):
    """A replica that knows of a cancellation grants nothing of that job."""

    name = "cancelled"
    says: ClassVar[tuple[type[Message], ...]] = (Granted,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._cancelled: dict[bytes, None] = {}

    def writing(self, life: Any, write: Any) -> None:
        if isinstance(write, Persist) and write.kind == RecordKind.CANCELLATION:
            self._cancelled[write.job_id] = None

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not isinstance(message, Granted) or not self._cancelled:
            return
        for record in own_root_grants(life.machine.id, message):
            rows = life.machine.disk.rows
            job_id = record.body.job_id
            if job_id not in self._cancelled:
                continue
            granted = (job_id, int(RecordKind.GRANT), record.id)
            for key in rows:
                if key[0] == job_id and key[1] == RecordKind.CANCELLATION:
                    order = list(rows)
                    if granted in rows and order.index(granted) > order.index(key):
                        self.fail(f"{life.machine} grants of a job whose cancellation it had on disk before")
                    break


class ForgeriesKept(Checker):
    """No record with a signature that is not its author's gets onto an honest disk."""

    name = "forgery-kept"
    invariant = 2

    def writing(self, life: Any, write: Any) -> None:
        if not isinstance(write, Persist) or write.kind > len(RecordKind) or not life.machine.honest:
            return
        if not is_genuine(write.body):
            self.fail(f"{life.machine} keeps a {RecordKind(write.kind).name} that nobody signed")


class RightfulAuthors(Checker):
    """An honest disk takes acceptances, cancellations and calls for copies by the job's submitter alone, and grants by
    those who keep the job, or kept it, or hand on what they hold."""

    name = "wrong-author"
    invariant = 2

    def writing(self, life: Any, write: Any) -> None:
        if not isinstance(write, Persist) or not life.machine.honest:
            return
        if write.kind in _SUBMITTERS:
            record = open_record(write.body, check_signature=False)
            if record.author != self._submitter(write.job_id):
                self._blame(life, record)
        elif write.kind == RecordKind.GRANT:
            grant = open_record(write.body, check_signature=False)
            kept = life.mesh.replica.jobs.get(write.job_id)
            if kept is None or kept.state.may_have_share(_root(grant).author):
                return
            self._blame(life, grant)

    def _submitter(self, job_id: bytes) -> bytes:
        order = self.world.orders[job_id]
        return next(customer.machine.id for customer in self.world.customers if order in customer.orders)

    def _blame(self, life: Any, record: Record) -> None:
        author = self.world.by_id[record.author]
        self.fail(f"{life.machine} keeps a {record.kind.name} by {author}, who had no right to sign it")


def _root(grant: Record) -> Record:
    """Of a grant that was handed on, the one that began it; each of the others was its author's to give."""
    while grant.body.parent:
        parent = open_record(grant.body.parent, check_signature=False)
        if parent.body.holder != grant.author:
            return grant
        grant = parent
    return grant
