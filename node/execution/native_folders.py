"""The host's side of a sandbox's folders: the job's files, and checkpoints, for a user who may see little.

Where the node is root, its tasks run as other users, who cannot pass through a folder of mode 0700. What they
need from there is kept in a home that they can reach. What a task has written is hostile: links are never
followed, depth and number of entries are bounded.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_CHECKPOINT_ENTRIES = 1_000
MAX_CHECKPOINT_DEPTH = 8
_COPIES = "files-"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderError(Exception):
    """The text is one line for the owner."""


def sandbox_tag(state: Path) -> str:
    """The name of the sandboxes of the runtime whose folder it is, in this and each later run of its node."""
    return f"hearthmesh-{hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]}"


class SandboxFolders:
    """The folders of one executor. state: the node's own folder for this runtime; `tag` names it."""

    def __init__(self, state: Path, uid_base: int | None) -> None:
        """uid_base: the lowest uid that tasks run as, or None where they run as the node itself.
        Raises FolderError if a folder cannot be made or belongs to somebody else."""
        self._state = state
        self._uid_base = uid_base
        self.tag = sandbox_tag(state)
        self.home = self._make_home()

    def _make_home(self) -> Path:
        try:
            self._state.mkdir(parents=True, exist_ok=True, mode=0o711)
            if self._uid_base is None or is_reachable(self._state, self._uid_base):
                return self._state
            home = Path("/var/tmp") / self.tag
            home.mkdir(mode=0o711, exist_ok=True)
        except OSError as error:
            raise FolderError(f"cannot make the native runtime's folder: {error}") from error
        status = home.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise FolderError(f"{home} is not a folder that only this user can write")
        home.chmod(0o711)
        return home

    def clear(self) -> None:
        """Remove the copies that an earlier process of this node left when it was killed. Blocks."""
        for copies in self.home.glob(f"{_COPIES}*"):
            shutil.rmtree(copies, ignore_errors=True)

    def stage(self, files: Mapping[str, Path], uid: int | None, private: Path | None = None) -> StagedFiles:
        """Make the job's files readable for `uid`. Copies those that are not; blocks meanwhile.

        private: of a confidential job, the folder in memory that all its files lie in, and nowhere else. Raises
        FolderError.
        """
        if private is not None and uid is not None and not is_reachable(private, uid):
            raise FolderError(
                f"files of confidential jobs lie in {private.parent.parent}, which a task's user cannot enter: "
                "for native ones a tmpfs is needed at /dev/shm"
            )
        staged = StagedFiles(self.home, uid)
        try:
            for name, path in files.items():
                staged.add(name, path)
        except OSError as error:
            staged.close()
            raise FolderError(f"cannot provide the job's file {name}: {error.strerror}") from error
        except BaseException:  # the copies are ours until they are handed over
            staged.close()
            raise
        return staged

    def checkpoint(self, root: Path, job_id: bytes, index: int, uid: int | None, limit_bytes: int) -> Path:
        """The checkpoint folder of one task, writable for `uid`, with what an earlier run left in it, unless
        that is beyond the bounds. Raises FolderError."""
        try:
            folder = self.checkpoint_root(root, uid) / job_id.hex() / str(index)
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.parent.chmod(0o711)
            folder.mkdir(exist_ok=True, mode=0o700)
            size_bytes = checkpoint_size_bytes(folder)
            if size_bytes is None or size_bytes > limit_bytes:
                remove_hostile(folder)
                folder.mkdir(mode=0o700)
            if uid is not None:
                _give_away(folder, uid)
        except OSError as error:
            raise FolderError(f"cannot make a checkpoint folder: {error}") from error
        return folder

    def forget(self, root: Path, job_id: bytes) -> None:
        """Remove every checkpoint of a job."""
        for base in (root, self.home / "checkpoints"):
            remove_hostile(base / job_id.hex())

    def checkpoint_root(self, root: Path, uid: int | None) -> Path:
        """The node's folder of checkpoints, or where the user cannot reach that, one of our own."""
        root.mkdir(parents=True, exist_ok=True, mode=0o711)
        if uid is None or is_reachable(root, uid):
            return root
        return self.home / "checkpoints"


