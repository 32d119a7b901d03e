"""What a muxed connection has still to send: control frames ahead of all data, in as few writes as possible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Protocol

import trio
from libp2p.connection_types import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from multiaddr import Multiaddr

from .frames import (
    DATA,
    FIN,
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    RST,
    WINDOW_UPDATE,
    MuxerLimits,
    header,
)

BATCH_BYTES = 256 * 1024  # one write to the socket
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


class SendQueue(ABC):
    """The lowest layer of `YamuxConnection`. No method waits, unless it says so."""

    def __init__(self, conn: SecureChannel, limits: MuxerLimits) -> None:
        self.secured_conn = conn
        self.limits = limits
        self.close_reason: str | None = None
        self.sent_bytes = 0
        self._control = bytearray()
        self._data: deque[bytes] = deque()
        self._data_bytes = 0
        self._writing_since: float | None = None
        self._may_write_now = True
        self._work = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._send_queue_space = trio.lowlevel.ParkingLot()

    @abstractmethod
    def _end(self, reason: str) -> None:
        """The connection is over; the layers above know what that means."""

    @property
    def queued_bytes(self) -> int:
        """Accepted from writers and not yet given to the socket."""
        return self._data_bytes + len(self._control)

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

    async def drained(self) -> None:
        """Returns when the socket took all that is queued, or the connection is over."""
        while self.close_reason is None and self._has_work:
            await self._drained.park()

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
