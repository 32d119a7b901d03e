"""Real processes, killed at any moment: what was acknowledged is there, and the files open."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.storage.journal import Journal

CHILD = Path(__file__).with_name("crash_child.py")
WRITERS = 4


def run_and_kill(job: str, folder: Path, start: int, lines: int) -> list[str]:
    """Let the child acknowledge `lines` lines, kill it, and return all it had written."""
    command = [sys.executable, str(CHILD), job, str(folder), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        # Not communicate(): it reads past the buffer of `stdout`, and acknowledgments would be lost with that.
        text = "".join(seen) + child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    return text[: text.rfind("\n")].split("\n")


@pytest.mark.parametrize("seed", range(3))
def test_a_journal_keeps_every_acknowledged_record_through_kills(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    acknowledged: set[tuple[int, int]] = set()
    first = 0
    for _ in range(4):
        lines = run_and_kill("journal", tmp_path, first, rng.choice([1, 2, 10, 300, 1500]))
        assert lines[0] == "open"
        for line in lines[1:]:
            by, what = line.split()
            acknowledged.add((int(by), int(what)))
        with Journal.open(tmp_path / "journal.db") as journal:
            assert journal.notices == []
            stored = {(record.job_id[0], int.from_bytes(record.key, "big")): record for record in journal.load()}
        assert acknowledged <= stored.keys()
        for (writer, number), record in stored.items():
            assert record.body == b"%d/%d " % (writer, number) * 100
        # Unacknowledged ones may be there too, but at most the one each writer was waiting for.
        assert len(stored) <= len(acknowledged) + WRITERS
        acknowledged = set(stored)
        first += 10_000


def test_a_disk_that_fails_ends_writing_but_not_reading_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(CHILD), "limited", str(tmp_path), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    acknowledged = sum(1 for line in lines if line.startswith("0 "))
    assert acknowledged > 100
    assert lines[-3].startswith("failed SQLITE_IOERR")
    assert lines[-2:] == ["still failed", f"readable {acknowledged}"]
    with Journal.open(tmp_path / "journal.db") as journal:
        assert journal.notices == []
        assert sum(1 for _ in journal.load()) == acknowledged


@pytest.mark.parametrize("seed", range(3))
def test_a_blob_store_keeps_every_acknowledged_blob_through_kills(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    acknowledged: set[str] = set()
    for round_number in range(3):
        lines = run_and_kill("blobs", tmp_path, seed * 10 + round_number, rng.choice([1, 3, 50, 200]))
        assert lines[0] == "open"
        acknowledged.update(lines[1:])
        store = BlobStore(tmp_path, 1 << 30, min_free_bytes=0)
        assert store.notices == []
        assert list((tmp_path / "tmp").iterdir()) == []
        assert acknowledged <= {digest.hex() for digest in store.digests()}
        assert all(store.verify(digest) for digest in store.digests())