class StagedFiles:
    """(host path, path inside) of a job's files; `close` removes the copies."""

    def __init__(self, home: Path, uid: int | None) -> None:
        self._home = home
        self._uid = uid
        self._copies: Path | None = None
        self.binds: list[tuple[Path, str]] = []

    def add(self, name: str, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "it is not on this node")
        if self._uid is not None and not is_reachable(path, self._uid):
            path = self._copy(name, path, self._uid)
        self.binds.append((path, f"/in/{name}"))

    def _copy(self, name: str, path: Path, uid: int) -> Path:
        if self._copies is None:
            self._copies = Path(tempfile.mkdtemp(prefix=_COPIES, dir=self._home))
            os.chown(self._copies, -1, uid)
            self._copies.chmod(0o750)
        copy = self._copies / name
        shutil.copyfile(path, copy)
        os.chown(copy, -1, uid)
        copy.chmod(0o440)
        return copy

    def close(self) -> None:
        if self._copies is not None:
            shutil.rmtree(self._copies, ignore_errors=True)
            self._copies = None


def is_reachable(path: Path, uid: int) -> bool:
    """Whether a user without groups may pass every folder above, and read the file or enter the folder."""
    path = path.resolve()
    for folder in path.parents:
        if not _permits(folder.stat(), uid, 0o1):
            return False
    status = path.stat()
    return _permits(status, uid, 0o1 if stat.S_ISDIR(status.st_mode) else 0o4)


def _permits(status: os.stat_result, uid: int, bits: int) -> bool:
    shift = 6 if status.st_uid == uid else 3 if status.st_gid == uid else 0
    return status.st_mode >> shift & bits == bits


def checkpoint_size_bytes(folder: Path) -> int | None:
    """Bytes on disk below a folder that a task may be writing to; None if it is too deep, has too many
    entries, or closes a folder to us."""
    total_bytes = entries = 0
    try:
        for status in _walk(folder):
            total_bytes += status.st_blocks * 512
            entries += 1
            if entries > MAX_CHECKPOINT_ENTRIES:
                return None
    except (_TooDeep, PermissionError):
        return None
    return total_bytes


def free_bytes(folder: Path) -> int:
    """What the node may still write to the disk that holds `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


class _TooDeep(Exception):
    pass


# A folder that was removed since it was listed, or is another kind of file now.
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _walk(folder: Path) -> Iterator[os.stat_result]:
    """Every entry's status. Folders are opened relative to their parent, so no link leads elsewhere."""
    stack = [(os.open(folder, _OPEN_FOLDER), 0)]
    try:
        while stack:
            fd, depth = stack.pop()
            try:
                for name, status in _entries(fd):
                    yield status
                    if not stat.S_ISDIR(status.st_mode):
                        continue
                    if depth == MAX_CHECKPOINT_DEPTH or len(stack) > 100:
                        raise _TooDeep
                    try:
                        stack.append((os.open(name, _OPEN_FOLDER, dir_fd=fd), depth + 1))
                    except OSError as error:
                        if error.errno not in _REPLACED:
                            raise
            finally:
                os.close(fd)
    finally:
        for fd, _ in stack:
            os.close(fd)


def _entries(fd: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            try:
                yield entry.name, entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue


def _give_away(folder: Path, uid: int) -> None:
    """Make `uid` the owner of a checkpoint folder at rest, whose size was checked."""
    os.chown(folder, uid, uid, follow_symlinks=False)
    stack = [folder]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                os.chown(entry.path, uid, uid, follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))


def remove_hostile(folder: Path) -> None:
    """Remove a folder at rest that may be nested deeper than a path can be long.

    Folders in a folder are moved up to the top before they are looked into, so depth never matters.
    """
    try:
        if not folder.is_symlink():
            folder.chmod(0o700)
        top = os.open(folder, _OPEN_FOLDER)
    except OSError:
        return
    try:
        counter = 0
        folders = _empty(top)
        while folders:
            name = folders.pop()
            inner = os.open(name, _OPEN_FOLDER, dir_fd=top)
            try:
                for child in _empty(inner):
                    moved = f".removing-{counter}"
                    counter += 1
                    os.rename(child, moved, src_dir_fd=inner, dst_dir_fd=top)
                    folders.append(moved)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _empty(fd: int) -> list[str]:
    """Remove what is not a folder; open and name the folders."""
    folders = []
    for name in os.listdir(fd):
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=fd)
            folders.append(name)
        else:
            os.unlink(name, dir_fd=fd)
    return folders
