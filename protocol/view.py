"""The members that a node watches: some of its cell, contacts in the others, replicas of jobs that concern it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

from .circle import Circle
from .config import ProtocolConfig
from .context import Context
from .effects import Connect, Disconnect
from .liveness import Member, choose_view

# A newcomer watches so many at once: whom it hears of in its first second, one after the other, would else be replaced
# by the next, and each has been linked to by then.
FIRST_VIEW = 4
# Links that nobody used for so long may go when there are twice as many as are kept.
IDLE_LINK_SHORT_US = 5_000_000
LINKS_CLOSED_AT_ONCE = 16
# Who has made a link, or spoken over it, has this long to say the next thing before it may have to make room.
FRESH_LINK_US = 1_000_000


def idle_link_us(config: ProtocolConfig) -> int:
    """Links that nobody used for so long may go when there are too many.

    Twice as long as a node at rest takes to probe all of its view: else each probe would dial anew, for ever, those
    that were probed last longest ago, and they would ask who hung up whether it lives.
    """
    return 2 * config.rest_factor * config.probe_interval_us * config.active_view_max


class View:
    """`nodes`: at most `active_view_max` of the cell, contacts, and replicas; sorted.

    stale: who is to be watched may have changed; the next `refresh` chooses anew.
    choices: how often they were chosen anew.
    live_count: nodes of the cell that live and serve, this one included, as of the last choice.
    """

    def __init__(
        self, ctx: Context, circle: Circle, members: Mapping[bytes, Member], connected: Mapping[bytes, None]
    ) -> None:
        """members, connected: of the owner, who goes on changing them."""
        self._ctx = ctx
        self._circle = circle
        self._members = members
        self._connected = connected
        self._round: list[bytes] = []
        self._far_round: list[bytes] = []
        self._targets = 0
        self.nodes: list[bytes] = []
        self._near: list[bytes] = []
        self._far: list[bytes] = []
        self.stale = False
        self.choices = 0
        self.live_count = 1

    def fill(self) -> None:
        """Watch a few, if there are fewer; all of the others from the next `refresh` on."""
        if len(self.nodes) < FIRST_VIEW:
            self._choose(min(FIRST_VIEW, self._ctx.config.active_view_max))

    def refresh(self) -> None:
        """Choose whom to watch, and ask for links to those that are new."""
        self._choose(self._ctx.config.active_view_max)

    def _choose(self, size: int) -> None:
        if not self.stale:
            return
        self.choices += 1
        here = [member for member in self._members.values() if member.here]
        serving = [member for member in here if member.serves]
        self._circle.choose_contacts(serving, self._connected)
        depth = self._circle.cell.depth
        mates = [member for member in serving if member.level >= depth]
        self.live_count = 1 + len(mates)
        place = sha256(self._ctx.node_id).digest()
        chosen = choose_view(mates, place, size)
        self.stale = len(chosen) < min(len(mates), self._ctx.config.active_view_max)
        before = dict.fromkeys(self.nodes)
        view = dict.fromkeys(member.node for member in chosen)
        view.update(dict.fromkeys(self._circle.contacts))
        view.update(dict.fromkeys(member.node for member in here if member.watched))
        self.nodes = sorted(view)
        self._near = [node for node in self.nodes if self._members[node].level >= depth]
        self._far = [node for node in self.nodes if self._members[node].level < depth]
        for node in self.nodes:
            if node not in before and node not in self._connected:
                self._ctx.emit(Connect(node))

    def next_target(self, worth_asking: Callable[[bytes], bool]) -> bytes | None:
        """Round-robin through the view, in a new order each round. Who has just spoken need not be asked.

        Every other time it is the turn of those outside of the cell, whom nobody else may watch.
        """
        self._targets += 1
        if self._targets % 2:
            far = self._next_of(self._far_round, self._far, worth_asking)
            if far is not None:
                return far
        return self._next_of(self._round, self._near, worth_asking)

    def _next_of(self, waiting: list[bytes], view: list[bytes], worth_asking: Callable[[bytes], bool]) -> bytes | None:
        for _ in range(2):
            while waiting:
                node = waiting.pop()
                if worth_asking(node):
                    return node
            waiting.extend(self._ctx.sample(view, len(view)))
        return None

    def close_idle_links(self, now_us: int) -> None:
        """Too many links: those go first that nobody has used for longest, and that this node has no need of."""
        config = self._ctx.config
        # As many as this node needs are there for others that need it; each link costs both ends its keepalive.
        surplus = len(self._connected) - min(config.links_kept, 2 * max(len(self.nodes), config.active_view_max))
        if surplus <= 0:
            return
        idle_us = IDLE_LINK_SHORT_US if len(self._connected) > 2 * config.links_kept else idle_link_us(config)
        idle = self._idle(idle_us, now_us)
        for member in idle[: min(surplus, LINKS_CLOSED_AT_ONCE)]:
            self._ctx.emit(Disconnect(member.node, "no use for this link"))

    def longest_silent(self, now_us: int) -> bytes | None:
        """Whose link makes room for another one, if there are more than `links_most`."""
        if len(self._connected) <= self._ctx.config.links_most:
            return None
        return next((member.node for member in self._idle(FRESH_LINK_US, now_us)), None)

    def _idle(self, idle_us: int, now_us: int) -> list[Member]:
        """Whose link this node has no need of and nobody used for so long, the longest first."""
        needed = dict.fromkeys(self.nodes)
        idle = [
            member
            for member in (self._members[peer] for peer in self._connected if peer in self._members)
            if member.node not in needed and now_us - member.heard_us >= idle_us
        ]
        return sorted(idle, key=lambda member: (member.heard_us, member.node))
