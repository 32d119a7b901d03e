"""What a worker holds of others' jobs: what it was told of them, its leases, and to whom it gives of these."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .appraisal import as_keeper, ask_of, ask_of_peer, work_of
from .context import Context
from .effects import Reason
from .heat import HeatBoard
from .held_lease import Execution, HeldLease, depth
from .intervals import IntervalSet
from .job_parts import RejectedRecord
from .jobs import HAND_ON_DEPTH_MAX, JobState
from .limits import Limit
from .membership import Membership
from .messages import (
    FoundJobs,
    Granted,
    HandOn,
    HeldJob,
    HeldRange,
    Records,
    Renew,
    Steal,
)
from .outbox import Outbox
from .quota import SECOND_US, Submitters
from .records import (
    Grant,
    HeatDigest,
    JobSpec,
    MemberRecord,
    Record,
    RecordError,
    RecordKind,
    Release,
    open_record,
    sign_record,
)
from .secrecy.keyring import KeyRing
from .stealing.appetite import FOREVER_US, in_units_of
from .stealing.matching import Standing, Work, fit, standing, transfer_us
from .stealing.moving import Heir, heirs_for
from .stealing.urgency import Ask
from .tables import Tables

JOB_VIEWS_MAX = 1024
GRANTS_A_MESSAGE_MAX = 64
CONTEXT_A_MESSAGE_MAX = 128
GRANTS_REMEMBERED_MAX = 4096
# A grant has to fit into the one that is handed on from it.
GRANT_BYTES_MAX = 4096
# Whom a full sink hands tasks of one job on to, of the coldest that it looks at.
HEIRS_MAX = 4
PEERS_LOOKED_AT_MAX = 16
# Nobody says when a checkpoint has arrived: who leaves waits for a look around, and twice as long as the way takes.
HEIR_US = 2_000_000
HEIR_US_MAX = 60_000_000


class Holder:
    """The layer below `worker`, which runs what is held here. slots is 0 in a room that is warm enough."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, heat: HeatBoard) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._heat = heat
        self._submitters = Submitters(ctx)
        self.outbox = Outbox(ctx, members)
        self._views: dict[bytes, JobState] = {}
        self._leases: list[HeldLease] = []
        self._executions: dict[int, Execution] = {}
        self._task_us: dict[bytes, int] = {}
        self._unrunnable: dict[bytes, int] = {}
        # Jobs whose tasks went back because they are too long for the sink, as far as this node can tell.
        self._too_long: dict[bytes, None] = {}
        self._taken: dict[bytes, None] = {}
        self._renewing = False
        # Executions that are to be saved, with the CPU time that they had left, and the patience; and pins of
        # checkpoints that others go on from.
        self._saving: dict[int, tuple[int, int]] = {}
        self._kept_checkpoints: dict[bytes, None] = {}
        # Since when what runs stands still; and executions of which the leases went back meanwhile: one that ends all
        # the same has a late result.
        self._still_since_us: int | None = None
        self._given_up: dict[int, None] = {}
        # Tasks (job, number) that were stopped here, and whose checkpoints are on this disk.
        self._stopped: dict[tuple[bytes, int], None] = {}
        self.moved = 0
        # Until when, at most, heirs fetch checkpoints from here.
        self.awaited = False
        self._awaited_until_us = 0
        self.keys = KeyRing(ctx)
        self.slots = 0
        self.memory_bytes = 1 << 40
        self.native_commands: tuple[str, ...] = ()
        self.wasm = True

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
        """This node's own measure of a job's task, else what others measured, else the submitter's estimate, else 0."""
        known = self._task_us.get(job_id)
        if known:
            return known
        view = self._views.get(job_id)
        if view is None:
            return 0
        return in_units_of(self._mean_us(job_id), self._heat.speed_permille) or view.spec.estimate_us

    def _mean_us(self, job_id: bytes) -> int:
        """What a replica measured of a job's tasks, over all nodes; 0 if none said so."""
        view = self._views.get(job_id)
        for node in view.replicas if view is not None else ():
            row = self._tables.get(RecordKind.JOB_DIGEST, node + job_id)
            if view is not None and row is not None and row.body.task_us != view.spec.estimate_us:
                mean_us: int = row.body.task_us
                return mean_us
        return 0

    def _work(self, job_id: bytes) -> Work:
        """A held job's tasks, as `stealing/` sees them."""
        return work_of(job_id, self._views[job_id].spec, self._mean_task_us(job_id))

    def _mean_task_us(self, job_id: bytes) -> int:
        """As the mean node would measure it."""
        return self.task_us(job_id) * self._heat.speed_permille // 1000

    def _fits_here(self, job_id: bytes) -> bool:
        """Whether a task of the job can end here, or be saved and moved, before the sink is full."""
        longest_us = self._heat.longest_us
        if longest_us >= FOREVER_US or self.task_us(job_id) <= longest_us:
            return True
        return 0 < self._views[job_id].spec.checkpoint_us <= longest_us

    def _is_left_to_others(self, job_id: bytes, now_us: int) -> bool:
        """Whether this node asks for none of a job: it failed here just now, or is still too long for the sink."""
        if self._unrunnable.get(job_id, 0) > now_us:
            return True
        if job_id in self._too_long and (job_id not in self._views or self._fits_here(job_id)):
            del self._too_long[job_id]
        return job_id in self._too_long

    def _give_back_too_long(self, now_us: int) -> None:
        """What the sink cannot take goes elsewhere. Who grants may think otherwise of it: it is told when stealing."""
        too_long = dict.fromkeys(each.body.job_id for each in self._leases if not self._fits_here(each.body.job_id))
        if too_long:
            self._too_long |= too_long
            while len(self._too_long) > JOB_VIEWS_MAX:
                del self._too_long[next(iter(self._too_long))]
            self.hand_on(now_us, lambda job_id: job_id in too_long)

    def took(self, grant_id: bytes) -> bool:
        """Whether a grant was taken here, whatever became of it; of the last few thousand."""
        return grant_id in self._taken

    def view(self, job_id: bytes) -> JobState | None:
        """The job as this worker was told of it: spec and replica set, nothing of its progress."""
        return self._views.get(job_id)

    def keepers(self) -> dict[bytes, None]:
        """Replicas of the jobs that this node works for, or owes results of."""
        job_ids = dict.fromkeys(lease.body.job_id for lease in self._leases)
        job_ids.update(dict.fromkeys(execution.job_id for execution in self._executions.values()))
        views = [self._views[job_id] for job_id in job_ids if job_id in self._views]
        return {node: None for view in views for node in view.replicas} | self.outbox.keepers()

    # -- what it knows of jobs -------------------------------------------------------------------------------

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
            if refused := self._submitters.refusal(record, now_us):
                # Not the granter's fault by itself: clocks differ, and revocations take a moment to arrive.
                self._ctx.limit(Limit.ROLE, record.author)
                self._ctx.notify("worker.job-refused", job_id=record.id, reason=refused)
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

    # -- leases ----------------------------------------------------------------------------------------------

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
        hi = min(grant.hi, grant.lo + self._room_of(view, now_us))
        if hi < grant.hi:
            self._ctx.limit(Limit.HELD_QUOTA, view.submitter)
            self._release(record, hi, grant.hi)
            if hi == grant.lo:
                # Or it would be granted again at once.
                self._leave_to_others(grant.job_id, now_us + self._ctx.config.steal_idle_us)
                return 0
        self._leases.append(HeldLease(record, grant.lo, hi, left))
        return hi - grant.lo

    def _leave_to_others(self, job_id: bytes, until_us: int) -> None:
        """Give back what comes of a job, and say so when stealing, until then."""
        self._unrunnable[job_id] = until_us
        while len(self._unrunnable) > JOB_VIEWS_MAX:
            del self._unrunnable[next(iter(self._unrunnable))]

    def _room_of(self, view: JobState, now_us: int) -> int:
        """How many more of a job's tasks its submitter may have here, unstarted or running; one if it has none."""
        quota, most = self._submitters.quota(view.spec_record, now_us), view.spec.tasks
        if not (quota.tasks or quota.cpu_s):
            return most
        held = [(lease.body.job_id, lease.unstarted) for lease in self._leases]
        held += [(run.job_id, run.count) for run in self._executions.values()]
        mine = [(job_id, count) for job_id, count in held if self._views[job_id].submitter == view.submitter]
        if quota.tasks:
            most = min(most, quota.tasks - sum(count for _, count in mine))
        task_us = self.task_us(view.job_id)
        if quota.cpu_s and task_us:
            held_us = sum(count * self.task_us(job_id) for job_id, count in mine)
            most = min(most, (quota.cpu_s * SECOND_US - held_us) // task_us)
        return max(most, 0 if mine else 1)

    def _offers(self, spec: JobSpec) -> bool:
        """Whether this node's owner lets it run such a job."""
        if spec.limits.memory_bytes > self.memory_bytes:
            return False
        return self.wasm if spec.runtime == "wasm" else spec.command in self.native_commands

    def _clears(self, view: JobState, heir: bytes) -> bool:
        """Whether the key of a confidential job would be given to the heir."""
        if view.spec.secrecy is None:
            return True
        row = self._member(heir)
        return row is not None and not view.may_have_share(heir) and view.spec.secrecy.clears(heir, row.certificate)

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
            if execution.execution_id not in self._given_up:
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

    def _drop_unstarted(self, job_id: bytes, parts: list[HeldRange]) -> None:
        """Of each lease those parts go that are of its epoch, or of a higher one."""
        left = sorted(parts, key=lambda part: part.epoch)
        gone = IntervalSet()
        kept = [[lease] for lease in self._leases]
        leases = [(lease.body.epoch, at) for at, lease in enumerate(self._leases) if lease.body.job_id == job_id]
        for epoch, at in sorted(leases, reverse=True):
            while left and left[-1].epoch >= epoch:
                part = left.pop()
                gone.add(part.lo, part.hi)
            lease = self._leases[at]
            if gone.overlap(lease.next, lease.hi):
                rest = gone.gaps(lease.next, lease.hi)
                kept[at] = [HeldLease(lease.grant, lo, hi, lease.left) for lo, hi in rest]
        self._leases = [lease for rest in kept for lease in rest]

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

    # -- giving away -----------------------------------------------------------------------------------------

    def best_queued(self, thief: bytes, steal: Steal) -> Standing | None:
        """How well what it would give of its queue goes first, see `standing`; None if it gives that thief nothing."""
        if self.queue_us() <= self.slots * self._ctx.config.queue_low_us:
            return None
        suits = partial(self._suits, ask_of(thief, steal), steal.can_run)
        free = dict.fromkeys(lease.body.job_id for lease in self._leases if self._may_give(lease, thief))
        suiting = (job_id for job_id in free if suits(job_id, self._views[job_id].spec))
        return min((standing(self._work(job_id)) for job_id in suiting), default=None)

    def give(self, thief: bytes, steal: Steal, at_worst: Standing | None = None) -> Granted | None:
        """A thief's share of the unstarted tasks: at most half, what goes first of them, from the far end, under the
        next epoch.

        at_worst: of jobs that go as well first as that, see `standing`.
        """
        if self.queue_us() <= self.slots * self._ctx.config.queue_low_us:
            return None
        give_us = min(self.queue_us() // 2, steal.appetite_us)
        suits = partial(self._suits, ask_of(thief, steal), steal.can_run)

        def goes_first(job_id: bytes, spec: JobSpec) -> bool:
            return (at_worst is None or standing(self._work(job_id)) <= at_worst) and suits(job_id, spec)

        grants, context = self._cut(thief, give_us, goes_first)
        if not grants:
            return None
        return Granted(steal.request, grants, context, self.unstarted)

    def _suits(self, ask: Ask, can_run: Callable[[bytes, JobSpec], bool], job_id: bytes, spec: JobSpec) -> bool:
        """Whether another node can run the job's tasks, and its sink can take them."""
        return can_run(job_id, spec) and fit(self._work(job_id), ask).good

    def _may_give(self, lease: HeldLease, heir: bytes) -> bool:
        """Whether unstarted tasks of a lease may go to another node, if that is able to run them."""
        view = self._views[lease.body.job_id]
        if not lease.unstarted or lease.body.lo >= view.spec.tasks:
            return False  # who checks is not for who is checked with to say
        return self._clears(view, heir) and lease.body.holder != heir and depth(lease.grant) < HAND_ON_DEPTH_MAX

    def _cut(
        self, heir: bytes, give_us: int, can_run: Callable[[bytes, JobSpec], bool]
    ) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Delegate unstarted tasks worth `give_us`; returns (grants, context), and tells the replicas.

        can_run(job_id, spec): whether the heir is able to.
        """
        unknown_us = self._ctx.config.batch_target_us // self._ctx.config.batch_tasks_first
        grants: list[bytes] = []
        context: dict[bytes, None] = {}
        for lease in sorted(reversed(self._leases), key=lambda each: standing(self._work(each.body.job_id))):
            if give_us <= 0 or len(grants) >= GRANTS_A_MESSAGE_MAX:
                break
            view = self._views[lease.body.job_id]
            if not self._may_give(lease, heir) or not can_run(view.job_id, view.spec):
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
                lease.saved or lease.body.checkpoint,
            )
            record = sign_record(self._ctx.identity, RecordKind.GRANT, body)
            if len(record.raw) > GRANT_BYTES_MAX:
                continue
            lease.hi -= count
            give_us -= count * task_us
            grants.append(record.raw)
            context = told
            for node in view.replicas:
                self._ctx.send(node, Records(view.job_id, (record.raw,)))
        self._leases = [lease for lease in self._leases if lease.unstarted]
        return tuple(grants), tuple(context)

    def hand_on(self, now_us: int, which: Callable[[bytes], bool] = lambda _job_id: True) -> None:
        """Warm: the coldest peers that can take it get the unstarted work, the replicas what nobody can.

        What was begun is never given back, so it also goes to who is busy, and is the next to start there.

        which: jobs of which nothing is kept here.
        """
        begun = dict.fromkeys(lease.body.job_id for lease in self._leases if lease.begun)
        room_us = self._room_of_peers()
        if begun:
            room_us = self._room_of_peers(busy=True) | room_us
        for job_id in dict.fromkeys(lease.body.job_id for lease in self._leases if which(lease.body.job_id)):
            heirs = [
                Heir(self._ask_of(digest, job_id), left_us, self._members.rtt_us(node))
                for node, (digest, left_us) in room_us.items()
                if digest.free_slots > 0 or job_id in begun
            ]
            for heir in heirs_for(self._work(job_id), heirs)[:HEIRS_MAX]:
                if not any(lease.body.job_id == job_id for lease in self._leases):
                    break
                self._bequeath(job_id, heir, room_us, now_us)
        self.release_all(which, begun=self._heat.draining)

    def _ask_of(self, digest: HeatDigest, job_id: bytes) -> Ask:
        """As if the peer had asked; who keeps the job has its blobs, what others have nobody tells."""
        ask = ask_of_peer(digest)
        return as_keeper(ask, job_id) if digest.node in self._views[job_id].replicas else ask

    def _room_of_peers(self, *, busy: bool = False) -> dict[bytes, tuple[HeatDigest, int]]:
        """Cold peers that live, with what their queues have room for: CPU time of theirs, within their horizon.

        busy: also those whose slots all run.
        """
        found: dict[bytes, tuple[HeatDigest, int]] = {}
        for digest in self._heat.coldest(busy=busy)[:PEERS_LOOKED_AT_MAX]:
            queue_us = max(1, digest.free_slots) * self._ctx.config.queue_target_us - digest.queue_us
            room_us = min(queue_us, digest.appetite_us)
            if room_us > 0 and self._members.is_alive(digest.node):
                found[digest.node] = (digest, room_us)
        return found

    def _bequeath(self, job_id: bytes, heir: Heir, room_us: dict[bytes, tuple[HeatDigest, int]], now_us: int) -> None:
        node = heir.ask.thief
        member = self._member(node)
        if member is None:
            return
        before = sum(lease.unstarted for lease in self._leases if lease.body.job_id == job_id)
        begun = any(lease.saved for lease in self._leases if lease.body.job_id == job_id)
        # Its room is of its own CPU time, what is cut is counted in this node's.
        here_us = heir.room_us * heir.ask.speed_permille // self._heat.speed_permille
        grants, context = self._cut(node, max(1, here_us), partial(_can_run, member, job_id))
        if grants:
            given = before - sum(lease.unstarted for lease in self._leases if lease.body.job_id == job_id)
            there_us = given * in_units_of(self._mean_task_us(job_id) or 1, heir.ask.speed_permille)
            digest, left_us = room_us[node]
            room_us[node] = (digest, left_us - there_us)
            self._ctx.notify("worker.handed-on", heir=node, grants=len(grants))
            if begun:
                self._wait_for_heir(self._views[job_id].spec.limits.scratch_bytes, now_us)
            self._ctx.send(node, HandOn(grants, context))

    def _wait_for_heir(self, size_bytes: int, now_us: int) -> None:
        """The checkpoint is fetched from here: a node that leaves stays until it is gone, within a bound."""
        until_us = now_us + min(HEIR_US_MAX, HEIR_US + 2 * transfer_us(size_bytes))
        if not self.awaited or until_us > self._awaited_until_us:
            self.awaited, self._awaited_until_us = True, until_us
            self._ctx.set_timer(("heirs", b""), until_us)

    def _member(self, node: bytes) -> MemberRecord | None:
        row = self._tables.get(RecordKind.MEMBER, node)
        return row.body if row is not None else None

    def release_all(self, which: Callable[[bytes], bool] = lambda _job_id: True, *, begun: bool = True) -> None:
        """Give the unstarted back to the replicas. which: of these jobs.

        begun: also what somebody began, and which is begun anew then; else it waits here.
        """
        kept: list[HeldLease] = []
        for lease in self._leases:
            if which(lease.body.job_id) and (begun or not lease.begun):
                self._release(lease.grant, lease.next, lease.hi)
            else:
                kept.append(lease)
        self._leases = kept


def _can_run(heir: MemberRecord, of_job: bytes, job_id: bytes, spec: JobSpec) -> bool:
    return job_id == of_job and heir.can_run(spec)
