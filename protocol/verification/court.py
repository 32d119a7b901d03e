"""A node's own judgement on fraud: it hears accusations, runs the task itself, and remembers whom it found lying.

Nobody's word convicts. A node that runs no WebAssembly convicts nobody. Who names a worker that was right is penalised;
the two results differ all the same, so the one that lied is convicted. Who has led to three trials for nothing is not
heard any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ...crypto.certificates import CertificateError, CertificateReason, Role
from ..context import Context
from ..effects import CancelExecution, Execute, FetchBlobs, Persist, Publish, Reason, UnpinBlobs
from ..events import ExecutionFailed, StoredRow, TaskFinished
from ..jobs import JobState
from ..limits import Limit
from ..messages import Accused
from ..outbox import output_pin
from ..records import RECORD_BYTES_MAX, Record, RecordError, RecordKind, open_record, sign_record
from .exhibits import Dispute
from .fraud import GOSSIP_BYTES_MAX, Charge, FraudError, Truth, accusation_of, check_accusation, is_evident

# The accusation that convicted a node, on disk, under the node's id.
CONVICTION_ROW = 113
# Accusations that wait to be tried, in all and of one accuser: each costs a run of a stranger's task.
WAITING_MAX = 64
WAITING_OF_ONE_MAX = 4
CONVICTED_MAX = 4096
FRUITLESS_MAX = 3
# Between two runs a slot works for those who pay for it, as many times as long as the last run took.
REST_TIMES_MAX = 15
# A run that takes longer is stopped, and decides nothing.
RUN_US_MAX = 2 * 3600 * 1_000_000
UNDECIDED_US = 24 * 3600 * 1_000_000
REMEMBERED_MAX = 4096
TOLD_AT_ONCE_MAX = 64
# Trials run under numbers of their own, far above those of the worker's executions.
FIRST_TRIAL = 1 << 40


@dataclass(slots=True)
class Trial:
    """A charge on its way to a verdict. execution_id: while one of its runs goes on, else 0.

    left: runs that are still to come, each from a first task, with canonical NaNs or not.  truth: what all that were
    had in common. Processors have NaNs of their own, and a batch's tasks may hang on those before: a result that hangs
    on either, and only there, is nobody's lie.
    """

    charge: Charge
    left: list[tuple[int, bool]]
    fetched: bool = False
    execution_id: int = 0
    since_us: int = 0
    truth: Truth | None = None


class Court:
    """Sub-machine; `Mesh` routes to it.

    can_run: whether this node runs WebAssembly at all.  sees_nans: whether this processor's NaNs differ from canonical
    ones, so that a result which hangs on them shows.
    """

    def __init__(self, ctx: Context, *, can_run: bool, sees_nans: bool) -> None:
        self._ctx = ctx
        self._can_judge = can_run and sees_nans
        self._trials: dict[bytes, Trial] = {}
        self._heard: dict[bytes, None] = {}
        # Jobs that could not be decided, and pairs of workers that differed over one, with when they are heard again.
        self._undecidable: dict[bytes | tuple[bytes, bytes], int] = {}
        self._fruitless: dict[bytes, int] = {}
        self._fruitless_runs = 0
        self._next_trial = FIRST_TRIAL
        self._rests_until_us = 0
        self._views: dict[bytes, JobState] = {}

    # -- what is known -------------------------------------------------------------------------------------

    def restore(self, row: StoredRow) -> None:
        """A conviction of an earlier life: it was tried then."""
        self._ctx.convicted[row.key] = row.body

    def wants(self, now_us: int) -> bool:
        """Whether a trial has a slot, or is to have the next."""
        if not self._trials:
            return False
        if any(trial.execution_id for trial in self._trials.values()):
            return True
        return now_us >= self._rests_until_us and any(trial.fetched for trial in self._trials.values())

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
        if record.id in self._heard or not self._can_judge:
            return
        if record.author in self._ctx.convicted or self._fruitless.get(record.author, 0) >= FRUITLESS_MAX:
            return
        try:
            charge = check_accusation(
                record,
                self._ctx.policy.mesh.mesh_id,
                lambda certificate, node, role: self._admit(certificate, node, role, now_us),
            )
        except FraudError as error:
            self._ctx.notify("fraud.unproven", accuser=record.author, reason=error.reason)
            # Whose own admission has lapsed may sign without end and has nothing to lose: it pushes out nothing that is
            # remembered. Others who tell it may not have heard of the lapse.
            if error.lapsed is not Role.SUBMITTER:
                self._remember(record.id)
            if error.lapsed is None or (error.lapsed is Role.SUBMITTER and peer == record.author):
                self._ctx.penalise(peer, Reason.BAD_PROOF)
            return
        self._remember(record.id)
        if charge.named in self._ctx.convicted:
            return
        if any(now_us < self._undecidable.get(doubt, 0) for doubt in _doubts(charge)):
            return
        of_one = sum(trial.charge.record.author == record.author for trial in self._trials.values())
        if len(self._trials) >= WAITING_MAX or of_one >= WAITING_OF_ONE_MAX:
            self._ctx.limit(Limit.ACCUSATIONS, peer)
            return
        self._trials[record.id] = Trial(charge, [(first, nans) for nans in (False, True) for first in charge.firsts])
        self._views[charge.spec.id] = JobState(charge.spec)
        sources = dict.fromkeys((peer, record.author, charge.other, charge.named))
        digests = charge.spec.body.blob_digests()
        self._ctx.emit(FetchBlobs(record.id, digests, tuple(sources), pin=record.id))

    def _admit(self, certificate: bytes, node: bytes, role: Role, now_us: int) -> None:
        """Raises FraudError. A convicted node is revoked sooner or later: who tells of it then did nothing wrong."""
        try:
            self._ctx.check(certificate, node, role, now_us)
        except CertificateError as error:
            has_lapsed = error.reason in (CertificateReason.EXPIRED, CertificateReason.REVOKED)
            lapsed = role if has_lapsed else None
            raise FraudError(f"somebody who is no {str(role.name).lower()} here", lapsed=lapsed) from error

    def _remember(self, key: bytes) -> None:
        self._heard[key] = None
        _forget_oldest(self._heard)

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

    def pump(self, free_slots: int, now_us: int) -> None:
        """Begin a run, as far as the room wants heat: a trial is work like any other, one at a time, with rests."""
        running = next(((key, trial) for key, trial in self._trials.items() if trial.execution_id), None)
        if running is not None:
            key, trial = running
            if now_us - trial.since_us > RUN_US_MAX:
                self._ctx.emit(CancelExecution(trial.execution_id))
                self._rest(trial, now_us)
                self._undecided(key, now_us)
            return
        if free_slots <= 0 or now_us < self._rests_until_us:
            return
        waiting = next((trial for trial in self._trials.values() if trial.fetched), None)
        if waiting is not None:
            self._begin(waiting, now_us)

    def _begin(self, trial: Trial, now_us: int) -> None:
        self._next_trial += 1
        trial.execution_id, trial.since_us = self._next_trial, now_us
        first, canonical = trial.left[0]
        spec, count = trial.charge.spec, trial.charge.index + 1 - first
        self._ctx.emit(Execute(trial.execution_id, spec.id, first, count, 0, canonical_nans=canonical))

    def on_ended(self, event: TaskFinished | ExecutionFailed, now_us: int) -> bool:
        """True if it was a trial's run: judge."""
        if event.execution_id <= FIRST_TRIAL:
            return False
        self._ctx.emit(UnpinBlobs(output_pin(event.execution_id)))
        found = next((key for key, t in self._trials.items() if t.execution_id == event.execution_id), None)
        if found is None:
            return True
        trial = self._trials[found]
        self._rest(trial, now_us)
        first, _ = trial.left.pop(0)
        truth = _truth_of(event, trial.charge.index - first)
        if truth is None:
            # It may go better another time, but each costs a run.
            self._drop(found)
            self._heard.pop(found, None)
            self._note_fruitless(trial.charge.record.author)
        elif not is_evident(truth[0]) or trial.truth not in (None, truth):
            self._undecided(found, now_us)
        elif trial.left:
            trial.truth = truth
        else:
            self._drop(found)
            self._judge(trial.charge, truth)
        return True

    def _rest(self, trial: Trial, now_us: int) -> None:
        """The more has been tried for nothing, the longer."""
        times = min(1 + self._fruitless_runs, REST_TIMES_MAX)
        self._rests_until_us = now_us + times * (now_us - trial.since_us)
        trial.execution_id = 0

    def _undecided(self, token: bytes, now_us: int) -> None:
        """Whoever brought it may be honest, and is not penalised; but neither job nor pair is tried for a day."""
        charge = self._trials[token].charge
        self._ctx.notify("fraud.undecided", accuser=charge.record.author, job_id=charge.spec.id, index=charge.index)
        self._note_fruitless(charge.record.author)
        doubts = _doubts(charge)
        self._undecidable.update(dict.fromkeys(doubts, now_us + UNDECIDED_US))
        _forget_oldest(self._undecidable)
        for key, trial in list(self._trials.items()):
            if not trial.execution_id and not doubts.isdisjoint(_doubts(trial.charge)):
                self._drop(key)

    def _note_fruitless(self, accuser: bytes) -> None:
        self._fruitless_runs += 1
        self._fruitless[accuser] = self._fruitless.get(accuser, 0) + 1
        _forget_oldest(self._fruitless)

    def _judge(self, charge: Charge, truth: Truth) -> None:
        liars = charge.liars(truth)
        for node in liars:
            self._convict(node, charge)
        if charge.named in liars:
            self._fruitless_runs = 0
        else:
            # The one whom it accused was right. It may have been deceived itself, so it is not convicted; but each time
            # costs everybody a run, and it has few.
            accuser = charge.record.author
            self._note_fruitless(accuser)
            self._ctx.notify("fraud.misnamed", accuser=accuser, named=charge.named)
            self._ctx.penalise(accuser, Reason.BAD_PROOF)

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


def _truth_of(event: TaskFinished | ExecutionFailed, offset: int) -> Truth | None:
    """What the task at the offset came to; None if it was not run to its end."""
    if isinstance(event, ExecutionFailed):
        return (event.exit_code, sha256(b"").digest()) if event.permanent else None
    if len(event.exits) <= offset:
        return None
    external = event.externals.get(offset)
    return event.exits[offset], external[0] if external else sha256(event.outputs[offset]).digest()


def _doubts(charge: Charge) -> set[bytes | tuple[bytes, bytes]]:
    """The job and the pair of workers."""
    low, high = sorted((charge.named, charge.other))
    return {charge.spec.id, (low, high)}


def _forget_oldest(known: dict[Any, Any]) -> None:
    while len(known) > REMEMBERED_MAX:
        del known[next(iter(known))]
