"""What waits for the disk, and what becomes of it when the node ends meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
import trio.testing

from hearthmesh.node.pipeline import LINGER_S, LINGERING_MAX, Outgoing, OutgoingBatch, Pipeline
from hearthmesh.node.storage.errors import StorageError
from hearthmesh.node.storage.records import Put, StoredRecord, Write
from hearthmesh.protocol.messages import Leaving, Ping, Stored

PEER, JOB, BATCH = b"p" * 32, b"j" * 32, b"b" * 32
STORED = Outgoing(PEER, Stored(JOB, (BATCH,)))


class Disk:
    """Commits end when the test says so."""

    def __init__(self) -> None:
        self.commits: list[tuple[Sequence[Write], Callable[[StorageError | None], None]]] = []

    def submit(self, writes: Sequence[Write], done: Callable[[StorageError | None], None]) -> None:
        self.commits.append((writes, done))

    def end_one(self) -> None:
        self.commits.pop(0)[1](None)

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        return None


def put(number: int) -> Put:
    return Put(StoredRecord(JOB, 1, b"%d" % number, b""))


def make() -> tuple[Pipeline, Disk, list[object]]:
    disk, delivered = Disk(), list[object]()
    pipeline = Pipeline(
        disk,
        delivered.append,
        left=lambda: None,
        failed=lambda reason: None,
        recovered=lambda: delivered.append("well"),
    )
    return pipeline, disk, delivered


async def test_writes_that_nobody_waits_for_linger_and_then_share_a_commit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    pipeline, disk, _ = make()
    nursery.start_soon(pipeline.run)
    pipeline.write(put(1))
    pipeline.write(put(2))
    assert disk.commits == []
    await trio.sleep(2 * LINGER_S)
    assert [list(writes) for writes, _ in disk.commits] == [[put(1), put(2)]]


def test_many_writes_wait_for_nothing() -> None:
    async def main() -> None:
        pipeline, disk, _ = make()
        for number in range(LINGERING_MAX):
            pipeline.write(put(number))
        assert [len(writes) for writes, _ in disk.commits] == [LINGERING_MAX]

    trio.run(main)


async def test_what_rests_waits_for_all_writes_before_it_and_the_rest_does_not(nursery: trio.Nursery) -> None:
    pipeline, disk, delivered = make()
    pipeline.write(put(1))
    pipeline.send(STORED)
    pipeline.flush()
    pipeline.write(put(2))
    pipeline.send(Outgoing(PEER, Stored(JOB, ())))
    pipeline.send(Outgoing(PEER, Ping(1)))
    assert delivered == [Outgoing(PEER, Ping(1))]
    disk.end_one()
    assert delivered[1:] == [STORED]
    disk.end_one()
    assert delivered[2:] == [Outgoing(PEER, Stored(JOB, ()))]


async def test_a_commit_that_ends_after_the_node_tells_nobody(nursery: trio.Nursery) -> None:
    """Neither a batch is read from a closed journal, nor what waits behind it written to one."""
    pipeline, disk, delivered = make()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(pipeline.run)
            await trio.testing.wait_all_tasks_blocked()
            pipeline.write(put(1))
            pipeline.send(OutgoingBatch(PEER, JOB, BATCH))
            pipeline.flush()
            pipeline.write(put(2))
            pipeline.send(STORED)
            scope.cancel()
    disk.end_one()
    assert delivered == [] and disk.commits == []


async def test_a_goodbye_overtakes_nothing_that_was_said_before(nursery: trio.Nursery) -> None:
    pipeline, disk, delivered = make()
    nursery.start_soon(pipeline.run)
    goodbye = Outgoing(PEER, Leaving(1))
    pipeline.write(put(1))
    pipeline.send(STORED)
    pipeline.send(goodbye)
    pipeline.send(Outgoing(PEER, Ping(1)))
    pipeline.flush()
    assert delivered == [Outgoing(PEER, Ping(1))]
    disk.end_one()
    assert delivered == [Outgoing(PEER, Ping(1)), STORED, goodbye]


async def test_a_goodbye_leaves_although_the_disk_takes_nothing(nursery: trio.Nursery) -> None:
    pipeline, disk, delivered = make()
    nursery.start_soon(pipeline.run)
    pipeline.write(put(1))
    pipeline.send(STORED)
    pipeline.send(Outgoing(PEER, Leaving(1)))
    pipeline.flush()
    disk.commits.pop(0)[1](StorageError("no space left"))
    assert delivered == [Outgoing(PEER, Leaving(1))]
