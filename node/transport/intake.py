"""What a muxed connection takes in: the peer's frames, the streams that they are for, and every bound on both."""

from __future__ import annotations

from collections import Counter, deque

import trio
from libp2p.abc import IMuxedConn

from ...protocol.limits import Limit
from .frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    GO_AWAY_NORMAL,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    MAX_DECLARED_BYTES,
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
from .send_queue import SecureChannel, SendQueue
from .streams import node_id_of

_LIMITS = {
    "streams_refused": Limit.STREAMS,
    "streams_too_fast": Limit.STREAM_RATE,
    "window_overruns": Limit.WINDOW,
    "streams_over_budget": Limit.UNREAD_BYTES,
    "violations": Limit.MUXER_FRAMES,
}


class Intake(SendQueue, IMuxedConn):
    """The layer of `YamuxConnection` above what it sends. `feed` raises ProtocolViolation; nothing here waits."""

    def __init__(self, conn: SecureChannel, limits: MuxerLimits, budget: BufferBudget) -> None:
        super().__init__(conn, limits)
        self.counters: Counter[str] = Counter()
        self.rtt_us: int | None = None
        self._budget = budget
        self._streams: dict[int, YamuxStream] = {}
        self._inbound_count = 0
        self._opened = 0
        self._unacknowledged = 0
        self._accepted: deque[YamuxStream] = deque()
        self._buffered_bytes = 0
        self._grown_bytes = 0
        self._partial_header = b""
        self._payload_left = 0
        self._payload_stream: YamuxStream | None = None
        self._payload_ends_stream = False
        self._readable: dict[YamuxStream, None] = {}
        self._discard_allowance_bytes = 0
        self._violations = 0
        self._refused = 0
        self._bare_frames = 0
        self._ping_sent_at: float | None = None
        self._ping_nonce = 0
        self._going_away = False
        self._stream_arrived = trio.lowlevel.ParkingLot()
        self._acknowledgement = trio.lowlevel.ParkingLot()

    @property
    def is_initiator(self) -> bool:
        return self.secured_conn.is_initiator

    def get_remote_address(self) -> tuple[str, int] | None:
        return self.secured_conn.get_remote_address()

    @property
    def stream_count(self) -> int:
        return len(self._streams)

    @property
    def buffered_bytes(self) -> int:
        return self._buffered_bytes

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
        """For tests and, where it is a bound that the peer ran into, for the owner."""
        self.counters[what] += 1
        limit = _LIMITS.get(what)
        if limit is not None:
            remote = self.get_remote_address()
            self._budget.on_limit(limit, node_id_of(self.peer_id) or b"", remote[0] if remote else "")

    # Frames

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
        is_full = self._inbound_count >= self.limits.max_inbound_streams
        if is_full or self._opened >= self.limits.max_opened_streams:
            self.count("streams_refused" if is_full else "streams_too_fast")
            self._refused += 1
            if self._refused > self.limits.max_refused_streams:
                raise ProtocolViolation("a flood of streams")
            self._discard_allowance_bytes += INITIAL_WINDOW_BYTES
            self.queue_reset(stream_id)
            return
        self._opened += 1
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
