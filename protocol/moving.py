"""A sink is full, or nearly: what makes checkpoints is stopped after the next one, and goes on elsewhere.

The layer between `holder` and `worker`. Nothing is stopped that would not go on sooner elsewhere, or for which nobody
is there to take it; it ends here then, at the duty that it has.
"""

from __future__ import annotations

from dataclasses import replace

from .appraisal import duty_of
from .effects import DropCheckpoint, SaveExecution, UnpinBlobs
from .events import ExecutionSaved
from .held_lease import Execution, HeldLease, depth
from .holder import GRANT_BYTES_MAX, PEERS_LOOKED_AT_MAX, Holder
from .jobs import HAND_ON_DEPTH_MAX
from .messages import HandOn, Records
from .records import Grant, RecordKind, sign_record
from .stealing.matching import bytes_to_come
from .stealing.moving import SLOW_DUTY, Heir, heirs_for, is_late, lively, worth_moving

# Of its core, what a task gets in a sink that is full.
FULL_DUTY = 0.1
# Checkpoints that are kept for whoever went on with them.
CHECKPOINTS_KEPT = 64
# Who leaves, or stands still, waits no longer for the next checkpoint.
LEAVING_US = 2_000_000
# A sensor's glitch, or a limit that is lifted again, makes no task leave: what stands still for so long does, with the
# last checkpoint that it made, at the cost of the work since.
STILL_MOVES_US = 120_000_000
# And what makes none goes back, for others to run anew; if it goes on here all the same, its result may come first.
STILL_GOES_BACK_US = 600_000_000


