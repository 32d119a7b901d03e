"""Several heaters in one room: one of them says what the room wants, and each takes its share by what it can give.

Each member tells the others what it wants the zone to have (its thermostat's request), and what it claims of it. The
demand that counts is that of the member with the least id: two thermostats that both integrate over one temperature
would wander apart. A member's fair share is the demand by its part of the capacity of all that are alive. It lowers
its claim at once; it raises it only into what the others' last claims leave. So while a newcomer's share grows, the old
ones' have shrunk before. Who comes new listens first, and claims nothing meanwhile. As long as news takes less than a
period, the claims never add up to more than was asked for.

A zone that is cut in two cannot know it: each half takes the whole demand. The room's temperature, and the overheating
block, bound what comes of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MEMBERS_MAX = 64
LISTEN_PERIODS = 2


@dataclass(frozen=True, slots=True)
class Member:
    """What a live member of the zone last told. demand_w: what its thermostat asks for the whole sink, >= 0.

    capacity_w: > 0, that it could give.  claim_w: of the demand, >= 0.
    """

    node: bytes
    capacity_w: float
    demand_w: float
    claim_w: float


@dataclass(frozen=True, slots=True)
class Share:
    """claim_w: what this member may give now.  fair_w: where that ends when nothing changes.  demand_w: of the zone."""

    claim_w: float
    fair_w: float
    demand_w: float


def share(own: Member, others: Iterable[Member]) -> Share:
    """This member's share. own.demand_w: its thermostat's request; others: those alive, others' last words.

    Members beyond MEMBERS_MAX, by id, get nothing: a peer that invents members must not cost more than that.
    """
    alive = sorted({member.node: member for member in (*others, own)}.values(), key=lambda member: member.node)
    alive = alive[:MEMBERS_MAX]
    demand_w = max(0.0, alive[0].demand_w)
    if own not in alive:
        return Share(0.0, 0.0, demand_w)
    fair_w = _water_level(demand_w, own, alive)
    left_w = demand_w - sum(max(0.0, member.claim_w) for member in alive if member.node != own.node)
    return Share(min(fair_w, max(0.0, left_w)), fair_w, demand_w)


def _water_level(demand_w: float, own: Member, alive: list[Member]) -> float:
    """By capacity; all give what they can where the demand is more than that."""
    total_w = sum(max(0.0, member.capacity_w) for member in alive)
    if total_w <= 0:
        return 0.0
    return min(own.capacity_w, demand_w * own.capacity_w / total_w)


class ZoneShare:
    """One member's part in it, over time. Seconds never go back."""

    def __init__(self, node: bytes, capacity_w: float, period_s: float) -> None:
        """period_s: within which what one member tells reaches the others."""
        self._node = node
        self._capacity_w = capacity_w
        self._listen_s = LISTEN_PERIODS * period_s
        self._begun_s: float | None = None
        self.own = Member(node, capacity_w, 0.0, 0.0)

    def update(self, now_s: float, demand_w: float, others: Iterable[Member]) -> Share:
        """demand_w: what this member's thermostat asks for the whole zone. `own` is what to tell the others then."""
        if self._begun_s is None:
            self._begun_s = now_s
        found = share(Member(self._node, self._capacity_w, demand_w, self.own.claim_w), others)
        if now_s - self._begun_s < self._listen_s:
            found = Share(0.0, found.fair_w, found.demand_w)
        self.claim(demand_w, found.claim_w)
        return found

    def claim(self, demand_w: float, claim_w: float) -> None:
        """Less than the share was taken, or nothing: the rest is the others'."""
        self.own = Member(self._node, self._capacity_w, demand_w, claim_w)
