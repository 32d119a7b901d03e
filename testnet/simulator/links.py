"""What a connection is like, by where its two ends stand; and the connection itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from .dice import Stream
from .engine import MS, SECOND

if TYPE_CHECKING:
    from ...protocol.messages import Message
    from .life import Life
    from .machine import Machine

# A message on its way: itself or None, its bytes' checksum and number, its number in the gossip or 0, whose gossip.
Parcel: TypeAlias = "tuple[Message | None, int, int, int, bytes]"
# As the transport of real nodes has them: a ping every 2 s, which has to be answered within 4 s.
KEEPALIVE_LEAST_US = 4 * SECOND
KEEPALIVE_MOST_US = 6 * SECOND
DIAL_TIMEOUT_US = 10 * SECOND
# TCP's handshake, Noise's, and the greeting.
DIAL_ROUND_TRIPS = 4
DIAL_RETRY_FIRST_US = 250 * MS
DIAL_RETRY_MOST_US = 8 * SECOND
WAITING_MESSAGES_MAX = 1024
SAME_SITE_US = 200


class Nat(StrEnum):
    """Who can dial a machine. Real nodes punch no holes, so what a NAT makes of ports (cone, symmetric) is all the
    same to them: two that are behind NATs meet in one house, or over a relay.
    """

    NONE = "none"  # anybody
    HOUSE = "house"  # listens: its own site directly; others try its private address in vain, then its relays
    RELAYED = "relayed"  # listens to nobody, and is reached over its relays alone
    OUTWARD = "outward"  # dials others only: a client


class Access(StrEnum):
    """How a machine reaches the others."""

    LAN = "lan"
    HOME = "home"
    WAN = "wan"


@dataclass(frozen=True, slots=True)
class AccessModel:
    """latency_us: one way, to the middle of the net.  jitter: share of it, uniform.  up, down: bytes in a millisecond.

    stall: share of messages that wait for a retransmission, of a packet that was lost.
    """

    latency_us: int
    jitter: float
    up: int
    down: int
    stall: float


ACCESS: dict[Access, AccessModel] = {
    Access.LAN: AccessModel(150, 0.5, 110_000, 110_000, 0.0),
    Access.HOME: AccessModel(7_000, 0.4, 2_500, 12_500, 0.001),
    Access.WAN: AccessModel(35_000, 0.3, 12_000, 12_000, 0.002),
}
RETRANSMISSION_US = 250 * MS


class Link:
    """One connection between two lives. Messages of a direction arrive in the order in which they were sent.

    open: whether each end still believes in it; a message in flight arrives while the receiver's end is open.
    hops: from which machine what each side sends arrives at the other; a relay's, if one carries it.
    stalled: what waits for a partition to heal, by direction.
    """

    __slots__ = ("ends", "hops", "last_us", "latency_us", "open", "since_us", "stalled")

    def __init__(self, a: Life, b: Life, now_us: int) -> None:
        self.ends = (a, b)
        self.open = [True, True]
        self.since_us = now_us
        self.hops = (a.machine.index, b.machine.index)
        self.last_us = [now_us, now_us]
        self.stalled: tuple[list[Parcel], list[Parcel]] = ([], [])
        self.latency_us = one_way_us(a.machine, b.machine)

    def side(self, life: Life) -> int:
        return 0 if self.ends[0] is life else 1


class Line:
    """What a machine has to the net, one for all of its links and blobs: an uplink and a downlink.

    sent_us, taken_us: until when what was sent so far is on its way, and what has come is taken in.
    """

    __slots__ = ("model", "sent_us", "taken_us")

    def __init__(self, model: AccessModel) -> None:
        self.model = model
        self.sent_us = self.taken_us = 0

    def begin(self, now_us: int) -> None:
        """A new process: nothing waits."""
        self.sent_us = self.taken_us = now_us

    def crossed_us(self, other: Line, latency_us: int, size_bytes: int, now_us: int, dice: Stream) -> int:
        """When what is sent now has come to the other line: after all that was sent before.

        The slower of both holds it up once; the uplink is busy for as long as it takes to send.
        """
        model = self.model
        up, down = model.up, other.model.down
        from_us = self.sent_us if self.sent_us > now_us else now_us
        self.sent_us = from_us + size_bytes * MS // up
        at_us = from_us + size_bytes * MS // (up if up < down else down) + latency_us
        at_us += int(latency_us * model.jitter * dice.random())
        if model.stall and dice.random() < model.stall:
            at_us += RETRANSMISSION_US
        return at_us

    def taken_at_us(self, size_bytes: int, now_us: int) -> int:
        """Until when what comes now is taken in: now, or later if other things came as well."""
        # Never in no time, or what comes later could overtake what waits.
        taken_us = self.taken_us + size_bytes * MS // self.model.down + 1
        self.taken_us = taken_us = taken_us if taken_us > now_us else now_us
        return taken_us


def one_way_us(one: Machine, other: Machine) -> int:
    """Latency without jitter."""
    if one.site == other.site:
        return SAME_SITE_US
    return ACCESS[one.access].latency_us + ACCESS[other.access].latency_us
