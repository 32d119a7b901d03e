"""A process: one `Mesh` from its start to its end, driven as the driver of real nodes drives it.

One event at a time, effects in order. Effects of several events share a commit: while one is on its way to the disk,
writes queue behind it, and so does every message that must not leave before them.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from ...node.pipeline import Outgoing, OutgoingBatch
from ...protocol.effects import (
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
    TimerKey,
    Unpersist,
    UnpinBlobs,
)
from ...protocol.events import (
    AddressesChanged,
    BlobsFailed,
    BlobsFetched,
    CancelJob,
    Drain,
    Event,
    ExecutionFailed,
    ExecutionSaved,
    FollowJob,
    GiveBack,
    HeatReading,
    ListJobs,
    OutputsCompared,
    PeerConnected,
    PeerLost,
    PeerUnreachable,
    Received,
    ResultsTaken,
    Settle,
    Started,
    StorageFailed,
    StorageRecovered,
    SubmitJob,
    TaskFinished,
    TimerFired,
    UnfollowJob,
)
from ...protocol.limits import Limit
from ...protocol.mesh import Mesh
from ...protocol.messages import Accused, Announce, Delivery, Message, Revocations, keeps_its_place, rests_on_disk
from ...protocol.records import RecordKind
from ...protocol.result_keeping import COLUMNS_ROW
from .disk import Write
from .engine import MS, SECOND
from .reservations import Reservations

if TYPE_CHECKING:
    from .links import Link
    from .machine import Machine
    from .world import World

# As in the driver of real nodes.
STORAGE_RETRY_US = SECOND
LINGER_US = 500 * MS
# What a comparator's module takes for a pair.
COMPARING_US = 20 * MS
PENALTIES_MAX = 20
PENALTY_WINDOW_US = 60 * SECOND
# Numbers of events in the trace; a kind keeps its number.
_EVENT_KINDS: tuple[type[Any], ...] = (
    Started,
    Received,
    TimerFired,
    PeerConnected,
    PeerLost,
    PeerUnreachable,
    HeatReading,
    TaskFinished,
    ExecutionFailed,
    BlobsFetched,
    BlobsFailed,
    StorageFailed,
    StorageRecovered,
    SubmitJob,
    FollowJob,
    UnfollowJob,
    ResultsTaken,
    CancelJob,
    ListJobs,
    Drain,
    AddressesChanged,
    Settle,
    ExecutionSaved,
    GiveBack,
    OutputsCompared,
)
EVENT_NUMBERS = {kind: number for number, kind in enumerate(_EVENT_KINDS)}
DISK_SYNCED = len(EVENT_NUMBERS)


class Life:
    """See the module. Dead once its machine has another life, or none.

    incarnation: with which it began.  met: with whom it has had links, and in which of their lives, by index; kept by
    those who came back.  book: whose addresses and relays are known, and which.  waiting: messages to peers that are
    being dialled, by index.  awaited: what is done when a dial has ended, by index.  places: who may be reached over
    this life, as a relay, for as long as their links with it last.
    """

    __slots__ = (
        "_committing",
        "_engine",
        "_handling",
        "_lingering",
        "_on_the_way",
        "_penalties",
        "_pipeline",
        "_unwritten",
        "awaited",
        "banned_until_us",
        "book",
        "dialling",
        "failed_dials",
        "gossip_seen",
        "incarnation",
        "limits",
        "links",
        "machine",
        "mesh",
        "met",
        "missed",
        "places",
        "reservations",
        "runs",
        "timers",
        "waiting",
        "world",
    )

    def __init__(self, machine: Machine, world: World, mesh: Mesh) -> None:
        self.machine = machine
        self.world = world
        self.mesh = mesh
        self.incarnation = mesh.incarnation
        self.met: dict[int, int] = {}
        self._engine = world.engine
        self.runs = True
        self.links: dict[int, Link] = {}
        self.dialling: dict[int, None] = {}
        self.waiting: dict[int, list[Message]] = {}
        self.failed_dials: dict[int, tuple[int, int]] = {}
        self.banned_until_us: dict[int, int] = {}
        self.book: dict[int, tuple[tuple[str, ...], tuple[bytes, ...]]] = {}
        self.awaited: dict[int, list[Callable[[], None]]] = {}
        self.places: dict[int, None] = {}
        self.gossip_seen: dict[int, None] = {}
        self.timers: dict[TimerKey, int] = {}
        self.missed: deque[tuple[Event, int]] = deque()
        self._pipeline: deque[Write | Outgoing | OutgoingBatch] = deque()
        self._committing = False
        self._lingering = False
        self._on_the_way: tuple[Write, ...] = ()
        self._unwritten: list[Write] = []
        self._penalties: dict[int, deque[int]] = {}
        self.limits: dict[Limit, int] = {}
        self._handling = False
        self.reservations = Reservations(self)

    # -- events in -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self.feed(Started(self.machine.disk.started()))

    def feed(self, event: Event, checksum: int = 0) -> None:
        """Handled at once; by a frozen process when it thaws; by a dead one never."""
        if not self.runs:
            return
        if self.machine.frozen or self._handling:
            self.missed.append((event, checksum))
            return
        self._handling = True
        self._handle(event, checksum)
        while self.missed and self.runs and not self.machine.frozen:
            self._handle(*self.missed.popleft())
        self._handling = False

    def thaw(self) -> None:
        """What was missed comes all at once."""
        if self.missed:
            self.feed(*self.missed.popleft())

    def receive(self, peer: bytes, message: Message | None, checksum: int) -> None:
        if message is None:
            self._penalise(peer, Reason.MALFORMED)
        else:
            self.feed(Received(peer, message), checksum)

    def connected(self, peer: Machine) -> None:
        if self.machine.lives > 1:
            self.met[peer.index] = peer.lives
        self.feed(PeerConnected(peer.id, int(peer.roles)), peer.index)

    def lost(self, peer: Machine, reset: bool) -> None:
        self.places.pop(peer.index, None)
        self.feed(PeerLost(peer.id, reset), 2 * peer.index + reset)
        self.reservations.lost(peer.index)

    def unreachable(self, peer: bytes) -> None:
        self.feed(PeerUnreachable(peer), crc32(peer))

    def _handle(self, event: Event, checksum: int) -> None:
        world, machine = self.world, self.machine
        true_us = self._engine.now_us
        kind = type(event)
        world.trace.add(true_us, machine.index, EVENT_NUMBERS[kind], checksum)
        try:
            effects = self.mesh.handle(event, machine.clock.local_us(true_us))
        except Exception as error:  # boundary: invariant 8, nothing that is said to a node ends its process
            where = traceback.extract_tb(error.__traceback__)[-1]
            world.checkers.fail(
                "no-crash", f"{machine.name}: {error!r} at {where.name}:{where.lineno}, by {event!r:.300}"
            )
            world.kill(machine)
            return
        if world.story is not None:
            world.story.event(self, event)
        for effect in effects:
            _HANDS[type(effect)](self, effect)
        checkers = world.checkers
        checkers.left -= 1
        if not checkers.left:
            checkers.sample(self)
        if kind is Received:
            checkers.heard(self, event)  # type: ignore[arg-type]

    # -- effects out ---------------------------------------------------------------------------------------

    def _send(self, effect: Send) -> None:
        message = effect.message
        if rests_on_disk(message):
            self._emit(Outgoing(effect.peer, message))
        else:
            self._say(effect.peer, message)

    def _send_batch(self, effect: SendBatch) -> None:
        self._emit(OutgoingBatch(effect.peer, effect.job_id, effect.batch_id))

    def _publish(self, effect: Publish) -> None:
        if isinstance(effect.message, Announce | Revocations | Accused):
            self.world.network.publish(self, effect.message)

    def _set_timer(self, effect: SetTimer) -> None:
        key, at_us = effect.key, effect.at_us
        self.timers[key] = at_us
        self._engine.at(self.machine.clock.true_us(at_us), self._fire, key, at_us)

    def _fire(self, key: TimerKey, at_us: int) -> None:
        if self.runs and self.timers.get(key) == at_us:
            if self.machine.frozen:
                self.machine.overdue.append((key, at_us))
                return
            del self.timers[key]
            self.feed(TimerFired(key), crc32(key[1], len(key[0])))

    def fire_overdue(self) -> None:
        overdue, self.machine.overdue = self.machine.overdue, []
        for key, at_us in overdue:
            self._fire(key, at_us)

    def _cancel_timer(self, effect: CancelTimer) -> None:
        self.timers.pop(effect.key, None)

    def _notify(self, effect: Notify) -> None:
        self.world.noted(self, effect)

    def _execute(self, effect: Execute) -> None:
        self.world.checkers.executing(self, effect)
        if self.world.story is not None:
            self.world.story.executes(self, effect)
        self.machine.executor.start(self, effect)

    def _save_execution(self, effect: SaveExecution) -> None:
        self.machine.executor.save(self, effect.execution_id)

    def _cancel_execution(self, effect: CancelExecution) -> None:
        self.machine.executor.cancel(effect.execution_id)

    def _drop_checkpoint(self, effect: DropCheckpoint) -> None:
        """What a simulated task left is a number in its executor."""

    def _fetch(self, effect: FetchBlobs) -> None:
        self.world.blobs.fetch(self, effect)

    def _compare(self, wanted: CompareOutputs) -> None:
        """As a module would that wants the same bytes."""
        answers = tuple((a, b, first == second) for a, b, first, second in wanted.pairs)
        self._engine.after(COMPARING_US * len(answers), self.feed, OutputsCompared(wanted.job_id, answers))

    def _forget_secrets(self, effect: ForgetSecrets) -> None:
        """Nothing is opened here: a simulated task is its number."""

    def _unpin(self, effect: UnpinBlobs) -> None:
        pass

    def _learn(self, effect: LearnAddress) -> None:
        peer = self.world.by_id.get(effect.peer)
        known = (effect.addresses, effect.relays)
        if peer is None or peer is self.machine or not any(known) or self.book.get(peer.index) == known:
            return
        self.book[peer.index] = known
        self.failed_dials.pop(peer.index, None)

    def knows(self, peer: int) -> None:
        """An address of it, from elsewhere."""
        self.book.setdefault(peer, ((), ()))

    def _connect(self, effect: Connect) -> None:
        peer = self.world.by_id.get(effect.peer)
        if peer is not None:
            self.world.network.dial(self, peer)

    def _disconnect(self, effect: Disconnect) -> None:
        peer = self.world.by_id.get(effect.peer)
        if peer is not None and peer.index in self.links:
            self.world.network.close(self, peer.index, reset=False)
            self.lost(peer, False)

    def _on_penalise(self, effect: Penalise) -> None:
        self._penalise(effect.peer, effect.reason)

    def _on_limited(self, effect: Limited) -> None:
        self.limits[effect.limit] = self.limits.get(effect.limit, 0) + 1

    def _penalise(self, peer: bytes, reason: Reason) -> None:
        """Count it; a repeat offender loses its link and is not let in for a while."""
        self.world.checkers.penalised(self, peer, reason)
        offender = self.world.by_id.get(peer)
        if offender is None:
            return
        now_us = self.world.engine.now_us
        times = self._penalties.setdefault(offender.index, deque(maxlen=PENALTIES_MAX))
        times.append(now_us)
        if len(times) == PENALTIES_MAX and now_us - times[0] < PENALTY_WINDOW_US:
            self.banned_until_us[offender.index] = now_us + PENALTY_WINDOW_US
            self._disconnect(Disconnect(peer, "broke rules too often"))

    # -- persist before send -------------------------------------------------------------------------------

    def _write(self, write: Persist | Unpersist | Forget) -> None:
        self.world.checkers.writing(self, write)
        self._pipeline.append(write)
        if not self._committing:
            self._linger()

    def _linger(self) -> None:
        """What no message waits for is written a little later, with more."""
        if not self._lingering:
            self._lingering = True
            self.world.engine.after(LINGER_US, self._end_linger)

    def _end_linger(self) -> None:
        self._lingering = False
        if self._pipeline and not self._committing and self.runs:
            self._committing = True
            self._commit()

    def _emit(self, outgoing: Outgoing | OutgoingBatch) -> None:
        if self._unwritten and not self._may_leave(outgoing, stored=False):
            return
        waits = isinstance(outgoing, OutgoingBatch) or keeps_its_place(outgoing.message)
        if waits and (self._pipeline or self._committing):
            self._pipeline.append(outgoing)
            if not self._committing:
                self._committing = True
                # At the end of this event's effects: they share a commit.
                self.world.engine.after(0, self._commit)
        else:
            self._deliver(outgoing)

    @staticmethod
    def _may_leave(outgoing: Outgoing | OutgoingBatch, *, stored: bool) -> bool:
        """While the disk takes nothing, a node says nothing that rests on it."""
        return stored or isinstance(outgoing, OutgoingBatch) or not rests_on_disk(outgoing.message)

    def _deliver(self, outgoing: Outgoing | OutgoingBatch) -> None:
        if isinstance(outgoing, OutgoingBatch):
            rows, job_id, batch_id = self.machine.disk.rows, outgoing.job_id, outgoing.batch_id
            header = rows.get((job_id, int(RecordKind.BATCH), batch_id))
            columns = rows.get((job_id, COLUMNS_ROW, batch_id))
            if header is None or columns is None:
                return
            outgoing = Outgoing(outgoing.peer, Delivery(header, columns))
        self._say(outgoing.peer, outgoing.message)

    def _say(self, peer: bytes, message: Message) -> None:
        """It leaves now."""
        machine, world = self.machine, self.world
        if peer == machine.id:
            self.feed(Received(peer, message))
            return
        world.checkers.sending(self, peer, message)
        if world.story is not None:
            world.story.sent(self, peer, message)
        if machine.liar is not None:
            machine.liar.say(self, peer, message)
        else:
            world.network.send(self, peer, message)

    def _commit(self) -> None:
        if not self.runs:
            return
        turn, self._pipeline = self._pipeline, deque()
        writes = tuple(item for item in turn if not isinstance(item, Outgoing | OutgoingBatch))
        disk, self._on_the_way = self.machine.disk, writes
        # Whether the disk takes it is decided when it is asked.
        stored = not self._unwritten and not (writes and disk.full)
        if stored:
            disk.syncing = writes
        delay_us = self.world.sync_us() if writes else 0
        self.world.engine.after(delay_us, self._committed, turn, writes, stored)

    def _committed(self, turn: deque[Any], writes: tuple[Write, ...], stored: bool) -> None:
        if not self.runs:
            return
        if self.machine.frozen:
            # The disk is done, but the process that waits for it sleeps.
            self.world.engine.after(self.world.sync_us(), self._committed, turn, writes, stored)
            return
        disk = self.machine.disk
        self._on_the_way = ()
        if stored:
            if writes:
                self.world.trace.add(self._engine.now_us, self.machine.index, DISK_SYNCED, len(writes))
            disk.sync()
        else:
            self._unwritten.extend(writes)
            if writes and len(self._unwritten) == len(writes):
                self.feed(StorageFailed("no space left on device"))
                self.world.engine.after(STORAGE_RETRY_US, self._retry)
        for item in turn:
            if isinstance(item, Outgoing | OutgoingBatch) and self._may_leave(item, stored=stored):
                self._deliver(item)
        if any(isinstance(item, Outgoing | OutgoingBatch) for item in self._pipeline):
            self.world.engine.after(0, self._commit)
            return
        self._committing = False
        if self._pipeline:
            self._linger()

    def _retry(self) -> None:
        """Try what could not be written until it can; nothing was acknowledged meanwhile, so nothing is lost."""
        if not self.runs:
            return
        disk = self.machine.disk
        if disk.full or self.machine.frozen or disk.syncing:
            self.world.engine.after(STORAGE_RETRY_US, self._retry)
            return
        disk.syncing = tuple(self._unwritten)
        self.world.engine.after(self.world.sync_us(), self._retried, len(disk.syncing))

    def _retried(self, count: int) -> None:
        """What came meanwhile could not be written either: it is next."""
        if not self.runs:
            return
        if self.machine.frozen:
            self.world.engine.after(self.world.sync_us(), self._retried, count)
            return
        self.machine.disk.sync()
        self.world.trace.add(self._engine.now_us, self.machine.index, DISK_SYNCED, count)
        del self._unwritten[:count]
        if self._unwritten:
            self._retry()
        else:
            self.feed(StorageRecovered())


_HANDS: dict[type[Effect], Callable[[Life, Any], None]] = {
    Send: Life._send,
    SendBatch: Life._send_batch,
    Publish: Life._publish,
    SetTimer: Life._set_timer,
    CancelTimer: Life._cancel_timer,
    Notify: Life._notify,
    Execute: Life._execute,
    SaveExecution: Life._save_execution,
    CancelExecution: Life._cancel_execution,
    DropCheckpoint: Life._drop_checkpoint,
    FetchBlobs: Life._fetch,
    CompareOutputs: Life._compare,
    UnpinBlobs: Life._unpin,
    ForgetSecrets: Life._forget_secrets,
    LearnAddress: Life._learn,
    Connect: Life._connect,
    Disconnect: Life._disconnect,
    Penalise: Life._on_penalise,
    Limited: Life._on_limited,
    Persist: Life._write,
    Unpersist: Life._write,
    Forget: Life._write,
}
