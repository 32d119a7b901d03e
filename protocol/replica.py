"""A node as a replica: it keeps jobs' states, grants their tasks to thieves, and stores results.

It is trusted with nothing but keeping: every record it passes on is signed by its author. What it grants is in
`granter`, what it does unasked in `upkeep`, what it takes of workers in `result_keeping`; here is what submitters and
followers ask of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .context import Context
from .effects import FetchBlobs, Reason, TimerKey, UnpinBlobs
from .events import StoredRow
from .granter import JOBS_A_REPLY_MAX
from .granting import Ledger
from .intervals import IntervalSet
from .job_parts import RejectedRecord
from .jobs import JobState
from .kept_job import KeptJob
from .limits import Limit, has_share
from .membership import Membership
from .messages import (
    Consumed,
    FindJob,
    FoundJobs,
    KeyWanted,
    Reconcile,
    Records,
    Rejected,
    ShareGiven,
    SharePart,
    ShareWanted,
    Submit,
    Submitted,
    Subscribe,
    Taken,
    Unsubscribe,
    Want,
)
from .pace import Pace
from .quota import declared_sizes, excess, of_new
from .record_parts import in_messages
from .records import (
    JobSpec,
    Record,
    RecordError,
    RecordKind,
    open_record,
    reopen_record,
)
from .result_keeping import UNACKNOWLEDGED_MAX, ResultKeeper
from .secrecy.keeping import SHARE_ROW
from .subscriptions import TOO_MANY_FOLLOWERS, Subscriptions
from .tables import Tables
from .upkeep import FORGOTTEN_ROW

CONTEXT_A_REPLY_MAX = 512
PENDING_MAX = 256
REASON_CHARS_MAX = 256
# Records after which there may be more to grant here.
_FREEING = (RecordKind.RELEASE, RecordKind.REPLICA_SET, RecordKind.RECHECK)


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A submission whose blobs are still coming. answers: (peer, request) to tell when they are here.

    followers: who wants its results already.  taken: what its submitter took already.  share: as in `Submit`.
    """

    spec: Record
    replica_sets: tuple[Record, ...]
    answers: dict[bytes, int]
    share: bytes = b""
    followers: dict[bytes, Subscribe] = field(default_factory=dict)
    taken: dict[bytes, None] = field(default_factory=dict)


