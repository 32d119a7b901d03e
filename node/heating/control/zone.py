"""Several heaters in one room: one of them says what the room wants, and each takes its share by what it can give.

What a member tells the others is in its heat digest already: what it can give, and what it claims of the room's demand
(its deficit). The thermostat that counts is that of the least id among those that claim something and see the room,
since two that both integrate over one temperature would wander apart; the others, and who claims nothing yet, give the
same share of their capacity as it does. A claim is lowered to what is fair at once; it is raised only into what the
others' last claims leave. So while a newcomer's share grows, the old ones' have shrunk before. Who comes new listens
for a period first, and claims nothing meanwhile; and who follows and can give more than before, claims no more than
before. As long as news takes less than half a period, the claims never add up to more than was asked for.

Two sensors of one room may differ by kelvins, so members may ask for very different demands. Who leads must not hang
on what the others happen to claim: a claim that is fair is not taken back where they claim too much, or the leader
would have nothing, be no leader, and be it again. Nor does one that would lead begin with more than it asks for itself,
or it would stop as soon as it leads. So while nobody's request changes the leader's id only falls, and claims settle.

No mate's word may freeze a room. Whoever is too cold, and for `OWN_AFTER_PERIODS` would have given clearly more by
itself than is its share, dissents: it gives what it asks for by its own sensor, its part of that by capacity, whatever
the others say, until it is warm, or its share has been enough for `CONTENT_PERIODS`. If all do, each gives its part of
what it asks for, and that is no more than the most that anybody asks.

A zone that is cut in two cannot know it: each half takes the whole demand. The room's temperature, and the overheating
block, bound what comes of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

MEMBERS_MAX = 64
# So many periods a member that is too cold bears with a share that is less than this much of what it would give.
OWN_AFTER_PERIODS = 30
ENOUGH = 0.9
# So many periods its share has to be enough, until one that dissents follows again.
CONTENT_PERIODS = 6
# One that dissents complains if it is colder by COLDER_K than where it began to be too cold, for so many periods (an
# hour) in which it got no warmer by WARMER_K; and at its floor of comfort at once.
COMPLAIN_PERIODS = 360
COLDER_K, WARMER_K = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """What a live member of the zone last told. capacity_w: that it could give.  claim_w: of the demand, >= 0.

    temperature_c: as its sensors tell; None without one to believe: it gives its share, and never leads.
    works: all tasks that it may run do, so that it gives what it claims.
    """

    node: bytes
    capacity_w: float
    claim_w: float
    temperature_c: float | None
    works: bool = True


@dataclass(frozen=True, slots=True)
class Share:
    """claim_w: what this member may give now.  fair_w: where that ends when nothing changes.  demand_w: of the zone.

    follows: whether the demand is another member's.
    """

    claim_w: float
    fair_w: float
    demand_w: float
    follows: bool


@dataclass(frozen=True, slots=True)
class Cold:
    """begins_c: at or below it a sink is too cold.  floor_c: of comfort."""

    begins_c: float
    floor_c: float


NEVER = Cold(-math.inf, -math.inf)


def share(own: Member, request_w: float, others: Iterable[Member], *, listening: bool = False) -> Share:
    """This member's share. request_w: what its own thermostat asks for the whole zone, >= 0.

    Others beyond MEMBERS_MAX, by id, are not counted: a peer that invents members must not cost more than that.
    """
    alive = _counted(own, others)
    leader = next((member for member in alive if member.claim_w > 0 and member.temperature_c is not None), None)
    own_ratio = _own_ratio(own, request_w, alive)
    begins = own.claim_w <= 0 and request_w > 0
    would_lead = own.temperature_c is not None and (leader is None or own.node < leader.node)
    if leader is not None and (begins or not would_lead):
        follows, ratio = True, min(1.0, leader.claim_w / leader.capacity_w)
        # The leader may not have heard yet of those that claim nothing yet, so it did not count them.
        demand_w = ratio * (own.capacity_w + sum(member.capacity_w for member in alive if member.claim_w > 0))
    else:
        follows, ratio, demand_w = False, own_ratio, request_w
    fair_w = own.capacity_w * (min(ratio, own_ratio) if would_lead else ratio)
    if listening:
        return Share(0.0, fair_w, demand_w, follows)
    left_w = max(0.0, demand_w - sum(max(0.0, member.claim_w) for member in alive))
    return Share(min(fair_w, max(left_w, own.claim_w)), fair_w, demand_w, follows)


def _counted(own: Member, others: Iterable[Member]) -> list[Member]:
    known = {member.node: member for member in others if member.capacity_w > 0 and member.node != own.node}
    return [known[node] for node in sorted(known)][: MEMBERS_MAX - 1]


def _own_ratio(own: Member, request_w: float, alive: list[Member]) -> float:
    """Of each one's capacity, for this member's request."""
    total_w = own.capacity_w + sum(member.capacity_w for member in alive)
    return min(1.0, request_w / total_w) if total_w > 0 else 0.0


class ZoneShare:
    """One member's part in it, over time. Seconds never go back."""

    def __init__(self, node: bytes, capacity_w: float, period_s: float) -> None:
        """period_s: in half of it, what one member tells reaches the others."""
        self._listen_s = period_s
        self._begun_s: float | None = None
        self._could_w, self._grown_s = capacity_w, -math.inf
        # Since when it is too cold here and the share too small; or enough, while it dissents.
        self._short_s: float | None = None
        self._content_s: float | None = None
        self.dissents = False
        # When it began to dissent, was not that cold, or was warmer by WARMER_K; and how warm it was.
        self._warmer_s, self._warmer_c = 0.0, -math.inf
        self.complains = False
        self.own = Member(node, capacity_w, 0.0, None)

    def update(
        self,
        now_s: float,
        request_w: float,
        others: Iterable[Member],
        *,
        needs_w: float = 0.0,
        cold: Cold = NEVER,
    ) -> Share:
        """request_w: what this member's thermostat asks for the whole zone. `own` is what the others are told then.

        needs_w: what it would give alone, where its sink is too cold; else 0.  cold: when it complains.
        """
        others = list(others)
        if self._begun_s is None:
            self._begun_s = now_s
        listening = now_s - self._begun_s < self._listen_s
        if self.own.capacity_w > self._could_w:
            self._grown_s = now_s
        self._could_w = self.own.capacity_w
        found = share(self.own, request_w, others, listening=listening)
        if found.follows and now_s - self._grown_s < self._listen_s:
            # The leader has not counted what can be given anew.
            found = replace(found, claim_w=min(found.claim_w, self.own.claim_w))
        self._review(now_s, found.claim_w, 0.0 if listening else min(needs_w, self.own.capacity_w))
        self._complain(now_s, cold)
        if self.dissents:
            own_w = self.own.capacity_w * _own_ratio(self.own, request_w, _counted(self.own, others))
            claim_w = min(self.own.capacity_w, max(needs_w, own_w))
            found = Share(claim_w, claim_w, request_w, follows=False)
        self.claim(found.claim_w)
        return found

    def _review(self, now_s: float, share_w: float, needs_w: float) -> None:
        """Whether it dissents: from when it had too little for long, until it is warm, or would have enough.

        share_w: what it would give if it did not dissent.
        """
        if needs_w <= 0:
            self.dissents, self._short_s, self._content_s = False, None, None
        elif share_w >= ENOUGH * needs_w:
            self._short_s = None
            self._content_s = now_s if self._content_s is None else self._content_s
            if now_s - self._content_s >= CONTENT_PERIODS * self._listen_s:
                self.dissents = False
        else:
            self._content_s = None
            self._short_s = now_s if self._short_s is None else self._short_s
            if not self.dissents and now_s - self._short_s >= OWN_AFTER_PERIODS * self._listen_s:
                self.dissents, self._warmer_s, self._warmer_c = True, now_s, -math.inf

    def _complain(self, now_s: float, cold: Cold) -> None:
        """Whether dissent does not help: it got no warmer for long, or is at the floor of comfort."""
        temperature_c = self.own.temperature_c
        if not self.dissents or temperature_c is None:
            self.complains = False
            return
        if temperature_c > cold.begins_c - COLDER_K or temperature_c >= self._warmer_c + WARMER_K:
            self._warmer_s, self._warmer_c = now_s, temperature_c
        lasts = now_s - self._warmer_s >= COMPLAIN_PERIODS * self._listen_s
        self.complains = lasts or temperature_c <= cold.floor_c

    def claim(self, claim_w: float) -> None:
        """Less than the share was taken, or nothing: the rest is the others'."""
        self.own = replace(self.own, claim_w=claim_w)
