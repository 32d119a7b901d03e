"""Proofs of fraud: two signed results of one deterministic task that differ, and the task. Who runs it knows who lied.

An accusation needs nothing else: no word of whom it came from, no state of the job, no majority.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...crypto.certificates import Role
from ..batches import TaskProof, check_task, prove_task
from ..records import (
    RECORD_BYTES_MAX,
    Accusation,
    BatchHeader,
    Grant,
    JobSpec,
    Record,
    RecordError,
    RecordKind,
    SignedResult,
    open_record,
)
from .exhibits import Dispute, Exhibit

# What gossip carries, less its envelope.
GOSSIP_BYTES_MAX = 60 * 1024

# Ends that the task brings about and no machine does: out of memory, too much output, out of fuel (docs/abi.md).
_EVIDENT_FAILURES = (-2, -4, -5)

# (certificate, node, role): raises FraudError if the node is not admitted with it.
Admits = Callable[[bytes, bytes, Role], None]
# Exit code and digest of the output.
Truth = tuple[int, bytes]


class FraudError(Exception):
    """An accusation that proves nothing. reason: for the log.  lapsed: as what somebody in it was admitted once, so
    that it may have proved something then, and who tells it is not to blame."""

    def __init__(self, reason: str, *, lapsed: Role | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.lapsed = lapsed


@dataclass(frozen=True, slots=True)
class Charge:
    """A good accusation: one of the two results is wrong, and each is signed by its worker.

    named: who is said to have lied.  other: who is said to be right.  firsts: tasks from which the run goes, up to the
    index, each time in one instance; the results of all are the same, or the task hangs on those before it.
    """

    record: Record
    spec: Record
    index: int
    named: bytes
    other: bytes
    named_result: Truth
    other_result: Truth
    firsts: tuple[int, ...]

    def liars(self, truth: Truth) -> tuple[bytes, ...]:
        """Who lied, given what the task comes to: one of them, or both."""
        said = ((self.named, self.named_result), (self.other, self.other_result))
        return tuple(node for node, result in said if result != truth)


def accusation_of(dispute: Dispute, spec: Record) -> Accusation | None:
    """What the submitter can show to others; None if a run of the task would not decide it, or it is too large."""
    if not is_deterministic(spec.body):
        return None
    index = dispute.index
    wrong, right = _signed(dispute.wrong, index), _signed(dispute.right, index)
    if not (is_evident(wrong.exit_code) and is_evident(right.exit_code)):
        return None
    body = Accusation(spec.id, spec.raw, index, wrong, right)
    return body if len(spec.raw) <= RECORD_BYTES_MAX // 2 else None


def _signed(exhibit: Exhibit, index: int) -> SignedResult:
    proof = prove_task(exhibit.header, exhibit.batch, index)
    return SignedResult(
        proof.header, proof.exit_code, proof.output_digest, proof.stderr_digest, proof.fuel, proof.cpu_us, proof.path
    )


def is_evident(exit_code: int) -> bool:
    """Whether a task ends so on every machine, or on none. Not where it never ran, or where its time ran out, or its
    stack, which is as deep as a processor's frames let it be."""
    return exit_code >= 0 or exit_code in _EVIDENT_FAILURES


def is_deterministic(spec: JobSpec) -> bool:
    """Whether every honest node gets the same bytes, if it runs the task; of a confidential job hardly any can."""
    return spec.runtime == "wasm" and spec.secrecy is None


def check_accusation(record: Record, mesh_id: bytes, admits: Admits) -> Charge:
    """The charge, if the accusation is one that a run of the task decides. Raises FraudError.

    Only a job's own submitter is heard, by the certificate in its spec: whom no authority admitted would have nothing
    to lose, and new names without end.
    """
    body: Accusation = record.body
    try:
        spec = open_record(body.spec)
    except RecordError as error:
        raise FraudError(f"the task: {error.reason}") from error
    if spec.kind is not RecordKind.SPEC or spec.id != body.job_id or spec.body.mesh_id != mesh_id:
        raise FraudError("the task is of another job or mesh")
    if spec.author != record.author:
        raise FraudError("an accuser whose job it is not")
    admits(spec.body.certificate, record.author, Role.SUBMITTER)
    if not is_deterministic(spec.body) or body.index >= spec.body.tasks:
        raise FraudError("not a task that everybody can run")
    named, named_result, named_first = _check_result(body.named, body, admits)
    other, other_result, other_first = _check_result(body.other, body, admits)
    if named == other or named_result == other_result:
        raise FraudError("the two results do not differ, or are of one worker")
    # An instance of a "function" serves a batch, from its first task on, and no other (docs/abi.md).
    shared = (named_first, other_first) if spec.body.abi == "function" else ()
    firsts = tuple(dict.fromkeys((body.index, *shared)))
    return Charge(record, spec, body.index, named, other, named_result, other_result, firsts)


def _check_result(result: SignedResult, body: Accusation, admits: Admits) -> tuple[bytes, Truth, int]:
    """Its author, what it says, and its batch's first task. Raises FraudError."""
    try:
        header = open_record(result.header)
    except RecordError as error:
        raise FraudError(f"a result: {error.reason}") from error
    if header.kind is not RecordKind.BATCH or header.body.job_id != body.job_id:
        raise FraudError("a result of another job")
    signed: BatchHeader = header.body
    proof = TaskProof(
        result.header,
        body.index,
        result.exit_code,
        result.output_digest,
        result.stderr_digest,
        result.fuel,
        result.cpu_us,
        result.path,
    )
    if not check_task(signed, proof):
        raise FraudError("a result that its worker did not sign")
    if not is_evident(result.exit_code):
        raise FraudError("a result that may be another one on another machine")
    if not signed.copy and _goes_on(signed.grant, header.author, body.index):
        # Who began it may have left a wrong checkpoint: the run would not tell which of the two lied.
        raise FraudError("a result that goes on from another node's checkpoint")
    admits(signed.certificate, header.author, Role.WORKER)
    return header.author, (result.exit_code, result.output_digest), signed.first


def _goes_on(raw: bytes, worker: bytes, index: int) -> bool:
    """Whether the grant hands the task on to this worker with what another node had computed of it."""
    if not raw:
        return False
    try:
        record = open_record(raw)
    except RecordError:
        return False
    if record.kind is not RecordKind.GRANT or not record.body.checkpoint:
        return False
    grant: Grant = record.body
    return record.author != worker and grant.holder == worker and grant.lo <= index < grant.hi and bool(grant.parent)
