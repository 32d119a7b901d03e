"""Our Yamux: one connection's streams, with every bound enforced and no lock that a peer can hold.

Three tasks run a connection. The reader only parses and queues, so it never waits on the writer (two peers
that both write cannot deadlock). The writer sends whatever is queued, control frames first, in as few
Noise messages as possible. The third wakes once per keepalive interval. Nothing else wakes an idle connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from .frames import (
    GO_AWAY,
    GO_AWAY_NORMAL,
    GO_AWAY_PROTOCOL_ERROR,
    PING,
    SYN,
    WINDOW_UPDATE,
    BufferBudget,
    MuxerLimits,
    ProtocolViolation,
    header,
)
from .intake import Intake
from .muxed_stream import YamuxStream
from .send_queue import CONNECTION_GONE, SecureChannel

log = structlog.get_logger(__name__)

CLOSE_FLUSH_S = 0.5  # how long close() waits for what is queued
SESSION_CLOSE_S = 1.0
MAX_STREAM_ID = 0xFFFF_FFFF


class YamuxConnection(Intake):
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
        super().__init__(conn, limits or MuxerLimits(), budget or BufferBudget(1 << 62))
        self.peer_id = peer_id
        self.event_started = trio.Event()
        self.on_close: Callable[[], Awaitable[None]] | None = None
        self.received_bytes = 0
        self._next_stream_id = 1 if conn.is_initiator else 2
        self._heard_at = 0.0
        self._heard = trio.lowlevel.ParkingLot()
        self._over = trio.Event()
        self._scope: trio.CancelScope | None = None

    # IMuxedConn

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
        self._opened = 0
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
            self.count("violations")
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
