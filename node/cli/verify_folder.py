"""A third party's check of a folder of results, from its files alone: no network, no key, no trust in who kept it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from ...crypto.bounded import DecodeError
from ...crypto.certificates import Certificate, CertificateError, Role
from ...crypto.identity import peer_id_text
from ...crypto.mesh import MeshDefinition
from ...protocol.batches import Batch, BatchError, check_batch
from ...protocol.intervals import IntervalMap
from ...protocol.job_parts import RejectedRecord
from ...protocol.jobs import JobState
from ...protocol.records import JobSpec, Record, RecordError, RecordKind, open_record
from ...protocol.secrecy.results import OpenedBatch, is_key_of, open_batch
from ...protocol.verification.comparators import EXACT, Comparator, Undecided, parse_comparator
from ...protocol.verification.exhibits import Exhibit
from ...protocol.verification.judging import unknown_rules
from ...protocol.verification.lanes import numbers_of
from ...protocol.verification.policy import NO_CHECKS, Policy, PolicyKind, parse_policy
from ...protocol.verification.verdict import Vote, decide
from ..comparing import Comparing
from ..execution.outcome import ExecutionError
from .errors import UserError
from .proof_files import DamagedRecords, comparator_path, mesh_path, read_records, records_path
from .results_folder import output_digest, read_lines, stderr_of, torn_line

# What is written beside results; anything else in the folder belongs to nobody.
KEY_FILE_BYTES_MAX = 64
_OWN_FILES = ("job.json", "results.jsonl", "proofs")


@dataclass(frozen=True, slots=True)
class Fault:
    """file: relative to the folder.  unfinished: what a run of `hearth results` that was interrupted leaves, too."""

    file: str
    reason: str
    unfinished: bool = False


@dataclass(slots=True)
class WorkerReceipt:
    """What one worker's accepted results cost, by its own signature: microseconds, millijoules, millionths."""

    tasks: int = 0
    cpu_us: int = 0
    energy_mj: int = 0
    useful_mj: int = 0
    cost_micro: int = 0


@dataclass(slots=True)
class Report:
    """What was found. compared: tasks of which another worker's result says the same.
    failed: results that are exit codes other than 0, which may be proved like any.
    cancelled: the submitter signed that it wants no more.  unaccepted: good results that it has not signed for; of a
    cancelled job they are no fault, since nobody will sign for them any more, and they count for nothing."""

    job: str = ""
    name: str = ""
    mesh: str = ""
    submitter: str = ""
    policy: str = ""
    confidential: bool = False
    tasks: int = 0
    results: int = 0
    failed: int = 0
    accepted: int = 0
    unaccepted: int = 0
    compared: int = 0
    cancelled: bool = False
    receipts: dict[str, WorkerReceipt] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def forged(self) -> list[Fault]:
        """What no interrupted run leaves: forged, edited, missing."""
        return [fault for fault in self.faults if not fault.unfinished]

    @property
    def is_incomplete(self) -> bool:
        """Whether `hearth results` would mend all that is wrong: nothing looks forged."""
        return bool(self.faults) and not self.forged


def verify_folder(root: Path) -> Report:
    """Check everything that a folder of results says. Raises UserError if it is none, or cannot be read.

    A comparator of the job's own is run in its sandbox, as the submitter ran it, and the folder looked at again.
    """
    comparators: dict[tuple[str, str], Comparator] = {}
    try:
        while True:
            check = _Check(root, comparators)
            report = check.run()
            if not any(comparator.questions for comparator in comparators.values()):
                return report
            for comparator in comparators.values():
                _answer(root, comparator)
    except OSError as error:
        raise UserError(f"{error.filename or root}: {error.strerror}") from error


def _answer(root: Path, comparator: Comparator) -> None:
    """Run the module on the pairs that wait. Raises UserError if it is not there, or cannot be run."""
    path, questions = comparator_path(root), dict(comparator.questions)

    async def run(cache: Path) -> list[bool]:
        comparing = Comparing(cache, path.parent)
        try:
            return await comparing.compare(path, comparator.module, list(questions.values()))
        finally:
            with trio.CancelScope(shield=True):
                await comparing.aclose()

    try:
        with TemporaryDirectory() as cache:
            answers = trio.run(run, Path(cache))
    except ExecutionError as error:
        raise UserError(f"{path}: the job's comparator cannot be run: {error}") from error
    for pair, same in zip(questions, answers, strict=True):
        comparator.learn(pair, same)


