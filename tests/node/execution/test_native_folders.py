import os
import tempfile
from pathlib import Path

import pytest

from hearthmesh.node.execution.native_folders import (
    MAX_CHECKPOINT_ENTRIES,
    FolderError,
    SandboxFolders,
    checkpoint_size_bytes,
    is_reachable,
    remove_hostile,
)


def deep_folder(top: Path, depth: int) -> None:
    """Nested further than a path can be long."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("a" * 100, dir_fd=fd)
        inner = os.open("a" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT, dir_fd=fd))
    os.close(fd)


def test_a_folder_nested_deeper_than_a_path_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    deep_folder(top, 1200)
    remove_hostile(top)
    assert not top.exists()


def test_removing_follows_no_link(tmp_path: Path) -> None:
    precious, top = tmp_path / "precious", tmp_path / "top"
    precious.mkdir()
    (precious / "file").touch()
    (top / "inner").mkdir(parents=True)
    (top / "inner" / "link").symlink_to(precious)
    (top / "loop").symlink_to(top)
    remove_hostile(top)
    assert not top.exists() and (precious / "file").exists()
    link = tmp_path / "link"
    link.symlink_to(precious)
    remove_hostile(link)
    assert (precious / "file").exists()


def test_closed_folders_are_removed_too(tmp_path: Path) -> None:
    shut = tmp_path / "top" / "shut" / "inner"
    shut.mkdir(parents=True)
    (shut / "file").touch()
    for folder in (shut, shut.parent, shut.parent.parent):
        folder.chmod(0)
    remove_hostile(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_a_size_is_what_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(bytes(range(256)) * 1000)
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    size_bytes = checkpoint_size_bytes(tmp_path)
    assert size_bytes is not None and 256_000 <= size_bytes <= 1 << 20


def test_too_deep_or_too_many_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    deep_folder(tmp_path / "deep", 10)
    assert checkpoint_size_bytes(tmp_path / "deep") is None
    (tmp_path / "many").mkdir()
    for number in range(MAX_CHECKPOINT_ENTRIES + 1):
        (tmp_path / "many" / str(number)).touch()
    assert checkpoint_size_bytes(tmp_path / "many") is None


def test_a_closed_folder_is_out_of_reach_with_all_below(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "file").touch()
    (closed / "file").chmod(0o644)
    closed.chmod(0o700)
    assert is_reachable(closed / "file", os.getuid()) or os.getuid() == 0
    assert not is_reachable(closed / "file", 64_999)


def test_a_missing_input_is_one_line(tmp_path: Path) -> None:
    folders = SandboxFolders(tmp_path, None)
    with pytest.raises(FolderError, match="cannot provide the job's file scene.pov: it is not on this node"):
        folders.stage({"scene.pov": tmp_path / "gone"}, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files to another user")
def test_an_input_out_of_reach_is_copied_for_one_user_and_removed(tmp_path: Path) -> None:
    home, blob = tmp_path / "home", tmp_path / "blob"
    blob.write_bytes(b"secret")
    blob.chmod(0o600)
    folders = SandboxFolders(home, None)
    staged = folders.stage({"a": blob}, 64_999)
    [(copy, inside)] = staged.binds
    status = copy.stat()
    assert (inside, copy.read_bytes(), status.st_gid, status.st_mode & 0o777) == ("/in/a", b"secret", 64_999, 0o440)
    staged.close()
    assert not copy.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files to another user")
def test_a_checkpoint_changes_its_owner_and_no_links_target() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # pytest's own folder is closed to other users
        base = Path(name)
        base.chmod(0o711)
        (base / "outside").touch()
        folders = SandboxFolders(base / "state", None)
        folder = folders.checkpoint(base / "root", b"job", 3, 64_998, 1 << 20)
        (folder / "inner").mkdir()
        (folder / "inner" / "link").symlink_to(base / "outside")
        assert folders.checkpoint(base / "root", b"job", 3, 64_999, 1 << 20) == folder
        owners = [path.lstat().st_uid for path in (folder, folder / "inner", folder / "inner" / "link")]
        assert owners == [64_999] * 3
        assert (base / "outside").stat().st_uid == os.getuid()


def test_a_checkpoint_beyond_its_size_is_given_up(tmp_path: Path) -> None:
    folders = SandboxFolders(tmp_path / "state", None)
    folder = folders.checkpoint(tmp_path / "root", b"job", 0, None, 1 << 20)
    (folder / "big").write_bytes(os.urandom(2 << 20))
    assert list(folders.checkpoint(tmp_path / "root", b"job", 0, None, 1 << 20).iterdir()) == []


def test_a_forgotten_job_leaves_no_checkpoint(tmp_path: Path) -> None:
    folders = SandboxFolders(tmp_path / "state", None)
    folder = folders.checkpoint(tmp_path / "root", b"job", 0, None, 1 << 20)
    (folder / "x").touch()
    folders.forget(tmp_path / "root", b"job")
    assert list((tmp_path / "root").iterdir()) == []
