"""Small moves on a file system that must survive a power cut, and errors with a type."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StorageFailed, StorageFull


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk: a new or renamed file is only then there for good."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """The old file or the new one is there whole, also after a power cut. mode: less the umask. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def free_bytes(folder: Path) -> int:
    """What the file system of `folder` still gives this process."""
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize


@contextmanager
def typed_errors(where: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn OSError into StorageFull or StorageFailed."""
    try:
        yield
    except OSError as error:
        raise as_typed(error, where, needed_bytes) from error


def as_typed(error: OSError, where: Path, needed_bytes: int) -> StorageFull | StorageFailed:
    """The typed form of what the system said about `where`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(where, needed_bytes, free_bytes(where.parent))
    return StorageFailed(where, error.strerror or str(error))
