"""Small moves on a file system that must survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk: a new or renamed file is only then there for good."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_bytes(folder: Path) -> int:
    """What the file system of `folder` still gives this process."""
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize
