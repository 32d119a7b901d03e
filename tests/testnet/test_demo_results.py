"""What the demo's client kept is checked anew: nothing that was altered, foreign or double passes."""

import time
from pathlib import Path

import pytest

from hearthmesh.crypto.certificates import MembershipPolicy, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.mesh import MeshDefinition
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.records import BatchHeader, RecordKind, sign_record
from hearthmesh.testnet.demo_results import KeptBatch, ResultFolder, audit, write_outputs

AUTHORITY, WORKER, OTHER = Identity.generate(), Identity.generate(), Identity.generate()
MESH = MeshDefinition("demo", (AUTHORITY.node_id,))
POLICY = MembershipPolicy(MESH)
JOB = b"j" * 32


def certificate(subject: Identity, roles: Role = Role.WORKER) -> bytes:
    now_s = int(time.time())
    return issue(AUTHORITY, MESH, subject.node_id, roles, now_s - 60, now_s + 3600, "w").to_bytes()


def kept(
    first: int,
    outputs: tuple[bytes, ...],
    *,
    worker: Identity = WORKER,
    admission: bytes | None = None,
    job: bytes = JOB,
    exits: tuple[int, ...] | None = None,
    parts: tuple[tuple[int, int], ...] | None = None,
) -> KeptBatch:
    count = len(outputs)
    exits = exits or (0,) * count
    batch = Batch(first, 1, exits, outputs, (7,) * count, (10,) * count, {}, {})
    header = BatchHeader(
        job_id=job,
        first=first,
        count=count,
        epoch=1,
        root=batch.root(),
        failed=batch.failed(),
        cpu_us=10 * count,
        fuel=7 * count,
        energy_mj=100 * count,
        useful_mj=60 * count,
        measured=False,
        certificate=certificate(worker) if admission is None else admission,
    )
    record = sign_record(worker, RecordKind.BATCH, header)
    return KeptBatch(record.raw, encode_columns(batch), parts or ((first, first + count),))


def test_what_was_kept_is_given_back_to_who_lost_it(tmp_path: Path) -> None:
    folder, (one, two) = ResultFolder(tmp_path), (kept(0, (b"a", b"b")), kept(2, (b"c",)))
    folder.keep(one)
    folder.keep(two)
    (_, _, first), (_, _, second) = folder.signed()
    assert folder.given_back(first) == (one.header, one.columns)
    assert folder.given_back(second) == (two.header, two.columns)
    assert folder.given_back(bytes(32)) is None


def test_complete_results_pass_with_one_proof_a_task() -> None:
    found = audit([kept(0, (b"a", b"b", b"c")), kept(3, (b"d", b"e"), worker=OTHER)], JOB, 5, POLICY)
    assert found.faults == []
    assert found.complete
    assert (found.batches, found.signatures, found.proofs) == (2, 2, 5)
    assert found.outputs == {0: b"a", 1: b"b", 2: b"c", 3: b"d", 4: b"e"}
    assert found.tasks_by_worker == {WORKER.node_id: 3, OTHER.node_id: 2}
    assert (found.energy_mj, found.useful_mj, found.cpu_us) == (500, 300, 50)


def test_of_a_batch_only_the_parts_that_count_are_counted() -> None:
    found = audit([kept(0, (b"a", b"b", b"c", b"d"), parts=((0, 1), (2, 4)))], JOB, 4, POLICY)
    assert (found.proofs, found.energy_mj) == (3, 300)
    assert found.faults == ["1 of 4 tasks have no result, task 1 is the first"]


def test_an_altered_output_is_found() -> None:
    good, bad = kept(0, (b"a", b"b")), kept(0, (b"a", b"X"))
    found = audit([KeptBatch(good.header, bad.columns, good.parts)], JOB, 2, POLICY)
    assert "signed root" in found.faults[0]
    assert not found.complete


def test_an_altered_header_is_found() -> None:
    good = kept(0, (b"a",))
    broken = good.header[:-1] + bytes([good.header[-1] ^ 1])
    assert "bad-signature" in audit([KeptBatch(broken, good.columns, good.parts)], JOB, 1, POLICY).faults[0]


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (kept(0, (b"a",), job=b"k" * 32), "not of this job"),
        (kept(0, (b"a",), exits=(3,)), "exit code 3"),
        (kept(0, (b"a",), worker=OTHER, admission=certificate(WORKER)), "of another node"),
        (kept(0, (b"a",), admission=certificate(WORKER, Role.REPLICA)), "lacks a role"),
        (kept(0, (b"a",), parts=((0, 2),)), "tasks 0 to 1 are not in it"),
    ],
)
def test_a_batch_that_does_not_count_is_a_fault(batch: KeptBatch, why: str) -> None:
    found = audit([batch], JOB, 1, POLICY)
    assert why in found.faults[0]


def test_a_task_that_counts_twice_is_a_fault() -> None:
    found = audit([kept(0, (b"a", b"b")), kept(1, (b"b", b"c"))], JOB, 3, POLICY)
    assert "task 1 was accepted before" in found.faults[0]


def test_a_later_session_knows_what_an_earlier_one_kept(tmp_path: Path) -> None:
    ResultFolder(tmp_path / "r").keep(kept(0, (b"a", b"b")))
    ResultFolder(tmp_path / "r").keep(kept(5, (b"c",)))
    (tmp_path / "r" / "half.new").write_bytes(b"half a file")
    again = ResultFolder(tmp_path / "r")
    assert list(again.have()) == [(0, 2), (5, 6)]
    assert audit(again.batches(), JOB, 6, POLICY).proofs == 3


def test_outputs_are_written_under_their_index(tmp_path: Path) -> None:
    write_outputs({0: b"a", 17: b"b"}, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        "000000.out": b"a",
        "000017.out": b"b",
    }
