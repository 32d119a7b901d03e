"""What a connection is like, by where its two ends stand; and the connection itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from .dice import Stream
from .engine import MS, SECOND

if TYPE_CHECKING:
    from .life import Life

# As the transport of real nodes has them: a ping every 2 s, which has to be answered within 4 s.
KEEPALIVE_LEAST_US = 4 * SECOND
KEEPALIVE_MOST_US = 6 * SECOND
DIAL_TIMEOUT_US = 5 * SECOND
# TCP's handshake, Noise's, and the greeting.
DIAL_ROUND_TRIPS = 4
DIAL_RETRY_FIRST_US = 250 * MS
DIAL_RETRY_MOST_US = 8 * SECOND
WAITING_MESSAGES_MAX = 1024
SAME_SITE_US = 200


class Access(StrEnum):
    """How a machine reaches the others."""

    LAN = "lan"
    HOME = "home"
    WAN = "wan"


@dataclass(frozen=True, slots=True)
class AccessModel:
    """latency_us: one way, to the middle of the net.  jitter: share of it, uniform.  bytes_per_ms: upload.

    stall: share of messages that wait for a retransmission, of a packet that was lost.
    """

    latency_us: int
    jitter: float
    bytes_per_ms: int
    stall: float


ACCESS: dict[Access, AccessModel] = {
    Access.LAN: AccessModel(150, 0.5, 110_000, 0.0),
    Access.HOME: AccessModel(7_000, 0.4, 2_500, 0.001),
    Access.WAN: AccessModel(35_000, 0.3, 12_000, 0.002),
}
RETRANSMISSION_US = 250 * MS


class Link:
    """One connection between two lives. Messages of a direction arrive in the order in which they were sent.

    open: whether each end still believes in it; a message in flight arrives while the receiver's end is open.
    relay: index of the machine that carries it, or -1.  stalled: what waits for a partition to heal, by direction.
    """

    __slots__ = ("ends", "free_us", "last_us", "latency_us", "models", "open", "relay", "since_us", "stalled")

    def __init__(self, a: Life, b: Life, now_us: int, relay: int) -> None:
        self.ends = (a, b)
        self.open = [True, True]
        self.since_us = now_us
        self.relay = relay
        self.free_us = [now_us, now_us]
        self.last_us = [now_us, now_us]
        self.stalled: tuple[list[tuple[object, ...]], list[tuple[object, ...]]] = ([], [])
        self.models = (ACCESS[a.machine.access], ACCESS[b.machine.access])
        self.latency_us = one_way_us(a, b) * (2 if relay >= 0 else 1)

    def side(self, life: Life) -> int:
        return 0 if self.ends[0] is life else 1

    def arrival_us(self, side: int, size_bytes: int, now_us: int, dice: Stream) -> int:
        """When what `side` sends now is there: after what it sent before."""
        model = self.models[side]
        free_us = self.free_us[side]
        sent_us = (free_us if free_us > now_us else now_us) + size_bytes * MS // model.bytes_per_ms
        self.free_us[side] = sent_us
        at_us = sent_us + self.latency_us + int(self.latency_us * model.jitter * dice.random())
        if model.stall and dice.random() < model.stall:
            at_us += RETRANSMISSION_US
        last_us = self.last_us[side]
        if at_us < last_us:
            at_us = last_us
        self.last_us[side] = at_us
        return at_us


def one_way_us(a: Life, b: Life) -> int:
    """Latency without jitter."""
    one, other = a.machine, b.machine
    if one.site == other.site:
        return SAME_SITE_US
    return ACCESS[one.access].latency_us + ACCESS[other.access].latency_us
