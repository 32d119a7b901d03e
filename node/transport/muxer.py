"""Our Yamux: one connection's streams, with every bound enforced and no lock that a peer can hold.

Three tasks run a connection. The reader only parses and queues, so it never waits on the writer (two peers
that both write cannot deadlock). The writer sends whatever is queued, control frames first, in as few
Noise messages as possible. The third wakes once per keepalive interval. Nothing else wakes an idle connection.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio
from libp2p.abc import IMuxedConn
from libp2p.connection_types import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from .frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    GO_AWAY_NORMAL,
    GO_AWAY_PROTOCOL_ERROR,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    MAX_DECLARED_BYTES,
    MAX_PAYLOAD_BYTES,
    PING,
    RST,
    SYN,
    VERSION,
    WINDOW_UPDATE,
    BufferBudget,
    MuxerLimits,
    ProtocolViolation,
    header,
)
from .muxed_stream import YamuxStream

log = structlog.get_logger(__name__)

BATCH_BYTES = 256 * 1024  # one write to the socket
CLOSE_FLUSH_S = 0.5  # how long close() waits for what is queued
SESSION_CLOSE_S = 1.0
MAX_STREAM_ID = 0xFFFF_FFFF
CONNECTION_GONE = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class SecureChannel(Protocol):
    """What the muxer needs below it; `noise.NoiseSession` is one."""

    @property
    def is_initiator(self) -> bool: ...
    async def receive(self) -> bytes:
        """Some plaintext, b"" at the end."""

    async def write(self, data: bytes) -> None:
        """All of it, after what `write_now` left."""

    def write_now(self, data: bytes) -> bool:
        """False if it could not be tried; else it was taken, and `unsent` says whether some of it waits."""

    @property
    def unsent(self) -> bool: ...
    async def close(self) -> None: ...
    def get_remote_address(self) -> tuple[str, int] | None: ...
    def get_transport_addresses(self) -> list[Multiaddr]: ...
    def get_connection_type(self) -> ConnectionType: ...


class YamuxConnection(IMuxedConn):
    """One connection. `start` runs it and returns when it is over; it never raises.

    `on_close` is awaited once, when the connection is over for whatever reason. `close_reason` says which.
    """

    def __init__(
        self,
        conn: SecureChannel,
        peer_id: ID,
        limits: MuxerLimits | None = None,
        budget: BufferBudget | None = None,
    ) -> None:
        self.secured_conn = conn
        self.peer_id = peer_id
        self.limits = limits or MuxerLimits()
        self.event_started = trio.Event()
        self.on_close: Callable[[], Awaitable[None]] | None = None
        self.counters: Counter[str] = Counter()
        self.close_reason: str | None = None
        self.rtt_us: int | None = None
        self.received_bytes = 0
        self.sent_bytes = 0
        self._budget = budget or BufferBudget(1 << 62)
        self._streams: dict[int, YamuxStream] = {}
        self._inbound_count = 0
        self._next_stream_id = 1 if conn.is_initiator else 2
        self._unacknowledged = 0
        self._accepted: deque[YamuxStream] = deque()
        self._buffered_bytes = 0
        self._grown_bytes = 0
        # outgoing
        self._control = bytearray()
        self._data: deque[bytes] = deque()
        self._data_bytes = 0
        self._writing_since: float | None = None
        self._may_write_now = True
        # incoming
        self._partial_header = b""
        self._payload_left = 0
        self._payload_stream: YamuxStream | None = None
        self._payload_ends_stream = False
        self._readable: dict[YamuxStream, None] = {}
        self._discard_allowance_bytes = 0
        self._violations = 0
        self._refused = 0
        self._bare_frames = 0
        self._heard_at = 0.0
        self._ping_sent_at: float | None = None
        self._ping_nonce = 0
        self._going_away = False
        # waiting
        self._work = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._send_queue_space = trio.lowlevel.ParkingLot()
        self._stream_arrived = trio.lowlevel.ParkingLot()
        self._acknowledgement = trio.lowlevel.ParkingLot()
        self._heard = trio.lowlevel.ParkingLot()
        self._over = trio.Event()
        self._scope: trio.CancelScope | None = None

    # IMuxedConn

    @property
    def is_initiator(self) -> bool:
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        return self.event_started.is_set() and self.close_reason is None

    @property
    def is_closed(self) -> bool:
        return self.close_reason is not None

    async def start(self) -> None:
        """Run the connection until it is over."""
        self._budget.join(self)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                self.event_started.set()
                if self.close_reason is None:
                    nursery.start_soon(self._guarded, self._read_loop)
                    nursery.start_soon(self._guarded, self._write_loop)
                    nursery.start_soon(self._guarded, self._keepalive_loop)
        finally:
            self._end("cancelled")
            with trio.CancelScope(shield=True):
                with trio.move_on_after(SESSION_CLOSE_S):
                    await self._close_session()
                if self.on_close is not None:
                    try:
                        await self.on_close()
                    except Exception:
                        # The boundary to whoever listens: this connection is over in any case.
                        log.exception("muxer.close-hook-failed", peer=str(self.peer_id))
                self._budget.leave(self)

    async def close(self) -> None:
        """Send what is queued and a GO_AWAY, for at most half a second, and end the connection."""
        if self.close_reason is None and self.event_started.is_set():
            self._queue_control(header(GO_AWAY, 0, 0, GO_AWAY_NORMAL))
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_FLUSH_S):
                while self.close_reason is None and self._has_work:
                    await self._drained.park()
        self._end("closed by us")
        await self._close_session()

    async def drained(self) -> None:
        """Returns when the socket took all that is queued, or the connection is over."""
        while self.close_reason is None and self._has_work:
            await self._drained.park()

    async def wait_closed(self) -> None:
        """Returns once the connection is over."""
        await self._over.wait()

    async def open_stream(self) -> YamuxStream:
        """A new stream; waits while too many of ours are unacknowledged.

        Raises MuxedConnUnavailable when the connection is over or the peer is going away.
        """
        while True:
            if self.close_reason is not None or self._going_away:
                raise MuxedConnUnavailable(self.close_reason or "the peer is going away")
            if self._next_stream_id > MAX_STREAM_ID:
                raise MuxedConnUnavailable("the connection has used up its stream ids")
            if self._unacknowledged < self.limits.max_unacknowledged_streams:
                break
            await self._acknowledgement.park()
        stream = YamuxStream(self, self._next_stream_id, opened_here=True)
        self._next_stream_id += 2
        self._unacknowledged += 1
        self._streams[stream.stream_id] = stream
        self._queue_control(header(WINDOW_UPDATE, SYN, stream.stream_id, 0))
        return stream

    async def accept_stream(self) -> YamuxStream:
        """The next stream that the peer opened; raises MuxedConnUnavailable when the connection is over."""
        while True:
            while self._accepted:
                stream = self._accepted.popleft()
                if not stream.is_closed or stream.unread_bytes:
                    return stream
            if self.close_reason is not None:
                raise MuxedConnUnavailable(self.close_reason)
            await self._stream_arrived.park()

    def get_transport_addresses(self) -> list[Multiaddr]:
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def buffered_bytes(self) -> int:
        return self._buffered_bytes

    @property
    def queued_bytes(self) -> int:
        """Accepted from writers and not yet given to the socket."""
        return self._data_bytes + len(self._control)

    # What the streams call; none of these waits, unless it says so

    def queue_data(self, stream_id: int, payload: memoryview) -> None:
        """One frame; `send_queued` must follow."""
        size = len(payload)
        self._data.append(header(DATA, 0, stream_id, size) + payload)  # one part: control frames go between
        self._data_bytes += HEADER_BYTES + size

    def send_queued(self, *, at_once: bool) -> None:
        """Have the socket take what is queued: by the writer's task, or sparing it its turn.

        at_once: the caller has queued all that it has. Else only the first write after something was received goes
        at once, so that a burst is still sent as one.
        """
        if (at_once or self._may_write_now) and self._work and self._write_now():
            return
        self._work.unpark_all()

    def queue_fin(self, stream_id: int) -> None:
        """In order with the stream's data."""
        if self.close_reason is None:
            self._data.append(header(DATA, FIN, stream_id, 0))
            self._data_bytes += HEADER_BYTES
            self._work.unpark_all()

    def queue_window_update(self, stream_id: int, size: int) -> None:
        self._queue_control(header(WINDOW_UPDATE, 0, stream_id, size))

    def queue_reset(self, stream_id: int) -> None:
        self._queue_control(header(WINDOW_UPDATE, RST, stream_id, 0))

    @property
    def send_queue_is_full(self) -> bool:
        return self._data_bytes >= self.limits.send_queue_bytes

    async def wait_for_send_queue(self) -> None:
        """Waits until a writer should look again."""
        if self.close_reason is None:
            await self._send_queue_space.park()

    def account_buffered(self, size: int) -> None:
        """More bytes are unread; above a budget the stream with the most of them goes."""
        self._buffered_bytes += size
        self._budget.used_bytes += size
        if self._buffered_bytes > self.limits.max_buffered_bytes:
            self.shed_heaviest()
        if self._budget.used_bytes > self._budget.limit_bytes:
            self._budget.enforce()

    def shed_heaviest(self) -> None:
        """Reset the stream with the most unread bytes."""
        slowest = max(self._streams.values(), key=lambda stream: stream.unread_bytes, default=None)
        if slowest is None or not slowest.unread_bytes:
            return
        self.count("streams_over_budget")
        self.queue_reset(slowest.stream_id)
        slowest.fail("reset by us: the receive budget is used up")
        self.forget(slowest)

    def release_buffered(self, size: int) -> None:
        self._buffered_bytes -= size
        self._budget.used_bytes -= size

    def grant_growth(self, window_bytes: int) -> int:
        """By how much a window of that size may grow now; what all have grown by stays bounded."""
        grown = min(
            window_bytes,
            self.limits.max_window_bytes - window_bytes,
            self.limits.max_buffered_bytes - self._grown_bytes,
        )
        self._grown_bytes += grown
        return grown

    def note_readable(self, stream: YamuxStream) -> None:
        """Its reader is called once all that came with these bytes is taken in."""
        self._readable[stream] = None

    def forget(self, stream: YamuxStream) -> None:
        """The stream needs no more frames. The peer may still send what its window allowed."""
        if self._streams.pop(stream.stream_id, None) is None:
            return
        self._discard_allowance_bytes += stream.receive_window_bytes
        self._grown_bytes -= stream.window_bytes - INITIAL_WINDOW_BYTES
        if not stream.opened_here:
            self._inbound_count -= 1
        self._acknowledge(stream)
        stream.tell_forgotten()

    def count(self, what: str) -> None:
        self.counters[what] += 1

    # Outgoing

    @property
    def _has_work(self) -> bool:
        return bool(self._control or self._data) or self._writing_since is not None or self.secured_conn.unsent

    def _queue_control(self, frame: bytes) -> None:
        """Ahead of all data. A peer that makes us owe it more than it reads loses the connection."""
        if self.close_reason is not None:
            return
        if len(self._control) >= self.limits.control_queue_bytes:
            self._end("the peer does not read the answers it asks for")
            return
        self._control += frame
        self._work.unpark_all()

    def _write_now(self) -> bool:
        """False if some of it is left to the writer's task."""
        self._may_write_now = False
        if self._data_bytes > MAX_PAYLOAD_BYTES:
            return False
        batch = self._take_batch()
        try:
            taken = self.secured_conn.write_now(batch)
        except CONNECTION_GONE as error:
            self._end(f"connection lost: {type(error).__name__}")
            return True
        if not taken:
            self._data.appendleft(batch)
            self._data_bytes += len(batch)
            return False
        self.sent_bytes += len(batch)
        return not self.secured_conn.unsent

    async def _write_loop(self) -> None:
        while True:
            if not self._control and not self._data and not self.secured_conn.unsent:
                if self._drained:
                    self._drained.unpark_all()
                await self._work.park()
                continue
            batch = self._take_batch()
            self._writing_since = trio.current_time()
            await self.secured_conn.write(batch)
            self._writing_since = None
            self.sent_bytes += len(batch)
            if not self.send_queue_is_full:
                if self._send_queue_space:
                    self._send_queue_space.unpark_all()

    def _take_batch(self) -> bytes:
        parts: list[bytes] = [bytes(self._control)]
        size = len(self._control)
        self._control.clear()
        while self._data and size < BATCH_BYTES:
            part = self._data.popleft()
            parts.append(part)
            size += len(part)
            self._data_bytes -= len(part)
        return b"".join(parts)

    # Incoming

    async def _read_loop(self) -> None:
        while True:
            data = await self.secured_conn.receive()
            if not data:
                self._end("closed by the peer")
                return
            self.received_bytes += len(data)
            self._heard_at = trio.current_time()
            self._may_write_now = True
            if self._heard:
                self._heard.unpark_all()
            self.feed(data)
            while self._readable:
                self._readable.popitem()[0].call_reader()

    def feed(self, data: bytes) -> None:
        """Take in any piece of the peer's byte stream; raises ProtocolViolation. Does not wait."""
        if self._partial_header:
            data = self._partial_header + data
            self._partial_header = b""
        view, position, end = memoryview(data), 0, len(data)
        while position < end and self.close_reason is None:
            if self._payload_left:
                size = min(self._payload_left, end - position)
                self._take_payload(view[position : position + size])
                position += size
            elif end - position < HEADER_BYTES:
                self._partial_header = data[position:]
                return
            else:
                self._take_header(*HEADER.unpack_from(data, position))
                position += HEADER_BYTES

    def _take_payload(self, payload: memoryview) -> None:
        self._payload_left -= len(payload)
        stream = self._payload_stream
        if stream is not None:
            stream.deliver(payload)
        if not self._payload_left:
            self._payload_stream = None
            if stream is not None and self._payload_ends_stream:
                stream.finish()

    def _take_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != VERSION:
            raise ProtocolViolation(f"muxer version {version}")
        if kind or not length:
            self._bare_frames += 1
            if self._bare_frames > self.limits.max_bare_frames:
                raise ProtocolViolation("a flood of frames without payload")
        if kind == DATA:
            self._on_data(flags, stream_id, length)
        elif kind == WINDOW_UPDATE:
            stream = self._addressed(flags, stream_id)
            if stream is not None:
                stream.grant(length)
                if flags & FIN:
                    stream.finish()
        elif kind == PING:
            self._on_ping(flags, length)
        elif kind == GO_AWAY:
            self._on_go_away(length)
        else:
            raise ProtocolViolation(f"muxer frame type {kind}")

    def _on_data(self, flags: int, stream_id: int, length: int) -> None:
        if length > MAX_DECLARED_BYTES:
            raise ProtocolViolation(f"a data frame of {length} bytes")
        stream = self._addressed(flags, stream_id)
        if stream is None:
            self._discard_allowance_bytes -= length
            if self._discard_allowance_bytes < 0:
                raise ProtocolViolation("data for streams that do not exist")
        elif length > stream.receive_window_bytes:
            self._punish_overrun(stream)
            stream = None
        else:
            stream.receive_window_bytes -= length
        self._payload_left = length
        self._payload_stream = stream
        self._payload_ends_stream = bool(flags & FIN)
        if not length and stream is not None and flags & FIN:
            stream.finish()

    def _punish_overrun(self, stream: YamuxStream) -> None:
        self.count("window_overruns")
        self._violations += 1
        if self._violations >= self.limits.max_violations:
            raise ProtocolViolation("receive window overrun again and again")
        self.queue_reset(stream.stream_id)
        stream.fail("reset by us: the peer overran the receive window")
        self.forget(stream)

    def _addressed(self, flags: int, stream_id: int) -> YamuxStream | None:
        """The live stream that a frame is for, after its SYN, ACK and RST were obeyed."""
        if stream_id == 0:
            raise ProtocolViolation("a stream frame for stream 0")
        if flags & SYN:
            self._on_open(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return None
        if flags & ACK:
            self._acknowledge(stream)
        if flags & RST:
            self.forget(stream)
            stream.fail("reset by the peer")
            return None
        return stream

    def _on_open(self, stream_id: int) -> None:
        if (stream_id & 1) == (1 if self.is_initiator else 0):
            raise ProtocolViolation("a stream id of our own side")
        if stream_id in self._streams:
            raise ProtocolViolation("a stream id in use")
        if self._inbound_count >= self.limits.max_inbound_streams:
            self.count("streams_refused")
            self._refused += 1
            if self._refused > self.limits.max_refused_streams:
                raise ProtocolViolation("a flood of streams")
            self._discard_allowance_bytes += INITIAL_WINDOW_BYTES
            self.queue_reset(stream_id)
            return
        stream = YamuxStream(self, stream_id, opened_here=False)
        self._streams[stream_id] = stream
        self._inbound_count += 1
        self._accepted.append(stream)
        if len(self._accepted) > 2 * self.limits.max_inbound_streams:
            raise ProtocolViolation("streams opened and reset faster than they can be served")
        self._queue_control(header(WINDOW_UPDATE, ACK, stream_id, 0))
        self._stream_arrived.unpark()

    def _acknowledge(self, stream: YamuxStream) -> None:
        if not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
            self._acknowledgement.unpark()

    def _on_ping(self, flags: int, nonce: int) -> None:
        if flags & SYN:
            self._queue_control(header(PING, ACK, 0, nonce))
        elif flags & ACK and nonce == self._ping_nonce and self._ping_sent_at is not None:
            self.rtt_us = int((trio.current_time() - self._ping_sent_at) * 1e6)
            self._ping_sent_at = None

    def _on_go_away(self, code: int) -> None:
        self._going_away = True
        self._acknowledgement.unpark_all()
        if code != GO_AWAY_NORMAL:
            self._end(f"the peer went away, code {code}")

    # Life and death

    async def _keepalive_loop(self) -> None:
        interval_s, timeout_s = self.limits.keepalive_interval_us / 1e6, self.limits.keepalive_timeout_us / 1e6
        self._heard_at = sweep_at = trio.current_time()
        while True:
            await trio.sleep_until(self._heard_at + interval_s)
            now = trio.current_time()
            if now >= sweep_at:
                self._sweep()
                sweep_at = now + interval_s
            if now < self._heard_at + interval_s:
                continue
            seen = self.received_bytes
            self._ping_nonce = (self._ping_nonce + 1) & 0xFFFF_FFFF
            self._ping_sent_at = now
            self._queue_control(header(PING, SYN, 0, self._ping_nonce))
            with trio.move_on_after(timeout_s):
                await self._heard.park()
            if self.received_bytes == seen:
                # If it was our own process that stood still, the answer is here and unread: look once.
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
            if self.received_bytes == seen:
                self.count("keepalive_timeouts")
                self._end("silent: no answer to a ping")

    def _sweep(self) -> None:
        """Once per interval: streams that linger, a socket that takes nothing."""
        now = trio.current_time()
        self._refused = 0
        self._bare_frames = 0
        for stream in list(self._streams.values()):
            if stream.linger_until is not None and now >= stream.linger_until:
                self.count("streams_lingered_out")
                self.queue_reset(stream.stream_id)
                stream.fail("the peer never closed")
                self.forget(stream)
        if self._writing_since is not None and now - self._writing_since > self.limits.stall_timeout_us / 1e6:
            self._end("stalled: the socket takes nothing")

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        """The boundary to the peer's bytes and to the world: whatever they raise ends this connection only."""
        try:
            await loop()
        except ProtocolViolation as violation:
            log.info("muxer.protocol_violation", peer=str(self.peer_id), reason=violation.reason)
            await self._send_go_away()
            self._end(f"protocol violation: {violation.reason}")
        except CONNECTION_GONE as error:
            self._end(f"connection lost: {type(error).__name__}")
        except Exception:
            log.exception("muxer.crashed", peer=str(self.peer_id))
            self._end("internal error")

    async def _send_go_away(self) -> None:
        self._control.clear()
        self._queue_control(header(GO_AWAY, 0, 0, GO_AWAY_PROTOCOL_ERROR))
        with trio.move_on_after(CLOSE_FLUSH_S):
            while self.close_reason is None and self._has_work:
                await self._drained.park()

    def _end(self, reason: str) -> None:
        """The connection is over: wake everybody. The first reason stays."""
        if self.close_reason is not None:
            return
        self.close_reason = reason
        for stream in list(self._streams.values()):
            stream.fail(reason, keep_unread=True)
            self.forget(stream)
        self._control.clear()
        self._data.clear()
        self._data_bytes = 0
        for lot in (self._send_queue_space, self._stream_arrived, self._acknowledgement, self._drained):
            lot.unpark_all()
        self._over.set()
        if self._scope is not None:
            self._scope.cancel()

    async def _close_session(self) -> None:
        try:
            await self.secured_conn.close()
        except CONNECTION_GONE:
            pass  # it is closed all the same
