"""One process per state: an advisory lock on a file that the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from .errors import StorageFailed, StorageLocked


class FileLock:
    """Exclusive hold on `path`, from construction to `release`; the file holds the owner's process id.

    Raises StorageLocked if another process (or another FileLock of this one) has it, StorageFailed if the
    file cannot be made. The file stays after the release: removing it would let two holders in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageFailed(path, f"cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = read_holder(path)
            os.close(self._fd)
            raise StorageLocked(path, holder) from None
        except OSError as error:
            os.close(self._fd)
            raise StorageFailed(path, f"cannot be locked: {error.strerror}") from error
        self._held = True
        self._write_holder()

    def _write_holder(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass  # a full disk must not keep a node from starting: the lock holds without the number

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._held:
            self._held = False
            try:
                os.ftruncate(self._fd, 0)
            finally:
                os.close(self._fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def read_holder(path: Path) -> int | None:
    """The process id written in a lock file, or None; it may be stale unless the lock is held."""
    try:
        with open(path, "rb") as file:
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
