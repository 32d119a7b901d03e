"""The only owner of a `Mesh`: one event at a time, effects in order, on disk before on the wire.

Who brings an event has it handled at once, in its own task, with what else waits; each such turn ends with one
write to each link. The driver's own task sees to the timers and to what a turn left over.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
import trio

from ..crypto.bounded import DecodeError
from ..crypto.certificates import Certificate
from ..protocol.codec import decode_message, encode_message
from ..protocol.cost import signatures_in
from ..protocol.effects import (
    CancelExecution,
    CancelTimer,
    CompareOutputs,
    Connect,
    Disconnect,
    DropCheckpoint,
    Effect,
    Execute,
    FetchBlobs,
    Forget,
    ForgetSecrets,
    LearnAddress,
    Limited,
    Notify,
    Penalise,
    Persist,
    Publish,
    Reason,
    SaveExecution,
    Send,
    SendBatch,
    SetTimer,
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
from ..protocol.limits import Limit
from ..protocol.mesh import Mesh
from ..protocol.messages import Accused, Announce, Delivery, Message, Revocations
from ..protocol.outbox import OWED_COLUMNS_ROW
from ..protocol.records import RecordKind
from ..protocol.result_keeping import COLUMNS_ROW
from .clock import wall_us
from .fair_queue import FairQueue
from .intake import Intake, IntakeLimits
from .limits import LimitMeter
from .penalties import Penalties
from .pipeline import STORAGE_RETRY_S, Outgoing, OutgoingBatch, Pipeline, RecordStore
from .ports import Blobs, BlobsUnavailable, Runner, Transport, monotonic_us
from .storage import errors as storage_errors
from .storage.records import Delete, Put, StoredRecord
from .storage.records import Forget as ForgetWrite
from .timers import Timers

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from .history import History

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

EVENTS_A_TURN_MAX = 64
# A message so long weighs like two short ones when peers take turns.
BYTES_A_MESSAGE = 4096
# Unhandled messages of one peer, of at most 4 MiB each and 300 B mostly, before it has to wait.
MESSAGES_A_PEER_MAX = 64
WALL_CLOCK_CHECK_S = 5.0
# How long the driver's own task sleeps where no timer is set.
IDLE_US = 3_600_000_000


class Driver:
    """Runs one machine; also the transport's handler. `feed` may be called from any trio task."""

    def __init__(
        self,
        mesh: Mesh,
        store: RecordStore,
        history: History | None = None,
        *,
        meter: LimitMeter | None = None,
        intake: IntakeLimits | None = None,
    ) -> None:
        self.mesh = mesh
        self.meter = meter or LimitMeter(lambda: monotonic_us() / 1e6)
        self._intake = Intake(intake or IntakeLimits(), self.meter, self._source_of)
        self._history = history
        self._store = store
        self._pipeline = Pipeline(
            store,
            self._deliver,
            left=self._after_delivery,
            failed=lambda reason: self.feed(StorageFailed(reason)),
            recovered=lambda: self.feed(StorageRecovered()),
        )
        self._transport: Transport | None = None
        self._blobs: Blobs | None = None
        self._runner: Runner | None = None
        self._nursery: trio.Nursery | None = None
        self._inbox: FairQueue[Event] = FairQueue()
        self._waiting: dict[bytes, int] = {}
        self._started = False
        self._handling = False
        self._fault: BaseException | None = None
        self._wake = trio.Event()
        self._sleep = trio.CancelScope()
        self._sleeps_until_us = 0
        self._timers = Timers()
        self._leaving: dict[bytes, list[bytes]] = {}
        self._encoded: tuple[Message | None, bytes] = (None, b"")
        self._lacks_room = False
        self._penalties = Penalties()
        self._changed = trio.lowlevel.ParkingLot()
        self.observers: list[Callable[[Notify], None]] = []
        self.rejections: deque[tuple[bytes, str]] = deque(maxlen=64)

    def attach(self, transport: Transport, blobs: Blobs | None, runner: Runner | None) -> None:
        """Connect the machine's world; before `run`."""
        self._transport, self._blobs, self._runner = transport, blobs, runner

    # -- events in -----------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Have it handled: before this returns, unless the machine does not run yet or has more to do than a turn."""
        if isinstance(event, PeerConnected | PeerLost | PeerUnreachable):
            self._inbox.push(event.peer, event, 0)  # in its place among what the peer said
        else:
            self._inbox.push_own(event)
        self._handle_waiting()

    def has_room(self, peer: bytes) -> bool:
        waits = self._waiting.get(peer, 0) >= MESSAGES_A_PEER_MAX
        return not waits and not self._intake.overdrawn_us(peer, monotonic_us())

    async def room(self, peer: bytes) -> None:
        """Back-pressure: a peer whose messages wait here, or that is over its budget, is not read from meanwhile."""
        while True:
            if self._waiting.get(peer, 0) >= MESSAGES_A_PEER_MAX:
                await self._changed.park()
            elif overdrawn_us := self._intake.overdrawn_us(peer, monotonic_us()):
                await trio.sleep(overdrawn_us / 1e6)
            else:
                return

    def _source_of(self, peer: bytes) -> str:
        return self._transport.source_of(peer) if self._transport is not None else ""

    def on_connected(self, peer: bytes, certificate: Certificate) -> None:
        if self._penalties.is_banned(peer, monotonic_us()):
            self._require_transport().close(peer, "banned for a minute after breaking rules")
            return
        self.feed(PeerConnected(peer, int(certificate.roles)))

    def on_lost(self, peer: bytes, reset: bool) -> None:
        self.feed(PeerLost(peer, reset))

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if self._penalties.is_banned(peer, monotonic_us()):
                return
            message = self._decoded(peer, payload)
            signatures = signatures_in(message) if message is not None else 1
            self._intake.charge(peer, len(payload), signatures, monotonic_us())
            if message is not None:
                self._receive(peer, message, len(payload), signatures)
        if self._waiting.get(peer, 0) >= MESSAGES_A_PEER_MAX:
            self.meter.hit(Limit.PEER_MESSAGES, peer)
        self._handle_waiting()

    def on_gossip(self, source: bytes, payload: bytes) -> None:
        """source: who signed it, maybe nobody that was ever admitted here: only signed news is heard from it."""
        if not self._intake.takes_gossip(source, monotonic_us()):
            return
        message = self._decoded(source, payload)
        if isinstance(message, Announce | Revocations | Accused):
            self._receive(source, message, len(payload), signatures_in(message))
            self._handle_waiting()
        elif message is not None:
            self._penalise(source, Reason.MALFORMED)

    def knows(self, node: bytes) -> bool:
        """See `LinkHandler.knows`: it has a row with its certificate in this cell."""
        return self.mesh.tables.get(RecordKind.MEMBER, node) is not None

    def _decoded(self, peer: bytes, payload: bytes) -> Message | None:
        try:
            return decode_message(payload)
        except DecodeError as error:
            log.debug("peer.malformed", peer=peer.hex()[:16], reason=str(error))
            self._penalise(peer, Reason.MALFORMED)
            return None

    def _receive(self, peer: bytes, message: Message, size_bytes: int, signatures: int) -> None:
        self._waiting[peer] = self._waiting.get(peer, 0) + 1
        cost = 1 + signatures + size_bytes // BYTES_A_MESSAGE
        self._inbox.push(peer, Received(peer, message), cost)

    def on_unreachable(self, peer: bytes) -> None:
        self.feed(PeerUnreachable(peer))

    def on_rejected(self, peer: bytes, reason: str) -> None:
        self.rejections.append((peer, reason))
        if self._changed:
            self._changed.unpark_all()
        log.warning("peer.rejected", peer=peer.hex()[:16], reason=reason)

    # -- running -------------------------------------------------------------------------------------------

    async def run(
        self, rows: tuple[StoredRow, ...], *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the machine with what the last life persisted, then handle events until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._pipeline.run)
            nursery.start_soon(self._follow_wall_clock)
            try:
                self._tell(Started(rows), monotonic_us())
                self._started = True
                task_status.started()
                await self._handle_forever()
            finally:
                self._started = False

    async def _handle_forever(self) -> None:
        while True:
            self._handle_waiting()
            if self._fault is not None:
                raise self._fault
            if self._inbox:
                await trio.lowlevel.checkpoint()
                continue
            self._wake = trio.Event()
            with trio.CancelScope() as self._sleep:
                self._sleep_until_timer()
                await self._wake.wait()

    def _handle_waiting(self) -> None:
        """Handle what waits, at most a turn's worth; nothing where a turn is under way, which then does it.

        Never raises: a fault of ours ends the driver's own task, not the one that brought the event.
        """
        if self._handling or not self._started or self._fault is not None:
            return
        self._handling = True
        try:
            self._handle_some()
        except Exception as fault:  # boundary: whoever brought the event has no part in it
            self._fail(fault)
        finally:
            self._handling = False
        if self._inbox:
            self._wake.set()
        elif (next_us := self._timers.next_us()) is not None and next_us < self._sleeps_until_us:
            self._sleep_until_timer()

    def _handle_some(self) -> None:
        now_us = monotonic_us()
        self._fire_due(now_us)
        handled = 0
        while self._inbox and handled < EVENTS_A_TURN_MAX:
            event = self._inbox.pop()
            if isinstance(event, Received):
                self._count_handled(event.peer)
            self._tell(event, now_us)
            handled += 1
        self._pipeline.flush()
        self._let_leave()
        if self._changed:
            self._changed.unpark_all()

    def _tell(self, event: Event, now_us: int) -> None:
        effects = self.mesh.handle(event, now_us)
        if self._history is not None:
            self._history.note(event, effects, now_us, self.mesh.worker)
        self._perform(effects)

    def _count_handled(self, peer: bytes) -> None:
        left = self._waiting.get(peer, 0) - 1
        if left > 0:
            self._waiting[peer] = left
        else:
            self._waiting.pop(peer, None)

    async def changed(self) -> None:
        """Wait until the machine has handled something more."""
        await self._changed.park()

    async def settled(self) -> None:
        """Wait until every event fed so far is handled, and what it wrote and sent is on disk and in the links."""
        while self._inbox or not self._pipeline.idle:
            if self._inbox:
                await self._changed.park()
            else:
                await self._pipeline.settled()

    def _sleep_until_timer(self) -> None:
        """Have the driver's own task look when the next timer is due, and not before."""
        now_us = monotonic_us()
        next_us = self._timers.next_us()
        self._sleeps_until_us = now_us + IDLE_US if next_us is None else next_us
        self._sleep.deadline = trio.current_time() + max(0.0, (self._sleeps_until_us - now_us) / 1e6)

    def _fire_due(self, now_us: int) -> None:
        while (key := self._timers.pop_due(now_us)) is not None:
            self._tell(TimerFired(key), now_us)

    async def _follow_wall_clock(self) -> None:
        while True:
            self.follow_wall_clock()
            await trio.sleep(WALL_CLOCK_CHECK_S)

    def follow_wall_clock(self) -> None:
        """Certificates are judged by the wall clock, which may be set; leases and timers never are."""
        self.mesh.ctx.wall_offset_us = wall_us() - monotonic_us()

    # -- effects out ---------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self._pipeline.send(Outgoing(peer, message))
                case SendBatch(peer, job_id, batch_id):
                    self._pipeline.send(OutgoingBatch(peer, job_id, batch_id))
                case Persist(job_id, kind, key, body):
                    self._pipeline.write(Put(StoredRecord(job_id, kind, key, body)))
                case Unpersist(job_id, kind, key):
                    self._pipeline.write(Delete(job_id, kind, key))
                case Forget(job_id):
                    self._pipeline.write(ForgetWrite(job_id))
                case SetTimer(key, at_us):
                    self._timers.set(key, at_us)
                case CancelTimer(key):
                    self._timers.cancel(key)
                case Notify():
                    self._notify(effect)
                case _:
                    self._perform_outside(effect)

    def _perform_outside(self, effect: Effect) -> None:
        match effect:
            case Execute():
                assert self._runner is not None, "a node without executors has no slots"
                self._runner.start(effect)
            case SaveExecution(execution_id, patience_us):
                assert self._runner is not None
                self._runner.save(execution_id, patience_us / 1e6 if patience_us else math.inf)
            case CancelExecution(execution_id):
                assert self._runner is not None
                self._runner.cancel(execution_id)
            case DropCheckpoint(job_id, index):
                assert self._runner is not None
                self._runner.drop_checkpoint(job_id, index)
            case CompareOutputs():
                assert self._runner is not None, "who follows results can compare them"
                self._runner.compare(effect)
            case ForgetSecrets(job_id):
                assert self._runner is not None
                self._runner.forget(job_id)
            case FetchBlobs():
                self._fetch_or_hold(effect)
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
                self._let_leave()
                self._require_transport().close(peer, reason)
            case Penalise(peer, reason):
                self._penalise(peer, reason)
            case Limited(limit, peer):
                self.meter.hit(limit, peer)
            case _:
                raise AssertionError(f"no hand for {type(effect).__name__}")

    def _require_transport(self) -> Transport:
        assert self._transport is not None, "attach() comes before run()"
        return self._transport

    def _notify(self, note: Notify) -> None:
        if note.name == "mesh.revocations":
            self._require_transport().recheck()
        if not note.name.startswith("job.") and log.is_enabled_for(logging.INFO):
            log.info(note.name, **{key: _plain(value) for key, value in note.fields.items()})
        for observer in list(self.observers):
            observer(note)

    def _penalise(self, peer: bytes, reason: Reason) -> None:
        """Count it; a repeat offender loses its link and is not let in for a while."""
        is_banned = self._penalties.add(peer, reason, monotonic_us())
        self._require_transport().note_fault(peer)
        if is_banned:
            self.meter.hit(Limit.PENALTIES, peer)
            self._require_transport().close(peer, f"broke rules too often, last: {reason}")

    def _fetch_or_hold(self, wanted: FetchBlobs) -> None:
        """Most blobs are here already: no task for those."""
        assert self._blobs is not None, "a machine without blobs fetches none"
        assert self._nursery is not None
        if self._blobs.hold(wanted.digests, wanted.pin):
            self.feed(BlobsFetched(wanted.token))
        else:
            self._nursery.start_soon(self._fetch, wanted)

    async def _fetch(self, wanted: FetchBlobs) -> None:
        assert self._blobs is not None
        try:
            await self._blobs.fetch(wanted.digests, wanted.sources, wanted.pin, wanted.sizes)
        except (BlobsUnavailable, storage_errors.StorageError) as error:
            if isinstance(error, storage_errors.StorageFull):
                self.disk_full(str(error))
            self.feed(BlobsFailed(wanted.token, str(error)))
        else:
            self.feed(BlobsFetched(wanted.token))

    def disk_full(self, reason: str) -> None:
        """The blobs have no room: the node takes no work and says so, until there is some again."""
        if self._lacks_room or self._nursery is None:
            return
        self._lacks_room = True
        log.error("storage.failed", reason=reason)
        self.feed(StorageFailed(reason))
        self._nursery.start_soon(self._await_room)

    async def _await_room(self) -> None:
        assert self._blobs is not None
        while not self._blobs.has_room():
            await trio.sleep(STORAGE_RETRY_S)
        self._lacks_room = False
        log.info("storage.recovered", writes=0)
        self.feed(StorageRecovered())

    # -- messages out --------------------------------------------------------------------------------------

    def _deliver(self, outgoing: Outgoing | OutgoingBatch) -> None:
        try:
            self._prepare(outgoing)
        except Exception as fault:  # boundary: at the end of a commit nobody else is there to take it
            self._fail(fault)

    def _prepare(self, outgoing: Outgoing | OutgoingBatch) -> None:
        """Encode a message that may leave; it leaves with the others of this turn to the same peer."""
        if isinstance(outgoing, Outgoing) and outgoing.peer == self.mesh.ctx.node_id:
            self._inbox.push_own(Received(outgoing.peer, outgoing.message))
            return
        if isinstance(outgoing, OutgoingBatch):
            try:
                header = self._store.read(outgoing.job_id, int(RecordKind.BATCH), outgoing.batch_id)
                columns = self._store.read(outgoing.job_id, COLUMNS_ROW, outgoing.batch_id)
            except storage_errors.StorageError as error:
                log.error("journal.unreadable", batch=outgoing.batch_id.hex()[:16], reason=str(error))
                return
            if header is None or columns is None:
                log.error("journal.batch-missing", batch=outgoing.batch_id.hex()[:16])
                return
            payload = encode_message(Delivery(header, columns))
        else:
            # The same message often goes to each replica in turn.
            if outgoing.message is not self._encoded[0]:
                self._encoded = (outgoing.message, encode_message(outgoing.message))
            payload = self._encoded[1]
        self._leaving.setdefault(outgoing.peer, []).append(payload)

    def _after_delivery(self) -> None:
        """A commit ended: its messages leave, and what came back to this node itself is handled."""
        self._let_leave()
        self._handle_waiting()

    def _fail(self, fault: Exception) -> None:
        """A fault of ours: the driver's own task raises it."""
        self._fault = self._fault or fault
        self._wake.set()

    def _let_leave(self) -> None:
        self._encoded = (None, b"")
        if self._history is not None:
            self._history.flush()
        while self._leaving:
            leaving, self._leaving = self._leaving, {}
            for peer, payloads in leaving.items():
                self._require_transport().send(peer, payloads)


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
