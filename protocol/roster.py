"""The members that a node keeps in mind, and what became of them. Who they are is the circle's to say (`circle.py`)."""

from __future__ import annotations

from hashlib import sha256

from .cells import Cell
from .circle import Circle
from .context import Context
from .liveness import Member, Status
from .rumours import Rumours
from .view import View

INCARNATION_MAX = 1 << 62


class Roster:
    """Bounded by `members_max`: the gone make room, then clients, then visitors. Rumours go with their member."""

    def __init__(self, ctx: Context, cell: Cell) -> None:
        self._ctx = ctx
        self.cell = cell
        self.circle = Circle(cell, ctx.config)
        self._members: dict[bytes, Member] = {}
        self._connected: dict[bytes, None] = {}
        self._rumours = Rumours()
        self._changes: list[tuple[bytes, Status]] = []
        self._dropped: list[bytes] = []
        # Somebody who concerns this node found no room. Nobody tells again of whom one was told: `Roles.review_cell`.
        self.turned_away = False
        # By depth of the cell, what `halves` says; None if some member came or went since.
        self._counted: tuple[int, int, int] | None = None
        self._tidied_us = 0
        self._view = View(ctx, self.circle, self._members, self._connected)

    # -- questions ---------------------------------------------------------------------------------------

    def status(self, node: bytes) -> Status | None:
        """None: not a member that this node knows of. This node itself is ALIVE."""
        if node == self._ctx.node_id:
            return Status.ALIVE
        member = self._members.get(node)
        return member.status if member else None

    def is_alive(self, node: bytes) -> bool:
        """ALIVE or SUSPECT: not given up."""
        status = self.status(node)
        return status is Status.ALIVE or status is Status.SUSPECT

    def is_gone(self, node: bytes) -> bool:
        """DEAD or LEFT. A node that nobody told us of is neither alive nor gone."""
        status = self.status(node)
        return status is Status.DEAD or status is Status.LEFT

    def rtt_us(self, node: bytes) -> int:
        """To it and back; 0 for this node, and where nobody measured."""
        member = self._members.get(node)
        return member.rtt_us if member else 0

    def incarnation_of(self, node: bytes) -> int | None:
        """The highest that is known of another; None: not a member that this node knows of."""
        member = self._members.get(node)
        return member.incarnation if member else None

    def has_link(self, node: bytes) -> bool:
        return node in self._connected

    def alive(self) -> list[bytes]:
        """Members that are ALIVE or SUSPECT, without this node, sorted."""
        return sorted(member.node for member in self._members.values() if member.here)

    @property
    def has_news(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._changes or self._dropped)

    def take_changes(self) -> list[tuple[bytes, Status]]:
        """Changes of others' status since the last call, in order; a new member is a change to ALIVE."""
        changes, self._changes = self._changes, []
        return changes

    def take_dropped(self) -> list[bytes]:
        """Members that live, as far as we know, and are no concern of this node any more, since the last call."""
        dropped, self._dropped = self._dropped, []
        return dropped

    @property
    def cell_nodes(self) -> int:
        """Living nodes of the own cell, this one included."""
        return sum(self.halves)

    @property
    def halves(self) -> tuple[int, int]:
        """Living nodes of the own half of the cell, this one included, and of the other half."""
        depth = self.cell.depth
        if self._counted is None or self._counted[0] != depth:
            levels = [member.level for member in self._members.values() if member.here]
            own = 1 + sum(level > depth for level in levels)
            self._counted = (depth, own, 1 + sum(level >= depth for level in levels) - own)
        return self._counted[1:]

    def unknown(self) -> list[bytes]:
        """Nodes that are watched and that nobody has told us of yet, in the order in which they came."""
        return [node for node in self.circle.watched if self._members[node].status is Status.UNKNOWN]

    # -- coming and going --------------------------------------------------------------------------------

    def _admit(self, node: bytes, incarnation: int, now_us: int, status: Status = Status.ALIVE) -> Member | None:
        """A new member; None if the table is full of living ones."""
        if incarnation > INCARNATION_MAX:
            return None
        if not self._make_room(node):
            self.turned_away = self.turned_away or self.circle.concerns(node)
            return None
        own = self._ctx.node_id
        places = sha256(node).digest(), sha256(own + node if own < node else node + own).digest()
        level = self.cell.level(node)
        member = Member(node, incarnation, *places, level, status, incarnation, heard_us=now_us, changed_us=now_us)
        self._members[node] = member
        if status is Status.ALIVE:
            self._changes.append((node, status))
        self._recount()
        return member

    def _make_room(self, node: bytes) -> bool:
        """If the table is full, evict the one that is gone longest, else the client that was silent longest.

        For one that is kept in mind a visitor makes room, who is a member for its link alone.
        """
        if len(self._members) < self._ctx.config.members_max:
            return True
        members = [each for each in self._members.values() if each.node not in self.circle.watched]
        gone = [each for each in members if not each.here]
        silent = [each for each in members if not each.probed and each.node not in self._connected]
        visitors: list[Member] = []
        if self.circle.concerns(node):
            visitors = [each for each in members if not self.circle.concerns(each.node)]
        evicted = min(gone or silent or visitors, key=lambda each: (each.changed_us, each.node), default=None)
        if evicted is None:
            return False
        self._forget(evicted)
        return True

    def _forget_old(self, now_us: int) -> None:
        """Members that are gone, and clients that were not heard of, for `dead_memory_us` or a little longer."""
        memory_us = self._ctx.config.dead_memory_us
        if now_us - self._tidied_us < memory_us // 16:
            return
        self._tidied_us = now_us
        before_us = now_us - memory_us
        for member in list(self._members.values()):
            if member.node in self._connected or member.node in self.circle.watched:
                continue
            gone = not member.here and member.changed_us < before_us
            if gone or (not member.probed and member.heard_us < before_us):
                self._forget(member)

    def _let_go(self) -> None:
        """Drop whom this node has no reason to keep in mind, unless it has to be found out first whether it lives."""
        depth = self.cell.depth
        for member in [each for each in self._members.values() if each.level < depth]:
            settled = member.status is not Status.SUSPECT and member.node not in self._connected
            if settled and not self.circle.concerns(member.node):
                del self._members[member.node]
                self._rumours.forget(member.node)
                self._dropped.append(member.node)

    def _forget(self, member: Member) -> None:
        if member.status is Status.SUSPECT:
            self._ctx.cancel_timer(("suspicion", member.node))
        if member.here and self.circle.concerns(member.node):
            self._changes.append((member.node, Status.LEFT))
        else:
            self._dropped.append(member.node)
        del self._members[member.node]
        self._rumours.forget(member.node)
        self._recount()

    def _recount(self) -> None:
        """A member came or went."""
        self._view.stale = True
        self._counted = None
