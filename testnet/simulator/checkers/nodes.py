"""Nodes: bounded, warm enough, fair to each other, and with books that balance. Invariants 5 to 8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ....protocol.aggregates import FAR_JOBS_MAX
from ....protocol.effects import Execute, Reason
from ....protocol.events import HeatReading, TaskFinished
from ....protocol.holder import JOB_VIEWS_MAX
from ....protocol.job_parts import WorkerTotals
from ....protocol.jobs import JobState
from ....protocol.messages import Granted, Message
from ....protocol.replica import PENDING_MAX
from ....protocol.result_keeping import FETCHING_MAX
from ....protocol.seeking import SEARCHES_MAX
from ....protocol.zones import KEPT_MAX, MATES_MAX
from ..engine import SECOND
from .base import Checker
from .leases import own_root_grants

# Whoever fails at a job leaves it to others for a minute; half of it, as clocks drift and others may free a slot late.
LEFT_US = 30 * SECOND
# An accusation goes round, and each tries the task for itself when it has a slot.
TRIED_US = 10 * SECOND


class WarmStart(Checker):
    """No task starts in a room that is warm enough, beyond the slots that it wants, or while the disk takes nothing."""

    name = "warm-start"
    invariant = 5

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._told: dict[int, HeatReading] = {}

    def born(self, life: Any) -> None:
        self._told.pop(life.machine.index, None)

    def warmed(self, life: Any, reading: HeatReading) -> None:
        self._told[life.machine.index] = reading

    def executing(self, life: Any, run: Execute) -> None:
        machine, worker = life.machine, life.mesh.worker
        reading = self._told.get(machine.index)
        if reading is None or reading.slots == 0:
            self.fail(f"{machine} starts [{run.first}, {run.first + run.count}) in a room that wants no heat")
        elif len(machine.executor.running) >= min(reading.slots, machine.slots):
            self.fail(f"{machine} starts more than {reading.slots} of its {machine.slots} slots")
        if worker.storage_failed:
            self.fail(f"{machine} starts work that it could not keep the results of")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an execution cost, as its executor told it."""

    worker: bytes
    count: int
    cpu_us: int
    energy_mj: int
    useful_mj: int


