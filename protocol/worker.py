"""A node as a worker: it steals when it is cold, runs what it holds in batches, and hands on what it cannot.

What may run is set by the heat sink alone: slots is 0 in a room that is warm enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from .batches import STDERR_BYTES_MAX, Batch, encode_columns
from .context import Context
from .effects import CancelExecution, Execute, Reason, TimerKey, UnpinBlobs
from .events import ExecutionFailed, HeatReading, StoredRow, TaskFinished
from .heat import HeatBoard
from .jobs import HAND_ON_DEPTH_MAX, JobState, RejectedRecord
from .membership import Membership
from .messages import (
    Declined,
    FoundJobs,
    Granted,
    HandOn,
    HeldJob,
    HeldRange,
    Records,
    Refused,
    Renew,
    Steal,
    Stored,
    Superseded,
)
from .outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW, Outbox, output_pin
from .records import (
    BatchHeader,
    Grant,
    JobSpec,
    MemberRecord,
    Record,
    RecordError,
    RecordKind,
    Release,
    open_record,
    sign_record,
)
from .tables import Tables
from .thief import Thief
from .verification.lanes import lane_of

JOB_VIEWS_MAX = 1024
# A job that this node could not run is left to others for this long.
UNRUNNABLE_US = 60_000_000
GRANTS_A_MESSAGE_MAX = 64
CONTEXT_A_MESSAGE_MAX = 128
GRANTS_REMEMBERED_MAX = 4096
REASON_BYTES_MAX = 256


@dataclass(slots=True)
class HeldLease:
    """Tasks [next, hi) of a grant are unstarted; [lo, next) run, ran or were given away.

    left: how many the granter kept.
    """

    grant: Record
    next: int
    hi: int
    left: int

    @property
    def body(self) -> Grant:
        body: Grant = self.grant.body
        return body

    @property
    def unstarted(self) -> int:
        return self.hi - self.next


@dataclass(frozen=True, slots=True)
class Execution:
    """Tasks [first, first + count) that run now."""

    execution_id: int
    job_id: bytes
    first: int
    count: int
    epoch: int
    grant: Record


class Worker:
    """Sub-machine; `Mesh` routes to it."""

    def __init__(
        self,
        ctx: Context,
        members: Membership,
        tables: Tables,
        heat: HeatBoard,
        thief: Thief,
    ) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._heat = heat
        self._thief = thief
        self.outbox = Outbox(ctx, members)
        self._views: dict[bytes, JobState] = {}
        self._leases: list[HeldLease] = []
        self._executions: dict[int, Execution] = {}
        self._task_us: dict[bytes, int] = {}
        self._unrunnable: dict[bytes, int] = {}
        self._taken: dict[bytes, None] = {}
        self._next_execution = 0
        self._renewing = False
        self.slots = 0
        self.memory_bytes = 1 << 40
        self.native_commands: tuple[str, ...] = ()
        self.wasm = True
        self.tasks_done = 0
        self.draining = False
        self.storage_failed = ""

    # -- what it holds -------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        return len(self._executions)

    @property
    def unstarted(self) -> int:
        return sum(lease.unstarted for lease in self._leases)

    def queue_us(self) -> int:
        """CPU time of what is unstarted; an unknown task counts as a quarter of a batch."""
        unknown_us = self._ctx.config.batch_target_us // self._ctx.config.batch_tasks_first
        return sum(lease.unstarted * (self.task_us(lease.body.job_id) or unknown_us) for lease in self._leases)

    def task_us(self, job_id: bytes) -> int:
        """This node's own measure of a job's task, else the submitter's estimate, else 0."""
        known = self._task_us.get(job_id)
        if known:
            return known
        view = self._views.get(job_id)
        return view.spec.estimate_us if view else 0

    def view(self, job_id: bytes) -> JobState | None:
        """The job as this worker was told of it: spec and replica set, nothing of its progress."""
        return self._views.get(job_id)

    def restore(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        """Results that the last life still owed."""
        columns = {row.key: row.body for row in rows if row.kind == OWED_COLUMNS_ROW}
        for row in rows:
            if row.kind == OWED_HEADER_ROW and row.key in columns:
                self.outbox.restore(row.body, columns[row.key], now_us)

    # -- heat ----------------------------------------------------------------------------------------------

    def on_heat(self, reading: HeatReading, now_us: int) -> None:
        self._heat.reading = reading
        self.slots = 0 if self.draining else reading.slots
        if self.slots == 0 and self._leases:
            self.hand_on(now_us)
        self.pump(now_us)

    def publish_heat(self, now_us: int) -> None:
        free_slots = max(0, self.slots - self.running)
        self._heat.publish(free_slots, self.queue_us(), now_us)

    # -- running -------------------------------------------------------------------------------------------

    def pump(self, now_us: int) -> None:
        """Start what may start, then steal if the queue runs low."""
        while len(self._executions) < self.slots and self._may_start():
            lease = next((held for held in self._leases if held.unstarted), None)
            if lease is None:
                break
            self._start(lease)
        self._leases = [lease for lease in self._leases if lease.unstarted]
        self._arm_renewal(now_us)
        self.publish_heat(now_us)
        self._maybe_steal(now_us)

    def _may_start(self) -> bool:
        return not (self.draining or self.storage_failed or self.outbox.full)

    def _start(self, lease: HeldLease) -> None:
        count = min(self._batch_size(lease), lease.unstarted)
        self._next_execution += 1
        execution = Execution(
            self._next_execution,
            lease.body.job_id,
            lease.next,
            count,
            lease.body.epoch,
            lease.grant,
        )
        lease.next += count
        self._executions[execution.execution_id] = execution
        first, copy = self._first_task(execution), lane_of(execution.first, self._views[execution.job_id].spec.tasks)
        self._ctx.emit(Execute(execution.execution_id, execution.job_id, first, count, execution.epoch, copy))

    def _batch_size(self, lease: HeldLease) -> int:
        """About `batch_target_us` of work; smaller near the end, so that all slots end together."""
        config = self._ctx.config
        task_us = self.task_us(lease.body.job_id)
        if not task_us:
            return config.batch_tasks_first
        full = min(config.batch_tasks_max, config.batch_target_us // task_us)
        share = -(-(self.unstarted + lease.left) // (2 * max(1, self.slots)))
        worthwhile = config.batch_floor_us // task_us
        return max(1, worthwhile, min(full, share))

    def _maybe_steal(self, now_us: int) -> None:
        """Ask for work when the queue is low: for what brings it to the target, within the horizon."""
        reading = self._heat.reading
        if reading is None or self.slots == 0 or not self._may_start():
            return
        target_us = self.slots * self._ctx.config.queue_target_us
        queued_us = self.queue_us()
        if queued_us > self.slots * self._ctx.config.queue_low_us:
            return
        appetite_us = target_us - queued_us
        if reading.useful and reading.watts_per_slot > 0:
            horizon_us = int(reading.horizon_wh * 3600 / reading.watts_per_slot * 1_000_000)
            appetite_us = min(appetite_us, max(0, horizon_us - queued_us))
        if appetite_us <= 0:
            return
        hunger = Steal(
            request=0,
            appetite_us=appetite_us,
            slots=max(1, self.slots - self.running) if not queued_us else self.slots,
            deficit_w=round(reading.deficit_w),
            memory_bytes=self.memory_bytes,
            native=self.native_commands,
            lifeline=False,
            wasm=self.wasm,
            excluded=tuple(job_id for job_id, until in self._unrunnable.items() if until > now_us)[-32:],
        )
        self._thief.want(hunger, idle=self.running == 0 and queued_us == 0, now_us=now_us)

    def on_finished(self, event: TaskFinished, now_us: int) -> None:
        execution = self._executions.pop(event.execution_id, None)
        if execution is None:
            # Cancelled, while it ended.
            self._ctx.emit(UnpinBlobs(output_pin(event.execution_id)))
            return
        done = len(event.exits)
        assert done <= execution.count, "an executor returned more tasks than it was given"
        if done < execution.count:
            self._release(execution.grant, execution.first + done, execution.first + execution.count)
            execution = replace(execution, count=done)
        if done:
            self._take_outcome(execution, event, now_us)
        self.pump(now_us)

    def _take_outcome(self, execution: Execution, event: TaskFinished, now_us: int) -> None:
        batch = Batch(
            self._first_task(execution),
            execution.epoch,
            event.exits,
            event.outputs,
            event.fuels,
            event.cpu_us,
            event.externals,
            {offset: text[-STDERR_BYTES_MAX:] for offset, text in event.stderrs.items() if text},
        )
        self.tasks_done += execution.count
        self._learn_duration(execution.job_id, sum(event.cpu_us), execution.count)
        self._deliver(execution, batch, event.energy_mj, event.useful_mj, event.measured, now_us)

    def _first_task(self, execution: Execution) -> int:
        """The task that its first number stands for; 0 if the job is known no more, and nobody is told of it."""
        view = self._views.get(execution.job_id)
        return execution.first % view.spec.tasks if view is not None else 0

    def _learn_duration(self, job_id: bytes, cpu_us: int, count: int) -> None:
        measured = max(1, cpu_us // count)
        known = self._task_us.get(job_id)
        self._task_us[job_id] = measured if not known else (3 * known + measured) // 4 or 1
        while len(self._task_us) > JOB_VIEWS_MAX:
            del self._task_us[next(iter(self._task_us))]

    def _deliver(
        self,
        execution: Execution,
        batch: Batch,
        energy_mj: int,
        useful_mj: int,
        measured: bool,
        now_us: int,
    ) -> None:
        view = self._views.get(execution.job_id)
        if view is None:
            return
        header = BatchHeader(
            job_id=execution.job_id,
            first=batch.first,
            count=execution.count,
            epoch=execution.epoch,
            root=batch.root(),
            failed=batch.failed(),
            cpu_us=sum(batch.cpu_us),
            fuel=sum(batch.fuels),
            energy_mj=energy_mj,
            useful_mj=useful_mj,
            measured=measured,
            certificate=self._ctx.certificate,
            copy=lane_of(execution.first, view.spec.tasks),
            grant=execution.grant.raw if execution.first >= view.spec.tasks else b"",
        )
        record = sign_record(self._ctx.identity, RecordKind.BATCH, header)
        self.outbox.add(record, encode_columns(batch), view.replicas, now_us, pin=output_pin(execution.execution_id))

    def on_failed(self, event: ExecutionFailed, now_us: int) -> None:
        """A permanent fault is the tasks' result; any other gives the tasks to somebody else."""
        execution = self._executions.pop(event.execution_id, None)
        if execution is None:
            return
        if event.permanent:
            count, text = execution.count, event.reason.encode()[:REASON_BYTES_MAX]
            batch = Batch(
                self._first_task(execution),
                execution.epoch,
                (event.exit_code,) * count,
                (b"",) * count,
                (0,) * count,
                (0,) * count,
                {},
                dict.fromkeys(range(count), text) if text else {},
            )
            self._deliver(execution, batch, 0, 0, False, now_us)
        else:
            self._unrunnable[execution.job_id] = now_us + UNRUNNABLE_US
            while len(self._unrunnable) > JOB_VIEWS_MAX:
                del self._unrunnable[next(iter(self._unrunnable))]
            self._ctx.notify("execution.failed", job_id=execution.job_id, reason=event.reason)
            self._release(execution.grant, execution.first, execution.first + execution.count)
            for lease in [held for held in self._leases if held.body.job_id == execution.job_id]:
                self._release(lease.grant, lease.next, lease.hi)
                lease.hi = lease.next
        self.pump(now_us)

    # -- leases --------------------------------------------------------------------------------------------

    def on_granted(self, peer: bytes, message: Granted | HandOn, now_us: int) -> None:
        """Take grants that are good; learn their jobs' context first."""
        for raw in message.context:
            self._learn_context(peer, raw, now_us)
        taken = 0
        left = message.left if isinstance(message, Granted) else 0
        for raw in message.grants:
            taken += self._take_grant(peer, raw, left, now_us)
        if isinstance(message, Granted):
            self._thief.on_granted(peer, message.request, taken, now_us)
        if taken and (self.slots == 0 or not self._may_start()):
            self.hand_on(now_us)
        self.pump(now_us)

    def _learn_context(self, peer: bytes, raw: bytes, now_us: int) -> None:
        try:
            record = open_record(raw)
        except RecordError:
            self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return
        if record.kind is RecordKind.SPEC:
            if record.body.mesh_id != self._ctx.policy.mesh.mesh_id:
                self._ctx.penalise(peer, Reason.NOT_ADMITTED)
                return
            self._views.setdefault(record.id, JobState(record))
            self._trim_views()
            return
        if record.kind is not RecordKind.REPLICA_SET:
            self._ctx.penalise(peer, Reason.MALFORMED)
            return
        self.learn_replica_set(record, now_us)

    def learn_replica_set(self, record: Record, now_us: int) -> None:
        view = self._views.get(record.body.job_id)
        if view is None:
            return
        try:
            changed = view.merge(record)
        except RejectedRecord:
            return
        if changed:
            self.outbox.change_replicas(view.job_id, view.replicas, now_us)

    def on_found(self, message: FoundJobs, now_us: int) -> None:
        """Who keeps a job now of which results are owed here."""
        for raw in message.context:
            try:
                record = open_record(raw)
            except RecordError:
                return
            if record.kind is RecordKind.SPEC and self.outbox.owes(record.id):
                self._views.setdefault(record.id, JobState(record))
                self._trim_views()
            elif record.kind is RecordKind.REPLICA_SET and self.outbox.owes(record.body.job_id):
                self.learn_replica_set(record, now_us)

    def _trim_views(self) -> None:
        """Forget the oldest jobs of which nothing is held."""
        if len(self._views) <= JOB_VIEWS_MAX:
            return
        held = {lease.body.job_id for lease in self._leases}
        held |= {execution.job_id for execution in self._executions.values()}
        for job_id in list(self._views):
            if len(self._views) <= JOB_VIEWS_MAX:
                return
            if job_id not in held:
                del self._views[job_id]

    def _take_grant(self, peer: bytes, raw: bytes, left: int, now_us: int) -> int:
        """Tasks gained: 0 if the grant is not for this node, not valid, or not known to be anybody's."""
        try:
            record = open_record(raw)
        except RecordError:
            self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return 0
        if record.kind is not RecordKind.GRANT or record.body.holder != self._ctx.node_id:
            self._ctx.penalise(peer, Reason.MALFORMED)
            return 0
        grant: Grant = record.body
        view = self._views.get(grant.job_id)
        if view is None:
            self._ctx.notify("lease.unknown-job", job_id=grant.job_id, granter=peer)
            return 0
        try:
            view.check_grant(record)
        except RejectedRecord as error:
            if error.fault:
                self._ctx.penalise(peer, Reason(error.reason))
            return 0
        if view.cancellation is not None:
            return 0
        if record.id in self._taken:
            return 0
        self._taken[record.id] = None
        while len(self._taken) > GRANTS_REMEMBERED_MAX:
            del self._taken[next(iter(self._taken))]
        if grant.parent:
            for node in view.replicas:
                self._ctx.send(node, Records(grant.job_id, (raw,)))
        if self._unrunnable.get(grant.job_id, 0) > now_us or not self._offers(view.spec):
            self._release(record, grant.lo, grant.hi)
            return 0
        self._leases.append(HeldLease(record, grant.lo, grant.hi, left))
        return grant.hi - grant.lo

    def _offers(self, spec: JobSpec) -> bool:
        """Whether this node's owner lets it run such a job."""
        if spec.limits.memory_bytes > self.memory_bytes:
            return False
        return self.wasm if spec.runtime == "wasm" else spec.command in self.native_commands

    def _arm_renewal(self, now_us: int) -> None:
        if not self._renewing and (self._leases or self._executions):
            self._renewing = True
            self._ctx.set_timer(("renew", b""), now_us + self._ctx.config.lease_us // 3)

    def _renew(self, now_us: int) -> None:
        """All that is held, in one message to each replica."""
        self._renewing = False
        ranges: dict[bytes, list[HeldRange]] = {}
        for lease in self._leases:
            if lease.unstarted:
                ranges.setdefault(lease.body.job_id, []).append(HeldRange(lease.next, lease.hi, lease.body.epoch))
        for execution in self._executions.values():
            ranges.setdefault(execution.job_id, []).append(
                HeldRange(execution.first, execution.first + execution.count, execution.epoch)
            )
        by_replica: dict[bytes, list[HeldJob]] = {}
        for job_id, held in ranges.items():
            for node in self._views[job_id].replicas:
                by_replica.setdefault(node, []).append(HeldJob(job_id, tuple(held[:1024])))
        for node, jobs in by_replica.items():
            self._ctx.send(node, Renew(tuple(jobs[:256])))
        self._arm_renewal(now_us)

    def on_superseded(self, peer: bytes, message: Superseded, now_us: int) -> None:
        """Tasks that went to somebody else must not start here; those that run may finish: work is work."""
        for held in message.jobs:
            view = self._views.get(held.job_id)
            if view is None or peer not in view.replicas:
                continue
            for part in held.ranges:
                self._drop_unstarted(held.job_id, part)
        self.pump(now_us)

    def _drop_unstarted(self, job_id: bytes, part: HeldRange) -> None:
        kept = []
        for lease in self._leases:
            body = lease.body
            if body.job_id != job_id or body.epoch > part.epoch:
                kept.append(lease)
                continue
            if part.hi <= lease.next or lease.hi <= part.lo:
                kept.append(lease)
                continue
            if lease.next < part.lo:
                kept.append(HeldLease(lease.grant, lease.next, part.lo, lease.left))
            if part.hi < lease.hi:
                kept.append(HeldLease(lease.grant, part.hi, lease.hi, lease.left))
        self._leases = kept

    def _release(self, grant: Record, lo: int, hi: int) -> None:
        if lo >= hi:
            return
        release = Release(grant.body.job_id, lo, hi, grant.raw)
        record = sign_record(self._ctx.identity, RecordKind.RELEASE, release)
        view = self._views.get(grant.body.job_id)
        for node in view.replicas if view else ():
            self._ctx.send(node, Records(grant.body.job_id, (record.raw,)))

    def tell_grants_of(self, granter: bytes) -> None:
        """The granter is in doubt: what is held of it is told to the other replicas, as it may not have done it itself.

        So that whoever takes its section over does not grant the same under the same epoch.
        """
        held = [lease.grant for lease in self._leases] + [run.grant for run in self._executions.values()]
        for grant in {record.id: record for record in held if record.author == granter}.values():
            for node in self._views[grant.body.job_id].replicas:
                if node != granter:
                    self._ctx.send(node, Records(grant.body.job_id, (grant.raw,)))

    # -- giving away ---------------------------------------------------------------------------------------

    def give(self, thief: bytes, steal: Steal) -> Granted | None:
        """A thief's share of the unstarted tasks: at most half, from the far end, under the next epoch."""
        if self.queue_us() <= self.slots * self._ctx.config.queue_low_us:
            return None
        give_us = min(self.queue_us() // 2, steal.appetite_us)
        grants, context = self._cut(thief, give_us, steal.can_run)
        if not grants:
            return None
        return Granted(steal.request, grants, context, self.unstarted)

    def _cut(
        self, heir: bytes, give_us: int, can_run: Callable[[bytes, JobSpec], bool]
    ) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Delegate unstarted tasks worth `give_us`; returns (grants, context), and tells the replicas.

        can_run(job_id, spec): whether the heir is able to.
        """
        unknown_us = self._ctx.config.batch_target_us // self._ctx.config.batch_tasks_first
        grants: list[bytes] = []
        context: dict[bytes, None] = {}
        for lease in reversed(self._leases):
            if give_us <= 0 or len(grants) >= GRANTS_A_MESSAGE_MAX:
                break
            view = self._views[lease.body.job_id]
            if not lease.unstarted or not can_run(view.job_id, view.spec):
                continue
            if lease.body.lo >= view.spec.tasks:
                continue  # who checks is not for who is checked with to say
            if _depth(lease.grant) >= HAND_ON_DEPTH_MAX or lease.body.holder == heir:
                continue
            told = context | dict.fromkeys(view.context())
            if len(told) > CONTEXT_A_MESSAGE_MAX:
                continue
            task_us = self.task_us(lease.body.job_id) or unknown_us
            count = min(lease.unstarted, max(1, give_us // task_us))
            body = Grant(
                lease.body.job_id,
                lease.hi - count,
                lease.hi,
                lease.body.epoch + 1,
                heir,
                self._ctx.config.lease_us,
                lease.grant.raw,
            )
            record = sign_record(self._ctx.identity, RecordKind.GRANT, body)
            if len(record.raw) > 4096:
                continue
            lease.hi -= count
            give_us -= count * task_us
            grants.append(record.raw)
            context = told
            for node in view.replicas:
                self._ctx.send(node, Records(view.job_id, (record.raw,)))
        self._leases = [lease for lease in self._leases if lease.unstarted]
        return tuple(grants), tuple(context)

    def hand_on(self, now_us: int) -> None:
        """Warm: the coldest peers get the unstarted work, the replicas what nobody cold can take."""
        for digest in self._heat.coldest()[:4]:
            if not self._leases:
                break
            room_us = max(1, digest.free_slots) * self._ctx.config.queue_target_us - digest.queue_us
            if room_us <= 0 or not self._members.is_alive(digest.node):
                continue
            heir = self._member(digest.node)
            if heir is None:
                continue
            grants, context = self._cut(digest.node, room_us, partial(_can_run, heir))
            if grants:
                self._ctx.notify("worker.handed-on", heir=digest.node, grants=len(grants))
                self._ctx.send(digest.node, HandOn(grants, context))
        self.release_all()

    def _member(self, node: bytes) -> MemberRecord | None:
        row = self._tables.get(RecordKind.MEMBER, node)
        return row.body if row is not None else None

    def release_all(self) -> None:
        """Give the unstarted back to the replicas."""
        for lease in self._leases:
            self._release(lease.grant, lease.next, lease.hi)
        self._leases = []

    # -- cancellation, leaving -----------------------------------------------------------------------------

    def on_cancelled(self, record: Record) -> None:
        """The submitter's cancellation: drop the unstarted, stop the running."""
        view = self._views.get(record.body.job_id)
        if view is None:
            return
        try:
            view.merge(record)
        except RejectedRecord:
            return
        self._leases = [lease for lease in self._leases if lease.body.job_id != view.job_id]
        self._cancel_running(view.job_id)

    def _cancel_running(self, job_id: bytes | None) -> None:
        for execution in list(self._executions.values()):
            if job_id is None or execution.job_id == job_id:
                self._ctx.emit(CancelExecution(execution.execution_id))
                del self._executions[execution.execution_id]

    def drain(self, now_us: int, *, cancel: bool) -> None:
        """Stop stealing and give back what is unstarted; cancel: what runs too."""
        self.draining = True
        self.slots = 0
        self._heat.draining = True
        self._thief.stop()
        self.hand_on(now_us)
        if cancel:
            for execution in list(self._executions.values()):
                self._release(execution.grant, execution.first, execution.first + execution.count)
            self._cancel_running(None)
        self.outbox.flush(now_us)
        self.publish_heat(now_us)

    @property
    def drained(self) -> bool:
        return self.draining and not self._executions and not self._leases and not self.outbox.on_the_way

    # -- messages, timers ----------------------------------------------------------------------------------

    def on_stored(self, peer: bytes, message: Stored, now_us: int) -> None:
        was_full = self.outbox.full
        self.outbox.on_stored(peer, message.batch_ids)
        if was_full and not self.outbox.full:
            self.pump(now_us)

    def on_declined(self, peer: bytes, message: Declined) -> None:
        self.outbox.on_declined(peer, message.batch_id, message.reason)

    def on_refused(self, peer: bytes, message: Refused, now_us: int) -> None:
        self._thief.on_refused(peer, message, now_us)
        self.pump(now_us)

    def on_timer(self, key: TimerKey, now_us: int) -> bool:
        match key[0]:
            case "renew":
                self._renew(now_us)
            case "outbox":
                self.outbox.retry(now_us)
            case "copies":
                self.outbox.send_copies()
            case _:
                if not self._thief.on_timer(key, now_us):
                    return False
                self.pump(now_us)
        return True


def _can_run(heir: MemberRecord, _job_id: bytes, spec: JobSpec) -> bool:
    return heir.can_run(spec)


def _depth(grant: Record) -> int:
    """How often a grant was handed on."""
    depth, body = 0, grant.body
    while body.parent:
        depth += 1
        body = open_record(body.parent, check_signature=False).body
    return depth
