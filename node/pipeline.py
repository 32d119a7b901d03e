"""Persist before send: what rests on a write leaves once the write is on disk, everything else at once.

Writes of several events share a commit. A write that no message waits for lingers a little, so that the next
acknowledgement's commit takes it along; while one commit is on its way, whatever comes queues behind it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from ..protocol.messages import Message, keeps_its_place, rests_on_disk
from .storage.errors import StorageError
from .storage.records import Write

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

STORAGE_RETRY_S = 1.0
# A crash loses what lingers. Nobody was told of it, and the other replicas have it: it costs one reconciliation.
# A little longer than `stored_delay_us`, so that results go to disk with the commit that acknowledges them.
LINGER_S = 0.5
# So many writes are a commit worth its while, whoever waits.
LINGERING_MAX = 512


class RecordStore(Protocol):
    """Where rows live: the journal, or for a client that keeps nothing, memory."""

    def submit(self, writes: Sequence[Write], done: Callable[[StorageError | None], None]) -> None:
        """Put the writes on disk, all or none; then call `done` on the trio thread, maybe before this returns."""

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message on its way to a peer."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class OutgoingBatch:
    """A batch of results that is read from the disk when it leaves."""

    peer: bytes
    job_id: bytes
    batch_id: bytes


class Pipeline:
    """Writes in, messages in, both in the order of the machine's effects; `deliver` for each message that may leave.

    failed(reason), recovered(): told when the disk takes nothing, and when it does again.
    left(): told after messages were delivered outside of a call of `send`. Neither may raise.
    """

    def __init__(
        self,
        store: RecordStore,
        deliver: Callable[[Outgoing | OutgoingBatch], None],
        *,
        left: Callable[[], None],
        failed: Callable[[str], None],
        recovered: Callable[[], None],
    ) -> None:
        self._store = store
        self._deliver = deliver
        self._left = left
        self._failed = failed
        self._recovered = recovered
        self._queue: deque[Write | Outgoing | OutgoingBatch] = deque()
        self._committing = False
        self._awaited = False
        self._over = False
        self._unwritten: list[Write] = []
        self._linger = trio.CancelScope()
        self._retry = trio.Event()
        self._settled = trio.lowlevel.ParkingLot()

    @property
    def idle(self) -> bool:
        """Nothing is on its way to the disk, and nothing waits for it. What could not be written is no part of it."""
        return not self._queue and not self._committing

    def write(self, write: Write) -> None:
        """Will be on disk before any later message that rests on it leaves, and soon in any case."""
        if self._unwritten:
            self._unwritten.append(write)
            return
        self._queue.append(write)
        if self._committing:
            return
        if len(self._queue) >= LINGERING_MAX:
            self._commit()
        elif math.isinf(self._linger.deadline):
            self._linger.deadline = trio.current_time() + LINGER_S

    def send(self, outgoing: Outgoing | OutgoingBatch) -> None:
        """Deliver it: now, or after the commit of all that was written before."""
        waits = isinstance(outgoing, OutgoingBatch) or keeps_its_place(outgoing.message)
        if waits and not self.idle:
            self._queue.append(outgoing)
            self._awaited = True
        elif self._may_leave(outgoing):
            self._deliver(outgoing)

    def flush(self) -> None:
        """Commit what waits, if the disk is free; for the end of a turn, when all its writes are known."""
        if self._awaited and not self._committing:
            self._commit()

    def _may_leave(self, outgoing: Outgoing | OutgoingBatch) -> bool:
        """While the disk takes nothing, a node says nothing that rests on it; batches that are there it still reads."""
        return not self._unwritten or isinstance(outgoing, OutgoingBatch) or not rests_on_disk(outgoing.message)

    async def run(self) -> None:
        """Commit what has lingered long enough, and try again what could not be written; until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._retry_forever)
                while True:
                    waits = self._queue and not self._committing
                    deadline = trio.current_time() + LINGER_S if waits else math.inf
                    with trio.CancelScope(deadline=deadline) as self._linger:
                        await trio.sleep_forever()
                    if self._queue and not self._committing:
                        self._commit()
        finally:
            # A commit that is under way ends after this; nobody is there to be told.
            self._over = True

    async def settled(self) -> None:
        """Return when all that was written and sent before this call is on disk and delivered."""
        while not self.idle:
            if not self._committing:
                self._commit()
            if self._committing:
                await self._settled.park()

    def _commit(self) -> None:
        turn, self._queue = self._queue, deque()
        self._awaited = False
        self._linger.deadline = math.inf
        writes = [item for item in turn if not isinstance(item, Outgoing | OutgoingBatch)]
        if not writes:
            self._end_turn(turn)
            return
        self._committing = True
        self._store.submit(writes, lambda error: self._on_committed(turn, writes, error))

    def _on_committed(
        self, turn: deque[Write | Outgoing | OutgoingBatch], writes: list[Write], error: StorageError | None
    ) -> None:
        self._committing = False
        if self._over:
            return
        if error is not None:
            log.error("storage.failed", reason=str(error))
            turn.extend(self._queue)
            self._unwritten.extend(item for item in turn if not isinstance(item, Outgoing | OutgoingBatch))
            self._queue.clear()
            self._awaited = False
            self._retry.set()
            self._failed(str(error))
        self._end_turn(turn)
        if self._committing:
            return  # what was delivered led to more, and that is on its way already
        if self._awaited or len(self._queue) >= LINGERING_MAX:
            self._commit()
        elif self._queue:
            self._linger.deadline = trio.current_time() + LINGER_S

    def _end_turn(self, turn: deque[Write | Outgoing | OutgoingBatch]) -> None:
        for item in turn:
            if isinstance(item, Outgoing | OutgoingBatch) and self._may_leave(item):
                self._deliver(item)
        self._left()
        if self._settled:
            self._settled.unpark_all()

    async def _retry_forever(self) -> None:
        """Try what could not be written until it can; nothing was acknowledged meanwhile, so nothing is lost."""
        while True:
            await self._retry.wait()
            self._retry = trio.Event()
            while self._unwritten:
                await trio.sleep(STORAGE_RETRY_S)
                pending = list(self._unwritten)
                if await self._stored(pending):
                    del self._unwritten[: len(pending)]
                    log.info("storage.recovered", writes=len(pending))
            self._recovered()

    async def _stored(self, writes: Sequence[Write]) -> bool:
        finished = trio.Event()
        errors: list[StorageError | None] = []

        def done(error: StorageError | None) -> None:
            errors.append(error)
            finished.set()

        self._store.submit(writes, done)
        await finished.wait()
        return errors == [None]
