"""Run by the crash tests as a process of its own: writes, and names on stdout what was acknowledged.

crash_child.py journal|limited <folder> <first number>
crash_child.py blobs <folder> <seed>
"""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path

import trio

from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.storage.errors import StorageFailed
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import Put, StoredRecord

WRITERS = 4


def acknowledge(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def record(writer: int, number: int) -> StoredRecord:
    """What a writer stores under a number; the test knows the content."""
    return StoredRecord(bytes([writer]) * 32, 1, number.to_bytes(8, "big"), b"%d/%d " % (writer, number) * 100)


async def write_journal(folder: Path, first: int) -> None:
    async def write(writer: int) -> None:
        number = first
        while True:
            await journal.commit([Put(record(writer, number))], durable=number % 2 == 0)
            acknowledge(f"{writer} {number}")
            number += 1

    with Journal.open(folder / "journal.db") as journal:
        assert journal.notices == []
        acknowledge("open")
        async with trio.open_nursery() as nursery:
            for writer in range(WRITERS):
                nursery.start_soon(write, writer)


async def write_until_the_disk_refuses(folder: Path, first: int) -> None:
    """The kernel refuses to let a file grow past the limit, as a broken disk would, not for lack of room."""
    with Journal.open(folder / "journal.db") as journal:
        acknowledge("open")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        number = first
        try:
            while True:
                await journal.commit([Put(record(0, number))], durable=True)
                acknowledge(f"0 {number}")
                number += 1
        except StorageFailed as error:
            acknowledge(f"failed {error.reason}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        try:
            await journal.commit([Put(record(0, number))], durable=True)
        except StorageFailed:
            acknowledge("still failed")
        acknowledge(f"readable {sum(1 for _ in journal.load())}")


def write_blobs(folder: Path, seed: int) -> None:
    store = BlobStore(folder, 1 << 30, min_free_bytes=0)
    acknowledge("open")
    rng = random.Random(seed)
    while True:
        digest = store.put_bytes(rng.randbytes(rng.choice([0, 10, 5000, 300_000])), durable=rng.random() < 0.3)
        acknowledge(digest.hex())


if __name__ == "__main__":
    job, place, start = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if job == "journal":
        trio.run(write_journal, place, start)
    elif job == "limited":
        trio.run(write_until_the_disk_refuses, place, start)
    else:
        write_blobs(place, start)
