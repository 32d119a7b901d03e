"""What a worker opens lies in memory, and goes with the key; its checkpoints are on disk as ciphertext only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from hearthmesh.crypto.envelope import Envelope
from hearthmesh.crypto.sealing import SealError
from hearthmesh.node.secrecy.checkpoints import open_checkpoints, seal_checkpoints
from hearthmesh.node.secrecy.folder import SecretFolder, SecretFolderError, is_in_memory, memory_folder, remove_secrets
from hearthmesh.node.tasks import TaskRunner
from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.secrecy.keys import envelope_of

JOB, OTHER, SALT = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32


def test_the_folder_is_in_memory_and_only_its_owner_enters(tmp_path: Path) -> None:
    folder = SecretFolder(tmp_path)
    try:
        path = folder.write(JOB, "program-0", [b"one", b"two"])
        assert path.read_bytes() == b"onetwo" and is_in_memory(path)
        assert folder.root.stat().st_mode & 0o777 == 0o700 and path.stat().st_mode & 0o777 == 0o400
        kept = folder.write(OTHER, "program-0", [b"other"])
        folder.forget(JOB)
        assert not path.exists() and kept.exists()
    finally:
        folder.close()
    assert not folder.root.exists()


def test_what_a_killed_node_left_goes_when_it_starts_again(tmp_path: Path) -> None:
    left = SecretFolder(tmp_path).write(JOB, "program-0", [b"x"])
    folder = SecretFolder(tmp_path)
    assert not left.exists()
    folder.close()


@pytest.mark.parametrize("started", ["net/state", "../street/net/state", "net/../link/state"])
@pytest.mark.parametrize("wiped", ["net/state", "./net/../net/state", "link/state"])
def test_what_a_killed_node_left_is_found_however_its_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str, wiped: str
) -> None:
    street = tmp_path / "street"
    (street / "net" / "state").mkdir(parents=True)
    (street / "link").symlink_to("net")
    monkeypatch.chdir(street)
    left = SecretFolder(Path(started)).write(JOB, "program-0", [b"x"])
    assert left.exists()
    monkeypatch.chdir(tmp_path)
    remove_secrets(Path("street") / wiped)
    assert not left.parent.parent.exists()


def test_a_file_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    folder = SecretFolder(tmp_path, base=tmp_path)

    def torn() -> object:
        yield b"half"
        raise SealError("changed")

    with pytest.raises(SealError):
        folder.write(JOB, "program-0", torn())  # type: ignore[arg-type]
    assert list(folder.job(JOB).iterdir()) == []
    with pytest.raises(SecretFolderError):
        SecretFolder(tmp_path, base=tmp_path / "absent")


def test_a_disk_is_no_memory(tmp_path: Path) -> None:
    assert is_in_memory(memory_folder()) and not is_in_memory(Path("/proc"))


def test_checkpoints_come_back_and_lie_on_disk_sealed(tmp_path: Path) -> None:
    envelope, memory, disk = envelope_of(bytes(32)), tmp_path / "memory", tmp_path / "disk"
    (memory / "7" / "deep").mkdir(parents=True)
    (memory / "7" / "state").write_bytes(b"half way")
    (memory / "7" / "deep" / "er").write_bytes(b"there")
    (memory / "7" / "link").symlink_to("/etc/passwd")
    seal_checkpoints(envelope, SALT, memory, disk, 6, 3, 1 << 20)
    assert [path.name for path in disk.iterdir()] == ["7.sealed"]
    assert b"half way" not in (disk / "7.sealed").read_bytes()
    fresh = tmp_path / "fresh"
    open_checkpoints(envelope, SALT, fresh, disk, 6, 3)
    found = {str(path.relative_to(fresh)): path.read_bytes() for path in fresh.rglob("*") if path.is_file()}
    assert found == {"7/state": b"half way", "7/deep/er": b"there"}
    # A task that succeeded removed its own.
    for path in sorted((memory / "7").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    seal_checkpoints(envelope, SALT, memory, disk, 6, 3, 1 << 20)
    assert list(disk.iterdir()) == []


@pytest.mark.parametrize("damage", ["another key", "another task", "cut", "garbage"])
def test_a_checkpoint_that_is_not_the_tasks_own_is_as_if_it_were_not_there(tmp_path: Path, damage: str) -> None:
    envelope, memory, disk = envelope_of(bytes(32)), tmp_path / "memory", tmp_path / "disk"
    (memory / "7").mkdir(parents=True)
    (memory / "7" / "state").write_bytes(b"half way")
    seal_checkpoints(envelope, SALT, memory, disk, 7, 1, 1 << 20)
    sealed, first, opener = disk / "7.sealed", 7, envelope
    if damage == "another key":
        opener = envelope_of(bytes([1]) * 32)
    elif damage == "another task":
        sealed.rename(disk / "8.sealed")
        first = 8
    elif damage == "cut":
        sealed.write_bytes(sealed.read_bytes()[:-1])
    else:
        sealed.write_bytes(b"x" * 100)
    open_checkpoints(opener, SALT, tmp_path / "fresh", disk, first, 1)
    assert not (tmp_path / "fresh").exists()


def test_a_checkpoint_beyond_its_bound_is_not_kept(tmp_path: Path) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    (memory / "0").mkdir(parents=True)
    (memory / "0" / "state").write_bytes(bytes(100))
    seal_checkpoints(Envelope(bytes(32), "job"), SALT, memory, disk, 0, 1, 99)
    assert not disk.exists()


@pytest.mark.parametrize("fault", ["no disk", "no text", "no memory"])
def test_a_checkpoint_that_cannot_be_put_away_is_lost_and_nothing_else(tmp_path: Path, fault: str) -> None:
    memory, disk = tmp_path / "memory" / JOB.hex(), tmp_path / "disk" / JOB.hex()
    if fault == "no memory":
        (memory / "7").mkdir(parents=True)
        (memory / "7" / "state").write_bytes(b"half way")
        seal_checkpoints(envelope_of(bytes(32)), SALT, memory, disk, 7, 1, 1 << 20)
        (memory / "7" / "state").unlink()
        (memory / "7" / "state").mkdir()

    async def run(_: Any) -> str:
        (memory / "7").mkdir(parents=True, exist_ok=True)
        (memory / "7" / ("state" if fault == "no disk" else "\udcff")).write_bytes(b"half way")
        if fault == "no disk":
            (tmp_path / "disk").write_bytes(b"a file in the way")
        return "its results"

    runner = object.__new__(TaskRunner)
    runner._checkpoints = tmp_path / "disk"
    request = SimpleNamespace(checkpoint_root=tmp_path / "memory", limits=SimpleNamespace(scratch_bytes=1 << 20))
    material = SimpleNamespace(envelope=envelope_of(bytes(32)), salt=SALT)
    arguments: Any = Execute(1, JOB, 7, 1, 1), material, SimpleNamespace(run=run), request
    if fault == "no memory":
        with pytest.raises(SecretFolderError):
            trio.run(runner._run_secret, *arguments)
    else:
        assert trio.run(runner._run_secret, *arguments) == "its results"
