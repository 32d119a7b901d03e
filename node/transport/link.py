"""One long-lived stream with one admitted peer: frames in, frames out, both bounded.

A frame is a big-endian u32 and as many bytes. The top bit of the length marks a greeting (`hello`), which is how a
side says hello and goodbye; all other payloads are opaque here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from struct import Struct
from typing import Protocol

import trio
from libp2p.exceptions import BaseLibp2pError

from ...crypto.bounded import DecodeError
from ...crypto.certificates import Certificate
from ...protocol.limits import Limit
from .hello import HELLO_BYTES_MAX, Goodbye, Greeting, Reject, decode_greeting, encode_greeting, printable

GREETING_BIT = 1 << 31
LENGTH = Struct("!I")
LENGTH_BYTES = LENGTH.size
WRITE_BYTES = 256 * 1024
READ_BYTES = 256 * 1024
# A read may hold 50,000 frames of a byte: others have their turn, and the owner may want no more of this peer.
FRAMES_A_TURN_MAX = 64
# A link that lost against its twin is read to its end for at most this long.
RETIRE_S = 5.0
# And is not half-closed before the other side knows of the twin.
RETIRE_LINGER_S = 1.0
GOODBYE_S = 1.0

STREAM_GONE = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


def shielded(seconds: float) -> trio.CancelScope:
    """A scope for last words: not cancelled from outside, over after these seconds."""
    return trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)


class ByteStream(Protocol):
    """What a link needs below it: a multiplexed stream, already negotiated."""

    on_readable: Callable[[], object] | None
    """Called when bytes have arrived, to `read_now` them; what it leaves is for who waits in `read`."""

    async def read(self, n: int | None = None) -> bytes: ...

    def read_now(self, n: int | None = None) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    def write_now(self, data: bytes) -> bool:
        """Write all of it without waiting; False: nothing was written, `write` has to wait."""

    async def close(self) -> None: ...

    async def reset(self) -> None: ...


class FrameOwner(Protocol):
    """Whom a link gives its frames to. A fast peer waits for a slow owner."""

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None: ...

    def has_room(self, peer: bytes) -> bool: ...

    async def room(self, peer: bytes) -> None: ...


class FrameError(Exception):
    """The peer sent what is no frame. The text is told to it.  too_long: it may have been one, but a longer one."""

    def __init__(self, text: str, *, too_long: bool = False) -> None:
        super().__init__(text)
        self.too_long = too_long


class FrameBuffer:
    """Splits a stream of bytes into frames; holds at most one incomplete frame and one read.

    max_frame_bytes: for payloads; 0 until the peer is welcome, so that a stranger fills no memory.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._position = 0

    def feed(self, data: bytes) -> None:
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def next(self) -> tuple[bool, bytes] | None:
        """The next complete frame: (is a greeting, payload). Raises FrameError."""
        buffer, start = self._buffer, self._position + LENGTH_BYTES
        if len(buffer) < start:
            return None
        (length,) = LENGTH.unpack_from(buffer, self._position)
        size = length & ~GREETING_BIT
        is_greeting = length != size
        limit = HELLO_BYTES_MAX if is_greeting else self.max_frame_bytes
        if size > limit:
            raise FrameError(f"a frame of {size} bytes, at most {limit} allowed", too_long=True)
        stop = start + size
        if len(buffer) < stop:
            return None
        with memoryview(buffer) as view:
            payload = bytes(view[start:stop])
        self._position = stop
        return is_greeting, payload


