"""What keeps replicas alike and seats taken: comparing states, replacing the dead, forgetting what is over."""

from __future__ import annotations

from .context import Context
from .custody import GIVEN_BACK_MAX
from .effects import Forget, Persist, SendBatch, UnpinBlobs
from .granter import Granter
from .kept_job import KeptJob
from .membership import Membership
from .messages import (
    Reconcile,
    ReconcileIds,
    Records,
    Want,
)
from .placement import candidates_from, replacement
from .progress import Progress
from .reconcile import answers, opening, respond, respond_ids
from .record_parts import RECORDS_A_MESSAGE_MAX
from .records import (
    JobDigest,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from .tables import Tables

FORGOTTEN_ROW = 102
RECONCILE_JOBS_A_TICK = 16
RECONCILE_RANGES_MAX = 1024
# A replica that hears of no equal waits so many intervals before it grants.
LEVEL_INTERVALS = 3
FORMER_EVERY = 4
# Of two others one is compared with in an interval: 1 in 1,024 settled jobs keeps one that was not, and may be unknown.
SETTLED_INTERVALS = 10


class Upkeep(Granter):
    """See the module. What a replica does without being asked by workers or submitters."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        super().__init__(ctx, members, tables)
        self._forgotten: dict[bytes, None] = {}
        self._replacing: dict[bytes, None] = {}
        self._reconcile_cursor = 0
        # Whether the timer is set, and whether for later than an interval.
        self._reconciles = self._reconcile_rests = False
        # Members of the sets of jobs that are not over, as of the last look.
        self.seats: dict[bytes, None] = {}

    def has_forgotten(self, job_id: bytes) -> bool:
        return job_id in self._forgotten

    # -- comparing ---------------------------------------------------------------------------------------

    def _tick_reconcile(self, now_us: int) -> None:
        self.review_submitters(now_us)
        job_ids = list(self.jobs)
        for step in range(min(RECONCILE_JOBS_A_TICK, len(job_ids))):
            kept = self.jobs[job_ids[(self._reconcile_cursor + step) % len(job_ids)]]
            if not kept.level and now_us - kept.adopted_us >= LEVEL_INTERVALS * self._ctx.config.reconcile_interval_us:
                self._level(kept, now_us)
            self._publish_digest(kept, now_us)
            self._tell_hurry(kept, now_us)
            self._reconcile(kept, now_us)
            self._want_lacking(kept)
            self.shares.ask_for_share(kept)
            self._forget_if_due(kept, now_us)
        self._reconcile_cursor += RECONCILE_JOBS_A_TICK
        self._watch_seats(now_us)
        self._lifelines.expire(now_us)
        self.serve_lifelines(now_us)
        self._arm_reconciliation(now_us)

    def _arm_reconciliation(self, now_us: int) -> None:
        """Each interval while a job is open, or was lately; what is settled is looked at more seldom, and where there
        is no job the next one arms it.
        """
        self._reconciles = bool(self.jobs)
        if not self._reconciles:
            return
        rests = not self.seats and len(self.jobs) <= RECONCILE_JOBS_A_TICK
        slowness = self._ctx.config.rest_factor if rests else 1
        self._ctx.set_timer(("reconcile", b""), now_us + slowness * self._ctx.config.reconcile_interval_us)
        self._reconcile_rests = rests

    def _look_after(self, now_us: int) -> None:
        """There is a new job: it is looked at each interval from now on."""
        if not self._reconciles or self._reconcile_rests:
            self._reconciles, self._reconcile_rests = True, False
            self._ctx.set_timer(("reconcile", b""), now_us + self._ctx.config.reconcile_interval_us)

    def _reconcile(self, kept: KeptJob, now_us: int) -> None:
        """Compare with one random living co-replica, unless both were equal and nothing changed here.

        Now and then with a former one: after a partition it may be in a set that has no member of this one.
        """
        me, is_alive = self._ctx.node_id, self._members.is_alive
        others = [node for node in kept.state.replicas if node != me and is_alive(node)]
        former = [node for node in kept.state.former_replicas if node != me and is_alive(node)]
        if former and (not others or self._ctx.rng.randrange(FORMER_EVERY) == 0):
            others = former
        if not others:
            return
        peer = others[self._ctx.rng.randrange(len(others))]
        ranges = opening(kept.state.ids)
        fingerprint = b"".join(part.fingerprint for part in ranges)
        if kept.reconciled.get(peer) == fingerprint and self._ctx.rng.randrange(10):
            return
        kept.reconciled[peer] = fingerprint
        self._ctx.send(peer, Reconcile(kept.state.job_id, ranges, kept.elapsed_us(now_us)))

    def _want_lacking(self, kept: KeptJob) -> None:
        """What was accepted was on a disk; where that was lost, its submitter may have it still."""
        if kept.state.lacking and not self.storage_failed and self._members.is_alive(kept.state.submitter):
            wanted = kept.state.next_lacking(GIVEN_BACK_MAX)
            if wanted:
                self._ctx.send(kept.state.submitter, Want(kept.state.job_id, wanted))

    def fall_behind(self, now_us: int) -> None:
        """Nothing was kept, or heard, for a while: as after a restart, leases live a term more, and nothing is granted
        before it is known what went on meanwhile.
        """
        self._lifelines.tell_all()
        for job_id in list(self.open_jobs):
            kept = self.jobs[job_id]
            kept.level, kept.invited = kept.state.replicas == (self._ctx.node_id,), False
            kept.adopted_us = now_us
            kept.progress = Progress()
            kept.ledger.rebuild(now_us, self._ctx.config.lease_us)
            self._arm_sweep(kept, now_us)
            kept.reconciled.clear()
            self._reconcile(kept, now_us)
            self._publish_digest(kept, now_us)

    def _level(self, kept: KeptJob, now_us: int) -> None:
        """It knows what another knows (or nobody answers): from now on it grants."""
        kept.level, kept.invited = True, False
        self._after_freeing(kept, now_us)

    def on_digest(self, digest: JobDigest) -> None:
        """Another says that it keeps a job of this node's, and is in no set of which we know: tell it of ours.

        Two lives of a client may have placed one job twice; whoever has learnt of the other's set compares with it.
        """
        kept = self.jobs.get(digest.job_id)
        if kept is not None and not kept.state.was_replica(digest.replica):
            path = tuple(record.raw for record in kept.state.replica_path())
            self._ctx.send(digest.replica, Records(digest.job_id, path))

    def on_reconcile(self, peer: bytes, message: Reconcile, now_us: int) -> None:
        """Answer for the ranges that differ."""
        job_id = message.job_id
        kept = self._reconcilable(peer, job_id)
        if kept is None:
            if job_id in self.jobs:
                # It keeps the job, maybe under a set of which nobody told us: let it show the path to that.
                self._ctx.send(peer, Want(job_id, (job_id,)))
            return
        alike = message.ranges == opening(kept.state.ids)
        if alike or (kept.settled_us is None and kept.completed_us is None):
            # Who knows the end of it learns no more from one for whom it still goes on.
            kept.learn_elapsed(message.elapsed_us, now_us)
        if not kept.level and alike:
            self._level(kept, now_us)
        ranges, claims = respond(kept.state.ids, message.ranges, self._ctx.config, ranges_max=RECONCILE_RANGES_MAX)
        for answer in answers(job_id, ranges, claims):
            self._ctx.send(peer, answer)

    def on_reconcile_ids(self, peer: bytes, message: ReconcileIds) -> None:
        kept = self._reconcilable(peer, message.job_id)
        if kept is None:
            return
        missing_here, missing_there = respond_ids(kept.state.ids, message.lo, message.hi, list(message.ids))
        if missing_here:
            self._ctx.send(peer, Want(message.job_id, tuple(missing_here[:256])))
        self._send_records(kept, peer, missing_there)

    def on_want(self, peer: bytes, message: Want) -> None:
        kept = self._reconcilable(peer, message.job_id)
        if kept is not None:
            self._send_records(kept, peer, list(message.ids))

    def _reconcilable(self, peer: bytes, job_id: bytes) -> KeptJob | None:
        kept = self.jobs.get(job_id)
        # Who was replaced and came back has to learn it, and may have what the others lack.
        if kept is None or not kept.state.was_replica(peer):
            return None
        # They differ, or did: compare again at the next tick. Whoever compares keeps the job.
        kept.reconciled.pop(peer, None)
        kept.refusing.pop(peer, None)
        return kept

    def _send_records(self, kept: KeptJob, peer: bytes, record_ids: list[bytes]) -> None:
        small: dict[bytes, None] = {}
        for record_id in dict.fromkeys(record_ids[:RECORDS_A_MESSAGE_MAX]):
            if record_id in kept.state.batches:
                self._ctx.emit(SendBatch(peer, kept.state.job_id, record_id))
                continue
            record = kept.state.record(record_id)
            if record is None:
                continue
            if record.kind in (RecordKind.SPEC, RecordKind.REPLICA_SET):
                small.update(dict.fromkeys(kept.state.context()))
                # Why this node is one of them, where the newest set does not say it.
                own = kept.state.replica_path(self._ctx.node_id)
                small.update(dict.fromkeys(part.raw for part in own))
            else:
                small[record.raw] = None
        raws = tuple(small)
        for at in range(0, len(raws), RECORDS_A_MESSAGE_MAX):
            self._ctx.send(peer, Records(kept.state.job_id, raws[at : at + RECORDS_A_MESSAGE_MAX]))

    # -- forgetting --------------------------------------------------------------------------------------

    def _forget_if_due(self, kept: KeptJob, now_us: int) -> None:
        """First the payload goes, with a mark so that late results are told; the mark goes last."""
        if kept.settled_us is None or now_us - kept.settled_us < self._ctx.config.forget_payload_us:
            return
        job_id = kept.state.job_id
        del self.jobs[job_id]
        self._accounts.drop(kept.state)
        self._close(job_id)
        self._forgotten[job_id] = None
        self._ctx.emit(Forget(job_id))
        self._ctx.emit(UnpinBlobs(job_id))
        self._ctx.emit(Persist(job_id, FORGOTTEN_ROW, job_id, b""))
        if len(self._forgotten) > self._ctx.config.jobs_max:
            oldest = next(iter(self._forgotten))
            del self._forgotten[oldest]
            self._ctx.emit(Forget(oldest))

    # -- seats -------------------------------------------------------------------------------------------

    def on_dead(self, node: bytes, now_us: int) -> None:
        """A dead holder's tasks are free at once; a dead replica is replaced after the grace time."""
        self._lifelines.drop(node)
        for kept in list(self.jobs.values()):
            gone = kept.ledger.free_holder(node)
            if gone:
                self._ctx.notify(
                    "lease.freed",
                    job_id=kept.state.job_id,
                    holder=node,
                    tasks=sum(hi - lo for lo, hi, _ in gone),
                )
            if gone or node in kept.state.replicas:
                self._after_freeing(kept, now_us)
        self._watch_seats(now_us)

    def _watch_seats(self, now_us: int) -> None:
        """Each member that is not there is replaced after the grace time; if nobody could take its seat, later.

        One of a job that was settled lately is kept in mind: it may yet lack the last records.
        """
        lately_us = now_us - SETTLED_INTERVALS * self._ctx.config.reconcile_interval_us
        open_seats: dict[bytes, None] = {}
        others: dict[bytes, None] = {}
        for kept in self.jobs.values():
            if kept.settled_us is None:
                open_seats.update(dict.fromkeys(kept.state.replicas))
            elif kept.settled_us > lately_us:
                others.update(dict.fromkeys(kept.state.replicas))
        self.seats = open_seats | others
        empty = [node for node in open_seats if node not in self._replacing and self._members.is_gone(node)]
        for node in empty:
            self._replacing[node] = None
            self._ctx.set_timer(("replace", node), now_us + self._ctx.config.replica_grace_us)

    def _replace(self, dead: bytes, now_us: int) -> None:
        """Put the next in rendezvous order in a dead member's place, where this node is the first alive."""
        self._replacing.pop(dead, None)
        if not self._members.is_gone(dead):
            return
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        alive = [row for row in rows if self._members.is_alive(row.node) or row.node == self._ctx.node_id]
        candidates = candidates_from(alive, self._ctx.wall_us(now_us) // 1_000_000)
        for kept in list(self.jobs.values()):
            members = kept.state.replicas
            if dead not in members or kept.settled_us is not None:
                continue
            first = next((n for n in members if not self._members.is_gone(n)), None)
            if first != self._ctx.node_id:
                continue
            successor = replacement(kept.state.job_id, members, dead, candidates)
            if successor is not None:
                self._install(kept, dead, successor, now_us)

    def _install(self, kept: KeptJob, dead: bytes, successor: bytes, now_us: int) -> None:
        assert kept.state.replica_record is not None
        old: ReplicaSet = kept.state.replica_record.body
        members = tuple(successor if node == dead else node for node in old.members)
        former = tuple(dict.fromkeys((*old.former, dead)))[-64:]
        body = ReplicaSet(old.job_id, old.epoch + 1, members, former)
        record = sign_record(self._ctx.identity, RecordKind.REPLICA_SET, body)
        self._merge(kept, record, self._ctx.node_id, now_us)
        self._ctx.notify("replica.replaced", job_id=old.job_id, dead=dead, successor=successor)
        self._tell_replicas(kept, kept.state.context())
        self._after_freeing(kept, now_us)
