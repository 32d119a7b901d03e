"""Files of confidential tasks in the clear, in memory: a folder on a file system that has no disk.

Sandboxed processes take programs and inputs as files, and so they are files; on tmpfs. Its pages may be swapped:
whoever runs confidential jobs has encrypted swap or none (docs/confidentiality.md). The folder is emptied when the node
starts and when it ends; a node that is killed leaves it to its next start, or to the power switch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
_IN_MEMORY = ("tmpfs", "ramfs")
_NAME_BYTES = 16


class SecretFolderError(Exception):
    """There is no place in memory, or no room. One line."""


class SecretFolder:
    """One node's. shared: its tasks run as other users, who find what they are given by names that nobody can guess."""

    def __init__(self, state: Path, *, shared: bool = False, base: Path | None = None) -> None:
        """Raises SecretFolderError. state: the node's, which names the folder."""
        self.root = (base or memory_folder()) / _name_for(state)
        self._shared = shared
        try:
            if self.root.is_symlink():
                self.root.unlink()
            shutil.rmtree(self.root, ignore_errors=True)
            self.root.mkdir(mode=0o700)
            if shared:
                self.root.chmod(0o711)
        except OSError as error:
            raise SecretFolderError(f"{self.root}: {error.strerror}") from error
        self._jobs: dict[bytes, Path] = {}

    def job(self, job_id: bytes) -> Path:
        """The job's own folder. Raises SecretFolderError."""
        folder = self._jobs.get(job_id)
        if folder is None:
            folder = self.root / os.urandom(_NAME_BYTES).hex()
            try:
                folder.mkdir(mode=0o700)
                if self._shared:
                    folder.chmod(0o711)
            except OSError as error:
                raise SecretFolderError(f"{folder}: {error.strerror}") from error
            self._jobs[job_id] = folder
        return folder

    def write(self, job_id: bytes, name: str, parts: Iterable[bytes]) -> Path:
        """A file of the job's, whole or not at all. Raises SecretFolderError, and what the parts raise."""
        path = self.job(job_id) / name
        fresh = path.with_name(f".{name}.{os.urandom(4).hex()}")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                for part in parts:
                    file.write(part)
            fresh.chmod(0o444 if self._shared else 0o400)
            os.replace(fresh, path)
        except OSError as error:
            raise SecretFolderError(f"no room in memory for a confidential job's files: {error.strerror}") from error
        finally:
            fresh.unlink(missing_ok=True)
        return path

    def forget(self, job_id: bytes) -> None:
        folder = self._jobs.pop(job_id, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        self._jobs.clear()
        shutil.rmtree(self.root, ignore_errors=True)


def remove_secrets(state: Path) -> None:
    """What a node that was killed left in memory, as its next start would. state: the node's, which does not run."""
    for base in _places():
        shutil.rmtree(base / _name_for(state), ignore_errors=True)


def _name_for(state: Path) -> str:
    """The same for every spelling of the folder's path, over links too."""
    return f"hearthmesh-{hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:24]}"


def _places() -> tuple[Path, Path]:
    return SHARED_MEMORY, Path(os.environ.get("XDG_RUNTIME_DIR") or SHARED_MEMORY)


def memory_folder() -> Path:
    """Where files lie in memory: /dev/shm, or the user's run-time folder. Raises SecretFolderError."""
    for path in _places():
        if os.access(path, os.W_OK) and is_in_memory(path):
            return path
    raise SecretFolderError(f"{SHARED_MEMORY} is no file system in memory, so confidential jobs cannot run here")


def is_in_memory(path: Path) -> bool:
    """Whether what is written there reaches no disk, but by swapping."""
    found, longest = "", -1
    target = path.resolve()
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        fields, _, more = line.partition(" - ")
        mount = Path(fields.split()[4].encode().decode("unicode_escape"))
        if target.is_relative_to(mount) and len(mount.parts) >= longest:
            found, longest = more.split()[0], len(mount.parts)
    return found in _IN_MEMORY