def greeting_frame(greeting: Greeting) -> bytes:
    payload = encode_greeting(greeting)
    return LENGTH.pack(len(payload) | GREETING_BIT) + payload


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """How a link ended.  by_peer: the other side's process or connection went away, or it closed without a word.

    said: the reason that the peer gave, if it closed on purpose.  limit: the bound that it ran into.
    """

    why: str
    by_peer: bool = False
    said: str | None = None
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What one link may hold."""

    max_frame_bytes: int = 4 * 1024 * 1024
    queue_bytes: int = 16 * 1024 * 1024
    """Frames waiting for a slow peer. Above it frames are dropped and counted."""
    stall_s: float = 30.0
    """A peer that takes nothing, or whose queue stays full, for this long loses the link."""


class Link:
    """Made once both sides are welcome; `run` moves its frames until it ends.

    dialled: we opened it.  life: the other process's random mark.  frames: holds what came after its greeting.
    """

    def __init__(
        self,
        peer: bytes,
        certificate: Certificate,
        certificate_bytes: bytes,
        stream: ByteStream,
        frames: FrameBuffer,
        *,
        dialled: bool,
        life: bytes,
        agent: str,
        address: str,
        relayed: bool,
        limits: LinkLimits,
    ) -> None:
        self.peer = peer
        self.certificate = certificate
        self.certificate_bytes = certificate_bytes
        self.stream = stream
        self.dialled = dialled
        self.life = life
        self.agent = agent
        self.address = address
        self.relayed = relayed
        self.since_s = trio.current_time()
        self.sent_bytes = 0
        self.received_bytes = 0
        self.dropped_frames = 0
        self._limits = limits
        self._frames = frames
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._full_since: float | None = None
        self._serving = False
        self._broken: FrameError | None = None
        self._more = False
        self._reading = trio.CancelScope()
        self._writing = False
        self._retiring = False
        self._goodbye: str | None = None
        self._work = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._end: LinkEnd | None = None
        self.ended = trio.Event()

    @property
    def queue_bytes(self) -> int:
        return self._queue_bytes

    def send(self, payloads: Collection[bytes]) -> int:
        """Send a frame each: at once in one write where nothing is in the way, else queued.

        Returns how many were dropped: the queue is full, or the link is closing.
        """
        if self._retiring or self._end is not None or self._goodbye is not None:
            return len(payloads)
        queue, dropped = self._queue, 0
        for payload in payloads:
            if self._queue_bytes + len(payload) > self._limits.queue_bytes:
                self._on_full()
                dropped += 1
                continue
            queue.append(LENGTH.pack(len(payload)))
            queue.append(payload)
            self._queue_bytes += LENGTH_BYTES + len(payload)
        if queue and not self._writing and not self._write_now():
            self._work.unpark_all()
        return dropped

    def _write_now(self) -> bool:
        """Spare the writer's task its turn. False: some of it has to wait."""
        if not self._serving or self._queue_bytes > WRITE_BYTES:
            return False
        try:
            if not self.stream.write_now(b"".join(self._queue)):
                return False
        except STREAM_GONE:
            return False  # the writer will see it too, and end the link
        self._queue.clear()
        self._note_written(self._queue_bytes)
        return True

    def _note_written(self, size: int) -> None:
        self._queue_bytes = max(0, self._queue_bytes - size)
        self.sent_bytes += size
        if self._full_since is not None and self._queue_bytes * 2 < self._limits.queue_bytes:
            self._full_since = None

    def _on_full(self) -> None:
        self.dropped_frames += 1
        now = trio.current_time()
        if self._full_since is None:
            self._full_since = now
        elif now - self._full_since > self._limits.stall_s:
            self.end(LinkEnd("its queue stayed full: the peer reads too slowly", limit=Limit.SEND_QUEUE))

    def close(self, reason: str) -> None:
        """Say goodbye after what is queued, then end; within a second."""
        if self._goodbye is None:
            self._goodbye = printable(reason)
            self._work.unpark_all()

    def retire(self) -> list[bytes]:
        """Its twin is kept: send nothing more, read on to the end. Returns the payloads that were not sent."""
        unsent = list(self._queue)[1::2]
        self._queue.clear()
        self._queue_bytes = 0
        self._retiring = True
        self._work.unpark_all()
        return unsent

    def end(self, how: LinkEnd) -> None:
        """At once. The first end counts."""
        if self._end is None:
            self._end = how
        self._scope.cancel()

    async def drained(self) -> None:
        """Returns when nothing is queued, or the link is over."""
        while (self._queue or self._writing) and self._end is None:
            await self._idle.park()

    async def run(self, owner: FrameOwner) -> LinkEnd:
        """Serve until the end; the owner has what arrives. Never raises but for cancellation."""
        self._serving = True
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._guarded, self._write_forever)
                    await self._guarded(self._read_forever, owner)
                    nursery.cancel_scope.cancel()
        finally:
            self.stream.on_readable = None
            if self._end is None:
                self._end = LinkEnd("stopped")
            self._idle.unpark_all()
            self.ended.set()
        return self._end

    async def _guarded(self, loop: Callable[..., object], *args: object) -> None:
        """The boundary to the peer's bytes and its connection: they end this link and nothing else."""
        try:
            await loop(*args)  # type: ignore[misc]
        except FrameError as error:
            limit = Limit.FRAME_BYTES if error.too_long else None
            self._end = LinkEnd(f"broke the framing: {error}", limit=limit)
            await self._send_goodbye(str(error))
            await self._read_out()
            self._scope.cancel()
        except trio.TooSlowError:
            self.end(LinkEnd("takes nothing: the peer does not read"))
        except STREAM_GONE as error:
            self.end(LinkEnd(f"lost: {error or type(error).__name__}", by_peer=went_away(self.stream)))

    async def _read_forever(self, owner: FrameOwner) -> None:
        """Mostly parked in `read`: what arrives is read where it arrived, as long as the owner has room for it."""
        stream, frames = self.stream, self._frames
        frames.max_frame_bytes = self._limits.max_frame_bytes
        over = self._hand_over(owner)
        stream.on_readable = partial(self._read_now, owner)
        try:
            while not over:
                await owner.room(self.peer)
                if self._broken is not None:
                    raise self._broken
                if self._more:
                    over = self._hand_over(owner)
                    await trio.lowlevel.checkpoint()
                    continue
                data: bytes | None = None
                with trio.CancelScope() as self._reading:
                    try:
                        data = await stream.read(READ_BYTES)
                    except STREAM_GONE:
                        # What came before the end is handed over first.
                        if not self._more and self._broken is None:
                            raise
                if data == b"":
                    raise trio.BrokenResourceError("closed by the peer")
                if data is not None:
                    # Nobody reads on before these are handed over, which may have to wait for room.
                    self._feed(data)
                    self._more = True
        finally:
            stream.on_readable = None

    def _read_now(self, owner: FrameOwner) -> None:
        """Called by the connection. What it leaves in the stream, or in `_more`, is for the link's own task."""
        if self._end is not None or self._broken is not None or self._more or not owner.has_room(self.peer):
            return
        try:
            self._feed(self.stream.read_now(READ_BYTES))
            self._hand_over(owner)
        except FrameError as error:
            self._broken = error
        if self._broken is not None or self._more:
            self._reading.cancel()

    def _feed(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._frames.feed(data)

    def _hand_over(self, owner: FrameOwner) -> bool:
        """Give complete frames to the owner, so many at a time. True if the link is over by a greeting among them."""
        payloads: list[bytes] = []
        self._more = False
        try:
            while (frame := self._frames.next()) is not None:
                is_greeting, payload = frame
                if is_greeting:
                    return self._on_greeting(payload)
                payloads.append(payload)
                if len(payloads) == FRAMES_A_TURN_MAX:
                    self._more = True
                    break
            return False
        finally:
            if payloads:
                owner.on_messages(self.peer, payloads)

    def _on_greeting(self, payload: bytes) -> bool:
        """True if the link is over by it."""
        try:
            greeting = decode_greeting(payload)
        except DecodeError as error:
            raise FrameError(f"malformed greeting: {error.reason}") from None
        if isinstance(greeting, Goodbye | Reject):
            self.end(LinkEnd("closed by the peer", said=printable(greeting.reason)))
            return True
        raise FrameError("a greeting after the greetings")

    async def _write_forever(self) -> None:
        while True:
            while self._queue:
                await self._write_batch()
            self._idle.unpark_all()
            if self._goodbye is not None:
                self._end = LinkEnd(f"closed by us: {self._goodbye}")
                await self._send_goodbye(self._goodbye)
                await trio.sleep(GOODBYE_S)
                self._scope.cancel()
                return
            if self._retiring:
                await trio.sleep(RETIRE_LINGER_S)
                await self.stream.close()
                await trio.sleep(RETIRE_S - RETIRE_LINGER_S)
                self.end(LinkEnd("its twin is kept"))
                return
            await self._work.park()

    async def _write_batch(self) -> None:
        queue, parts, size = self._queue, [], 0
        while queue and size < WRITE_BYTES:
            part = queue.popleft()
            parts.append(part)
            size += len(part)
        if len(parts) % 2:
            part = queue.popleft()
            parts.append(part)
            size += len(part)
        self._writing = True
        try:
            with trio.fail_after(GOODBYE_S if self._goodbye is not None else self._limits.stall_s):
                await self.stream.write(b"".join(parts))
        finally:
            self._writing = False
        self._note_written(size)

    async def _read_out(self) -> None:
        """Until the peer, told why, has closed; for a second. A reset at once would overtake the reason."""
        with shielded(GOODBYE_S):
            try:
                while await self.stream.read(READ_BYTES):
                    pass
            except STREAM_GONE:
                pass

    async def _send_goodbye(self, reason: str) -> None:
        """Best effort, within a second; half-closes."""
        with shielded(GOODBYE_S):
            try:
                await self.stream.write(greeting_frame(Goodbye(printable(reason))))
                await self.stream.close()
            except STREAM_GONE:
                pass


def went_away(stream: ByteStream) -> bool:
    """Whether a stream broke because the other side's process or connection went, not because it fell silent.

    The muxer names the reason; a stream without one was reset or closed by the peer.
    """
    connection = getattr(stream, "connection", None)
    reason: str | None = getattr(connection, "close_reason", None)
    if reason is None:
        return True
    return reason.startswith(("closed by the peer", "connection lost", "the peer went away"))
