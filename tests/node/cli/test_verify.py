"""`hearth verify`: a folder proves itself, and whatever was edited is named with its file and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from wasmtime import wat2wasm

from hearthmesh.crypto.certificates import Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.mesh import MeshDefinition
from hearthmesh.node.cli.app import run
from hearthmesh.node.cli.errors import UserError
from hearthmesh.node.cli.results_folder import ResultsFolder
from hearthmesh.node.cli.verify_folder import Fault, verify_folder
from hearthmesh.node.client import Result
from hearthmesh.node.client.job import VerifiedBatch
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import (
    BatchHeader,
    Cancellation,
    Grant,
    JobSpec,
    Recheck,
    Record,
    RecordKind,
    ReplicaSet,
    Secrecy,
    open_record,
    sign_record,
)
from hearthmesh.protocol.secrecy.results import BatchSealer, batch_key, open_batch
from hearthmesh.protocol.verification.deposition import deposition
from tests.node.test_comparing import FIRST_BYTE

AUTHORITY, KEEPER, OWNER, ONE, OTHER = (Identity.from_seed(bytes([n]) * 32) for n in range(1, 6))
MESH = MeshDefinition("street", (AUTHORITY.node_id,))
OUTPUTS = (b"zero", b"one", b"two")


def certificate(worker: Identity, authority: Identity = AUTHORITY, roles: Role = Role.WORKER) -> bytes:
    mesh = MESH if authority is AUTHORITY else MeshDefinition("street", (authority.node_id,))
    return issue(authority, mesh, worker.node_id, roles, 0, 1 << 33, "w", bytes(16)).to_bytes()


class Job:
    """A finished job of three tasks, run by one worker and once more by another."""

    def __init__(
        self,
        policy: str = "quorum(2)",
        second: tuple[bytes, ...] = OUTPUTS,
        comparator: str = "exact",
        secrecy: Secrecy | None = None,
    ) -> None:
        body = JobSpec(
            1,
            MESH.mesh_id,
            b"",
            "job",
            "wasm",
            "function",
            bytes(32),
            8,
            "",
            "f",
            (),
            3,
            verification=policy,
            comparator=comparator,
            secrecy=secrecy,
        )
        self.state = JobState(sign_record(OWNER, RecordKind.SPEC, body))
        job_id = self.state.job_id
        self.state.merge(sign_record(OWNER, RecordKind.REPLICA_SET, ReplicaSet(job_id, 0, (KEEPER.node_id,))))
        self.state.merge(sign_record(OWNER, RecordKind.RECHECK, Recheck(job_id, 0, 3, 1, bytes(16), (ONE.node_id,))))
        grant = sign_record(KEEPER, RecordKind.GRANT, Grant(job_id, 3, 6, 1, OTHER.node_id, 1))
        self.first = self.batch(ONE, OUTPUTS)
        self.second = self.batch(OTHER, second, copy=1, grant=grant.raw)

    def batch(
        self, worker: Identity, outputs: tuple[bytes, ...], copy: int = 0, grant: bytes = b"", admitted: bytes = b""
    ) -> tuple[Record, Batch]:
        stderrs, box = {1: b"careful"}, None
        if self.state.spec.secrecy is not None:
            sealer = BatchSealer(self.state.job_id, OWNER.node_id, worker.node_id, worker.node_id)
            outputs = tuple(sealer.output(index, output) for index, output in enumerate(outputs))
            stderrs, box = {1: sealer.stderr(1, b"careful")}, sealer.box
        columns = Batch(0, 1, (0, 0, 3), outputs, (7,) * 3, (5,) * 3, {}, stderrs)
        certified = admitted or certificate(worker)
        body = BatchHeader(
            self.state.job_id, 0, 3, 1, columns.root(), 1, 15, 21, 300, 150, False, certified, copy, grant, box=box
        )
        return sign_record(worker, RecordKind.BATCH, body), columns

    def keep(self, root: Path, evidence: bool = True) -> Path:
        header, columns = self.first
        others = ((self.second[0], encode_columns(self.second[1])),) if evidence else ()
        opened, keys = None, {}
        if self.state.spec.secrecy is not None:
            opened = open_batch(header, columns, batch_key(OWNER, header))
            keys = {self.second[0].id: batch_key(OWNER, self.second[0])}
        taken = VerifiedBatch(header, columns, encode_columns(columns), ((0, 3),), ONE.node_id, others, opened, keys)
        outputs = columns.outputs if opened is None else opened.outputs
        results = [
            Result(i, columns.exits[i], outputs[i] or b"", taken.said(i), 7, 5, "function", *self.first)
            for i in range(3)
        ]
        folder = ResultsFolder(root, self.state.job_id, self.state.spec)
        folder.add(taken, results)
        signed = folder.signed()
        assert signed == [(0, 3, header.id)]
        folder.add_proofs(MESH.to_bytes(), [record.raw for record in deposition(OWNER, self.state, signed)])
        return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Job().keep(tmp_path / "out")


def header_file(root: Path, job: Job) -> Path:
    return root / "proofs" / f"{job.first[0].id.hex()}.header"


def test_a_folder_proves_itself(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = verify_folder(root)
    assert report.faults == []
    assert (report.results, report.accepted, report.compared, report.tasks) == (3, 3, 3, 3)
    (receipt,) = report.receipts.values()
    assert (receipt.tasks, receipt.cpu_us, receipt.energy_mj, receipt.useful_mj) == (3, 15, 300, 150)
    assert run(["verify", str(root)]) == 0
    assert "3 of 3 results, 3 accepted, 1 failed, 3 found by more than one worker" in capsys.readouterr().out


def edit_output(root: Path) -> None:
    (root / "1.out").write_bytes(b"uno")


def edit_stderr(root: Path) -> None:
    (root / "1.err").unlink()


def edit_line(root: Path) -> None:
    journal = root / "results.jsonl"
    journal.write_text(journal.read_text().replace('"exit": 3', '"exit": 0'))


def edit_columns(root: Path) -> None:
    path = next((root / "proofs").glob("*.columns"))
    path.write_bytes(path.read_bytes().replace(b"zero", b"nero"))


def edit_header(root: Path) -> None:
    for path in (root / "proofs").glob("*.header"):
        raw = bytearray(path.read_bytes())
        raw[60] ^= 1
        path.write_bytes(bytes(raw))


def edit_mesh(root: Path) -> None:
    (root / "proofs" / "mesh").write_bytes(MeshDefinition("street", (OTHER.node_id,)).to_bytes())


def drop_acceptance(root: Path) -> None:
    path = root / "proofs" / "records"
    raws = msgspec.msgpack.decode(path.read_bytes())
    path.write_bytes(msgspec.msgpack.encode(raws[:-1]))


def drop_spec(root: Path) -> None:
    path = root / "proofs" / "records"
    path.write_bytes(msgspec.msgpack.encode(msgspec.msgpack.decode(path.read_bytes())[1:]))


def add_file(root: Path) -> None:
    (root / "9.out").write_bytes(b"nine")


@pytest.mark.parametrize(
    ("edit", "file", "reason"),
    [
        (edit_output, "1.out", "is not what the worker signed"),
        (edit_stderr, "1.err", "is not what the worker signed"),
        (edit_line, "results.jsonl", "task 2: exit is 0, and the worker signed 3"),
        (edit_columns, ".columns", "the results do not hash to the signed root"),
        (edit_header, ".header", "nobody signed this"),
        (edit_mesh, "proofs/mesh", "is another mesh than the one that the job was submitted to"),
        (drop_acceptance, "proofs/records", "task 0: the submitter has not accepted it"),
        (drop_spec, "proofs/records", "the signed description of job"),
        (add_file, "9.out", "belongs to no result"),
    ],
)
def test_what_was_edited_is_named(
    root: Path, edit: Callable[[Path], None], file: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(root)
    faults = verify_folder(root).faults
    assert any(fault.file.endswith(file) and fault.reason.startswith(reason) for fault in faults), faults
    assert run(["verify", str(root), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False and said["faults"]


def test_a_quorum_without_the_second_worker_is_none(tmp_path: Path) -> None:
    faults = verify_folder(Job().keep(tmp_path, evidence=False)).faults
    assert Fault("proofs", "task 0: quorum(2) asks for 2 workers that agree, not so many do") in faults


def test_workers_that_differ_prove_nothing(tmp_path: Path) -> None:
    faults = verify_folder(Job("adaptive", second=(b"zero", b"ONE", b"two")).keep(tmp_path)).faults
    assert [fault.reason for fault in faults] == [
        "task 1: the workers' results differ, and no majority is for this one"
    ]


@pytest.mark.parametrize(
    ("authority", "roles", "reason"),
    [
        (OWNER, Role.WORKER, "its worker was admitted by no authority of the mesh"),
        (AUTHORITY, Role.REPLICA, "its author was not admitted as a worker"),
    ],
)
def test_a_worker_that_was_never_admitted_is_named(
    tmp_path: Path, authority: Identity, roles: Role, reason: str
) -> None:
    job = Job()
    job.first = job.batch(ONE, OUTPUTS, admitted=certificate(ONE, authority, roles))
    assert Fault(str(header_file(Path(), job)), reason) in verify_folder(job.keep(tmp_path)).faults


def test_a_copy_that_nobody_granted_does_not_count(tmp_path: Path) -> None:
    job = Job()
    stranger = sign_record(OTHER, RecordKind.GRANT, Grant(job.state.job_id, 3, 6, 1, OTHER.node_id, 1))
    job.second = job.batch(OTHER, OUTPUTS, copy=1, grant=stranger.raw)
    assert any(fault.reason == "not-a-replica" for fault in verify_folder(job.keep(tmp_path)).faults)


@pytest.mark.parametrize("content", [None, b"{}", b"[]", b'{"job": "xyz"}', b"\xff"])
def test_a_folder_that_holds_no_results_is_bad_input(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "job.json").write_bytes(content)
    assert run(["verify", str(tmp_path)]) == 2
    assert run(["verify", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


# -- confidential jobs, and comparators of one's own --------------------------------------------------------

SECRECY = Secrecy(bytes(32), bytes(32), b"")


def keys_of(root: Path) -> list[Path]:
    return sorted((root / "proofs").glob("*.key"))


def test_a_folder_of_a_confidential_job_proves_itself_in_the_clear(tmp_path: Path) -> None:
    root = Job(secrecy=SECRECY).keep(tmp_path / "out")
    assert (root / "1.out").read_bytes() == b"one" and (root / "1.err").read_bytes() == b"careful"
    report = verify_folder(root)
    assert (report.faults, report.confidential, report.accepted, report.compared) == ([], True, 3, 3)
    (root / "1.out").write_bytes(b"uno")
    assert [fault.reason for fault in verify_folder(root).faults] == ["is not what the worker signed"]


def test_another_key_than_the_worker_signed_for_opens_nothing(tmp_path: Path) -> None:
    root = Job(secrecy=SECRECY).keep(tmp_path / "out")
    first, second = keys_of(root)
    first.write_bytes(second.read_bytes())
    assert "is another key than the worker signed for" in {fault.reason for fault in verify_folder(root).faults}
    first.unlink()
    assert "is missing" in {fault.reason for fault in verify_folder(root).faults}


def test_a_comparator_of_ones_own_is_run_again(tmp_path: Path) -> None:
    module = bytes(wat2wasm(FIRST_BYTE))
    job = Job(second=(b"zeta", b"only", b"tea"), comparator=f"wasm({sha256(module).hexdigest()})")
    root = job.keep(tmp_path / "out")
    with pytest.raises(UserError, match="the job's comparator cannot be run"):
        verify_folder(root)
    (root / "proofs" / "comparator.wasm").write_bytes(module)
    report = verify_folder(root)
    assert (report.faults, report.compared) == ([], 3)
    other = Job(second=(b"zeta", b"only", b"3"), comparator=f"wasm({sha256(module).hexdigest()})").keep(tmp_path / "o")
    (other / "proofs" / "comparator.wasm").write_bytes(module)
    assert [fault.reason for fault in verify_folder(other).faults] == [
        "task 2: quorum(2) asks for 2 workers that agree, not so many do"
    ]


def test_a_folder_that_was_left_half_filled_is_incomplete_and_not_forged(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files came without their line, a line without its end, results without their acceptance."""
    drop_acceptance(root)
    journal = root / "results.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]) + b'{"index": 2, "ex')
    report = verify_folder(root)
    assert report.is_incomplete and not report.ok
    assert run(["verify", str(root)]) == 1
    said = capsys.readouterr().err
    assert (
        "incomplete: 2 of 3 results are here, 2 of them not accepted yet; run" in said
        and "prove themselves" not in said
    )
    edit_output(root)
    assert not verify_folder(root).is_incomplete


