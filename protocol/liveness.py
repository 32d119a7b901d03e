"""States of a member, and what moves it from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from math import log, log10

from .config import ProtocolConfig

LONG_AGO_US = -(1 << 62)


class Status(IntEnum):
    """Numbered as in `MemberState.state` on the wire, where nobody is unknown.

    UNKNOWN: it has to be known here, and is not yet. That is no sign of death.
    """

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3
    UNKNOWN = 4


class Finding(StrEnum):
    """What this node found out about a member."""

    ANSWERED = "answered"  # it spoke to us, or to one that we asked
    SILENT = "silent"  # no probe was answered, or its link broke
    ACCUSED = "accused"  # another suspects it, and we can't tell
    RENEWED = "renewed"  # it has a higher incarnation than the one that was in doubt
    EXPIRED = "expired"  # it didn't clear itself in time
    BURIED = "buried"  # another declared it dead
    DEPARTED = "departed"  # it left in order
    MISSED = "missed"  # time and again nobody knew it who should have


TRANSITIONS: dict[tuple[Status, Finding], Status] = {
    (Status.ALIVE, Finding.SILENT): Status.SUSPECT,
    (Status.ALIVE, Finding.ACCUSED): Status.SUSPECT,
    (Status.ALIVE, Finding.BURIED): Status.DEAD,
    (Status.ALIVE, Finding.DEPARTED): Status.LEFT,
    (Status.SUSPECT, Finding.ANSWERED): Status.ALIVE,
    (Status.SUSPECT, Finding.RENEWED): Status.ALIVE,
    (Status.SUSPECT, Finding.EXPIRED): Status.DEAD,
    (Status.SUSPECT, Finding.BURIED): Status.DEAD,
    (Status.SUSPECT, Finding.DEPARTED): Status.LEFT,
    (Status.DEAD, Finding.RENEWED): Status.ALIVE,
    (Status.DEAD, Finding.DEPARTED): Status.LEFT,
    (Status.LEFT, Finding.RENEWED): Status.ALIVE,
    (Status.UNKNOWN, Finding.ANSWERED): Status.ALIVE,
    (Status.UNKNOWN, Finding.RENEWED): Status.ALIVE,
    (Status.UNKNOWN, Finding.MISSED): Status.DEAD,
}


def suspicion_timeout_us(live_members: int, confirmations: int, config: ProtocolConfig) -> int:
    """Wait before a suspect is declared dead.

    live_members: known, this node included, >= 1.  confirmations: accusers beside the first, >= 0.
    Returns microseconds within [config.suspicion_min_us, config.suspicion_max_us].
    Raises ValueError if live_members < 1.
    Source: Dadgar et al., Lifeguard (2017), section IV-B.
    """
    if live_members < 1:
        raise ValueError(f"live_members is {live_members}, must be at least 1")
    longest = config.suspicion_max_us
    shortest = min(longest, int(config.suspicion_min_us * max(1.0, log10(live_members))))
    # The suspect and this node can't confirm.
    possible = min(config.suspicion_accusers, live_members - 2)
    if possible < 1:
        return shortest
    waited = log(min(confirmations, possible) + 1) / log(possible + 1)
    return max(shortest, int(longest - (longest - shortest) * waited))


@dataclass(slots=True)
class Member:
    """What one node knows of another. Owned by `Membership`.

    incarnation: the highest that is known.  said: the highest that it said itself, over its link or in a row that it
    signed; 0 if none.  shared_place, pair_place: on a ring that all nodes share, and a number of the pair that it is
    with this node, the same for both; they make the view.  level: first bits that its place shares with this node's,
    see `Cell.level`.  told_us: when it was last told of a doubt.  accusers: of the suspicion, in the order in which
    they came.  shortest: the evidence is strong, so the suspicion lasts `suspicion_min_us`.
    serves: its record names a role in which it does something for others.  watched: it concerns this node, see
    `Circle.watched`.  misses: how often it was sought in vain.  rtt_us: to it and back, smoothed; 0 if nobody measured.
    """

    node: bytes
    incarnation: int
    shared_place: bytes
    pair_place: bytes
    level: int
    status: Status = Status.ALIVE
    said: int = 0
    serves: bool = False
    watched: bool = False
    heard_us: int = 0
    changed_us: int = 0
    told_us: int = LONG_AGO_US
    suspected_us: int = 0
    deadline_us: int = 0
    shortest: bool = False
    misses: int = 0
    rtt_us: int = 0
    accusers: dict[bytes, None] = field(default_factory=dict)

    @property
    def probed(self) -> bool:
        """Whether it matters here that it lives: a keeper with a full disk serves nobody, and still has its seat."""
        return self.serves or self.watched

    @property
    def here(self) -> bool:
        """Not given up."""
        return self.status is Status.ALIVE or self.status is Status.SUSPECT


def choose_view(members: list[Member], here: bytes, size: int) -> list[Member]:
    """Whom to watch: all, if they are few, else `size` of them.

    here: this node's place on the shared ring. Half of the view are its neighbours there, on either side, so that
    every member is watched by as many; half are the nearest by a hash of the pair, which makes the whole an expander.
    Both mostly hold for both of a pair: they watch each other, over one link, and a ping of one shows the other that
    it lives.
    """
    if len(members) <= size:
        return list(members)
    ring = sorted(members, key=lambda each: (each.shared_place <= here, each.shared_place))
    before, after = size // 4, size // 2 - size // 4
    neighbours, others = ring[:after] + ring[len(ring) - before :], ring[after : len(ring) - before]
    others.sort(key=lambda each: each.pair_place)
    return neighbours + others[: size - len(neighbours)]
