"""A job's files on their way into the client's own store: whether there is room for them, how far, and an end to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import trio

from ...crypto.certificates import Quota
from ..storage.blobs import BlobStore
from .errors import ClientError
from .request import JobRequest

# Bytes that are copied, and of how many; called in the thread that copies, after each part, and when all are.
OnCopied = Callable[[int, int], None]


def no_word(done_bytes: int, total_bytes: int) -> None:
    """Tells nobody."""


class Copying:
    """One submission's copy; call it with the size of each part that was written. Only in a thread of trio's."""

    def __init__(self, total_bytes: int, on_copied: OnCopied) -> None:
        self._total_bytes = total_bytes
        self._on_copied = on_copied
        self._done_bytes = 0

    def __call__(self, part_bytes: int) -> None:
        """Raises trio.Cancelled if who waits for the copy does so no more."""
        trio.from_thread.check_cancelled()
        self._done_bytes += part_bytes
        self._on_copied(min(self._done_bytes, self._total_bytes), self._total_bytes)


def check_room(request: JobRequest, store: BlobStore, quota: Quota) -> int:
    """The bytes of a request's files, as far as they are known before they are read.

    quota: what the submitter's certificate lets it have at a node. Raises ClientError where they cannot fit.
    """
    sizes = dict(_sizes(request))
    total = sum(sizes.values())
    if not total:
        return 0
    largest = max(sizes, key=lambda name: sizes[name])
    what = f"the job's files are {gigabytes(total)} together, the largest is {largest}"
    if quota.bytes and total > quota.bytes:
        raise ClientError(f"{what}: a node takes at most {gigabytes(quota.bytes)} of this submitter (its certificate)")
    room, reason = store.room()
    if total > room:
        raise ClientError(f"{what}: there is room for {gigabytes(max(0, room))} in {store.root} ({reason})")
    return total


def gigabytes(size_bytes: int) -> str:
    """In a unit that a person would use."""
    if size_bytes < 10_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes < 1_000_000_000 else f"{size_bytes / 1e9:.1f} GB"


def _sizes(request: JobRequest) -> Iterator[tuple[str, int]]:
    """By the names that the files have in the system, or in the job."""
    for name, content in request.files.items():
        yield _size(name, content)
    if not isinstance(request.comparator, str):
        yield _size("the comparator", request.comparator)
    if request.runtime != "native":
        yield _size("the program", Path(request.program) if isinstance(request.program, str) else request.program)


def _size(name: str, content: bytes | Path) -> tuple[str, int]:
    """0 for what cannot be looked at: reading it says why."""
    if isinstance(content, bytes):
        return name, len(content)
    with suppress(OSError):
        return os.path.realpath(content), content.stat().st_size
    return name, 0
