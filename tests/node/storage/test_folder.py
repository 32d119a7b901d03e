"""The state folder is private, found again, and held by one node at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hearthmesh.node.storage.errors import StorageFailed, StorageLocked
from hearthmesh.node.storage.folder import MAX_SOCKET_PATH_BYTES, StateFolder
from hearthmesh.node.storage.lock import FileLock

HOLD = """
import sys
from pathlib import Path
from hearthmesh.node.storage.folder import StateFolder
StateFolder(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_folder_is_closed_to_others_and_making_it_again_changes_nothing(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "a folder" / "node 1")
    folder.create()
    (folder.blobs / "kept").touch()
    folder.create()
    assert {path.name: mode(path) for path in folder.root.iterdir()} == {
        "blobs": 0o700,
        "cache": 0o700,
        "ckpt": 0o700,
    }
    assert mode(folder.root) == 0o700
    assert (folder.blobs / "kept").exists()


def test_every_place_is_inside_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    assert [
        path.relative_to(tmp_path).as_posix()
        for path in (folder.identity_key, folder.certificate, folder.journal, folder.blobs, folder.cache)
    ] == ["identity.key", "certificate", "journal.db", "blobs", "cache"]
    assert folder.checkpoints == tmp_path / "ckpt"
    assert folder.pid_file == tmp_path / "node.pid"


def test_a_folder_that_others_may_write_to_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "something").touch()
    with pytest.raises(StorageFailed, match="chmod go-w"):
        StateFolder(tmp_path).create()
    assert mode(tmp_path) == 0o777
    (tmp_path / "something").unlink()
    StateFolder(tmp_path).create()
    assert mode(tmp_path) == 0o700


def test_a_file_in_the_folder_s_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="is not a folder"):
        StateFolder(tmp_path / "file").create()


def test_a_link_in_a_private_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "blobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="remove it"):
        StateFolder(tmp_path / "state").create()


def test_the_control_socket_has_a_path_that_a_socket_can_have(tmp_path: Path) -> None:
    assert StateFolder(Path("/s")).control_socket == Path("/s/control.sock")
    deep = StateFolder(tmp_path / ("d" * 120))
    assert len(os.fsencode(deep.control_socket)) <= MAX_SOCKET_PATH_BYTES
    assert deep.control_socket == StateFolder(deep.root / ".." / deep.root.name).control_socket
    deep.create()
    assert not deep.control_socket.parent.exists(), "a client's folder has no control socket"
    deep.make_control_folder()
    deep.make_control_folder()
    try:
        assert mode(deep.control_socket.parent) == 0o700
        deep.control_socket.touch()
    finally:
        deep.remove_control_socket()
    assert not deep.control_socket.parent.exists()
    deep.remove_control_socket()


def test_a_second_node_on_the_folder_is_told_who_has_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert folder.holder() == child.pid
        with pytest.raises(StorageLocked, match=f"in use by process {child.pid}; stop it") as caught:
            folder.lock()
        assert caught.value.holder == child.pid
        child.kill()
    assert folder.holder() is None
    with folder.lock():
        assert folder.holder() == os.getpid()
    assert folder.holder() is None


def test_a_released_lock_can_be_taken_again_and_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.release()
    lock.release()
    with FileLock(tmp_path / "lock"):
        with pytest.raises(StorageLocked):
            FileLock(tmp_path / "lock")
    assert mode(tmp_path / "lock") == 0o600
