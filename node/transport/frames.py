"""The wire format of Yamux, and the bounds that we hold a peer to. No I/O.

Source: https://github.com/hashicorp/yamux/blob/master/spec.md and the libp2p page on yamux.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol

from ...protocol.limits import Limit

YAMUX_PROTOCOL: Final = "/yamux/1.0.0"

HEADER: Final = Struct("!BBHII")  # version, type, flags, stream id, length
HEADER_BYTES: Final = HEADER.size
VERSION: Final = 0

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

GO_AWAY_NORMAL: Final = 0
GO_AWAY_PROTOCOL_ERROR: Final = 1

INITIAL_WINDOW_BYTES: Final = 256 * 1024  # both sides assume it, the spec fixes it
MAX_SEND_WINDOW_BYTES: Final = 1 << 30  # a peer that grants more than this is not serious
MAX_DECLARED_BYTES: Final = 16 << 20  # no window is ever larger, so no honest data frame is

# One full frame, its header and the 16-byte tag fill exactly one Noise message.
MAX_PAYLOAD_BYTES: Final = 65_535 - 16 - HEADER_BYTES


class ProtocolViolation(Exception):
    """The peer broke the muxer's rules in a way that costs it the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """Twelve bytes; every argument must fit its field."""
    return HEADER.pack(VERSION, kind, flags, stream_id, length)


@dataclass(frozen=True, slots=True)
class MuxerLimits:
    """What one connection may cost us. All of it is enforced, whatever the peer sends.

    Worst memory of a connection: max_buffered_bytes received and unread, plus send_queue_bytes and one
    frame of each waiting writer, plus control_queue_bytes, plus about 1 KiB for each of max_inbound_streams.
    """

    max_window_bytes: int = 1 << 20
    """A stream's receive window grows from 256 KiB up to this while its reader keeps up."""

    max_inbound_streams: int = 256
    """Live streams that the peer opened. One more is reset and counted."""

    max_opened_streams: int = 4_096
    """Streams that the peer opens within one keepalive interval; one more is reset and counted.

    To serve one takes about a millisecond.
    """

    max_refused_streams: int = 2_000
    """Refusals within one keepalive interval before the connection goes."""

    max_bare_frames: int = 100_000
    """Frames without payload, pings too, within one keepalive interval before the connection goes.

    Each costs us about 2 us, so a peer takes at most a tenth of a core with them.
    """

    max_unacknowledged_streams: int = 256
    """Our own opened streams that the peer has not acknowledged; open_stream waits for a place."""

    max_buffered_bytes: int = 16 << 20
    """Received and unread, over all streams; above it the stream with the most unread bytes is reset.

    Also the bound on the sum of what windows have grown by.
    """

    send_queue_bytes: int = 512 * 1024
    """Writers wait while more than this is queued for the socket."""

    control_queue_bytes: int = 128 * 1024
    """Answers owed to a peer that does not read them; above it the connection goes."""

    max_violations: int = 4
    """Window overruns before the connection goes; each of them costs its stream."""

    keepalive_interval_us: int = 2_000_000
    """Silence after which a ping is sent."""

    keepalive_timeout_us: int = 4_000_000
    """Silence after a ping that ends the connection: a frozen peer lasts at most interval + timeout."""

    stall_timeout_us: int = 60_000_000
    """How long a writer waits for a peer that reads nothing, if the caller sets no shorter deadline."""

    linger_us: int = 30_000_000
    """How long a stream that we closed and no longer read may wait for the peer's FIN."""

    def __post_init__(self) -> None:
        if not INITIAL_WINDOW_BYTES <= self.max_window_bytes <= MAX_DECLARED_BYTES:
            raise ValueError(
                f"max_window_bytes must be within [{INITIAL_WINDOW_BYTES}, {MAX_DECLARED_BYTES}], "
                f"not {self.max_window_bytes}"
            )
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")


OnLimit = Callable[[Limit, bytes, str], None]
"""Of a limit, the peer (empty if it has not proved who it is) and its address without a port, as far as known."""


def ignore_limit(_limit: Limit, _peer: bytes, _source: str) -> None:
    """For who does not count."""


class Holder(Protocol):
    """Who holds unread bytes: a connection."""

    @property
    def buffered_bytes(self) -> int: ...
    def shed_heaviest(self) -> None:
        """Reset the stream with the most unread bytes."""


class BufferBudget:
    """Bytes that all connections of a host together hold received and unread.

    When they are too many, the connection that holds the most of them pays, not the one that came last.
    """

    __slots__ = ("_holders", "limit_bytes", "on_limit", "used_bytes")

    def __init__(self, limit_bytes: int, on_limit: OnLimit = ignore_limit) -> None:
        """on_limit: told of every bound of the muxer that a connection's peer ran into."""
        self.limit_bytes = limit_bytes
        self.on_limit = on_limit
        self.used_bytes = 0
        self._holders: dict[int, Holder] = {}

    def join(self, holder: Holder) -> None:
        self._holders[id(holder)] = holder

    def leave(self, holder: Holder) -> None:
        self._holders.pop(id(holder), None)

    def enforce(self) -> None:
        while self.used_bytes > self.limit_bytes and self._holders:
            before = self.used_bytes
            max(self._holders.values(), key=lambda holder: holder.buffered_bytes).shed_heaviest()
            if self.used_bytes >= before:
                return  # what is left is not in any stream that lives
