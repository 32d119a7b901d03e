"""A node as a replica: it keeps jobs' states, grants their tasks to thieves, and stores results.

It is trusted with nothing but keeping: every record it passes on is signed by its author.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from ..crypto.certificates import Role
from .batches import BatchError, check_batch
from .context import Context
from .effects import FetchBlobs, Forget, Persist, Publish, Reason, SendBatch, TimerKey, UnpinBlobs
from .events import StoredRow
from .granting import Ledger, controlled_sections, steal_half
from .jobs import JobState, RejectedRecord
from .membership import Membership
from .messages import (
    Announce,
    Consumed,
    Declined,
    Delivery,
    FindJob,
    FoundJobs,
    Granted,
    HeldJob,
    HeldRange,
    Reconcile,
    ReconcileIds,
    Records,
    Refused,
    Rejected,
    Renew,
    Steal,
    Stored,
    Submit,
    Submitted,
    Subscribe,
    Superseded,
    Unsubscribe,
    Want,
)
from .placement import candidates_from, replacement
from .reconcile import answers, opening, respond, respond_ids
from .records import (
    Grant,
    JobDigest,
    JobSpec,
    Record,
    RecordError,
    RecordKind,
    ReplicaSet,
    open_record,
    sign_record,
)
from .subscriptions import Subscriptions
from .tables import Tables

# Rows on disk that are not records: a batch's columns, and the mark of a forgotten job.
COLUMNS_ROW = 101
FORGOTTEN_ROW = 102
JOBS_A_REPLY_MAX = 128
CONTEXT_A_REPLY_MAX = 512
RECORDS_A_MESSAGE_MAX = 256
GRANT_RANGES_MAX = 16
RECONCILE_JOBS_A_TICK = 16
RECONCILE_RANGES_MAX = 1024
PENDING_MAX = 256
REASON_CHARS_MAX = 256
# Records a message; more go into the next one, so that no frame is too long for the link.
RECORDS_BYTES_MAX = 1024 * 1024
# A replica that hears of no equal waits so many intervals before it grants.
LEVEL_INTERVALS = 3
FORMER_EVERY = 4


@dataclass(slots=True)
class KeptJob:
    """A job of which this node is a replica.

    level: whether it may grant. Who came back, or took a dead one's seat, first has to hear what went on meanwhile:
    else it would grant again what others have done.  adopted_us: when it came here, in this life.
    """

    state: JobState
    ledger: Ledger
    subscriptions: Subscriptions
    since_us: int
    adopted_us: int
    level: bool = True
    completed_us: int | None = None
    settled_us: int | None = None
    announced_free: int = -1
    announced_us: int = -(1 << 60)
    reconciled: dict[bytes, bytes] = field(default_factory=dict)
    refusing: dict[bytes, None] = field(default_factory=dict)

    def elapsed_us(self, now_us: int) -> int:
        return (now_us if self.completed_us is None else self.completed_us) - self.since_us


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A submission whose blobs are still coming. answers: (peer, request) to tell when they are here."""

    spec: Record
    replica_sets: tuple[Record, ...]
    answers: dict[bytes, int]


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A delivery whose large outputs are still coming."""

    header: Record
    delivery: Delivery
    sender: bytes


@dataclass(frozen=True, slots=True)
class ParkedSteal:
    """A lifeline: a thief that found nothing, to be pushed to until it expires."""

    steal: Steal
    expires_at_us: int


class Replica:
    """Sub-machine; `Mesh` routes messages, timers and membership changes to it."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, incarnation: int) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._incarnation = incarnation
        self.jobs: dict[bytes, KeptJob] = {}
        self.open_jobs: dict[bytes, None] = {}
        self._forgotten: dict[bytes, None] = {}
        self._pending: dict[bytes, PendingJob] = {}
        self._pending_batches: dict[bytes, PendingBatch] = {}
        self._lifelines: dict[bytes, ParkedSteal] = {}
        self._told: dict[bytes, dict[bytes, None]] = {}
        self._replacing: dict[bytes, None] = {}
        self._digest_sequence = 0
        self._reconcile_cursor = 0
        self._sweeping = False
        self.storage_failed = ""

    def is_fetching(self, job_id: bytes) -> bool:
        """Whether a submission waits for its blobs."""
        return job_id in self._pending

    def has_forgotten(self, job_id: bytes) -> bool:
        return job_id in self._forgotten

    # -- start and stop ------------------------------------------------------------------------------------

    def restore(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        """Rebuild from what was persisted. Signatures were checked before the rows were written."""
        for row in rows:
            if row.kind == FORGOTTEN_ROW:
                self._forgotten[row.job_id] = None
        specs = [row for row in rows if row.kind == RecordKind.SPEC and row.job_id not in self._forgotten]
        for row in specs:
            self._adopt(open_record(row.body, check_signature=False), now_us)
        for row in rows:
            kept = self.jobs.get(row.job_id)
            if kept is None or row.kind == RecordKind.SPEC or row.kind > 100:
                continue
            try:
                kept.state.merge(open_record(row.body, check_signature=False))
            except RejectedRecord as error:
                self._ctx.notify("replica.row-ignored", job_id=row.job_id, reason=error.reason)
        for kept in self.jobs.values():
            kept.ledger.rebuild(now_us, self._ctx.config.lease_us)
            kept.level = kept.state.replicas == (self._ctx.node_id,)
            self._after_change(kept, now_us)
        self.start(now_us)

    def start(self, now_us: int) -> None:
        self._ctx.set_timer(("reconcile", b""), now_us + self._ctx.config.reconcile_interval_us)

    def stop(self) -> None:
        for name in ("reconcile", "sweep"):
            self._ctx.cancel_timer((name, b""))

    def _adopt(self, spec: Record, now_us: int) -> KeptJob:
        state = JobState(spec)
        kept = KeptJob(
            state,
            Ledger(state, self._ctx.config.lease_sweep_us),
            Subscriptions(self._ctx, state),
            since_us=now_us,
            adopted_us=now_us,
        )
        kept.ledger.rebuild(now_us, self._ctx.config.lease_us)
        self.jobs[spec.id] = kept
        self.open_jobs[spec.id] = None
        return kept

    # -- submission ----------------------------------------------------------------------------------------

    def on_submit(self, peer: bytes, message: Submit, now_us: int) -> None:
        try:
            spec = open_record(message.spec)
            replica_set = open_record(message.replica_set)
        except RecordError as error:
            self._ctx.penalise(peer, Reason.MALFORMED)
            self._ctx.send(peer, Rejected(message.request, bytes(32), error.reason))
            return
        reason = self._refusal(peer, spec, replica_set)
        if reason:
            self._ctx.send(peer, Rejected(message.request, spec.id, reason))
            return
        kept = self.jobs.get(spec.id)
        if kept is not None:
            self._merge(kept, replica_set, peer, now_us)
            self._ctx.send(peer, Submitted(message.request, spec.id))
            return
        self._await_blobs(spec, (replica_set,), peer, message.request, now_us)

    def _refusal(self, peer: bytes, spec: Record, replica_set: Record) -> str:
        """Why a submission is not taken; empty if it is."""
        if spec.kind is not RecordKind.SPEC or replica_set.kind is not RecordKind.REPLICA_SET:
            return Reason.MALFORMED
        body: JobSpec = spec.body
        if body.mesh_id != self._ctx.policy.mesh.mesh_id:
            return "the job is for another mesh"
        if spec.author != peer or replica_set.author != peer or replica_set.body.job_id != spec.id:
            self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
            return Reason.WRONG_AUTHOR
        if spec.id in self._forgotten:
            return "the job was accepted and forgotten; submit it again with another nonce"
        if self.storage_failed:
            return "the node's disk takes no more"
        config = self._ctx.config
        if body.tasks > config.tasks_per_job_max:
            return f"{body.tasks} tasks; this node takes at most {config.tasks_per_job_max} a job"
        if len(spec.raw) > config.spec_bytes_max:
            return f"the job's description has {len(spec.raw)} bytes; at most {config.spec_bytes_max}"
        if spec.id not in self.jobs and len(self.jobs) >= config.jobs_max:
            return f"this node keeps {len(self.jobs)} jobs already"
        return ""

    def _await_blobs(
        self, spec: Record, replica_sets: tuple[Record, ...], peer: bytes, request: int, now_us: int
    ) -> None:
        pending = self._pending.get(spec.id)
        if pending is not None:
            pending.answers[peer] = request
            return
        if len(self._pending) >= PENDING_MAX:
            self._ctx.send(peer, Rejected(request, spec.id, "too many submissions at once; try again"))
            return
        self._pending[spec.id] = PendingJob(spec, replica_sets, {peer: request})
        digests = spec.body.blob_digests()
        if not digests:
            self.on_blobs_fetched(spec.id, now_us)
            return
        others = [node for node in replica_sets[-1].body.members if node not in (self._ctx.node_id, peer)]
        self._ctx.emit(FetchBlobs(spec.id, digests, (peer, *others), pin=spec.id))

    def on_blobs_fetched(self, token: bytes, now_us: int) -> bool:
        """True if the token was one of this machine's."""
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._keep(pending, now_us)
            return True
        batch = self._pending_batches.pop(token, None)
        if batch is not None:
            self._store(batch.header, batch.delivery, batch.sender, now_us)
            return True
        return False

    def on_blobs_failed(self, token: bytes, reason: str) -> bool:
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._ctx.emit(UnpinBlobs(token))
            for peer, request in pending.answers.items():
                self._ctx.send(peer, Rejected(request, pending.spec.id, reason[:REASON_CHARS_MAX]))
            return True
        batch = self._pending_batches.pop(token, None)
        if batch is not None:
            job_id = batch.header.body.job_id
            self._ctx.send(batch.sender, Declined(job_id, batch.header.id, reason[:REASON_CHARS_MAX]))
            return True
        return False

    def _keep(self, pending: PendingJob, now_us: int) -> None:
        kept = self._adopt(pending.spec, now_us)
        self._persist(pending.spec)
        for replica_set in pending.replica_sets:
            self._merge(kept, replica_set, self._ctx.node_id, now_us)
        for peer, request in pending.answers.items():
            if request:
                self._ctx.send(peer, Submitted(request, pending.spec.id))
        kept.level = any(pending.answers.values()) or kept.state.replicas == (self._ctx.node_id,)
        self._ctx.notify("replica.job-kept", job_id=pending.spec.id, tasks=pending.spec.body.tasks)
        self._after_change(kept, now_us)
        if not any(pending.answers.values()):
            self._reconcile(kept, now_us)

    def _persist(self, record: Record) -> None:
        job_id = record.id if record.kind is RecordKind.SPEC else record.body.job_id
        self._ctx.emit(Persist(job_id, int(record.kind), record.id, record.raw))

    # -- records -------------------------------------------------------------------------------------------

    def _merge(self, kept: KeptJob, record: Record, sender: bytes, now_us: int) -> bool:
        """Merge a checked record, persist it, follow it in the ledger; penalise what cannot be."""
        if len(kept.state.ids) >= self._ctx.config.records_per_job_max and sender != self._ctx.node_id:
            self._ctx.penalise(sender, Reason.TOO_MANY)
            return False
        try:
            changed = kept.state.merge(record)
        except RejectedRecord as error:
            if error.fault and sender != self._ctx.node_id:
                self._ctx.penalise(sender, Reason(error.reason))
            return False
        if not changed:
            return False
        self._persist(record)
        kept.ledger.apply(record, now_us)
        self._arm_sweep(kept, now_us)
        if record.kind is RecordKind.CANCELLATION:
            self._on_cancelled(kept, record)
        return True

    def _on_cancelled(self, kept: KeptJob, record: Record) -> None:
        self.open_jobs.pop(kept.state.job_id, None)
        for holder in sorted(kept.ledger.leased_by()):
            self._ctx.send(holder, Records(kept.state.job_id, (record.raw,)))

    def on_records(self, peer: bytes, message: Records, now_us: int) -> None:
        """News of a job's state; for an unknown job, the invitation to become its replica."""
        opened = []
        for raw in message.records:
            try:
                opened.append(open_record(raw))
            except RecordError:
                self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
                return
        if any(record.kind is RecordKind.BATCH for record in opened):
            # A header without its columns proves nothing: batches come as `Delivery`.
            self._ctx.penalise(peer, Reason.MALFORMED)
            return
        kept = self.jobs.get(message.job_id)
        if kept is None:
            self._on_invitation(peer, message.job_id, opened, now_us)
            return
        if self.storage_failed:
            # What cannot be written is not remembered either; reconciliation brings it back.
            opened = [record for record in opened if record.kind is RecordKind.CANCELLATION]
        changed = False
        for record in opened:
            changed |= self._merge(kept, record, peer, now_us)
        if changed:
            self._after_change(kept, now_us)

    def _on_invitation(self, peer: bytes, job_id: bytes, records: list[Record], now_us: int) -> None:
        spec = next((r for r in records if r.kind is RecordKind.SPEC and r.id == job_id), None)
        if spec is None or spec.body.mesh_id != self._ctx.policy.mesh.mesh_id or job_id in self._forgotten:
            return
        if self.storage_failed or len(self.jobs) >= self._ctx.config.jobs_max:
            self._ctx.send(peer, Rejected(0, job_id, Reason.DISK_FULL if self.storage_failed else Reason.TOO_MANY))
            return
        invited = JobState(spec)
        for record in records:
            if record.kind is RecordKind.REPLICA_SET:
                try:
                    invited.merge(record)
                except RejectedRecord:
                    return
        if self._ctx.node_id in invited.replicas:
            self._await_blobs(spec, invited.replica_path(), peer, 0, now_us)

    def _tell_replicas(self, kept: KeptJob, records: tuple[bytes, ...], now_us: int) -> None:
        for node in kept.state.replicas:
            if node != self._ctx.node_id and self._members.is_alive(node):
                self._ctx.send(node, Records(kept.state.job_id, records))

    def _after_change(self, kept: KeptJob, now_us: int) -> None:
        """Completion, free tasks, followers and digest, after any change of the state."""
        state = kept.state
        if not state.open:
            self.open_jobs.pop(state.job_id, None)
        if state.complete and kept.completed_us is None:
            kept.completed_us = now_us
            self._ctx.notify("replica.job-complete", job_id=state.job_id, duplicates=state.duplicates)
        settled = state.fully_accepted or state.cancellation is not None
        if settled and kept.settled_us is None:
            kept.settled_us = now_us
        kept.subscriptions.report(kept.ledger, kept.elapsed_us(now_us), now_us, force=kept.completed_us == now_us)
        self._serve_lifelines(now_us)
        self._publish_digest(kept, now_us)
        self._arm_sweep(kept, now_us)

    # -- granting ------------------------------------------------------------------------------------------

    def _sections(self, kept: KeptJob) -> list[tuple[int, int]]:
        if not kept.level:
            return []
        members = kept.state.replicas
        return controlled_sections(
            members,
            kept.state.spec.tasks,
            self._ctx.node_id,
            lambda node: node not in kept.refusing and self._keeps(node),
        )

    def on_rejected(self, peer: bytes, message: Rejected, now_us: int) -> None:
        """A member that will not keep the job: its section falls to the next, until it is heard to keep it."""
        kept = self.jobs.get(message.job_id)
        if kept is not None and peer in kept.state.replicas and peer not in kept.refusing:
            kept.refusing[peer] = None
            self._after_change(kept, now_us)

    def _keeps(self, node: bytes) -> bool:
        """Whether another replica can be relied on: it lives, and does not say that its disk is full."""
        if not self._members.is_alive(node):
            return False
        row = self._tables.get(RecordKind.MEMBER, node)
        return row is None or bool(row.body.roles & Role.REPLICA)

    def on_member(self, now_us: int) -> None:
        """A node said something new of itself: the sections of one that keeps nothing fall to the next."""
        for job_id in list(self.open_jobs):
            self._publish_digest(self.jobs[job_id], now_us)
        self._serve_lifelines(now_us)

    def grant(self, thief: bytes, steal: Steal, now_us: int) -> bool:
        """Answer a steal with tasks of the most urgent job that fits; False if there is nothing to give."""
        if self.storage_failed:
            return False
        jobs = [self.jobs[job_id] for job_id in self.open_jobs]
        jobs.sort(key=lambda kept: (-kept.state.spec.priority, kept.since_us))
        for kept in jobs:
            if steal.can_run(kept.state.job_id, kept.state.spec) and self._grant_from(kept, thief, steal, now_us):
                return True
        return False

    def _grant_from(self, kept: KeptJob, thief: bytes, steal: Steal, now_us: int) -> bool:
        config, state = self._ctx.config, kept.state
        sections = self._sections(kept)
        count = steal_half(
            kept.ledger.free_in(sections),
            steal.appetite_us,
            state.task_us,
            steal.slots,
            config.batch_tasks_first,
            config.grant_tasks_max,
        )
        ranges = kept.ledger.pick(sections, count, GRANT_RANGES_MAX)
        if not ranges:
            return False
        raws = []
        for lo, hi in ranges:
            grant = Grant(state.job_id, lo, hi, state.next_epoch(lo, hi), thief, config.lease_us)
            record = sign_record(self._ctx.identity, RecordKind.GRANT, grant)
            self._merge(kept, record, self._ctx.node_id, now_us)
            raws.append(record.raw)
        granted = Granted(steal.request, tuple(raws), self.context_for(thief, kept.state))
        self._ctx.send(thief, granted)
        self._tell_replicas(kept, tuple(raws), now_us)
        self._publish_digest(kept, now_us)
        return True

    def context_for(self, peer: bytes, state: JobState) -> tuple[bytes, ...]:
        """Spec and replica set, unless this peer was told them on this link."""
        assert state.replica_record is not None
        told = self._told.setdefault(peer, {})
        if state.replica_record.id in told:
            return ()
        told[state.replica_record.id] = None
        while len(told) > JOBS_A_REPLY_MAX:
            told.pop(next(iter(told)))
        return state.context()

    def park(self, thief: bytes, steal: Steal, now_us: int) -> bool:
        """Keep a lifeline; False if there are too many."""
        if thief not in self._lifelines and len(self._lifelines) >= self._ctx.config.lifelines_held_max:
            return False
        expires_at_us = now_us + self._ctx.config.lifeline_ttl_us
        self._lifelines[thief] = ParkedSteal(steal, expires_at_us)
        return True

    def refuse(self, thief: bytes, steal: Steal, now_us: int) -> None:
        parked = steal.lifeline and self.park(thief, steal, now_us)
        self._ctx.send(thief, Refused(steal.request, parked))

    def _serve_lifelines(self, now_us: int) -> None:
        """Push free tasks to parked thieves, the coldest first; a served lifeline is used up."""
        if not self._lifelines or not self.open_jobs:
            return
        coldest = sorted(self._lifelines, key=lambda node: (-self._lifelines[node].steal.deficit_w, node))
        for thief in coldest:
            parked = self._lifelines[thief]
            if parked.expires_at_us <= now_us or not self._members.is_alive(thief):
                del self._lifelines[thief]
                continue
            if self.grant(thief, replace(parked.steal, request=0, lifeline=False), now_us):
                del self._lifelines[thief]

    def drop_lifeline(self, thief: bytes) -> None:
        self._lifelines.pop(thief, None)

    # -- leases --------------------------------------------------------------------------------------------

    def on_renew(self, peer: bytes, message: Renew, now_us: int) -> None:
        lost: list[HeldJob] = []
        for held in message.jobs:
            kept = self.jobs.get(held.job_id)
            if kept is None:
                continue
            gone: list[HeldRange] = []
            for part in held.ranges:
                if part.lo >= part.hi or part.hi > kept.state.spec.tasks:
                    self._ctx.penalise(peer, Reason.OUT_OF_RANGE)
                    return
                until_us = now_us + self._ctx.config.lease_us
                parts = kept.ledger.renew(peer, part.lo, part.hi, part.epoch, until_us)
                gone.extend(HeldRange(lo, hi, epoch) for lo, hi, epoch in parts)
            if kept.state.cancellation is not None:
                self._ctx.send(peer, Records(held.job_id, (kept.state.cancellation.raw,)))
            elif gone:
                lost.append(HeldJob(held.job_id, tuple(gone[:1024])))
            self._arm_sweep(kept, now_us)
        if lost:
            self._ctx.send(peer, Superseded(tuple(lost)))

    def _arm_sweep(self, kept: KeptJob, now_us: int) -> None:
        if not self._sweeping and (len(kept.ledger.live) or len(kept.subscriptions)):
            self._sweeping = True
            self._ctx.set_timer(("sweep", b""), now_us + self._ctx.config.lease_sweep_us)

    def _sweep(self, now_us: int) -> None:
        """Free expired leases and report progress, while there is any of either."""
        self._sweeping = False
        for kept in list(self.jobs.values()):
            expired = kept.ledger.expire(now_us)
            for lo, hi, holder in expired:
                self._ctx.notify("lease.expired", job_id=kept.state.job_id, holder=holder, lo=lo, hi=hi)
            if expired:
                self._after_change(kept, now_us)
            else:
                kept.subscriptions.report(kept.ledger, kept.elapsed_us(now_us), now_us)
                if kept.announced_free != 0 and kept.state.job_id in self.open_jobs:
                    self._publish_digest(kept, now_us)
            self._arm_sweep(kept, now_us)

    # -- results -------------------------------------------------------------------------------------------

    def on_delivery(self, peer: bytes, message: Delivery, header: Record, now_us: int) -> None:
        """Check a batch against its signed root, then keep it. The signature was checked by the caller."""
        job_id = header.body.job_id
        kept = self.jobs.get(job_id)
        if kept is None:
            reason = "accepted" if job_id in self._forgotten else Reason.UNKNOWN_JOB
            self._ctx.send(peer, Declined(job_id, header.id, reason))
            return
        if header.id in kept.state.batches:
            self._ctx.send(peer, Stored(job_id, (header.id,)))
            return
        if self.storage_failed:
            self._ctx.send(peer, Declined(job_id, header.id, Reason.DISK_FULL))
            return
        if len(kept.state.ids) >= self._ctx.config.records_per_job_max:
            self._ctx.send(peer, Declined(job_id, header.id, Reason.TOO_MANY))
            return
        if not self._ctx.admitted(header.body.certificate, header.author, Role.WORKER, now_us):
            self._ctx.penalise(peer, Reason.NOT_ADMITTED)
            self._ctx.send(peer, Declined(job_id, header.id, Reason.NOT_ADMITTED))
            return
        try:
            batch = check_batch(header.body, message.columns)
        except BatchError:
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            self._ctx.send(peer, Declined(job_id, header.id, Reason.BAD_PROOF))
            return
        if batch.externals:
            self._fetch_outputs(header, message, peer, batch.externals)
            return
        self._store(header, message, peer, now_us)

    def _fetch_outputs(
        self, header: Record, message: Delivery, peer: bytes, externals: dict[int, tuple[bytes, int]]
    ) -> None:
        if header.id in self._pending_batches:
            return
        if len(self._pending_batches) >= PENDING_MAX:
            self._ctx.send(peer, Declined(header.body.job_id, header.id, Reason.TOO_MANY))
            return
        self._pending_batches[header.id] = PendingBatch(header, message, peer)
        digests = tuple(dict.fromkeys(digest for digest, _ in externals.values()))
        sources = tuple(dict.fromkeys((peer, header.author)))
        self._ctx.emit(FetchBlobs(header.id, digests, sources, pin=header.body.job_id))

    def _store(self, header: Record, message: Delivery, peer: bytes, now_us: int) -> None:
        job_id = header.body.job_id
        kept = self.jobs.get(job_id)
        if kept is None:
            return
        self._ctx.emit(Persist(job_id, COLUMNS_ROW, header.id, message.columns))
        if not self._merge(kept, header, peer, now_us):
            return
        self._ctx.send(peer, Stored(job_id, (header.id,)))
        if peer != header.author:
            self._ctx.send(header.author, Stored(job_id, (header.id,)))
        kept.subscriptions.stored(header.id, message)
        self._after_change(kept, now_us)

    # -- followers -----------------------------------------------------------------------------------------

    def on_subscribe(self, peer: bytes, message: Subscribe, now_us: int) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is None:
            self._ctx.send(peer, Rejected(0, message.job_id, Reason.UNKNOWN_JOB))
            return
        if not kept.subscriptions.subscribe(peer, message):
            self._ctx.send(peer, Rejected(0, message.job_id, "too many followers of this job here"))
            return
        kept.subscriptions.report_to(peer, kept.ledger, kept.elapsed_us(now_us), now_us)
        self._arm_sweep(kept, now_us)

    def on_consumed(self, peer: bytes, message: Consumed) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is not None:
            kept.subscriptions.consumed(peer, message.batch_ids)

    def on_unsubscribe(self, peer: bytes, message: Unsubscribe) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is not None:
            kept.subscriptions.remove(peer)

    def on_find(self, peer: bytes, message: FindJob) -> None:
        if message.job_id:
            found = [self.jobs[message.job_id]] if message.job_id in self.jobs else []
        else:
            found = [kept for kept in self.jobs.values() if kept.state.submitter == peer]
        context: list[bytes] = []
        for kept in found[-JOBS_A_REPLY_MAX:]:
            more = kept.state.context()
            if len(context) + len(more) <= CONTEXT_A_REPLY_MAX:
                context.extend(more)
        self._ctx.send(peer, FoundJobs(message.request, tuple(context)))

    # -- reconciliation ------------------------------------------------------------------------------------

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
        self._ctx.send(peer, Reconcile(kept.state.job_id, ranges))

    def _level(self, kept: KeptJob, now_us: int) -> None:
        """It knows what another knows (or nobody answers): from now on it grants."""
        kept.level = True
        self._after_change(kept, now_us)

    def on_reconcile(self, peer: bytes, message: Reconcile, now_us: int) -> None:
        """Answer for the ranges that differ. An unknown job is one whose disk was lost here: ask for it anew."""
        job_id = message.job_id
        if job_id not in self.jobs and job_id not in self._forgotten and job_id not in self._pending:
            self._ctx.send(peer, Want(job_id, (job_id,)))
            return
        kept = self._reconcilable(peer, job_id)
        if kept is None:
            return
        if not kept.level and message.ranges == opening(kept.state.ids):
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
        for record_id in record_ids[:RECORDS_A_MESSAGE_MAX]:
            if record_id in kept.state.batches:
                self._ctx.emit(SendBatch(peer, kept.state.job_id, record_id))
                continue
            record = kept.state.record(record_id)
            if record is None:
                continue
            if record.kind in (RecordKind.SPEC, RecordKind.REPLICA_SET):
                small.update(dict.fromkeys(kept.state.context()))
            else:
                small[record.raw] = None
        raws = tuple(small)
        for at in range(0, len(raws), RECORDS_A_MESSAGE_MAX):
            self._ctx.send(peer, Records(kept.state.job_id, raws[at : at + RECORDS_A_MESSAGE_MAX]))

    # -- timers, peers -------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> bool:
        """True if the timer was this machine's."""
        match key[0]:
            case "sweep":
                self._sweep(now_us)
            case "reconcile":
                self._tick_reconcile(now_us)
            case "replace":
                self._replace(key[1], now_us)
            case _:
                return False
        return True

    def _tick_reconcile(self, now_us: int) -> None:
        self._ctx.set_timer(("reconcile", b""), now_us + self._ctx.config.reconcile_interval_us)
        job_ids = list(self.jobs)
        for step in range(min(RECONCILE_JOBS_A_TICK, len(job_ids))):
            kept = self.jobs[job_ids[(self._reconcile_cursor + step) % len(job_ids)]]
            if not kept.level and now_us - kept.adopted_us >= LEVEL_INTERVALS * self._ctx.config.reconcile_interval_us:
                self._level(kept, now_us)
            self._publish_digest(kept, now_us)
            self._reconcile(kept, now_us)
            self._forget_if_due(kept, now_us)
        self._reconcile_cursor += RECONCILE_JOBS_A_TICK
        self._watch_seats(now_us)
        for thief in [node for node, parked in self._lifelines.items() if parked.expires_at_us <= now_us]:
            del self._lifelines[thief]

    def _forget_if_due(self, kept: KeptJob, now_us: int) -> None:
        """First the payload goes, with a mark so that late results are told; the mark goes last."""
        if kept.settled_us is None or now_us - kept.settled_us < self._ctx.config.forget_payload_us:
            return
        job_id = kept.state.job_id
        del self.jobs[job_id]
        self.open_jobs.pop(job_id, None)
        self._forgotten[job_id] = None
        self._ctx.emit(Forget(job_id))
        self._ctx.emit(UnpinBlobs(job_id))
        self._ctx.emit(Persist(job_id, FORGOTTEN_ROW, job_id, b""))
        if len(self._forgotten) > self._ctx.config.jobs_max:
            oldest = next(iter(self._forgotten))
            del self._forgotten[oldest]
            self._ctx.emit(Forget(oldest))

    def on_peer_gone(self, peer: bytes) -> None:
        """The link ended: what it was told is told again on the next one."""
        self._told.pop(peer, None)
        for kept in self.jobs.values():
            kept.subscriptions.remove(peer)
            kept.reconciled.pop(peer, None)

    def on_dead(self, node: bytes, now_us: int) -> None:
        """A dead holder's tasks are free at once; a dead replica is replaced after the grace time."""
        self._lifelines.pop(node, None)
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
                self._after_change(kept, now_us)
        self._watch_seats(now_us)

    def _watch_seats(self, now_us: int) -> None:
        """Each member that is not there is replaced after the grace time; if nobody could take its seat, later."""
        empty = dict.fromkeys(
            node
            for kept in self.jobs.values()
            if kept.settled_us is None
            for node in kept.state.replicas
            if node != self._ctx.node_id and node not in self._replacing and not self._members.is_alive(node)
        )
        for node in empty:
            self._replacing[node] = None
            self._ctx.set_timer(("replace", node), now_us + self._ctx.config.replica_grace_us)

    def _replace(self, dead: bytes, now_us: int) -> None:
        """Put the next in rendezvous order in a dead member's place, where this node is the first alive."""
        self._replacing.pop(dead, None)
        if self._members.is_alive(dead):
            return
        rows = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
        alive = [row for row in rows if self._members.is_alive(row.node) or row.node == self._ctx.node_id]
        candidates = candidates_from(alive, self._ctx.wall_us(now_us) // 1_000_000)
        for kept in list(self.jobs.values()):
            members = kept.state.replicas
            if dead not in members or kept.settled_us is not None:
                continue
            first = next((n for n in members if n == self._ctx.node_id or self._members.is_alive(n)), None)
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
        self._tell_replicas(kept, kept.state.context(), now_us)
        self._after_change(kept, now_us)

    # -- digests -------------------------------------------------------------------------------------------

    def _publish_digest(self, kept: KeptJob, now_us: int) -> None:
        """Tell the cell how much is free here: at once when it went to or from none, else once a second."""
        state = kept.state
        free = kept.ledger.free_in(self._sections(kept)) if state.open else 0
        age_us = now_us - kept.announced_us
        # Rows of the tables expire: what is still to be had is said again.
        stale = free > 0 and age_us >= self._ctx.config.heat_refresh_us
        if not stale and (free == kept.announced_free or (free == 0 and kept.announced_free == -1)):
            return
        crossed = (free > 0) != (kept.announced_free > 0)
        if not crossed and not stale and age_us < self._ctx.config.sync_interval_us:
            return
        kept.announced_free, kept.announced_us = free, now_us
        self._digest_sequence += 1
        digest = JobDigest(
            job_id=state.job_id,
            replica=self._ctx.node_id,
            incarnation=self._incarnation,
            sequence=self._digest_sequence,
            free_tasks=free,
            task_us=state.task_us,
            runtime=state.spec.runtime,
            command=state.spec.command,
            priority=state.spec.priority,
            finished=not state.open,
        )
        record = sign_record(self._ctx.identity, RecordKind.JOB_DIGEST, digest)
        self._tables.publish(record, now_us, urgent=crossed and free > 0)
        if crossed and free > 0 and not kept.state.leases and not kept.state.done:
            self._ctx.emit(Publish(Announce((record.raw,))))

    def free_tasks(self) -> int:
        """Tasks that this node could grant now, over all jobs."""
        total = 0
        for job_id in self.open_jobs:
            kept = self.jobs[job_id]
            total += kept.ledger.free_in(self._sections(kept))
        return total


def _parts(raws: list[bytes]) -> list[tuple[bytes, ...]]:
    """Records in messages that a link can carry, in order."""
    parts: list[list[bytes]] = []
    size = RECORDS_BYTES_MAX
    for raw in raws:
        if size + len(raw) > RECORDS_BYTES_MAX:
            parts.append([])
            size = 0
        parts[-1].append(raw)
        size += len(raw)
    return [tuple(part) for part in parts]
