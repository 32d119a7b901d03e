"""Results and progress on their way from a replica to those who follow a job, with a window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .budget import Budget
from .context import Context
from .effects import SendBatch
from .granting import Ledger
from .intervals import IntervalSet
from .jobs import JobState
from .limits import Limit
from .messages import Delivery, JobStatus, Rejected, Subscribe, TaskRange, WorkerShare
from .records import UINT_MAX

WORKERS_SHOWN_MAX = 512
# One peer may subscribe to one job so often at once, then once in `status_heartbeat_us`.
SUBSCRIPTIONS_BURST = 16
# Peers of which that is remembered, of whom asked longest ago is forgotten first.
ASKERS_MAX = 64
TOO_MANY_FOLLOWERS = "too many followers of this job here"


@dataclass(slots=True)
class Subscription:
    """One follower of one job. waiting: batches to send, oldest first.  in_flight: sent and not yet consumed.

    Later copies of tasks go to the job's submitter alone, who asked for them and judges by them; at once, and they
    count for no window: what it holds back until they come is what fills the window.
    """

    peer: bytes
    results: bool
    window: int
    waiting: deque[bytes] = field(default_factory=deque)
    in_flight: dict[bytes, None] = field(default_factory=dict)
    status_sent_us: int = -(1 << 60)
    last_status: JobStatus | None = None


class Subscriptions:
    """The followers of one kept job."""

    def __init__(self, ctx: Context, state: JobState) -> None:
        self._ctx = ctx
        self._state = state
        self._by_peer: dict[bytes, Subscription] = {}
        self._askers: dict[bytes, Budget] = {}

    def __len__(self) -> int:
        return len(self._by_peer)

    def has(self, peer: bytes) -> bool:
        return peer in self._by_peer

    def may_ask(self, peer: bytes, now_us: int) -> bool:
        """Whether it may follow results once more: to start over costs a look at all batches, and sends many again."""
        budget = self._askers.pop(peer, None)
        if budget is None:
            budget = Budget(SUBSCRIPTIONS_BURST, 1, self._ctx.config.status_heartbeat_us, now_us)
        self._askers[peer] = budget
        while len(self._askers) > ASKERS_MAX:
            del self._askers[next(iter(self._askers))]
        return budget.spend(1, now_us)

    def accepted_of(self, have: tuple[TaskRange, ...]) -> IntervalSet:
        """Of what a follower says that it has, the tasks that are accepted."""
        told = IntervalSet(*((part.lo, part.hi) for part in have))
        return IntervalSet(*(known for lo, hi in told for known in self._state.accepted_tasks.overlap(lo, hi)))

    def subscribe(self, peer: bytes, request: Subscribe) -> bool:
        """Start over for this peer; False if there are too many followers.

        The job's submitter is never one too many: whoever came last goes for it.
        """
        if peer not in self._by_peer and len(self._by_peer) >= self._ctx.config.subscribers_max:
            if peer != self._state.submitter:
                return False
            self._drop_last()
        subscription = Subscription(peer, request.results, request.window)
        if request.results:
            # What it has, but nobody accepted, it gets again: the acceptance was lost with its last life.
            have = self.accepted_of(request.have)
            for batch_id in self._state.copies_for(have) if peer == self._state.submitter else ():
                self._ctx.emit(SendBatch(peer, self._state.job_id, batch_id))
            subscription.waiting.extend(self._state.canonical_batches(have))
        self._by_peer[peer] = subscription
        self._pump(subscription)
        return True

    def _drop_last(self) -> None:
        if self._by_peer:
            last, _ = self._by_peer.popitem()
            self._ctx.limit(Limit.FOLLOWERS, last)
            self._ctx.send(last, Rejected(0, self._state.job_id, TOO_MANY_FOLLOWERS))

    def remove(self, peer: bytes) -> None:
        self._by_peer.pop(peer, None)

    def consumed(self, peer: bytes, batch_ids: tuple[bytes, ...]) -> None:
        subscription = self._by_peer.get(peer)
        if subscription is None:
            return
        for batch_id in batch_ids:
            subscription.in_flight.pop(batch_id, None)
        self._pump(subscription)

    def stored(self, batch_id: bytes, delivery: Delivery, *, is_copy: bool) -> None:
        """A new candidate: straight from memory where the window is open, else in its turn from the disk."""
        for subscription in self._by_peer.values():
            if not subscription.results:
                continue
            if is_copy:
                if subscription.peer == self._state.submitter:
                    self._ctx.send(subscription.peer, delivery)
                continue
            idle = not subscription.waiting and len(subscription.in_flight) < subscription.window
            if idle:
                subscription.in_flight[batch_id] = None
                self._ctx.send(subscription.peer, delivery)
            else:
                subscription.waiting.append(batch_id)
                self._pump(subscription)

    def dropped(self, batch_ids: list[bytes]) -> None:
        """They are not kept any more: nobody waits for them, or for their being consumed."""
        gone = dict.fromkeys(batch_ids)
        for subscription in self._by_peer.values():
            subscription.waiting = deque(each for each in subscription.waiting if each not in gone)
            subscription.in_flight = {each: None for each in subscription.in_flight if each not in gone}
            self._pump(subscription)

    def _pump(self, subscription: Subscription) -> None:
        while subscription.waiting and len(subscription.in_flight) < subscription.window:
            batch_id = subscription.waiting.popleft()
            subscription.in_flight[batch_id] = None
            self._ctx.emit(SendBatch(subscription.peer, self._state.job_id, batch_id))

    def report(self, ledger: Ledger, elapsed_us: int, now_us: int, *, force: bool = False) -> None:
        """Send progress to each follower: when it changed, at most so often; else as a heartbeat."""
        config = self._ctx.config
        status: JobStatus | None = None
        for subscription in self._by_peer.values():
            age_us = now_us - subscription.status_sent_us
            if not force and age_us < config.progress_interval_us:
                continue
            if status is None:
                status = job_status(self._state, ledger, elapsed_us)
            if not force and status == subscription.last_status and age_us < config.status_heartbeat_us:
                continue
            subscription.last_status, subscription.status_sent_us = status, now_us
            self._ctx.send(subscription.peer, status)

    def report_to(self, peer: bytes, ledger: Ledger, elapsed_us: int, now_us: int) -> None:
        status = job_status(self._state, ledger, elapsed_us)
        subscription = self._by_peer.get(peer)
        if subscription is not None:
            subscription.last_status, subscription.status_sent_us = status, now_us
        self._ctx.send(peer, status)


def job_status(state: JobState, ledger: Ledger, elapsed_us: int) -> JobStatus:
    """Progress as this replica knows it. elapsed_us: from submission to now, or to completion or cancellation."""
    if state.fully_accepted:
        name = "accepted"
    elif state.complete:
        name = "done"
    elif state.cancellation is not None:
        name = "cancelled"
    else:
        name = "running"
    leased = ledger.leased_by()
    workers = tuple(
        WorkerShare(
            node,
            done=state.totals[node].done if node in state.totals else 0,
            leased=leased.get(node, 0),
            cpu_us=_shown(state.totals[node].cpu_us) if node in state.totals else 0,
            energy_mj=_shown(state.totals[node].energy_mj) if node in state.totals else 0,
            useful_mj=_shown(state.totals[node].useful_mj) if node in state.totals else 0,
            cost_micro=_shown(state.totals[node].cost_micro) if node in state.totals else 0,
        )
        for node in sorted({**state.totals, **leased})[:WORKERS_SHOWN_MAX]
    )
    return JobStatus(
        job_id=state.job_id,
        state=name,
        tasks=state.spec.tasks,
        done=state.done.total,
        leased=sum(leased.values()),
        accepted=state.accepted_tasks.total,
        failed=_shown(state.failed_tasks),
        duplicates=max(0, state.duplicates),
        elapsed_us=elapsed_us,
        task_us=state.task_us,
        workers=workers,
    )


def _shown(total: int) -> int:
    """A sum of workers' claims, rounded piece by piece, within what a message can say."""
    return min(max(0, total), UINT_MAX)
