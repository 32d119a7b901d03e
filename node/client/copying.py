"""A job's files and inputs on their way into the client's own store: if there is room for them, how far, and an end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from ...crypto.certificates import Quota
from ...protocol.records import JobSpec
from ..storage.blobs import QUOTA, BlobStore
from .errors import ClientError
from .request import JobInputs, JobRequest, check_module, size_of

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


async def copy(
    request: JobRequest,
    build: Callable[..., JobSpec],
    store: BlobStore,
    pin: bytes,
    quota: Quota,
    on_copied: OnCopied = no_word,
) -> JobSpec:
    """The spec that `build` makes of the request in a thread, with its blobs in the store, held under the pin.

    quota: as of `check_room`.  Where it fails or is cancelled, nothing is left of what it alone brought. Raises
    ClientError, StorageError.
    """
    before = frozenset(store.digests())
    try:
        await trio.to_thread.run_sync(check_module, request)
        total = await trio.to_thread.run_sync(check_room, request, store, quota)
        spec = await trio.to_thread.run_sync(partial(build, told=Copying(total, on_copied)))
        on_copied(total, total)
        return spec
    except BaseException:  # boundary: cancelled or failed, what it alone brought goes
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(store.take_back, pin, before)
        raise


def check_room(request: JobRequest, store: BlobStore, quota: Quota) -> int:
    """The bytes of a request's files and inputs, as far as they are known before they are read.

    quota: what the submitter's certificate lets it have at a node. Raises ClientError where they cannot fit.
    """
    sizes = dict(_sizes(request))
    total = sum(sizes.values())
    if not total:
        return 0
    largest = max(sizes, key=lambda name: sizes[name])
    what = f"the job's files are {gigabytes(total)} together, the largest part is {largest}"
    if quota.bytes and total > quota.bytes:
        most = f"a node takes at most {gigabytes(quota.bytes)} of this submitter (its certificate)"
        raise ClientError(f"{what}: {most}; make several jobs of it, or ask the mesh's authority for more")
    room, reason = store.room()
    if total > room:
        hint = "put client.state on a larger disk, or free some of this one"
        if reason == QUOTA:
            hint = "make several jobs of it, and submit one when the one before is"
        raise ClientError(f"{what}: there is room for {gigabytes(max(0, room))} in {store.root} ({reason}); {hint}")
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
    yield "the inputs", _input_bytes(request)
    if not isinstance(request.comparator, str):
        yield _size("the comparator", request.comparator)
    if request.runtime != "native":
        yield _size("the program", Path(request.program) if isinstance(request.program, str) else request.program)


def _input_bytes(request: JobRequest) -> int:
    """0 of those that are made as they are read."""
    if isinstance(request.inputs, JobInputs):
        with suppress(OSError):
            return request.inputs.size_bytes()
    return sum(map(size_of, request.inputs)) if isinstance(request.inputs, Sequence) else 0


def _size(name: str, content: bytes | Path) -> tuple[str, int]:
    """0 for what cannot be looked at: reading it says why."""
    if isinstance(content, bytes):
        return name, len(content)
    with suppress(OSError):
        return os.path.realpath(content), content.stat().st_size
    return name, 0