class EnergyBalances(Checker):
    """Each receipt says what its tasks cost, no less and no more.

    What a machine spent is its receipts, and what was cut short or moved. A job's totals are the receipts that count.
    """

    name = "energy-balance"
    invariant = 6

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._receipts: dict[bytes, Receipt] = {}
        self._told_mj: dict[int, int] = {}
        # By machine, of what ended and makes no batch: to judge an accusation, or of a job that is known no more.
        self._beside_mj: dict[int, int] = {}
        self._makes_batch = False

    def finished(self, life: Any, run: Execute, event: TaskFinished) -> None:
        if event.useful_mj > event.energy_mj:
            self.fail(f"{life.machine}: more useful energy than energy")
        worker = life.mesh.worker
        self._makes_batch = run.execution_id in worker._executions and worker.view(run.job_id) is not None

    def ended(self, life: Any, run: Execute, event: TaskFinished) -> None:
        machine = life.machine
        header = life.mesh.worker.made(run.execution_id)
        if header is None:
            self._beside_mj[machine.index] = self._beside_mj.get(machine.index, 0) + event.energy_mj
            if self._makes_batch:
                self.fail(f"{machine} ran [{run.first}, {run.first + run.count}), and makes no receipt of it")
            return
        body = header.body
        told = body.job_id, body.first, body.copy, body.epoch
        if told != (run.job_id, run.first, run.copy, run.epoch):
            self.fail(f"{machine} ran [{run.first}, {run.first + run.count}), and its receipt is of something else")
        wanted = Receipt(machine.id, len(event.exits), sum(event.cpu_us), event.energy_mj, event.useful_mj)
        found = Receipt(header.author, body.count, body.cpu_us, body.energy_mj, body.useful_mj)
        if found != wanted or body.fuel != sum(event.fuels) or body.measured != event.measured:
            self.fail(f"{machine}: a receipt of {costs(found)}, and its tasks cost {costs(wanted)}")
        self._receipts[header.id] = found
        self._told_mj[machine.index] = self._told_mj.get(machine.index, 0) + body.energy_mj

    def at_rest(self) -> None:
        for machine in self.world.nodes:
            executor = machine.executor
            told_mj = self._told_mj.get(machine.index, 0) + self._beside_mj.get(machine.index, 0)
            if told_mj * 1000 + executor.lost_uj + executor.moved_uj != executor.energy_uj:
                self.fail(f"{machine}: {executor.energy_uj} uJ spent, and {told_mj} mJ in its receipts")
            if machine.life is not None and machine.honest:
                for kept in machine.life.mesh.replica.jobs.values():
                    self._check_totals(machine, kept.state)

    def _check_totals(self, machine: Any, state: JobState) -> None:
        """Those of each worker, within what rounding costs where of a batch a part counts."""
        for batch_id, info in state.batches.items():
            author = self.world.by_id.get(info.worker)
            kept = Receipt(info.worker, info.count, info.cpu_us, info.energy_mj, info.useful_mj)
            if author is not None and author.honest and self._receipts.get(batch_id) != kept:
                self.fail(f"{machine} keeps a receipt of {costs(kept)} by {author}, which made none like it")
        sums: dict[bytes, list[int]] = {}
        for lo, hi, key in state.canonical:
            info, part = state.batches[key.batch_id], hi - lo
            of_worker = sums.setdefault(info.worker, [0, 0, 0, 0])
            for at, whole in enumerate((info.cpu_us, info.energy_mj, info.useful_mj)):
                of_worker[at] += whole * part // info.count
            of_worker[3] += part
        rounded = 2 * (len(state.canonical) + len(state.batches))
        for node in dict.fromkeys((*sums, *state.totals)):
            cpu_us, energy_mj, useful_mj, done = sums.get(node, [0, 0, 0, 0])
            total = state.totals.get(node, WorkerTotals())
            found = Receipt(node, total.done, total.cpu_us, total.energy_mj, total.useful_mj)
            wanted = Receipt(node, done, cpu_us, energy_mj, useful_mj)
            apart = (found.cpu_us - cpu_us, found.energy_mj - energy_mj, found.useful_mj - useful_mj)
            if total.done != done or max(map(abs, apart)) > rounded:
                self.fail(f"{machine} adds up {costs(found)} of one worker, whose receipts are {costs(wanted)}")


def costs(receipt: Receipt) -> str:
    return (
        f"{receipt.count} tasks, {receipt.cpu_us} us, {receipt.energy_mj} mJ, of which {receipt.useful_mj} were of use"
    )


class Bounded(Checker):
    """Queues, tables and views stay within what the config allows."""

    name = "bounds"
    invariant = 7

    def sampled(self, life: Any) -> None:
        mesh, config = life.mesh, self.world.config
        worker, replica, members, tables = mesh.worker, mesh.replica, mesh.members, mesh.tables
        circle = members.circle
        rows = len(tables)
        if rows > config.table_entries_max:
            rows -= own_rows(life)
        found = (
            ("outbox", len(worker.outbox), config.owed_max + worker.slots + 1),
            ("batches on the way", worker.outbox.on_the_way, config.outbox_max + worker.slots + 1),
            ("rows", rows, config.table_entries_max),
            ("buried rows", len(tables._buried), config.table_entries_max),
            ("members", len(members._members), config.members_max),
            ("view", len(members._view.nodes), config.active_view_max + len(circle.contacts) + len(circle.watched)),
            ("contacts", len(circle.contacts), config.contacts_a_level * mesh.cell.depth),
            ("far jobs", len(mesh.aggregates._jobs), FAR_JOBS_MAX),
            ("searches", len(mesh.seeker._searches), SEARCHES_MAX),
            ("zone mates", len(mesh.zones.mates), MATES_MAX),
            ("members of zones", len(mesh.zones._kept), KEPT_MAX),
            ("lifelines", len(replica._lifelines), config.lifelines_held_max),
            ("submissions", len(replica._pending), PENDING_MAX),
            ("batches that wait for outputs", len(replica._pending_batches), FETCHING_MAX),
            ("jobs", len(replica.jobs), config.jobs_max),
            ("views of jobs", len(worker._views), JOB_VIEWS_MAX + worker.slots + len(worker._leases)),
            *(
                ("bytes that wait for copies", sum(own.aside.values()), config.held_bytes_max)
                for own in mesh.submitter.jobs.values()
            ),
        )
        for what, count, most in found:
            if count > most:
                self.fail(f"{life.machine}: {count} {what}, at most {most} allowed")
        for own in mesh.submitter.jobs.values():
            if own.aside_bytes != sum(own.aside.values()):
                self.fail(f"{life.machine}: {own.aside_bytes} bytes are said to wait for copies")