def test_one_edit_in_a_half_filled_folder_is_one_fault(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What another run of hearth results mends is told apart, and hides nothing."""
    unaccept(root)
    edit_output(root)
    report = verify_folder(root)
    assert [fault.reason for fault in report.forged] == ["is not what the worker signed"]
    assert len(report.faults) == 4
    assert run(["verify", str(root)]) == 1
    told = capsys.readouterr()
    (fault,) = report.forged
    assert told.out.startswith(f"{fault.file}: {fault.reason}\njob ")
    assert "no result was good" not in told.out and "no result is accepted yet" in told.out
    assert told.err == (
        "1 fault: these results do not prove themselves\n"
        "incomplete: 3 of 3 results are here, 3 of them not accepted yet; run hearth results again\n"
    )


def cancelled(job: Job) -> None:
    job.state.merge(sign_record(OWNER, RecordKind.CANCELLATION, Cancellation(job.state.job_id)))


def unaccept(root: Path) -> None:
    """The submitter's word that it accepted is not among the records."""
    path = root / "proofs" / "records"
    raws: list[bytes] = msgspec.msgpack.decode(path.read_bytes())
    kept = [raw for raw in raws if open_record(raw).kind is not RecordKind.ACCEPTANCE]
    path.write_bytes(msgspec.msgpack.encode(kept))


def test_what_a_cancelled_job_accepted_proves_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job()
    cancelled(job)
    root = job.keep(tmp_path / "out")
    report = verify_folder(root)
    assert (report.ok, report.cancelled, report.accepted, report.unaccepted) == (True, True, 3, 0)
    assert run(["verify", str(root)]) == 0
    assert "the job was cancelled: 3 accepted\n" in capsys.readouterr().out


@pytest.mark.parametrize("evidence", [True, False])
def test_what_a_cancelled_job_did_not_accept_is_told_apart_and_is_no_fault(
    tmp_path: Path, evidence: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job()
    cancelled(job)
    root = job.keep(tmp_path / "out", evidence=evidence)
    unaccept(root)
    report = verify_folder(root)
    assert (report.faults, report.accepted, report.unaccepted, report.receipts) == ([], 0, 3, {})
    assert run(["verify", str(root)]) == 0
    told = capsys.readouterr()
    assert "the job was cancelled: 0 accepted, 3 fetched but not accepted" in told.out
    assert "again" not in told.err and "no result was accepted" in told.out
    edit_output(root)
    assert [fault.reason for fault in verify_folder(root).faults] == ["is not what the worker signed"]


def test_results_that_nobody_accepted_yet_are_incomplete_and_nothing_else(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unaccept(root)
    assert run(["verify", str(root)]) == 1
    told = capsys.readouterr()
    assert "no result is accepted yet" in told.out and "task 0" not in told.out and "no result was good" not in told.out
    assert "incomplete: 3 of 3 results are here, 3 of them not accepted yet; run hearth results again" in told.err