class Replica(ResultKeeper):
    """Sub-machine; `Mesh` routes messages, timers and membership changes to it."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        super().__init__(ctx, members, tables)
        self.keeps_jobs = True
        self._pending: dict[bytes, PendingJob] = {}

    def is_fetching(self, job_id: bytes) -> bool:
        """Whether a submission waits for its blobs."""
        return job_id in self._pending

    # -- start and stop ----------------------------------------------------------------------------------

    def restore(self, rows: tuple[StoredRow, ...], now_us: int) -> None:
        """Rebuild from what was persisted. Signatures were checked before the rows were written."""
        for row in rows:
            if row.kind == FORGOTTEN_ROW:
                self._forgotten[row.job_id] = None
        specs = [row for row in rows if row.kind == RecordKind.SPEC and row.job_id not in self._forgotten]
        for row in specs:
            spec = self._reopened(row)
            if spec is not None and spec.id == row.job_id:
                self._adopt(spec, now_us)
        for row in rows:
            kept = self.jobs.get(row.job_id)
            if kept is not None and row.kind == SHARE_ROW:
                kept.share = row.body
            if kept is None or row.kind == RecordKind.SPEC or row.kind > 100:
                continue
            record = self._reopened(row)
            if record is None:
                continue
            try:
                kept.state.merge(record)
            except RejectedRecord as error:
                self._ctx.notify("replica.row-ignored", job_id=row.job_id, reason=error.reason)
        for kept in self.jobs.values():
            for info in kept.state.batches.values():
                kept.room.add(info, is_copy=info.first >= kept.state.spec.tasks)
            kept.room.keep_all(kept.state)
            kept.ledger.rebuild(now_us, self._ctx.config.lease_us)
            self._copies.restore(kept, now_us)
            kept.level = kept.state.replicas == (self._ctx.node_id,)
            self._after_freeing(kept, now_us)
        self.start(now_us)

    def _reopened(self, row: StoredRow) -> Record | None:
        """None, and said so, if the row is not what was written: the other replicas have it, and bring it back."""
        try:
            return reopen_record(row.body, row.kind, row.key)
        except RecordError as error:
            self._ctx.notify("replica.row-ignored", job_id=row.job_id, reason=error.reason)
            return None

    def start(self, now_us: int) -> None:
        if self.jobs:
            self._look_after(now_us)

    def stop(self) -> None:
        self._echo_grants()
        self._acknowledge()
        for name in ("reconcile", "sweep", "echo", "stored"):
            self._ctx.cancel_timer((name, b""))

    def on_timer(self, key: TimerKey, now_us: int) -> bool:
        """True if the timer was this machine's."""
        match key[0]:
            case "sweep":
                self._sweep(now_us)
            case "stored":
                self._acknowledge()
            case "echo":
                self._echo_grants()
            case "reconcile":
                self._tick_reconcile(now_us)
            case "replace":
                self._replace(key[1], now_us)
            case _:
                return False
        return True

    def on_peer_gone(self, peer: bytes) -> None:
        """The link ended: what it was told is told again on the next one."""
        self._told.pop(peer, None)
        for pending in self._pending.values():
            pending.followers.pop(peer, None)
        for kept in self.jobs.values():
            kept.subscriptions.remove(peer)
            kept.reconciled.pop(peer, None)

    def _adopt(self, spec: Record, now_us: int) -> KeptJob:
        state = JobState(spec)
        kept = KeptJob(
            state,
            Ledger(state, self._ctx.config.lease_sweep_us),
            Subscriptions(self._ctx, state),
            since_us=now_us,
            adopted_us=now_us,
            pace=Pace(state, self._ctx.config),
        )
        kept.ledger.rebuild(now_us, self._ctx.config.lease_us)
        self.jobs[spec.id] = kept
        self._accounts.touch(state)
        self.open_jobs[spec.id] = None
        self._look_after(now_us)
        return kept

    # -- submission --------------------------------------------------------------------------------------

    def on_submit(self, peer: bytes, message: Submit, now_us: int) -> None:
        try:
            spec = open_record(message.spec)
            replica_set = open_record(message.replica_set)
        except RecordError as error:
            self._ctx.penalise(peer, Reason.MALFORMED)
            self._ctx.send(peer, Rejected(message.request, bytes(32), error.reason))
            return
        reason = self._refusal(peer, spec, replica_set, now_us)
        if not reason and spec.body.secrecy is not None and not self.shares.opens(spec.id, message.share):
            reason = "the share of the key cannot be opened"
        if reason:
            self._ctx.send(peer, Rejected(message.request, spec.id, reason))
            return
        kept = self.jobs.get(spec.id)
        if kept is not None:
            self._merge(kept, replica_set, peer, now_us)
            self.shares.keep(kept, message.share)
            self._ctx.send(peer, Submitted(message.request, spec.id))
            if kept.invited and kept.state.replica_path() == (kept.state.replica_record,):
                # It had the seat from the beginning.
                self._level(kept, now_us)
            return
        self._await_blobs(spec, (replica_set,), peer, message.request, now_us, message.share)

    def _refusal(self, peer: bytes, spec: Record, replica_set: Record, now_us: int) -> str:
        """Why a submission is not taken; empty if it is."""
        if spec.kind is not RecordKind.SPEC or replica_set.kind is not RecordKind.REPLICA_SET:
            return Reason.MALFORMED
        body: JobSpec = spec.body
        if body.mesh_id != self._ctx.policy.mesh.mesh_id:
            return "the job is for another mesh"
        if spec.author != peer or replica_set.author != peer or replica_set.body.job_id != spec.id:
            self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
            return Reason.WRONG_AUTHOR
        if reason := self._submitters.refusal(spec, now_us):
            self._ctx.limit(Limit.ROLE, peer)
            return reason
        if spec.id in self._forgotten:
            return "the job was accepted and forgotten; submit it again with another nonce"
        if not self.keeps_jobs:
            return "this node keeps no jobs: it has no role replica"
        if self.storage_failed:
            return "the node's disk takes no more"
        config = self._ctx.config
        if body.tasks > config.tasks_per_job_max:
            self._ctx.limit(Limit.TASKS_A_JOB, peer)
            return f"{body.tasks} tasks; this node takes at most {config.tasks_per_job_max} a job"
        if len(spec.raw) > config.spec_bytes_max:
            self._ctx.limit(Limit.SPEC_BYTES, peer)
            return f"the job's description has {len(spec.raw)} bytes; at most {config.spec_bytes_max}"
        if spec.id in self.jobs or spec.id in self._pending:
            return ""
        if len(self.jobs) >= config.jobs_max:
            self._ctx.limit(Limit.JOBS, peer)
            return f"this node keeps {len(self.jobs)} jobs already"
        return self._excess(spec, now_us)

    def _excess(self, spec: Record, now_us: int) -> str:
        """Why a job more is over its submitter's quota; empty if it is not."""
        held = self._accounts.of(spec.author)
        for pending in self._pending.values():
            if pending.spec.author == spec.author:
                held += of_new(pending.spec)
        quota = self._submitters.quota(spec, now_us)
        reason = excess(held, spec, quota, self._ctx.config.submitter_jobs_max)
        if reason:
            self._ctx.limit(Limit.QUOTA, spec.author)
        return reason

    def _await_blobs(
        self,
        spec: Record,
        replica_sets: tuple[Record, ...],
        peer: bytes,
        request: int,
        now_us: int,
        share: bytes = b"",
    ) -> None:
        pending = self._pending.get(spec.id)
        if pending is not None:
            pending.answers[peer] = request
            return
        if not has_share(spec.author, (each.spec.author for each in self._pending.values()), PENDING_MAX):
            self._ctx.limit(Limit.SUBMISSIONS, peer)
            self._ctx.send(peer, Rejected(request, spec.id, "too many submissions at once; try again"))
            return
        self._pending[spec.id] = PendingJob(spec, replica_sets, {peer: request}, share)
        digests = spec.body.blob_digests()
        if not digests:
            self.on_blobs_fetched(spec.id, now_us)
            return
        others = [node for node in replica_sets[-1].body.members if node not in (self._ctx.node_id, peer)]
        declared = declared_sizes(spec.body)
        sizes = tuple(declared[digest] for digest in digests)
        self._ctx.emit(FetchBlobs(spec.id, digests, (peer, *others), pin=spec.id, sizes=sizes))

    def on_blobs_fetched(self, token: bytes, now_us: int) -> bool:
        """True if the token was one of this machine's."""
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._keep(pending, now_us)
            return True
        return self._outputs_fetched(token, now_us)

    def on_blobs_failed(self, token: bytes, reason: str) -> bool:
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._ctx.emit(UnpinBlobs(token))
            for peer, request in pending.answers.items():
                self._ctx.send(peer, Rejected(request, pending.spec.id, reason[:REASON_CHARS_MAX]))
            return True
        return self._outputs_failed(token, reason[:REASON_CHARS_MAX])

    def _keep(self, pending: PendingJob, now_us: int) -> None:
        kept = self._adopt(pending.spec, now_us)
        self._persist(pending.spec)
        for replica_set in pending.replica_sets:
            self._merge(kept, replica_set, self._ctx.node_id, now_us)
        self.shares.keep(kept, pending.share)
        self.shares.ask_for_share(kept)
        for peer, request in pending.answers.items():
            if request:
                self._ctx.send(peer, Submitted(request, pending.spec.id))
        kept.level = any(pending.answers.values()) or kept.state.replicas == (self._ctx.node_id,)
        kept.invited = not kept.level
        self._ctx.notify("replica.job-kept", job_id=pending.spec.id, tasks=pending.spec.body.tasks)
        self._after_freeing(kept, now_us)
        for peer, subscribe in pending.followers.items():
            self.on_subscribe(peer, subscribe, now_us)
        self._want(kept.state.submitter, kept, list(pending.taken))
        if not any(pending.answers.values()):
            self._reconcile(kept, now_us)

    # -- records -----------------------------------------------------------------------------------------

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
        if not changed:
            return
        if any(record.kind in _FREEING for record in opened):
            self._after_freeing(kept, now_us)
        else:
            self._after_change(kept, now_us)

    def _on_invitation(self, peer: bytes, job_id: bytes, records: list[Record], now_us: int) -> None:
        spec = next((r for r in records if r.kind is RecordKind.SPEC and r.id == job_id), None)
        if spec is None or spec.body.mesh_id != self._ctx.policy.mesh.mesh_id or job_id in self._forgotten:
            return
        if job_id not in self._pending and (reason := self._declines(spec, now_us)):
            self._ctx.send(peer, Rejected(0, job_id, reason))
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

    def _declines(self, spec: Record, now_us: int) -> str:
        """Why this node takes no seat of a job; empty if it does. Who invites is not who is to blame."""
        if self.storage_failed or not self.keeps_jobs:
            return Reason.DISK_FULL if self.keeps_jobs else Reason.NOT_ADMITTED
        if len(self.jobs) >= self._ctx.config.jobs_max:
            self._ctx.limit(Limit.JOBS, spec.author)
            return Reason.TOO_MANY
        if reason := self._submitters.refusal(spec, now_us):
            self._ctx.limit(Limit.ROLE, spec.author)
            return reason
        return self._excess(spec, now_us)

    def on_reconcile(self, peer: bytes, message: Reconcile, now_us: int) -> None:
        """An unknown job is one whose disk was lost here: ask for it anew. Else as `Upkeep` does."""
        job_id = message.job_id
        if job_id in self.jobs or job_id in self._forgotten or job_id in self._pending:
            super().on_reconcile(peer, message, now_us)
        else:
            self._ctx.send(peer, Want(job_id, (job_id,)))

    # -- results -----------------------------------------------------------------------------------------

    def on_taken(self, peer: bytes, message: Taken, now_us: int) -> None:
        """The submitter asks what is on this disk of what it took; it is told with the next acknowledgments.

        If this node fetches the job's blobs just now, when it has them.
        """
        kept, pending = self.jobs.get(message.job_id), self._pending.get(message.job_id)
        if kept is not None and peer == kept.state.submitter:
            for batch_id in message.batch_ids:
                kept.room.take(kept.state, batch_id)
                self._acknowledge_soon(peer, message.job_id, batch_id, now_us)
            self._acknowledge_all(kept)
        elif pending is not None and peer == pending.spec.author:
            pending.taken.update(dict.fromkeys(message.batch_ids[: UNACKNOWLEDGED_MAX - len(pending.taken)]))
        elif message.job_id in self._forgotten:
            self._say_stored(peer, message.job_id, list(message.batch_ids))

    # -- confidential jobs -------------------------------------------------------------------------------

    def on_secret(self, peer: bytes, message: KeyWanted | ShareGiven | ShareWanted | SharePart, now_us: int) -> None:
        kept = self.jobs.get(message.job_id)
        match message:
            case KeyWanted():
                self.shares.on_wanted(peer, message, kept, now_us)
            case ShareGiven():
                self.shares.on_given(peer, message, kept)
            case ShareWanted():
                self.shares.on_share_wanted(peer, message, kept, now_us)
            case SharePart():
                self.shares.on_share_part(peer, message, kept)

    # -- followers ---------------------------------------------------------------------------------------

    def on_subscribe(self, peer: bytes, message: Subscribe, now_us: int) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is None:
            pending = self._pending.get(message.job_id)
            most = self._ctx.config.subscribers_max
            known = pending is not None and (peer in pending.followers or peer == pending.spec.author)
            if pending is not None and (known or len(pending.followers) < most):
                pending.followers[peer] = message
            else:
                self._ctx.send(peer, Rejected(0, message.job_id, Reason.UNKNOWN_JOB))
            return
        if message.results and not kept.subscriptions.may_ask(peer, now_us):
            self._ctx.limit(Limit.SUBSCRIPTIONS, peer)
            return
        if peer == kept.state.submitter:
            self._tell_own_words(kept, message)
        if not kept.subscriptions.subscribe(peer, message):
            self._ctx.limit(Limit.FOLLOWERS, peer)
            self._ctx.send(peer, Rejected(0, message.job_id, TOO_MANY_FOLLOWERS))
            return
        if not message.results:
            # Who wants results hears of progress with them, and in any case at the next sweep.
            kept.subscriptions.report_to(peer, kept.ledger, kept.elapsed_us(now_us), now_us)
        self._arm_sweep(kept, now_us)

    def _tell_own_words(self, kept: KeptJob, message: Subscribe) -> None:
        """Before results are sent: which of them count. A client that comes back without its state would judge anew
        what it has signed for, and copies of that are run no more. Which copies it asked for: it hears no others. And
        that it wants no more: another process of it may have said so; the folder has to prove it, and a replica's word
        for it is none."""
        lacked: list[bytes] = []
        if message.results:
            have = IntervalSet(*((part.lo, part.hi) for part in message.have))
            lacked = [
                record.raw
                for record in kept.state.acceptances.values()
                if not all(have.covers(part.lo, part.hi) for part in record.body.accepted)
            ]
            over, rechecks = kept.subscriptions.accepted_of(message.have), kept.state.rechecks.values()
            lacked += [record.raw for record in rechecks if not over.covers(record.body.lo, record.body.hi)]
        if kept.state.cancellation is not None:
            lacked.append(kept.state.cancellation.raw)
        for part in in_messages(lacked):
            self._ctx.send(kept.state.submitter, Records(kept.state.job_id, part))

    def on_consumed(self, peer: bytes, message: Consumed) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is not None:
            kept.subscriptions.consumed(peer, message.batch_ids)

    def on_unsubscribe(self, peer: bytes, message: Unsubscribe) -> None:
        kept = self.jobs.get(message.job_id)
        if kept is not None:
            kept.subscriptions.remove(peer)
        elif message.job_id in self._pending:
            self._pending[message.job_id].followers.pop(peer, None)

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