class Mover(Holder):
    """See the module."""

    def move_running(self, now_us: int, patience_us: int = 0) -> None:
        """The sink is full, or leaves tasks little of their cores: have those saved that are better off elsewhere.

        patience_us: as of `SaveExecution`; with it those as well that are to be saved already. What stands still makes
        no further checkpoint, so none is waited for then.
        """
        soon_us = patience_us or (LEAVING_US if self._still_us(now_us) >= STILL_MOVES_US else 0)
        for execution in self._executions.values():
            _, told_us = self._saving.get(execution.execution_id, (0, -1))
            known = told_us >= soon_us and not patience_us
            if known or not self._is_movable(execution):
                continue
            # It may have had the whole core so far; what makes checkpoints has as long to go as between two at least.
            gone_us = now_us - execution.started_us
            left_us = max(self._views[execution.job_id].spec.checkpoint_us, self.task_us(execution.job_id) - gone_us)
            if self._heirs(execution.job_id, left_us, 0, now_us):
                self._saving[execution.execution_id] = left_us, soon_us
                self._ctx.emit(SaveExecution(execution.execution_id, soon_us))

    def stand_still(self, now_us: int) -> None:
        """By the last reading; what stands still for too long, and cannot be moved, goes back."""
        if not self._stands_still:
            self._still_since_us = None
            return
        if self._still_since_us is None:
            self._still_since_us = now_us
        if self._still_us(now_us) < STILL_GOES_BACK_US:
            return
        for execution in self._executions.values():
            if execution.execution_id not in self._given_up and not self._is_movable(execution):
                self._given_up[execution.execution_id] = None
                self._release(execution.grant, execution.first, execution.first + execution.count)

    @property
    def _stands_still(self) -> bool:
        return self._heat.reading is not None and self._heat.reading.stopped

    def _still_us(self, now_us: int) -> int:
        return now_us - self._still_since_us if self._still_since_us is not None else 0

    @property
    def _duty(self) -> float:
        """Share of its core that a task gets here."""
        reading = self._heat.reading
        if self._stands_still:
            return 0.0
        return max(FULL_DUTY, duty_of(reading)) if self.slots and reading is not None else FULL_DUTY

    @property
    def is_slow(self) -> bool:
        """Whether tasks that can be moved are better off elsewhere."""
        return not self.slots or self._duty < SLOW_DUTY

    def _is_movable(self, execution: Execution) -> bool:
        view = self._views.get(execution.job_id)
        if view is None or not view.spec.checkpoint_us or execution.count != 1:
            return False
        return execution.first < view.spec.tasks and depth(execution.grant) < HAND_ON_DEPTH_MAX

    def _heirs(self, job_id: bytes, left_us: int, size_bytes: int, now_us: int) -> list[Heir]:
        """With whom a task of the job would end sooner than here, although it waits for its turn; the coldest first.

        From a sink that is not full it goes only to who has a slot for it now, and wants what is left.
        """
        full, duty = not self.slots, self._duty
        work = self._work(job_id)
        found: list[Heir] = []
        for digest in self._heat.coldest(busy=full)[:PEERS_LOOKED_AT_MAX]:
            member = self._member(digest.node)
            if member is None or not member.can_run(self._views[job_id].spec):
                continue
            ask = self._ask_of(digest, job_id)
            come_bytes = size_bytes + bytes_to_come(work, ask)
            if self._members.is_alive(digest.node) and worth_moving(left_us, duty, come_bytes, digest.queue_us):
                found.append(Heir(ask, digest.appetite_us, self._members.rtt_us(digest.node)))
        time_us = work.deadline_us - self._ctx.wall_us(now_us)
        late = work.deadline_us > 0 and is_late(left_us, duty, time_us)
        work = replace(work, at_risk=late, left_us=max(0, time_us))
        return heirs_for(work, found if full else lively(found, left_us), size_bytes)

    def take_saved(self, event: ExecutionSaved, now_us: int) -> None:
        """Hand the task on with its checkpoint; keep it, unstarted, if nobody can take it any more."""
        left_us, _ = self._saving.pop(event.execution_id, (0, 0))
        execution = self._executions.pop(event.execution_id, None)
        if execution is None or execution.job_id not in self._views:
            self._ctx.emit(UnpinBlobs(event.pin))
            return
        self._keep_checkpoint(event.pin)
        self._stopped[execution.job_id, execution.first] = None
        # A sink that has got colder meanwhile wants it itself.
        moves = event.digest and self.is_slow
        heirs = self._heirs(execution.job_id, left_us, event.size_bytes, now_us) if moves else []
        if heirs and self._bequeath_running(execution, heirs[0].ask.thief, event):
            self._wait_for_heir(event.size_bytes, now_us)
        else:
            # Its folder is here: it goes on from there when the sink is colder, or elsewhere when an heir appears.
            self._leases.append(HeldLease(execution.grant, execution.first, execution.first + 1, 0, event.digest))

    def _drop_checkpoints(self) -> None:
        """Of tasks that were stopped here and are not here any more: they ended, or go on elsewhere from the blob."""
        for job_id, number in [key for key in self._stopped if not self.holds(*key)] if self._stopped else ():
            del self._stopped[job_id, number]
            self._ctx.emit(DropCheckpoint(job_id, number))

    def holds(self, job_id: bytes, number: int) -> bool:
        """Whether a task runs here or is in the queue."""
        runs = any(e.job_id == job_id and e.first <= number < e.first + e.count for e in self._executions.values())
        return runs or any(lease.body.job_id == job_id and lease.next <= number < lease.hi for lease in self._leases)

    def _bequeath_running(self, execution: Execution, heir: bytes, event: ExecutionSaved) -> bool:
        view, first = self._views[execution.job_id], execution.first
        lease_us, parent = self._ctx.config.lease_us, execution.grant.raw
        body = Grant(view.job_id, first, first + 1, execution.epoch + 1, heir, lease_us, parent, event.digest)
        record = sign_record(self._ctx.identity, RecordKind.GRANT, body)
        if len(record.raw) > GRANT_BYTES_MAX:
            return False
        for node in view.replicas:
            self._ctx.send(node, Records(view.job_id, (record.raw,)))
        self._ctx.notify("worker.moved", heir=heir, job_id=view.job_id, task=first, size_bytes=event.size_bytes)
        self._ctx.send(heir, HandOn((record.raw,), view.context()))
        self.moved += 1
        return True

    def _keep_checkpoint(self, pin: bytes) -> None:
        self._kept_checkpoints.pop(pin, None)
        self._kept_checkpoints[pin] = None
        while len(self._kept_checkpoints) > CHECKPOINTS_KEPT:
            oldest = next(iter(self._kept_checkpoints))
            del self._kept_checkpoints[oldest]
            self._ctx.emit(UnpinBlobs(oldest))
