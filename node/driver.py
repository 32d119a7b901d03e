"""The only owner of a `Mesh`: one event at a time, effects in order, on disk before on the wire.

Effects of several events share a commit: while one is on its way to the disk, writes and messages queue behind it,
and the next commit takes them all. A message never leaves before the writes that came before it are durable.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

import structlog
import trio

from ..crypto.bounded import DecodeError
from ..crypto.certificates import Certificate
from ..protocol.codec import decode_message, encode_message
from ..protocol.effects import (
    CancelExecution,
    CancelTimer,
    Connect,
    Disconnect,
    Effect,
    Execute,
    FetchBlobs,
    Forget,
    LearnAddress,
    Notify,
    Penalise,
    Persist,
    Publish,
    Reason,
    Send,
    SendBatch,
    SetTimer,
    TimerKey,
    Unpersist,
    UnpinBlobs,
)
from ..protocol.events import (
    BlobsFailed,
    BlobsFetched,
    Event,
    PeerConnected,
    PeerLost,
    PeerUnreachable,
    Received,
    Started,
    StorageFailed,
    StorageRecovered,
    StoredRow,
    TimerFired,
)
from ..protocol.mesh import Mesh
from ..protocol.messages import (
    Announce,
    Delivery,
    Granted,
    HandOn,
    Message,
    Records,
    Revocations,
    Stored,
    Submitted,
)
from ..protocol.outbox import OWED_COLUMNS_ROW
from ..protocol.records import RecordKind
from ..protocol.replica import COLUMNS_ROW
from .storage import errors as storage_errors
from .storage.records import Delete, Put, StoredRecord, Write
from .storage.records import Forget as ForgetWrite

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# What a node says when a record is on its disk; never said while writes fail.
_ACKNOWLEDGEMENTS = (Stored, Submitted, Granted, HandOn, Records)
STORAGE_RETRY_S = 1.0
EVENTS_A_TURN_MAX = 64
# Unhandled messages of one peer, of at most 4 MiB each and 300 B mostly, before it has to wait.
MESSAGES_A_PEER_MAX = 64
# A peer that broke this many rules within a minute is cut off for that long.
PENALTIES_MAX = 20
PENALTY_WINDOW_US = 60_000_000
WALL_CLOCK_CHECK_S = 5.0


class RecordStore(Protocol):
    """Where rows live: the journal, or for a client that keeps nothing, memory."""

    async def commit(self, writes: Sequence[Write], *, durable: bool) -> None: ...

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None: ...


class Transport(Protocol):
    """What the driver asks of the links."""

    def send(self, peer: bytes, payload: bytes) -> None: ...

    def publish(self, payload: bytes) -> None: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def close(self, peer: bytes, reason: str) -> None: ...

    def recheck(self) -> None: ...


class Blobs(Protocol):
    """Bringing blobs here, and keeping those that are needed."""

    async def fetch(self, digests: Collection[bytes], sources: Sequence[bytes], pin: bytes) -> None: ...

    def unpin(self, owner: bytes) -> None: ...


class Runner(Protocol):
    """Runs executions; feeds `TaskFinished` or `ExecutionFailed` when they end."""

    def start(self, run: Execute) -> None: ...

    def cancel(self, execution_id: int) -> None: ...


class BlobsUnavailable(Exception):
    """A blob could not be brought here. The text is for the one who waits for it."""


@dataclass(frozen=True, slots=True)
class _Outgoing:
    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class _OutgoingBatch:
    peer: bytes
    job_id: bytes
    batch_id: bytes


def monotonic_us() -> int:
    """The clock of all machines and timers on this node."""
    return time.monotonic_ns() // 1_000


class Driver:
    """Runs one machine; also the transport's handler. `feed` may be called from any trio task."""

    def __init__(self, mesh: Mesh, store: RecordStore) -> None:
        self.mesh = mesh
        self._store = store
        self._transport: Transport | None = None
        self._blobs: Blobs | None = None
        self._runner: Runner | None = None
        self._nursery: trio.Nursery | None = None
        self._inbox: deque[Event] = deque()
        self._waiting: dict[bytes, int] = {}
        self._wake = trio.Event()
        self._timers: dict[TimerKey, int] = {}
        self._timer_heap: list[tuple[int, int, TimerKey]] = []
        self._timer_count = 0
        self._pipeline: deque[Write | _Outgoing | _OutgoingBatch] = deque()
        self._committing = False
        self._commit_wake = trio.Event()
        self._unwritten: list[Write] = []
        self._penalties: dict[bytes, deque[int]] = {}
        self._banned_until: dict[bytes, int] = {}
        self._changed = trio.Event()
        self._settled = trio.Event()
        self.observers: list[Callable[[Notify], None]] = []
        self.rejections: deque[tuple[bytes, str]] = deque(maxlen=64)

    def attach(self, transport: Transport, blobs: Blobs | None, runner: Runner | None) -> None:
        """Connect the machine's world; before `run`."""
        self._transport, self._blobs, self._runner = transport, blobs, runner

    # -- events in -----------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        self._inbox.append(event)
        self._wake.set()

    async def room(self, peer: bytes) -> None:
        """Back-pressure: a peer whose messages wait here is not read from until they are handled."""
        while self._waiting.get(peer, 0) >= MESSAGES_A_PEER_MAX:
            await self._changed.wait()

    def on_connected(self, peer: bytes, certificate: Certificate) -> None:
        if self._banned_until.get(peer, 0) > monotonic_us():
            self._require_transport().close(peer, "banned for a minute after breaking rules")
            return
        self.feed(PeerConnected(peer, int(certificate.roles)))

    def on_lost(self, peer: bytes, reset: bool) -> None:
        self.feed(PeerLost(peer, reset))

    def on_message(self, peer: bytes, payload: bytes) -> None:
        message = self._decoded(peer, payload)
        if message is not None:
            self._receive(peer, message)

    def on_gossip(self, source: bytes, payload: bytes) -> None:
        """source: who signed it, maybe nobody that was ever admitted here: only signed news is heard from it."""
        message = self._decoded(source, payload)
        if isinstance(message, Announce | Revocations):
            self._receive(source, message)
        elif message is not None:
            self._penalise(source, Reason.MALFORMED)

    def _decoded(self, peer: bytes, payload: bytes) -> Message | None:
        try:
            return decode_message(payload)
        except DecodeError as error:
            log.debug("peer.malformed", peer=peer.hex()[:16], reason=str(error))
            self._penalise(peer, Reason.MALFORMED)
            return None

    def _receive(self, peer: bytes, message: Message) -> None:
        self._waiting[peer] = self._waiting.get(peer, 0) + 1
        self.feed(Received(peer, message))

    def on_unreachable(self, peer: bytes) -> None:
        self.feed(PeerUnreachable(peer))

    def on_rejected(self, peer: bytes, reason: str) -> None:
        self.rejections.append((peer, reason))
        log.warning("peer.rejected", peer=peer.hex()[:16], reason=reason)

    # -- running -------------------------------------------------------------------------------------------

    async def run(
        self, rows: tuple[StoredRow, ...], *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the machine with what the last life persisted, then handle events until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._commit_forever)
            nursery.start_soon(self._follow_wall_clock)
            self._perform(self.mesh.handle(Started(rows), monotonic_us()))
            task_status.started()
            await self._handle_forever()

    async def _handle_forever(self) -> None:
        while True:
            if not self._inbox:
                self._wake = trio.Event()
                with trio.move_on_after(self._until_timer_s()):
                    await self._wake.wait()
            else:
                await trio.lowlevel.checkpoint()
            now_us = monotonic_us()
            self._fire_due(now_us)
            for _ in range(min(len(self._inbox), EVENTS_A_TURN_MAX)):
                event = self._inbox.popleft()
                if isinstance(event, Received):
                    self._count_handled(event.peer)
                self._perform(self.mesh.handle(event, now_us))
            self._changed.set()
            self._changed = trio.Event()

    def _count_handled(self, peer: bytes) -> None:
        left = self._waiting.get(peer, 0) - 1
        if left > 0:
            self._waiting[peer] = left
        else:
            self._waiting.pop(peer, None)

    async def changed(self) -> None:
        """Wait until the machine has handled something more."""
        await self._changed.wait()

    async def settled(self) -> None:
        """Wait until every event fed so far is handled, and what it wrote and sent is on disk and in the links."""
        while self._inbox or self._pipeline or self._committing:
            await self._changed.wait() if self._inbox else await self._settled.wait()

    def _until_timer_s(self) -> float:
        while self._timer_heap:
            at_us, _, key = self._timer_heap[0]
            if self._timers.get(key) == at_us:
                return max(0.0, (at_us - monotonic_us()) / 1e6)
            heappop(self._timer_heap)
        return 3600.0

    def _fire_due(self, now_us: int) -> None:
        while self._timer_heap and self._timer_heap[0][0] <= now_us:
            at_us, _, key = heappop(self._timer_heap)
            if self._timers.get(key) == at_us:
                del self._timers[key]
                self._perform(self.mesh.handle(TimerFired(key), now_us))

    async def _follow_wall_clock(self) -> None:
        """Certificates are judged by the wall clock, which may be set; leases and timers never are."""
        while True:
            self.mesh.ctx.wall_offset_us = time.time_ns() // 1_000 - monotonic_us()
            await trio.sleep(WALL_CLOCK_CHECK_S)

    # -- effects out ---------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self._emit(_Outgoing(peer, message))
                case SendBatch(peer, job_id, batch_id):
                    self._emit(_OutgoingBatch(peer, job_id, batch_id))
                case Persist(job_id, kind, key, body):
                    self._write(Put(StoredRecord(job_id, kind, key, body)))
                case Unpersist(job_id, kind, key):
                    self._write(Delete(job_id, kind, key))
                case Forget(job_id):
                    self._write(ForgetWrite(job_id))
                case SetTimer(key, at_us):
                    self._timers[key] = at_us
                    self._timer_count += 1
                    heappush(self._timer_heap, (at_us, self._timer_count, key))
                case CancelTimer(key):
                    self._timers.pop(key, None)
                case Notify():
                    self._notify(effect)
                case _:
                    self._perform_outside(effect)

    def _perform_outside(self, effect: Effect) -> None:
        match effect:
            case Execute():
                assert self._runner is not None, "a node without executors has no slots"
                self._runner.start(effect)
            case CancelExecution(execution_id):
                assert self._runner is not None
                self._runner.cancel(execution_id)
            case FetchBlobs():
                assert self._nursery is not None
                self._nursery.start_soon(self._fetch, effect)
            case UnpinBlobs(pin):
                if self._blobs is not None:
                    self._blobs.unpin(pin)
            case Publish(message):
                self._require_transport().publish(encode_message(message))
            case LearnAddress(peer, addresses, relays):
                self._require_transport().learn(peer, addresses, relays)
            case Connect(peer):
                self._require_transport().connect(peer)
            case Disconnect(peer, reason):
                self._require_transport().close(peer, reason)
            case Penalise(peer, reason):
                self._penalise(peer, reason)
            case _:
                raise AssertionError(f"no hand for {type(effect).__name__}")

    def _require_transport(self) -> Transport:
        assert self._transport is not None, "attach() comes before run()"
        return self._transport

    def _notify(self, note: Notify) -> None:
        if note.name == "mesh.revocations":
            self._require_transport().recheck()
        if not note.name.startswith("job."):
            log.info(note.name, **{key: _plain(value) for key, value in note.fields.items()})
        for observer in list(self.observers):
            observer(note)

    def _penalise(self, peer: bytes, reason: Reason) -> None:
        """Count it; a repeat offender loses its link and is not let in for a while."""
        now_us = monotonic_us()
        log.warning("peer.penalised", peer=peer.hex()[:16], reason=str(reason))
        times = self._penalties.setdefault(peer, deque(maxlen=PENALTIES_MAX))
        times.append(now_us)
        while len(self._penalties) > 1024:
            del self._penalties[next(iter(self._penalties))]
        if len(times) == PENALTIES_MAX and now_us - times[0] < PENALTY_WINDOW_US:
            self._banned_until[peer] = now_us + PENALTY_WINDOW_US
            while len(self._banned_until) > 1024:
                del self._banned_until[next(iter(self._banned_until))]
            self._require_transport().close(peer, f"broke rules too often, last: {reason}")

    async def _fetch(self, wanted: FetchBlobs) -> None:
        assert self._blobs is not None, "a machine without blobs fetches none"
        try:
            await self._blobs.fetch(wanted.digests, wanted.sources, wanted.pin)
        except (BlobsUnavailable, storage_errors.StorageError) as error:
            self.feed(BlobsFailed(wanted.token, str(error)))
        else:
            self.feed(BlobsFetched(wanted.token))

    # -- persist before send -------------------------------------------------------------------------------

    def _write(self, write: Write) -> None:
        self._pipeline.append(write)
        self._commit_wake.set()

    def _emit(self, outgoing: _Outgoing | _OutgoingBatch) -> None:
        if self._unwritten and not self._may_leave(outgoing, stored=False):
            return
        if self._pipeline or self._committing:
            self._pipeline.append(outgoing)
        else:
            self._deliver(outgoing)

    @staticmethod
    def _may_leave(outgoing: _Outgoing | _OutgoingBatch, *, stored: bool) -> bool:
        """While the disk takes nothing, a node says nothing that rests on it."""
        return stored or isinstance(outgoing, _OutgoingBatch) or not isinstance(outgoing.message, _ACKNOWLEDGEMENTS)

    def _deliver(self, outgoing: _Outgoing | _OutgoingBatch) -> None:
        if isinstance(outgoing, _OutgoingBatch):
            header = self._store.read(outgoing.job_id, int(RecordKind.BATCH), outgoing.batch_id)
            columns = self._store.read(outgoing.job_id, COLUMNS_ROW, outgoing.batch_id)
            if header is None or columns is None:
                log.error("journal.batch-missing", batch=outgoing.batch_id.hex()[:16])
                return
            outgoing = _Outgoing(outgoing.peer, Delivery(header, columns))
        self._require_transport().send(outgoing.peer, encode_message(outgoing.message))

    async def _commit_forever(self) -> None:
        while True:
            if not self._pipeline:
                self._commit_wake = trio.Event()
                await self._commit_wake.wait()
            turn, self._pipeline = self._pipeline, deque()
            writes = [item for item in turn if not isinstance(item, _Outgoing | _OutgoingBatch)]
            self._committing = True
            try:
                stored = not self._unwritten and await self._commit(writes)
            finally:
                self._committing = False
            if not stored:
                self._unwritten.extend(writes)
                if self._nursery is not None and len(self._unwritten) == len(writes):
                    self._nursery.start_soon(self._retry_storage)
            for item in turn:
                if isinstance(item, _Outgoing | _OutgoingBatch) and self._may_leave(item, stored=stored):
                    self._deliver(item)
            self._settled.set()
            self._settled = trio.Event()

    async def _commit(self, writes: list[Write]) -> bool:
        """False if the disk took nothing; the machine is told."""
        if not writes:
            return True
        try:
            await self._store.commit(writes, durable=True)
        except (storage_errors.StorageFull, storage_errors.StorageFailed) as error:
            log.error("storage.failed", reason=str(error))
            self.feed(StorageFailed(str(error)))
            return False
        return True

    async def _retry_storage(self) -> None:
        """Try what could not be written until it can; nothing was acknowledged meanwhile, so nothing is lost."""
        while True:
            await trio.sleep(STORAGE_RETRY_S)
            pending = list(self._unwritten)
            try:
                await self._store.commit(pending, durable=True)
            except (storage_errors.StorageFull, storage_errors.StorageFailed):
                continue
            del self._unwritten[: len(pending)]
            if not self._unwritten:
                log.info("storage.recovered", writes=len(pending))
                self.feed(StorageRecovered())
                return


# Rows whose bodies are read only when somebody asks for them.
LAZY_KINDS = frozenset({COLUMNS_ROW})
# Rows that a new life needs in memory.
EAGER_KINDS = frozenset({int(kind) for kind in RecordKind} | {102, 104, 110, 111, OWED_COLUMNS_ROW})


def _plain(value: object) -> object:
    """Log-friendly: ids as short hex, never payloads."""
    if isinstance(value, bytes):
        return value.hex()[:16]
    if isinstance(value, tuple):
        return [_plain(item) for item in value[:8]]
    return value
