"""How fast this disk and this machine take records and blobs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from ..storage.blobs import BlobStore
from ..storage.journal import Journal
from ..storage.records import Put, StoredRecord

RECORD_BYTES = 300
BLOB_BYTES = 1 << 20
CALLERS = 64


def bench_storage(folder: Path, scale: float = 1.0) -> dict[str, float]:
    """Measure in a temporary folder under `folder`, for about 2 s at scale 1; must not run inside trio.

    Commits are of one record of 300 bytes. `single_*` are made one after another, `merged_*` by 64 tasks at once;
    `fsync_us_p50` is what the disk itself takes for 4 KiB, to be subtracted from the durable ones.
    """
    with TemporaryDirectory(dir=folder) as place:
        return {
            **trio.run(_bench_journal, Path(place), scale),
            **_bench_blobs(Path(place) / "blobs", scale),
            "fsync_us_p50": _fsync_us(Path(place) / "probe", max(20, int(200 * scale))),
        }


async def _bench_journal(folder: Path, scale: float) -> dict[str, float]:
    numbers: dict[str, float] = {}
    with Journal.open(folder / "journal.db") as journal:
        for durable, name in ((True, "durable"), (False, "quick")):
            times_us = await _commit_singly(journal, max(20, int(1000 * scale)), durable)
            numbers[f"single_{name}_us_p50"] = _quantile(times_us, 0.50)
            numbers[f"single_{name}_us_p99"] = _quantile(times_us, 0.99)
            numbers[f"single_{name}_per_s"] = len(times_us) / sum(times_us) * 1e6
            numbers[f"merged_{name}_per_s"] = await _commit_merged(journal, max(2, int(150 * scale)), durable)
    return numbers


async def _commit_singly(journal: Journal, count: int, durable: bool) -> list[float]:
    times_us = []
    for number in range(count):
        write = Put(StoredRecord(b"s" * 32, int(durable), number.to_bytes(8, "big"), bytes(RECORD_BYTES)))
        start = time.perf_counter()
        await journal.commit([write], durable=durable)
        times_us.append((time.perf_counter() - start) * 1e6)
    return times_us


async def _commit_merged(journal: Journal, rounds: int, durable: bool) -> float:
    async def caller(first: int) -> None:
        for number in range(first, first + rounds):
            record = StoredRecord(b"m" * 32, int(durable), number.to_bytes(8, "big"), bytes(RECORD_BYTES))
            await journal.commit([Put(record)], durable=durable)

    start = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for caller_number in range(CALLERS):
            nursery.start_soon(caller, caller_number * rounds)
    return CALLERS * rounds / (time.perf_counter() - start)


def _bench_blobs(root: Path, scale: float) -> dict[str, float]:
    contents = [os.urandom(BLOB_BYTES) for _ in range(max(4, int(64 * scale)))]
    store = BlobStore(root, 2 * BLOB_BYTES * len(contents) + (1 << 20), min_free_bytes=0)
    total_mb = len(contents) * BLOB_BYTES / 1e6
    numbers: dict[str, float] = {}
    for durable, name in ((False, "quick"), (True, "durable")):
        start = time.perf_counter()
        digests = [store.put_bytes(content, durable=durable) for content in contents]
        numbers[f"blob_put_{name}_mb_per_s"] = total_mb / (time.perf_counter() - start)
        start = time.perf_counter()
        for digest in digests:
            store.read(digest)
        numbers["blob_read_mb_per_s"] = total_mb / (time.perf_counter() - start)
        for digest in digests:
            store.discard(digest)
    return numbers


def _fsync_us(path: Path, count: int) -> float:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        times_us = []
        for number in range(count):
            os.pwrite(handle, bytes(4096), number * 4096)
            start = time.perf_counter()
            os.fdatasync(handle)
            times_us.append((time.perf_counter() - start) * 1e6)
        return _quantile(times_us, 0.50)
    finally:
        os.close(handle)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
