"""The layout of a node's state folder, and the hold on it that keeps a second node out."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import StorageFailed
from .files import sync_folder, typed_errors
from .lock import FileLock, read_holder

# sun_path holds 108 bytes with its final zero on Linux, 104 on macOS.
MAX_SOCKET_PATH_BYTES = 103


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where a node's things are. Making one touches nothing; `create` and `lock` do."""

    root: Path

    @property
    def identity_key(self) -> Path:
        """The node's Ed25519 key, encrypted or with mode 0600."""
        return self.root / "identity.key"

    @property
    def certificate(self) -> Path:
        """The mesh authority's word that this node belongs."""
        return self.root / "certificate"

    @property
    def journal(self) -> Path:
        return self.root / "journal.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def cache(self) -> Path:
        """Compiled modules and the like: may be deleted at any time while no node runs."""
        return self.root / "cache"

    @property
    def memory(self) -> Path:
        """A client's: whose results it found right or wrong."""
        return self.root / "memory"

    @property
    def checkpoints(self) -> Path:
        return self.root / "ckpt"

    @property
    def calibration(self) -> Path:
        """Watts of 1 … n busy cores, as `hearth calibrate` found them."""
        return self.root / "power.json"

    @property
    def found(self) -> Path:
        """What the kernel's files held before the node bounded the machine's power, while it does."""
        return self.root / "found.json"

    @property
    def heat(self) -> Path:
        """What the heater was told and has learnt, for its next start."""
        return self.root / "heat.json"

    @property
    def pid_file(self) -> Path:
        """Holds the running node's process id; it is the lock as well."""
        return self.root / "node.pid"

    @property
    def control_socket(self) -> Path:
        """The local API's Unix socket: in the folder, or under the temporary one where the path is too long.

        The same for every process of this user, whatever its working folder.
        """
        path = self.root.absolute() / "control.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        name = hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"hearth-{os.geteuid()}-{name}" / "control.sock"

    def create(self) -> None:
        """Make what is missing, with mode 0700. Safe to repeat.

        An existing root keeps its mode, but must be ours and not writable by others; an empty one is closed
        to them. Raises StorageFailed or StorageFull, with what to do in the message.
        """
        with typed_errors(self.root):
            self._create_root()
            for folder in (self.blobs, self.cache, self.checkpoints):
                _make_private(folder)
            sync_folder(self.root)

    def make_control_folder(self) -> None:
        """Where the control socket goes, if that is not the folder itself. Raises StorageFailed."""
        if self.control_socket.parent != self.root.absolute():
            with typed_errors(self.control_socket.parent):
                _make_private(self.control_socket.parent)

    def remove_control_socket(self) -> None:
        """What a node leaves behind that was killed; and, for a long path, the folder outside."""
        path = self.control_socket
        path.unlink(missing_ok=True)
        if path.parent != self.root.absolute():
            with suppress(OSError):
                path.parent.rmdir()

    def lock(self) -> FileLock:
        """Take the folder until `release` or this process's death. Raises StorageLocked, StorageFailed."""
        return FileLock(self.pid_file)

    def holder(self) -> int | None:
        """The process id of the node that has the folder, or None if there is none."""
        pid = read_holder(self.pid_file)
        if pid is None:
            return None
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            return pid
        return pid

    def _create_root(self) -> None:
        self.root.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.root.mkdir(mode=0o700)
            return
        except FileExistsError:
            pass
        stats = self.root.stat()
        if not stat.S_ISDIR(stats.st_mode):
            raise StorageFailed(self.root, "is not a folder; choose another path for the state")
        if stats.st_uid != os.geteuid():
            raise StorageFailed(self.root, "belongs to another user; choose another path for the state")
        if stats.st_mode & 0o022:
            if any(self.root.iterdir()):
                raise StorageFailed(self.root, "others may write to it; run `chmod go-w` or choose another")
            self.root.chmod(0o700)


def _make_private(folder: Path) -> None:
    """A folder that only we can enter; refuses one that somebody else put there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    stats = folder.lstat()
    if not stat.S_ISDIR(stats.st_mode) or stats.st_uid != os.geteuid():
        raise StorageFailed(folder, "is not a folder of this user; remove it")
    if stats.st_mode & 0o077:
        folder.chmod(0o700)
