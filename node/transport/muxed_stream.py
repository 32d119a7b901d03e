"""One Yamux stream: a bounded receive buffer, a send window, and the two half-closes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from .frames import INITIAL_WINDOW_BYTES, MAX_PAYLOAD_BYTES, MAX_SEND_WINDOW_BYTES, ProtocolViolation

if TYPE_CHECKING:
    from .intake import Intake


def _nobody() -> None:
    """The hook of a stream that nobody watches."""


class YamuxStream(IMuxedStream):
    """A stream of one connection. One task may read while another writes.

    `read` and `write` do not yield while they need not wait: a reader waits as soon as the window's worth is
    drained, a writer as soon as the window or the connection's send queue is full.
    Who sets `on_readable` is called in the connection's own task when bytes have arrived, and may `read_now`.
    A write that is cancelled may have sent a part of its bytes; the stream is then only good for `reset`.
    """

    def __init__(self, connection: Intake, stream_id: int, *, opened_here: bool) -> None:
        self.connection = connection
        self.muxed_conn = connection
        self.stream_id = stream_id
        self.opened_here = opened_here
        self.acknowledged = not opened_here
        self.window_bytes = INITIAL_WINDOW_BYTES
        self.receive_window_bytes = INITIAL_WINDOW_BYTES
        self.send_window_bytes = INITIAL_WINDOW_BYTES
        self.linger_until: float | None = None
        self.on_forgotten: Callable[[], object] = _nobody
        self.on_readable: Callable[[], object] | None = None
        self._buffer = bytearray()
        self._consumed_bytes = 0
        self._fin_sent = False
        self._fin_received = False
        self._abandoned = False
        self._failure: str | None = None
        self._deadline: float | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._writers = trio.lowlevel.ParkingLot()
        self._write_lock = trio.Lock()

    # What the application calls

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte, at most `n` (None or negative: all that is here).

        Raises MuxedStreamEOF after the peer's FIN, MuxedStreamReset if either side reset the stream or the
        connection went and everything received before was read.
        """
        if n == 0:
            return b""
        while not self._buffer:
            if self._failure is not None:
                raise MuxedStreamReset(self._failure)
            if self._fin_received or self._abandoned:
                raise MuxedStreamEOF("closed for reading")
            await self._park(self._readers, None)
        return self.read_now(n)

    def read_now(self, n: int | None = None) -> bytes:
        """What is here, at most `n` bytes; b"" if nothing is."""
        buffer = self._buffer
        if n is None or n < 0 or n >= len(buffer):
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(buffer[:n])
            del buffer[:n]
        self.connection.release_buffered(len(data))
        self._credit(len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Queue all of `data`; waits for the peer's window and for room in the connection's send queue.

        Raises MuxedStreamClosed after our own close, MuxedStreamReset if the stream is gone or the peer read
        nothing for the stall timeout.
        """
        try:
            self._write_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._write_lock.acquire()
        try:
            await self._write(memoryview(data if isinstance(data, bytes) else bytes(data)))
        finally:
            self._write_lock.release()

    def write_now(self, data: bytes) -> bool:
        """Send all of `data`, to the socket if it takes it, without waiting. False: nothing was taken; `write` it.

        Raises as `write`.
        """
        self._check_writable()
        busy = self._write_lock.locked() or self.connection.send_queue_is_full
        if busy or len(data) > self.send_window_bytes:
            return False
        self.send_window_bytes -= len(data)
        view = memoryview(data)
        for start in range(0, len(data), MAX_PAYLOAD_BYTES):
            self.connection.queue_data(self.stream_id, view[start : start + MAX_PAYLOAD_BYTES])
        self.connection.send_queued(at_once=True)
        return True

    def _check_writable(self) -> None:
        if self._failure is not None:
            raise MuxedStreamReset(self._failure)
        if self._fin_sent:
            raise MuxedStreamClosed("closed for writing")

    async def _write(self, data: memoryview) -> None:
        offset, total = 0, len(data)
        while True:
            self._check_writable()
            if offset == total:
                return
            if self.send_window_bytes <= 0:
                await self._park_writer()
            elif self.connection.send_queue_is_full:
                await self.connection.wait_for_send_queue()
            else:
                size = min(self.send_window_bytes, MAX_PAYLOAD_BYTES, total - offset)
                self.send_window_bytes -= size
                self.connection.queue_data(self.stream_id, data[offset : offset + size])
                self.connection.send_queued(at_once=False)
                offset += size

    async def close(self) -> None:
        """Send FIN: no more writes. Reading goes on until the peer's FIN."""
        if self._fin_sent or self._failure is not None:
            return
        self._fin_sent = True
        self.connection.queue_fin(self.stream_id)
        self._writers.unpark_all()
        if self._fin_received:
            self.connection.forget(self)
        elif self._abandoned:
            self._linger()

    async def abandon(self) -> None:
        """Nobody will read any more: drop what is here, send FIN, and reset if the peer goes on."""
        self._abandoned = True
        self._drop_buffer()
        if self._readers:
            self._readers.unpark_all()
        await self.close()
        self._linger()

    async def reset(self) -> None:
        """End both directions at both ends at once; what is unread or unsent is lost."""
        if self._failure is None and not (self._fin_sent and self._fin_received):
            self.connection.queue_reset(self.stream_id)
        self.fail("reset by us")
        self.connection.forget(self)

    def set_deadline(self, ttl: int) -> None:
        """Every later wait ends `ttl` seconds from now, with MuxedStreamReset."""
        if ttl < 0:
            raise ValueError(f"a deadline must not be negative, not {ttl}")
        self._deadline = trio.current_time() + ttl

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.connection.get_remote_address()

    @property
    def is_closed(self) -> bool:
        return self._failure is not None or (self._fin_sent and self._fin_received)

    @property
    def unread_bytes(self) -> int:
        return len(self._buffer)

    async def __aenter__(self) -> YamuxStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await (self.close() if exc_type is None else self.reset())

    # What the connection's reader calls; none of these waits

    def deliver(self, payload: memoryview) -> None:
        """Bytes within the window that were already taken from it."""
        if self._failure is not None:
            return
        if self._abandoned or self._fin_received:
            self.connection.queue_reset(self.stream_id)
            self.fail("data after the peer's FIN" if self._fin_received else "data after our close")
            self.connection.forget(self)
            return
        self._buffer += payload
        self.connection.account_buffered(len(payload))
        if self.on_readable is not None:
            self.connection.note_readable(self)
        elif self._readers:
            self._readers.unpark_all()

    def call_reader(self) -> None:
        """Spare the reader's task its turn; it is woken if `on_readable` leaves something."""
        if self._buffer and self.on_readable is not None:
            self.on_readable()
        if self._buffer and self._readers:
            self._readers.unpark_all()

    def grant(self, size: int) -> None:
        """The peer's window update."""
        self.send_window_bytes += size
        if self.send_window_bytes > MAX_SEND_WINDOW_BYTES:
            raise ProtocolViolation("send window overflow")
        if size:
            self._writers.unpark_all()

    def finish(self) -> None:
        """The peer's FIN."""
        self._fin_received = True
        if self._readers:
            self._readers.unpark_all()
        if self._fin_sent:
            self.connection.forget(self)

    def fail(self, reason: str, *, keep_unread: bool = False) -> None:
        """The stream is gone; every waiter learns why."""
        if self._failure is None:
            self._failure = reason
        if not keep_unread:
            self._drop_buffer()
        if self._readers:
            self._readers.unpark_all()
        self._writers.unpark_all()

    def tell_forgotten(self) -> None:
        """The connection has no more use for the stream."""
        told, self.on_forgotten = self.on_forgotten, _nobody
        told()

    def __del__(self) -> None:
        """What was never read counts against the budgets for as long as it is in memory."""
        self._drop_buffer()

    # Inside

    def _credit(self, size: int) -> None:
        """Give window back once half of it was read, and grow it while the connection can afford it."""
        self._consumed_bytes += size
        if self._consumed_bytes * 2 < self.window_bytes or self._fin_received or self._failure is not None:
            return
        grown = self.connection.grant_growth(self.window_bytes)
        update = self._consumed_bytes + grown
        self.window_bytes += grown
        self._consumed_bytes = 0
        self.receive_window_bytes += update
        self.connection.queue_window_update(self.stream_id, update)

    def _drop_buffer(self) -> None:
        if self._buffer:
            self.connection.release_buffered(len(self._buffer))
            self._buffer = bytearray()

    def _linger(self) -> None:
        if self.linger_until is None:
            self.linger_until = trio.current_time() + self.connection.limits.linger_us / 1e6

    async def _park_writer(self) -> None:
        before = self.send_window_bytes
        limit = trio.current_time() + self.connection.limits.stall_timeout_us / 1e6
        await self._park(self._writers, limit)
        if self.send_window_bytes == before and self._failure is None and trio.current_time() >= limit:
            self.connection.count("streams_stalled")
            await self.reset()
            raise MuxedStreamReset("the peer read nothing for the stall timeout")

    async def _park(self, lot: trio.lowlevel.ParkingLot, limit: float | None) -> None:
        """Wait in `lot`, no longer than the stream's own deadline and `limit`."""
        if self._deadline is None and limit is None:
            await lot.park()
            return
        deadline = min(at for at in (self._deadline, limit) if at is not None)
        with trio.CancelScope(deadline=deadline) as scope:
            await lot.park()
        if scope.cancelled_caught and self._deadline is not None and trio.current_time() >= self._deadline:
            raise MuxedStreamReset("the stream's deadline passed")
