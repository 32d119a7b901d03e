"""The folder of results: complete, resumable, and no trust in what the disk says."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.cli.errors import UserError
from hearthmesh.node.cli.results_folder import ResultsFolder
from hearthmesh.node.client import Result
from hearthmesh.node.client.job import VerifiedBatch
from hearthmesh.protocol.batches import Batch, check_batch, encode_columns
from hearthmesh.protocol.records import BatchHeader, JobSpec, RecordKind, open_record, sign_record

JOB = bytes(range(32))
WORKER = Identity.from_seed(bytes(32))


def spec(tasks: int, abi: str = "function") -> JobSpec:
    return JobSpec(1, bytes(32), b"", "job", "wasm", abi, bytes(32), 8, "", "hearth_task", (), tasks)


def batch(
    outputs: Sequence[bytes], first: int = 0, abi: str = "function", exits: Sequence[int] = (), stderr: bytes = b""
) -> tuple[VerifiedBatch, list[Result]]:
    """A worker's signed batch, and its results as the client hands them over."""
    count = len(outputs)
    stderrs = {0: stderr} if stderr else {}
    codes = tuple(exits) or (0,) * count
    columns = Batch(first, 1, codes, tuple(outputs), (7,) * count, (5,) * count, {}, stderrs)
    body = BatchHeader(JOB, first, count, 1, columns.root(), columns.failed(), 5 * count, 7 * count, 0, 0, False, b"")
    header = sign_record(WORKER, RecordKind.BATCH, body)
    taken = VerifiedBatch(header, columns, encode_columns(columns), ((first, first + count),), WORKER.node_id)
    results = [
        Result(first + i, codes[i], output, stderrs.get(i, b""), 7, 5, abi, header, columns)
        for i, output in enumerate(outputs)
    ]
    return taken, results


def test_outputs_become_files_of_equal_width(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "a b", JOB, spec(11))
    folder.add(*batch([b"zero", b"one"], stderr=b"careful"))
    folder.add(*batch([b"ten"], first=10))
    assert (tmp_path / "a b" / "00.out").read_bytes() == b"zero"
    assert (tmp_path / "a b" / "00.err").read_bytes() == b"careful"
    assert (tmp_path / "a b" / "10.out").read_bytes() == b"ten"
    assert folder.have() == [(0, 2), (10, 11)]