class _Check:
    def __init__(self, root: Path, comparators: dict[tuple[str, str], Comparator]) -> None:
        """comparators: by their texts; those that are modules remember what they said."""
        self._root = root
        self._comparators = comparators
        self._report = Report()
        self._exhibits: dict[str, Exhibit] = {}
        self._by_task: IntervalMap[tuple[str, ...]] = IntervalMap()
        self._names: dict[bytes, str] = {}
        self._state: JobState | None = None
        self._mesh: MeshDefinition | None = None

    def _fault(self, file: str, reason: str, *, unfinished: bool = False) -> None:
        self._report.faults.append(Fault(file, reason, unfinished))

    def run(self) -> Report:
        claimed = self._claimed_job()
        state = self._read_records(claimed)
        if state is None:
            return self._report
        self._state = state
        self._report.submitter = peer_id_text(state.submitter)
        self._read_mesh(state.spec)
        self._read_batches()
        self._check_results()
        self._find_strangers()
        return self._report

    @property
    def _spec(self) -> JobSpec:
        assert self._state is not None
        return self._state.spec

    # -- who and what --------------------------------------------------------------------------------------

    def _claimed_job(self) -> bytes:
        path = self._root / "job.json"
        if not self._root.is_dir():
            raise UserError(f"{self._root}: no such folder; name one that hearth results has filled")
        try:
            held = json.loads(path.read_bytes())
            job_id = bytes.fromhex(held["job"])
        except FileNotFoundError:
            raise UserError(f"{self._root}: holds no results; name a folder that hearth results has filled") from None
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{path}: damaged; the folder's results cannot be told from others") from None
        self._report.job, self._report.name = job_id.hex(), str(held.get("name", ""))
        return job_id

    def _read_records(self, job_id: bytes) -> JobState | None:
        """The job's state, made of the records whose signatures are good; None without a spec."""
        file = str(records_path(self._root).relative_to(self._root))
        try:
            raws = read_records(self._root)
        except DamagedRecords as error:
            self._fault(file, str(error))
            return None
        records: list[Record] = []
        for number, raw in enumerate(raws):
            try:
                records.append(open_record(raw))
            except RecordError as error:
                self._fault(file, f"record {number}: {error}")
        spec = next((r for r in records if r.kind is RecordKind.SPEC and r.id == job_id), None)
        if spec is None:
            self._fault(file, f"the signed description of job {job_id.hex()[:16]} is not in it")
            return None
        state = JobState(spec)
        for number, record in enumerate(records):
            try:
                state.merge(record)
            except RejectedRecord as error:
                self._fault(file, f"record {number}, {record.kind.name.lower()}: {error.reason}")
        report = self._report
        report.tasks, report.policy = state.spec.tasks, state.spec.verification
        report.confidential = state.spec.secrecy is not None
        report.cancelled = state.cancellation is not None
        if not report.confidential:
            report.name = state.spec.name
        return state

    def _read_mesh(self, spec: JobSpec) -> None:
        path = mesh_path(self._root)
        file = str(path.relative_to(self._root))
        try:
            mesh = MeshDefinition.from_bytes(path.read_bytes())
        except FileNotFoundError:
            self._fault(file, "is missing: nobody can tell who admitted the workers")
            return
        except DecodeError as error:
            self._fault(file, f"is no mesh definition: {error.reason}")
            return
        if mesh.mesh_id != spec.mesh_id:
            self._fault(file, "is another mesh than the one that the job was submitted to")
            return
        self._mesh, self._report.mesh = mesh, mesh.name

    # -- batches -------------------------------------------------------------------------------------------

    def _read_batches(self) -> None:
        for path in sorted((self._root / "proofs").glob("*.header")):
            problem, where = "", path
            try:
                self._read_batch(path)
            except RecordError as error:
                problem = f"nobody signed this: {error}"
            except (CertificateError, DecodeError, RejectedRecord) as error:
                problem = str(error)
            except BatchError as error:
                problem, where = str(error), path.with_suffix(".columns")
            except FileNotFoundError:
                problem, where = "is missing", path.with_suffix(".columns")
            if problem:
                self._fault(str(where.relative_to(self._root)), problem)

    def _read_batch(self, path: Path) -> None:
        assert self._state is not None
        header = open_record(path.read_bytes())
        if header.kind is not RecordKind.BATCH:
            raise RejectedRecord("is no header of results")
        name = header.id.hex()
        if name != path.stem:
            raise RejectedRecord(f"is the header of batch {name}")
        self._check_worker(header)
        columns = path.with_suffix(".columns").read_bytes()
        batch = check_batch(header.body, columns)
        if header.body.copy:
            self._check_grant(header)
        self._state.merge(header)
        exhibit = Exhibit(header, batch, columns, b"", self._opened(path, header, batch))
        self._exhibits[name], self._names[header.id] = exhibit, name
        lo, hi = batch.first, batch.first + len(batch)
        self._by_task.update(lo, hi, lambda known: (*(known or ()), name))

    def _opened(self, path: Path, header: Record, batch: Batch) -> OpenedBatch | None:
        """Of a confidential job, with the key beside it, which has to be the one that the worker signed for."""
        if self._spec.secrecy is None:
            return None
        file = path.with_suffix(".key")
        try:
            with file.open("rb") as source:
                key = source.read(KEY_FILE_BYTES_MAX)
        except FileNotFoundError:
            key = b""
        if not is_key_of(header, key):
            name = str(file.relative_to(self._root))
            self._fault(name, "is another key than the worker signed for" if key else "is missing")
            key = b""
        return open_batch(header, batch, key)

    def _check_worker(self, header: Record) -> None:
        """Raises CertificateError. Whether it was revoked, and when it signed, no file can tell."""
        certificate = Certificate.from_bytes(header.body.certificate)
        if certificate.subject != header.author:
            raise RejectedRecord("its certificate is another node's")
        if self._mesh is not None and certificate.issuer not in self._mesh.authorities:
            raise RejectedRecord("its worker was admitted by no authority of the mesh")
        if not certificate.has_valid_signature() or certificate.mesh_id != self._spec.mesh_id:
            raise RejectedRecord("its worker's certificate is forged, or of another mesh")
        if not certificate.roles & Role.WORKER:
            raise RejectedRecord("its author was not admitted as a worker")

    def _check_grant(self, header: Record) -> None:
        """A copy counts if a replica granted it to its worker."""
        assert self._state is not None
        grant = open_record(header.body.grant)
        if grant.kind is not RecordKind.GRANT or grant.body.holder != header.author:
            raise RejectedRecord("a copy that was not granted to its worker")
        self._state.check_grant(grant)
        first = header.body.first
        lo, hi = numbers_of(first, first + header.body.count, header.body.copy, self._spec.tasks)
        if not grant.body.lo <= lo < hi <= grant.body.hi:
            raise RejectedRecord("a copy of other tasks than were granted")

    # -- results -------------------------------------------------------------------------------------------

    def _check_results(self) -> None:
        lines, damaged = read_lines(self._root)
        torn = torn_line(self._root)
        for number in damaged:
            self._fault("results.jsonl", f"line {number} is no result", unfinished=number == torn)
        counted: dict[str, int] = {}
        for index, line in sorted(lines.items()):
            if index >= self._spec.tasks:
                self._fault("results.jsonl", f"task {index}: the job has {self._spec.tasks} tasks")
                continue
            self._report.results += 1
            self._report.failed += line.get("exit") != 0
            exhibit = self._exhibits.get(str(line.get("batch")))
            if exhibit is None:
                self._fault("results.jsonl", f"task {index}: its batch {line.get('batch')} has no good proof")
            elif self._check_result(index, line, exhibit):
                counted[exhibit.header.id.hex()] = counted.get(exhibit.header.id.hex(), 0) + 1
        for batch_id, tasks in counted.items():
            self._count(self._exhibits[batch_id].header, tasks)

    def _count(self, header: Record, tasks: int) -> None:
        body = header.body
        receipt = self._report.receipts.setdefault(peer_id_text(header.author), WorkerReceipt())
        receipt.tasks += tasks
        receipt.cpu_us += body.cpu_us * tasks // body.count
        receipt.energy_mj += body.energy_mj * tasks // body.count
        receipt.useful_mj += body.useful_mj * tasks // body.count
        receipt.cost_micro += body.cost_micro(self._spec.price_limit_micro) * tasks // body.count

    def _check_result(self, index: int, line: dict[str, Any], exhibit: Exhibit) -> bool:
        batch, offset = exhibit.batch, index - exhibit.batch.first
        if not 0 <= offset < len(batch):
            self._fault("results.jsonl", f"task {index}: is not in batch {line['batch']}")
            return False
        before = len(self._report.faults)
        for reason in _differences(line, exhibit, offset):
            self._fault("results.jsonl", f"task {index}: {reason}")
        vote = exhibit.vote(index)
        file, found = output_digest(self._root, index, line, self._spec)
        if found != vote.digest.hex():
            self._fault(file, "is not what the worker signed" if found else "is missing")
        file, text = stderr_of(self._root, index, self._spec)
        stderrs = batch.stderrs if exhibit.opened is None else exhibit.opened.stderrs
        if text != stderrs.get(offset, b""):
            self._fault(file, "is not what the worker signed")
        counts = self._check_acceptance(index, exhibit)
        if counts:
            self._check_policy(index, vote)
        return counts and len(self._report.faults) == before

    def _check_acceptance(self, index: int, exhibit: Exhibit) -> bool:
        """Whether the result is to be held against the job's rules: a cancelled job's leftovers are not."""
        assert self._state is not None
        accepted = self._state.accepted.get(index)
        if accepted == exhibit.header.id:
            self._report.accepted += 1
        elif accepted is None:
            self._report.unaccepted += 1
            if self._report.cancelled:
                return False
            self._fault("proofs/records", f"task {index}: the submitter has not accepted it", unfinished=True)
        else:
            self._fault("proofs/records", f"task {index}: the submitter accepted batch {accepted.hex()[:16]}")
        return True

    def _check_policy(self, index: int, vote: Vote) -> None:
        """The votes that are here, judged anew by the job's own rules."""
        known = not unknown_rules(self._spec)
        policy: Policy = parse_policy(self._spec.verification) if known else NO_CHECKS
        rule = self._spec.abi, self._spec.comparator
        if known and rule not in self._comparators:
            self._comparators[rule] = parse_comparator(rule[1], parts=rule[0] == "command")
        same = (self._comparators[rule] if known else EXACT).same
        votes = [self._exhibits[name].vote(index) for name in self._by_task.get(index) or ()]
        try:
            verdict = decide(votes, 2 if policy.kind is not PolicyKind.QUORUM else policy.quorum, same)
            won = verdict.winner is not None and same(verdict.winner, vote)
        except Undecided:
            return
        self._report.compared += won
        if policy.kind is PolicyKind.QUORUM and not won:
            self._fault("proofs", f"task {index}: {policy} asks for {policy.quorum} workers that agree, not so many do")
        elif not won and len({each.node for each in votes}) > 1 and policy.kind is not PolicyKind.NONE:
            self._fault("proofs", f"task {index}: the workers' results differ, and no majority is for this one")

    # -- what else is there --------------------------------------------------------------------------------

    def _find_strangers(self) -> None:
        lines, _ = read_lines(self._root)
        width = len(str(self._spec.tasks - 1))
        wanted = {f"{index:0{width}d}" for index in lines}
        places = {f"{index:0{width}d}" for index in range(self._spec.tasks)}
        for path in sorted(self._root.iterdir()):
            if path.name in _OWN_FILES or path.name.startswith("."):
                continue
            task = path.name.removesuffix(".out").removesuffix(".err")
            if task not in wanted:
                # Files come before their line.
                self._fault(path.name, "belongs to no result", unfinished=task in places)


def _differences(line: dict[str, Any], exhibit: Exhibit, offset: int) -> Iterator[str]:
    """What the journal's line says other than the worker signed."""
    batch = exhibit.batch
    digest, size = _signed_output(exhibit, offset)
    signed = {
        "exit": batch.exits[offset],
        "worker": peer_id_text(exhibit.header.author),
        "sha256": digest.hex(),
        "size_bytes": size,
        "fuel": batch.fuels[offset],
        "cpu_us": batch.cpu_us[offset],
    }
    for key, value in signed.items():
        if line.get(key) != value:
            yield f"{key} is {line.get(key)}, and the worker signed {value}"


def _signed_output(exhibit: Exhibit, offset: int) -> tuple[bytes, int]:
    """(digest, size) of an output, in the clear where it is confidential; nothing of one that cannot be opened."""
    batch, opened = exhibit.batch, exhibit.opened
    if opened is None:
        external = batch.externals.get(offset)
        return external or (sha256(batch.outputs[offset]).digest(), len(batch.outputs[offset]))
    if offset in opened.marks:
        return opened.marks[offset].digest, opened.marks[offset].size_bytes
    output = opened.outputs[offset]
    return (sha256(output).digest(), len(output)) if output is not None else (b"", 0)
