"""A node's own judgement on fraud: it hears accusations, runs the task itself, and remembers whom it found lying.

Nobody's word convicts. A node that runs no WebAssembly convicts nobody. Who names a worker that was right is penalised,
and after three times not heard any more; the two results differ all the same, so the one that lied is convicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from ...crypto.certificates import Role
from ..context import Context
from ..effects import Execute, FetchBlobs, Persist, Publish, Reason, UnpinBlobs
from ..events import ExecutionFailed, StoredRow, TaskFinished
from ..jobs import JobState
from ..limits import Limit
from ..messages import Accused
from ..records import RECORD_BYTES_MAX, Record, RecordError, RecordKind, open_record, sign_record
from .fraud import GOSSIP_BYTES_MAX, Charge, FraudError, Truth, accusation_of, check_accusation, is_evident
from .referee import Dispute

# The accusation that convicted a node, on disk, under the node's id.
CONVICTION_ROW = 113
# Accusations that wait to be tried, in all and of one accuser: each costs a run of a stranger's task.
WAITING_MAX = 64
WAITING_OF_ONE_MAX = 4
CONVICTED_MAX = 4096
MISNAMED_MAX = 3
REMEMBERED_MAX = 4096
TOLD_AT_ONCE_MAX = 64
# Trials run under numbers of their own, far above those of the worker's executions.
FIRST_TRIAL = 1 << 40


@dataclass(slots=True)
class Trial:
    """A charge on its way to a verdict. execution_id: while its task runs, else 0.  truth: what it came to at first.

    It runs twice, the second time with the same bits for each NaN that is computed: processors have their own, so a
    result that hangs on them, and only there, is nobody's lie.
    """

    charge: Charge
    fetched: bool = False
    execution_id: int = 0
    truth: Truth | None = None


class Court:
    """Sub-machine; `Mesh` routes to it. can_run: whether this node runs WebAssembly at all."""

    def __init__(self, ctx: Context, *, can_run: bool) -> None:
        self._ctx = ctx
        self._can_run = can_run
        self._trials: dict[bytes, Trial] = {}
        self._heard: dict[bytes, None] = {}
        self._misnamed: dict[bytes, int] = {}
        self._next_trial = FIRST_TRIAL
        self._views: dict[bytes, JobState] = {}

    # -- what is known -------------------------------------------------------------------------------------

    def restore(self, row: StoredRow) -> None:
        """A conviction of an earlier life: it was tried then."""
        self._ctx.convicted[row.key] = row.body

    @property
    def wanting(self) -> bool:
        """Whether a trial waits for a slot, or has one."""
        return bool(self._trials) and any(trial.fetched for trial in self._trials.values())

    def view(self, job_id: bytes) -> JobState | None:
        """The job of a trial, for whoever runs its task."""
        return self._views.get(job_id)

    def tell(self, peer: bytes) -> None:
        """A new neighbour: it tries for itself what convicted others here."""
        for raw in list(self._ctx.convicted.values())[-TOLD_AT_ONCE_MAX:]:
            self._ctx.send(peer, Accused(raw))

    # -- accusing ------------------------------------------------------------------------------------------

    def accuse(self, dispute: Dispute, spec: Record, replicas: tuple[bytes, ...]) -> None:
        """Tell the mesh what this submitter found: by gossip, or where it is too long for that, the job's replicas."""
        named = dispute.wrong.header.author
        body = accusation_of(dispute, spec)
        if body is None or named in self._heard:
            return
        self._remember(named)
        record = sign_record(self._ctx.identity, RecordKind.ACCUSATION, body)
        if len(record.raw) > RECORD_BYTES_MAX:
            return
        self._ctx.notify("fraud.accused", node=named, job_id=spec.id, index=dispute.index)
        if len(record.raw) <= GOSSIP_BYTES_MAX:
            self._ctx.emit(Publish(Accused(record.raw)))
        for node in replicas:
            self._ctx.send(node, Accused(record.raw))

    # -- hearing -------------------------------------------------------------------------------------------

    def hear(self, peer: bytes, message: Accused, now_us: int) -> None:
        """Check an accusation; if a run of its task would decide it, and is news, put it on the list."""
        try:
            record = open_record(message.accusation)
        except RecordError:
            self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
            return
        if record.kind is not RecordKind.ACCUSATION:
            self._ctx.penalise(peer, Reason.MALFORMED)
            return
        if record.id in self._heard or not self._can_run:
            return
        if record.author in self._ctx.convicted or self._misnamed.get(record.author, 0) >= MISNAMED_MAX:
            return
        self._remember(record.id)
        try:
            charge = check_accusation(
                record,
                self._ctx.policy.mesh.mesh_id,
                lambda certificate, node: self._ctx.admitted(certificate, node, Role.WORKER, now_us),
            )
        except FraudError as error:
            self._ctx.notify("fraud.unproven", accuser=record.author, reason=error.reason)
            self._ctx.penalise(peer, Reason.BAD_PROOF)
            return
        if charge.named in self._ctx.convicted:
            return
        of_one = sum(trial.charge.record.author == record.author for trial in self._trials.values())
        if len(self._trials) >= WAITING_MAX or of_one >= WAITING_OF_ONE_MAX:
            self._ctx.limit(Limit.ACCUSATIONS, peer)
            return
        self._trials[record.id] = Trial(charge)
        self._views[charge.spec.id] = JobState(charge.spec)
        sources = dict.fromkeys((peer, record.author, charge.other, charge.named))
        digests = charge.spec.body.blob_digests()
        self._ctx.emit(FetchBlobs(record.id, digests, tuple(sources), pin=record.id))

    def _remember(self, key: bytes) -> None:
        self._heard[key] = None
        while len(self._heard) > REMEMBERED_MAX:
            del self._heard[next(iter(self._heard))]

    # -- trying --------------------------------------------------------------------------------------------

    def on_blobs_fetched(self, token: bytes) -> bool:
        """True if it was for a trial."""
        trial = self._trials.get(token)
        if trial is not None:
            trial.fetched = True
        return trial is not None

    def on_blobs_failed(self, token: bytes) -> bool:
        """What cannot be had cannot be tried: it is heard again when somebody says it again."""
        if token not in self._trials:
            return False
        self._drop(token)
        self._heard.pop(token, None)
        return True

    def pump(self, free_slots: int) -> None:
        """Run what waits, as far as the room wants heat: a trial is work like any other."""
        running = sum(trial.execution_id > 0 for trial in self._trials.values())
        for trial in self._trials.values():
            if running >= free_slots:
                return
            if trial.fetched and not trial.execution_id:
                self._next_trial += 1
                trial.execution_id = self._next_trial
                running += 1
                again = trial.truth is not None
                spec, index = trial.charge.spec, trial.charge.index
                self._ctx.emit(Execute(trial.execution_id, spec.id, index, 1, 0, canonical_nans=again))

    def on_ended(self, event: TaskFinished | ExecutionFailed) -> bool:
        """True if it was a trial's run: judge."""
        found = next((key for key, t in self._trials.items() if t.execution_id == event.execution_id), None)
        if event.execution_id <= FIRST_TRIAL:
            return False
        if found is None:
            return True
        trial = self._trials[found]
        truth = _truth_of(event)
        if truth is not None and trial.truth is None and is_evident(truth[0]):
            trial.truth, trial.execution_id = truth, 0
            return True
        self._drop(found)
        if truth is None:
            self._heard.pop(found, None)
        elif truth != trial.truth:
            charge = trial.charge
            self._ctx.notify("fraud.undecided", accuser=charge.record.author, job_id=charge.spec.id, index=charge.index)
        else:
            self._judge(trial.charge, truth)
        return True

    def _judge(self, charge: Charge, truth: Truth) -> None:
        liars = charge.liars(truth)
        for node in liars:
            self._convict(node, charge)
        if charge.named not in liars:
            # The one whom it accused was right. It may have been deceived itself, so it is not convicted; but each time
            # costs everybody a run, and it has few.
            accuser = charge.record.author
            self._misnamed[accuser] = self._misnamed.get(accuser, 0) + 1
            self._ctx.notify("fraud.misnamed", accuser=accuser, named=charge.named)
            self._ctx.penalise(accuser, Reason.BAD_PROOF)
            while len(self._misnamed) > REMEMBERED_MAX:
                del self._misnamed[next(iter(self._misnamed))]

    def _convict(self, node: bytes, charge: Charge) -> None:
        if node in self._ctx.convicted or len(self._ctx.convicted) >= CONVICTED_MAX:
            return
        self._ctx.convicted[node] = charge.record.raw
        self._ctx.emit(Persist(b"", CONVICTION_ROW, node, charge.record.raw))
        self._ctx.notify(
            "fraud.convicted",
            node=node,
            job_id=charge.spec.id,
            index=charge.index,
            accuser=charge.record.author,
        )

    def _drop(self, token: bytes) -> None:
        trial = self._trials.pop(token)
        job_id = trial.charge.spec.id
        if not any(other.charge.spec.id == job_id for other in self._trials.values()):
            self._views.pop(job_id, None)
        self._ctx.emit(UnpinBlobs(token))


def _truth_of(event: TaskFinished | ExecutionFailed) -> Truth | None:
    """None if the task was not run to its end."""
    if isinstance(event, ExecutionFailed):
        return (event.exit_code, sha256(b"").digest()) if event.permanent else None
    if not event.exits:
        return None
    external = event.externals.get(0)
    return event.exits[0], external[0] if external else sha256(event.outputs[0]).digest()
