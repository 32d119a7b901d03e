"""A node as a worker: it steals when it is cold, runs what it holds in batches, and hands on what it cannot.

What may run is set by the heat sink alone: slots is 0 in a room that is warm enough. What it holds is in `holder`.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as changed

from .batches import STDERR_BYTES_MAX, Batch, encode_columns
from .context import Context
from .effects import CancelExecution, DropCheckpoint, Execute, ForgetSecrets, Reason, TimerKey, UnpinBlobs
from .events import ExecutionFailed, ExecutionSaved, HeatReading, StoredRow, TaskFinished
from .heat import HeatBoard
from .held_lease import Execution, HeldLease, authors
from .holder import JOB_VIEWS_MAX
from .job_parts import RejectedRecord
from .membership import Membership
from .messages import (
    Declined,
    Granted,
    HandOn,
    HeldRange,
    KeyRefused,
    KeyShare,
    Refused,
    Steal,
    Stored,
    Superseded,
)
from .moving import LEAVING_US, Mover
from .outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW, output_pin
from .records import (
    UINT_MAX,
    BatchHeader,
    KeyBox,
    Record,
    RecordKind,
    sign_record,
)
from .tables import Tables
from .thief import Thief
from .verification.lanes import lane_of

# A job that this node could not run is left to others for this long.
UNRUNNABLE_US = 60_000_000
# Jobs of which a steal says that their blobs are here.
JOBS_TOLD_MAX = 4
REASON_BYTES_MAX = 256
# Jobs that a steal says are not wanted.
EXCLUDED_MAX = 32
# Of a key; the others may pass: a replica that has heard of no grant yet, or waits for its own share.
_FINAL_REFUSALS = (Reason.NOT_CLEARED, Reason.NOT_ADMITTED, Reason.WRONG_AUTHOR)


class Worker(Mover):
    """Sub-machine; `Mesh` routes to it."""

    def __init__(
        self,
        ctx: Context,
        members: Membership,
        tables: Tables,
        heat: HeatBoard,
        thief: Thief,
    ) -> None:
        super().__init__(ctx, members, tables, heat)
        self._thief = thief
        self._next_execution = 0
        # What the last two executions got of a core, permille.
        self._shares = (1000, 1000)
        # Slots that are left free for somebody else's runs here.
        self.set_aside = 0
        self.tasks_done = 0
        self.draining = False
        self.storage_failed = ""

    def made(self, execution_id: int) -> Record | None:
        """The batch that an execution has just ended in; None if it made none."""
        return self.outbox.made(execution_id)

    def restore(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        """Results that the last life still owed."""
        columns = {row.key: row.body for row in rows if row.kind == OWED_COLUMNS_ROW}
        for row in rows:
            if row.kind == OWED_HEADER_ROW and row.key in columns:
                self.outbox.restore(row.body, columns[row.key], now_us)

    # -- heat ----------------------------------------------------------------------------------------------

    def on_heat(self, reading: HeatReading, now_us: int) -> None:
        self._heat.read(reading)
        self.slots = 0 if self.draining else reading.slots
        if self.slots == 0 and self._leases:
            self.hand_on(now_us)
        else:
            self._give_back_too_long(now_us)
        self.stand_still(now_us)
        if self._executions and self.is_slow:
            self.move_running(now_us)
        self.pump(now_us)

    def publish_heat(self, now_us: int) -> None:
        free_slots = max(0, self.slots - self.running)
        self._heat.publish(free_slots, self.queue_us(), now_us)

    def running_jobs(self) -> list[bytes]:
        """One for each execution."""
        return [execution.job_id for execution in self._executions.values()]

    def jobs(self) -> list[bytes]:
        """Whose tasks are here."""
        return [*self.running_jobs(), *(lease.body.job_id for lease in self._leases)]

    # -- running -------------------------------------------------------------------------------------------

    def pump(self, now_us: int) -> None:
        """Start what may start, then steal if the queue runs low."""
        self._want_keys(now_us)
        while len(self._executions) < self.slots - self.set_aside and self.may_start():
            lease = self._next_lease()
            if lease is None:
                break
            self._start(lease, now_us)
        self._leases = [lease for lease in self._leases if lease.unstarted]
        self._wipe_keys()
        self._drop_checkpoints()
        self._arm_renewal(now_us)
        self.publish_heat(now_us)
        self._maybe_steal(now_us)

    def _next_lease(self) -> HeldLease | None:
        """What was begun, then paid work before volunteer work; else in the order in which it came.

        Nothing that the sink can't take.
        """
        first: HeldLease | None = None
        begun = next((held for held in self._leases if held.begun and self._fits_here(held.body.job_id)), None)
        if begun is not None:
            return begun
        for held in self._leases:
            if held.unstarted and self._fits_here(held.body.job_id):
                view = self._views.get(held.body.job_id)
                if view is not None and self.keys.lacks(view):
                    continue
                if view is None or view.spec.priority > 0:
                    return held
                first = first or held
        return first

    def may_start(self) -> bool:
        """Whether anything may begin here, as far as it is not the sink's to say."""
        return not (self.draining or self.storage_failed or self.outbox.full)

    def _start(self, lease: HeldLease, now_us: int) -> None:
        count = min(self._batch_size(lease), lease.unstarted)
        self._next_execution += 1
        execution = Execution(
            self._next_execution,
            lease.body.job_id,
            lease.next,
            count,
            lease.body.epoch,
            lease.grant,
            now_us,
            self._heat.reading.price_micro if self._heat.reading is not None else 0,
        )
        lease.next += count
        self._executions[execution.execution_id] = execution
        first, copy = self._first_task(execution), lane_of(execution.first, self._views[execution.job_id].spec.tasks)
        run = Execute(execution.execution_id, execution.job_id, first, count, execution.epoch, copy)
        if lease.body.checkpoint:
            # What was computed here since it came is in the later one.
            checkpoint = lease.saved or lease.body.checkpoint
            run = changed(run, checkpoint=checkpoint, sources=authors(lease.grant))
        self._ctx.emit(run)

    def _batch_size(self, lease: HeldLease) -> int:
        """About `batch_target_us` of work, in equal parts of the lease; smaller near the end, so that all slots end
        together."""
        config = self._ctx.config
        if self._views[lease.body.job_id].spec.checkpoint_us:
            return 1  # so that it can be moved alone
        task_us = self.task_us(lease.body.job_id)
        if not task_us:
            return config.batch_tasks_first
        full = max(1, min(config.batch_tasks_max, config.batch_target_us // task_us))
        full = -(-lease.unstarted // -(-lease.unstarted // full))
        # A slot alone has no other to end together with; it took its part of what was left.
        parts = 2 * self.slots if self.slots > 1 else 1
        share = -(-(self.unstarted + lease.left) // parts)
        worthwhile = config.batch_floor_us // task_us
        return max(1, worthwhile, min(full, share))

    def _maybe_steal(self, now_us: int) -> None:
        """Ask for work when the queue is low: for what brings it to the target, within the horizon."""
        reading = self._heat.reading
        if reading is None or self.slots == 0:
            return
        if not self.may_start():
            if self.outbox.full:
                self._ctx.reasons.sought("its results wait for the disks of replicas, and it keeps no more", now_us)
            return
        target_us = self.slots * self._ctx.config.queue_target_us * max(self._shares) // 1000
        queued_us = self.queue_us()
        if queued_us > self.slots * self._ctx.config.queue_low_us or self._thief.need_not_look():
            return
        wanted_us = self._heat.appetite_us(queued_us)
        if wanted_us <= 0:
            self._ctx.reasons.sought("its sink wants no more heat within the next 15 minutes", now_us)
            return
        appetite_us = min(target_us - queued_us, wanted_us)
        if appetite_us <= 0:
            self._ctx.reasons.sought("it has enough queued for what its tasks get of a core", now_us)
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
            excluded=self._excluded(now_us),
            discomfort_mkh=self._heat.discomfort_mkh,
            longest_us=self._heat.longest_us,
            speed_permille=self._heat.speed_permille,
            price_micro=reading.price_micro,
            has=tuple(self._task_us)[-JOBS_TOLD_MAX:],
            places=self.slots if reading.price_micro else 0,
            busy_us=min(UINT_MAX, queued_us + self._running_us(now_us)) if reading.price_micro else 0,
        )
        self._thief.want(hunger, idle=self.running == 0 and queued_us == 0, now_us=now_us)

    def _running_us(self, now_us: int) -> int:
        """CPU time that what runs here still needs, if it had whole cores so far."""
        return sum(
            max(0, run.count * self.task_us(run.job_id) - (now_us - run.started_us))
            for run in self._executions.values()
        )

    def _excluded(self, now_us: int) -> tuple[bytes, ...]:
        """The last jobs of which this node wants none now."""
        if not (self._unrunnable or self._too_long):
            return ()
        known = [*self._unrunnable, *self._too_long]
        return tuple(dict.fromkeys(each for each in known if self._is_left_to_others(each, now_us)))[-EXCLUDED_MAX:]

    def on_saved(self, event: ExecutionSaved, now_us: int) -> None:
        self.take_saved(event, now_us)
        if self.draining:
            # What nobody could take up at once goes to whoever can now, or back.
            self.hand_on(now_us)
        self.pump(now_us)

    def on_finished(self, event: TaskFinished, now_us: int) -> None:
        self._saving.pop(event.execution_id, None)
        self._given_up.pop(event.execution_id, None)
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
        self._learn_share(sum(event.cpu_us), now_us - execution.started_us)
        self._learn_duration(execution.job_id, sum(event.cpu_us), execution.count)
        self._deliver(execution, batch, event.energy_mj, event.useful_mj, event.measured, now_us, event.box)

    def _first_task(self, execution: Execution) -> int:
        """The task that its first number stands for; 0 if the job is known no more, and nobody is told of it."""
        view = self._views.get(execution.job_id)
        return execution.first % view.spec.tasks if view is not None else 0

    def _learn_share(self, cpu_us: int, took_us: int) -> None:
        """A room that is nearly warm runs its tasks at a fraction of a core: what it holds takes long, so it asks for
        little. The better of two counts, for the first of a job waits for its module; what a batch costs beside its
        tasks does not."""
        held_us = max(1, took_us - self._ctx.config.batch_floor_us)
        self._shares = (self._shares[1], max(1, min(1000, 1000 * cpu_us // held_us)))

    def _learn_duration(self, job_id: bytes, cpu_us: int, count: int) -> None:
        measured = max(1, cpu_us // count)
        known = self._task_us.pop(job_id, 0)
        # The latest last, for those are the jobs whose blobs are here most likely.
        self._task_us[job_id] = own_us = measured if not known else (3 * known + measured) // 4 or 1
        mean_us = self._mean_us(job_id)
        if mean_us:
            self._heat.learn_speed(own_us, mean_us)
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
        box: KeyBox | None = None,
    ) -> None:
        view = self._views.get(execution.job_id)
        if view is None:
            return
        # Whoever began it has a part in it, and answers for that part.
        begun = bool(execution.grant.body.checkpoint)
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
            grant=execution.grant.raw if execution.first >= view.spec.tasks or begun else b"",
            price_micro=execution.price_micro,
            box=box,
        )
        record = sign_record(self._ctx.identity, RecordKind.BATCH, header)
        self.outbox.add(record, encode_columns(batch), view.replicas, now_us, pin=output_pin(execution.execution_id))

    def on_failed(self, event: ExecutionFailed, now_us: int) -> None:
        """A permanent fault is the tasks' result; any other gives the tasks to somebody else."""
        self._saving.pop(event.execution_id, None)
        self._given_up.pop(event.execution_id, None)
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
            self._ctx.notify("execution.failed", job_id=execution.job_id, reason=event.reason)
            self._release(execution.grant, execution.first, execution.first + execution.count)
            self._give_back(execution.job_id, now_us)
        self.pump(now_us)

    def _give_back(self, job_id: bytes, now_us: int) -> None:
        """A job that cannot be run here: its unstarted tasks go to others, and none is taken for a while."""
        self._leave_to_others(job_id, now_us + UNRUNNABLE_US)
        for lease in [held for held in self._leases if held.body.job_id == job_id]:
            self._release(lease.grant, lease.next, lease.hi)
            lease.hi = lease.next

    # -- keys of confidential jobs -------------------------------------------------------------------------

    def _want_keys(self, now_us: int) -> None:
        """Ask for the keys that are needed; nothing, where no confidential job is held."""
        was_waiting = self.keys.waiting
        for lease in self._leases:
            view = self._views.get(lease.body.job_id)
            if view is not None and lease.unstarted and self.keys.lacks(view):
                self.keys.want(view, lease.grant, now_us)
        if self.keys.waiting and not was_waiting:
            self._ctx.set_timer(("keys", b""), now_us + self._ctx.config.key_retry_us)

    def _ask_again(self, now_us: int) -> None:
        grants = {lease.body.job_id: lease.grant for lease in self._leases if lease.unstarted}
        for job_id, grant in grants.items():
            view = self._views.get(job_id)
            if view is not None and not self.keys.ask_again(view, grant, now_us, self._ctx.config.key_retry_us):
                self._do_without(job_id, now_us)
        self.pump(now_us)
        if self.keys.waiting:
            self._ctx.set_timer(("keys", b""), now_us + self._ctx.config.key_retry_us)

    def _do_without(self, job_id: bytes, now_us: int) -> None:
        self.keys.give_up(job_id)
        self._ctx.notify("key.not-had", job_id=job_id)
        self._give_back(job_id, now_us)

    def _wipe_keys(self) -> None:
        """What no task here needs any more."""
        if not (self.keys.waiting or self.keys.held):
            return
        held = dict.fromkeys(lease.body.job_id for lease in self._leases if lease.unstarted)
        held |= dict.fromkeys(execution.job_id for execution in self._executions.values())
        for job_id in self.keys.keep_only(held):
            self._ctx.notify("key.wiped", job_id=job_id)
            self._ctx.emit(ForgetSecrets(job_id))

    def on_key_share(self, peer: bytes, message: KeyShare, now_us: int) -> None:
        if self.keys.on_share(peer, message, self._views.get(message.job_id)):
            self._ctx.notify("key.had", job_id=message.job_id)
            self.pump(now_us)

    def on_key_refused(self, peer: bytes, message: KeyRefused, now_us: int) -> None:
        if self.keys.on_refused(peer, message, self._views.get(message.job_id)) and message.reason in _FINAL_REFUSALS:
            self._do_without(message.job_id, now_us)
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
        if taken and (self.slots == 0 or not self.may_start()):
            self.hand_on(now_us)
        self.pump(now_us)

    def on_superseded(self, peer: bytes, message: Superseded, now_us: int) -> None:
        """Tasks that went to somebody else must not start here; those that run may finish: work is work."""
        gone: dict[bytes, list[HeldRange]] = {}
        for held in message.jobs:
            view = self._views.get(held.job_id)
            if view is not None and peer in view.replicas:
                gone.setdefault(held.job_id, []).extend(held.ranges)
        for job_id, parts in gone.items():
            self._drop_unstarted(job_id, parts)
        self.pump(now_us)

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
        self._wipe_keys()
        self._drop_checkpoints()

    def _cancel_running(self, job_id: bytes | None) -> None:
        for execution in list(self._executions.values()):
            if job_id is None or execution.job_id == job_id:
                self._ctx.emit(CancelExecution(execution.execution_id))
                self._saving.pop(execution.execution_id, None)
                self._given_up.pop(execution.execution_id, None)
                del self._executions[execution.execution_id]
                if job_id is not None and self._views[job_id].spec.checkpoint_us:
                    # Nobody goes on from it; who leaves does, in its next life.
                    self._ctx.emit(DropCheckpoint(job_id, self._first_task(execution)))

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
        else:
            self.move_running(now_us, LEAVING_US)
        self._wipe_keys()
        self._drop_checkpoints()
        self.outbox.flush(now_us)
        self.publish_heat(now_us)

    @property
    def drained(self) -> bool:
        """Nothing runs or waits here, and nobody waits for anything of this node."""
        if not self.draining or self._executions or self._leases:
            return False
        return not (self.outbox.on_the_way or self.awaited)

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
            case "keys":
                self._ask_again(now_us)
            case "outbox":
                self.outbox.retry(now_us)
            case "copies":
                self.outbox.send_copies()
            case "heirs":
                self.awaited = False
            case _:
                if not self._thief.on_timer(key, now_us):
                    return False
                self.pump(now_us)
        return True
