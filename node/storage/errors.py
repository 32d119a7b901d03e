"""What can go wrong with a node's disk; each error says in one line what happened and what is still true."""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """The world's fault: a disk, a folder or a file on it. Nothing that was acknowledged before is lost."""


class StorageFull(StorageError):
    """There is no room for this write. It left no trace; what was acknowledged stays, reads go on."""

    def __init__(self, where: Path, needed_bytes: int, free_bytes: int) -> None:
        super().__init__(f"{where}: no room for {needed_bytes} bytes ({free_bytes} free)")
        self.where = where
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class StorageFailed(StorageError):
    """The disk or the file under `where` does not work; only a restart of the node tries it again."""

    def __init__(self, where: Path, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class StorageLocked(StorageError):
    """Another process has this state. `holder` is its process id, where it could be read."""

    def __init__(self, where: Path, holder: int | None) -> None:
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"{where}: in use by {who}; stop it, or choose another state folder")
        self.where = where
        self.holder = holder


class StorageIncompatible(StorageError):
    """The file was not written by this program, or by a newer one; it was left as it is."""

    def __init__(self, where: Path, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


class QuotaExceeded(StorageError):
    """The blobs in use leave too little of the quota. Sizes in bytes; `free` with all eviction can give."""

    def __init__(self, needed: int, free: int, pinned: int) -> None:
        super().__init__(f"blob store: {needed} bytes wanted, {free} can be freed, {pinned} are in use")
        self.needed = needed
        self.free = free
        self.pinned = pinned


class BlobMissing(StorageError):
    """No blob of this digest is here (any more)."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"blob {digest.hex()} is not here")
        self.digest = digest


class BlobMismatch(StorageError):
    """What was sent is not the blob that was announced; it was thrown away."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"expected {expected}, received {actual}")
        self.expected = expected
        self.actual = actual