def own_rows(life: Any) -> int:
    """Those of this node itself, which the bound leaves out."""
    rows = life.mesh.tables._rows.values()
    return sum(row.record.author == life.machine.id for row in rows)


class FairToTheHonest(Checker):
    """No honest node penalises another, whatever liars say of it or pass on in its name."""

    name = "honest-penalised"
    invariant = 7

    def penalised(self, life: Any, peer: bytes, reason: Reason) -> None:
        offender = self.world.by_id.get(peer)
        if offender is not None and offender.honest and life.machine.honest:
            self.fail(f"{life.machine} penalises {offender}: {reason}")


class OnlyLiarsBanned(Checker):
    """No honest node shuts another out, whatever that one shares with a liar: its house, its address, its zone."""

    name = "honest-banned"
    invariant = 7

    def sampled(self, life: Any) -> None:
        if life.banned_until_us and life.machine.honest:
            banned = [self.world.machines[index] for index in life.banned_until_us]
            for other in banned:
                if other.honest:
                    self.fail(f"{life.machine} lets {other} in no more, which did nothing")


class FaultyLeft(Checker):
    """Whoever could not run a task of a job starts none of it for a while. A broken machine whose results were found
    wrong is granted nothing more by others, once they had time to look for themselves."""

    name = "faulty-left-alone"
    says: ClassVar[tuple[type[Message], ...]] = (Granted,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._failed_us: dict[tuple[int, int, bytes], int] = {}

    def failed(self, life: Any, run: Execute) -> None:
        self._failed_us[life.machine.index, life.machine.lives, run.job_id] = self.world.engine.now_us

    def executing(self, life: Any, run: Execute) -> None:
        failed_us = self._failed_us.get((life.machine.index, life.machine.lives, run.job_id))
        if failed_us is not None and self.world.engine.now_us - failed_us < LEFT_US:
            self.fail(f"{life.machine} starts [{run.first}, {run.first + run.count}) of a job that it cannot run")

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        machine = self.world.by_id[peer]
        if machine.liar is None or machine.liar.name != "faulty" or not life.machine.honest:
            return
        caught = [order.caught[peer] for order in self.world.orders.values() if peer in order.caught]
        if caught and self.world.engine.now_us - min(caught) > TRIED_US and own_root_grants(life.machine.id, message):
            self.fail(f"{life.machine} grants to {machine}, whose results are wrong, and was told long ago")


class ViewsAgree(Checker):
    """At the end of a run that had time to settle, all who are well and of one cell know each other to be alive."""

    name = "views-agree"

    def at_rest(self) -> None:
        well = [machine for machine in self.world.nodes if machine.well]
        if not self.world.plan.settles_us:
            return
        for machine in well:
            if machine.life is None:
                continue
            mesh = machine.life.mesh
            known = dict.fromkeys(mesh.members.alive())
            mates = [other for other in well if other is not machine and mesh.cell.holds(other.id)]
            missing = [other.name for other in mates if other.id not in known]
            if missing:
                self.fail(f"{machine} does not know that {', '.join(missing)} live")


class NoCrash(Checker):
    """Nothing that is said to a node ends its process. Seen where a life handles an event."""

    name = "no-crash"
    invariant = 8


class Codec(Checker):
    """What a machine wants sent decodes to the same message. Seen where messages leave."""

    name = "codec"