def test_each_result_has_a_line_with_its_worker_and_digest(tmp_path: Path) -> None:
    taken, results = batch([b"zero"], exits=[3])
    ResultsFolder(tmp_path, JOB, spec(1)).add(taken, results)
    (line,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert line == {
        "index": 0,
        "exit": 3,
        "worker": WORKER.peer_id,
        "sha256": sha256(b"zero").hexdigest(),
        "size_bytes": 4,
        "fuel": 7,
        "cpu_us": 5,
        "batch": taken.header.id.hex(),
    }


def test_proofs_can_be_checked_later(tmp_path: Path) -> None:
    taken, results = batch([b"zero", b"one"])
    ResultsFolder(tmp_path, JOB, spec(2)).add(taken, results)
    name = taken.header.id.hex()
    header = open_record((tmp_path / "proofs" / f"{name}.header").read_bytes())
    found = check_batch(header.body, (tmp_path / "proofs" / f"{name}.columns").read_bytes())
    assert (header.author, found.outputs) == (WORKER.node_id, (b"zero", b"one"))


def test_a_programs_output_and_files_are_taken_apart(tmp_path: Path) -> None:
    files = {"image.png": b"png", "stdout": b"a file of that name", "files": b"another"}
    packed = msgspec.msgpack.encode([b"hello\n", files])
    folder = ResultsFolder(tmp_path, JOB, spec(1, "command"))
    folder.add(*batch([packed], abi="command", stderr=b"warn"))
    place = tmp_path / "0"
    assert (place / "stdout").read_bytes() == b"hello\n"
    assert (place / "stderr").read_bytes() == b"warn"
    assert (place / "image.png").read_bytes() == b"png"
    assert (place / "files" / "stdout").read_bytes() == b"a file of that name"
    assert (place / "files" / "files").read_bytes() == b"another"
    assert ResultsFolder(tmp_path, JOB, spec(1, "command")).have() == [(0, 1)]


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", ".hidden", "a/b", ""])
def test_a_hostile_file_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    packed = msgspec.msgpack.encode([b"", {name: b"evil"}])
    root = tmp_path / "deep" / "out"
    ResultsFolder(root, JOB, spec(1, "command")).add(*batch([packed], abi="command"))
    assert (root / "0" / "output").read_bytes() == packed
    assert sorted(path.name for path in (root / "0").iterdir()) == ["output"]
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert ResultsFolder(root, JOB, spec(1, "command")).have() == [(0, 1)]


def test_an_output_that_names_a_file_by_no_text_is_kept_in_one_piece(tmp_path: Path) -> None:
    packed = b"\x92\xc4\x00\x81\xa1\xff\xc4\x01x"
    taken, results = batch([packed], abi="command")
    assert (results[0].stdout, results[0].files) == (packed, {})
    ResultsFolder(tmp_path, JOB, spec(1, "command")).add(taken, results)
    assert (tmp_path / "0" / "output").read_bytes() == packed


def test_an_envelope_with_a_nameless_file_is_not_taken_apart() -> None:
    packed = msgspec.msgpack.encode([b"EVIL", {"": b"honest", "sums": b"2"}])
    _, (result,) = batch([packed], abi="command")
    assert (result.stdout, result.files) == (packed, {})


def test_a_stopped_program_leaves_no_output(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path, JOB, spec(1, "command"))
    folder.add(*batch([b""], abi="command", exits=[-3], stderr=b"hearth: wall time"))
    again = ResultsFolder(tmp_path, JOB, spec(1, "command"))
    assert (again.have(), again.failed) == ([(0, 1)], {0: -3})


def test_a_folder_of_another_job_is_left_alone(tmp_path: Path) -> None:
    ResultsFolder(tmp_path, JOB, spec(1))
    with pytest.raises(UserError, match="holds the results of another job; choose another --folder"):
        ResultsFolder(tmp_path, bytes(32), spec(1))
    (tmp_path / "job.json").write_text("junk")
    with pytest.raises(UserError, match="damaged"):
        ResultsFolder(tmp_path, JOB, spec(1))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        ResultsFolder(tmp_path / "file", JOB, spec(1))


@pytest.mark.parametrize("damage", [b"", b"other bytes"])
def test_a_damaged_or_missing_file_is_fetched_again(tmp_path: Path, damage: bytes) -> None:
    ResultsFolder(tmp_path, JOB, spec(4)).add(*batch([b"a", b"b", b"c", b"d"]))
    (tmp_path / "1.out").write_bytes(damage)
    (tmp_path / "2.out").unlink()
    folder = ResultsFolder(tmp_path, JOB, spec(4))
    assert folder.have() == [(0, 1), (3, 4)]
    folder.add(*batch([b"b", b"c"], first=1))
    assert ResultsFolder(tmp_path, JOB, spec(4)).have() == [(0, 4)]


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(0, 600), junk=st.sampled_from([b"", b"{}\n", b"[1]\n", b"\xff\n", b'{"index": -1}\n']))
def test_a_journal_that_ends_anywhere_can_be_completed(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    root = tmp_path_factory.mktemp("results")
    taken, results = batch([b"a", b"b", b"c"])
    ResultsFolder(root, JOB, spec(3)).add(taken, results)
    content = (root / "results.jsonl").read_bytes()
    (root / "results.jsonl").write_bytes(junk + content[:cut])
    folder = ResultsFolder(root, JOB, spec(3))
    whole = content[:cut].count(b"\n")
    assert folder.have() == ([(0, whole)] if whole else [])
    for result in results[whole:]:
        folder.add(replace(taken, parts=((result.index, result.index + 1),)), [result])
    assert ResultsFolder(root, JOB, spec(3)).have() == [(0, 3)]


def test_a_folder_says_which_batches_it_has_signed_for_in_an_earlier_run(tmp_path: Path) -> None:
    first, second = batch([b"zero", b"one", b"two"]), batch([b"three"], first=3)
    folder = ResultsFolder(tmp_path, JOB, spec(5))
    folder.add(*first)
    folder.add(*second)
    signed = [(0, 3, first[0].header.id), (3, 4, second[0].header.id)]
    assert folder.signed() == signed
    assert ResultsFolder(tmp_path, JOB, spec(5)).signed() == signed


def test_a_result_that_is_fetched_again_stays_signed_for_as_it_was(tmp_path: Path) -> None:
    first, other = batch([b"zero"]), batch([b"zero"], stderr=b"of another batch")
    ResultsFolder(tmp_path, JOB, spec(2)).add(*first)
    (tmp_path / "0.out").write_bytes(b"damaged")
    folder = ResultsFolder(tmp_path, JOB, spec(2))
    assert folder.have() == [] and folder.signed() == [(0, 1, first[0].header.id)]
    folder.add(*other)
    assert ResultsFolder(tmp_path, JOB, spec(2)).signed() == [(0, 1, first[0].header.id)]


def test_git_leaves_a_folder_of_results_alone(tmp_path: Path) -> None:
    folder = tmp_path / "job-1234"
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    ResultsFolder(folder, JOB, spec(2)).add(*batch([b"zero"]))
    status = ["git", "-C", tmp_path, "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(status, check=True, capture_output=True).stdout == b""
    (folder / ".gitignore").unlink()
    ResultsFolder(folder, JOB, spec(2)).add(*batch([b"one"], first=1))
    assert b"job-1234/0.out" in subprocess.run(status, check=True, capture_output=True).stdout


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(UserError, match="out: is a file, and results go to a folder"):
        ResultsFolder(tmp_path / "out", JOB, spec(1))


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"^/proc/x: cannot be made: .*; name another with --folder$"):
        ResultsFolder(Path("/proc/x"), JOB, spec(1))
