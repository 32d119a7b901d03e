"""Finding those who heat the same sink and are in other cells, and telling them this node's heat.

A zone has a place, as nodes have (`cells.py`): a hash of its name. Who is of a zone looks up the nodes closest to that
place, shows them its member record, which names the zone, and hears who else did. Each keeps what it was shown for a
few intervals and no longer, so the closest ones may change. Mates that are found are watched as replicas are, whatever
their cell, and get each heat digest directly. In a mesh of one cell none of this happens: all know all.

What a node says of its zone is its own word, here as in its cell; whose it is and where it stands is an authority's. A
zone is one owner's at one site: others that use its name have the same keepers, and are told nothing of it.
"""

from __future__ import annotations

from hashlib import sha256

from ..crypto.certificates import Role
from .budget import Budget
from .context import Context
from .effects import Reason
from .membership import Membership
from .messages import FindZone, FoundNodes, TableRows
from .records import MemberRecord, Record, RecordError, RecordKind, open_record
from .rows import ROW_BYTES_MAX
from .seeking import Seeker
from .tables import Tables
from .vouching import same_household

# Of the nodes closest to a zone's place so many are asked: two of them may have died since.
KEEPERS = 3
MATES_MAX = 32
# Members of zones that are kept for others, the last ones; and how many of them one answer has.
KEPT_MAX = 512
TOLD_MAX = 8
# How many of the longest intervals somebody counts whom nobody has heard of since.
KEPT_INTERVALS = 4
# So many looks that found nobody new make the next ones more seldom; of those one in so many looks the keepers up.
CONTENT_LOOKS = 4
LOOKUP_EVERY = 4
# Questions of one peer that are answered: a burst, then so many an interval.
FINDS_BURST = 8
FINDS_AN_INTERVAL = 4


def place_of_zone(zone: str) -> int:
    """64 bits of a hash of its name."""
    return int.from_bytes(sha256(b"hearthmesh/zone" + zone.encode()).digest()[:8], "big")


class Zones:
    """Bounded by `MATES_MAX` and `KEPT_MAX`."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, seeker: Seeker, zone: str) -> None:
        """zone: of this node; empty if it shares its sink with nobody."""
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._seeker = seeker
        self._zone = zone
        self._due_us = 0
        self._content = 0
        self._depth = 0
        self._looks_us = 0
        # When each mate was last asked; and who keeps this zone, as of the last lookup.
        self._asked_us: dict[bytes, int] = {}
        self._keepers: list[bytes] = []
        self._looks = 0
        self._mates: dict[bytes, int] = {}
        self._pushed: dict[bytes, bytes] = {}
        self._requests: dict[int, bytes] = {}
        self._kept: dict[bytes, tuple[Record, int]] = {}
        self._budgets: dict[bytes, Budget] = {}

    # -- questions ---------------------------------------------------------------------------------------

    @property
    def mates(self) -> dict[bytes, None]:
        """Those of this node's zone that were found, to be watched."""
        return dict.fromkeys(self._mates)

    @property
    def has_news(self) -> bool:
        """Whether a mate with a link lacks this node's newest digest."""
        return bool(self._mates) and bool(self._uninformed())

    def is_mate(self, node: bytes) -> bool:
        return node in self._mates

    # -- looking -----------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Once an interval of the tables': look again when it is time, and tell the mates what is new."""
        interval_us, rest_factor = self._ctx.config.cell_interval_us, self._ctx.config.rest_factor
        kept_us = KEPT_INTERVALS * rest_factor * interval_us
        for node in [node for node, at_us in self._mates.items() if now_us - at_us > kept_us]:
            if not self._tells(node, now_us - kept_us):
                del self._mates[node]
                self._content = 0
        for node in [node for node, (_, at_us) in self._kept.items() if now_us - at_us > kept_us]:
            del self._kept[node]
        depth = self._members.cell.depth
        if depth != self._depth:
            # Who was a neighbour may be one no more.
            self._depth, self._content = depth, 0
            self._asked_us.clear()
            self._due_us = min(self._due_us, now_us + interval_us)
        several = depth > 0 or self._tables.depths.deepest > 0
        if self._zone and several and now_us >= self._due_us:
            self._content += 1
            slowness = min(rest_factor, 1 << max(0, min(self._content, 16) - CONTENT_LOOKS))
            self._due_us, self._looks_us = now_us + slowness * interval_us, now_us
            self._looks += 1
            keeper = self._keepers[self._looks % KEEPERS] if len(self._keepers) == KEEPERS else b""
            if slowness == rest_factor and self._looks % LOOKUP_EVERY and self._members.is_alive(keeper):
                # Each in turn, so that none forgets this node.
                self._ask([keeper])
            else:
                self._seeker.find_place(b"zone", place_of_zone(self._zone), self._found)
        self._tell_heat()

    def peer_lost(self, peer: bytes) -> None:
        self._budgets.pop(peer, None)
        self._pushed.pop(peer, None)

    def _found(self, closest: list[bytes]) -> None:
        self._keepers = closest[:KEEPERS]
        self._ask(self._keepers)

    def _ask(self, keepers: list[bytes]) -> None:
        """Keepers of this zone, and mates that may not know this node: whoever does tells it its heat."""
        own = self._tables.get(RecordKind.MEMBER, self._ctx.node_id)
        if own is None:
            return
        again_us = (
            self._looks_us - KEPT_INTERVALS * self._ctx.config.rest_factor * self._ctx.config.cell_interval_us // 2
        )
        self._asked_us = {node: at_us for node, at_us in self._asked_us.items() if node in self._mates}
        mates = [node for node in self._mates if self._asked_us.get(node, again_us) <= again_us]
        mates = [node for node in mates if node not in self._asked_us or not self._tells(node, again_us)]
        self._asked_us.update(dict.fromkeys(mates, self._looks_us))
        for node in dict.fromkeys((*keepers, *mates)):
            request = self._ctx.next_request()
            self._requests[request] = node
            self._ctx.send(node, FindZone(request, own.raw))
        while len(self._requests) > KEEPERS + MATES_MAX:
            del self._requests[next(iter(self._requests))]

    def _tells(self, mate: bytes, since_us: int) -> bool:
        """Whether a mate said how much heat it wants since then, as it does to those whom it knows."""
        return self._tables.came_after(RecordKind.HEAT, mate, since_us) is not None

    def on_found(self, peer: bytes, message: FoundNodes, now_us: int) -> bool:
        """True if it answers a question of this machine's. Rows are checked as any row is."""
        if self._requests.get(message.request) != peer:
            return False
        del self._requests[message.request]
        for raw in message.rows:
            try:
                record = open_record(raw)
            except RecordError:
                self._ctx.penalise(peer, Reason.BAD_SIGNATURE)
                return True
            if record.kind is not RecordKind.MEMBER or record.author != record.body.node:
                self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
                return True
            if self._shares_sink(record.body) and not self._members.cell.holds(record.author):
                self._add_mate(record, peer, now_us)
        return True

    def _shares_sink(self, body: MemberRecord) -> bool:
        return body.zone == self._zone and same_household(body.certificate, self._ctx.certificate)

    def _add_mate(self, record: Record, peer: bytes, now_us: int) -> None:
        body: MemberRecord = record.body
        node = record.author
        if node == self._ctx.node_id or not self._ctx.admitted(body.certificate, node, Role.WORKER, now_us):
            return
        if node not in self._mates and len(self._mates) >= MATES_MAX:
            return
        if node not in self._mates:
            self._content = 0
        self._mates[node] = now_us
        if node not in self._members.circle.watched:
            self._members.watch(self._members.circle.watched | {node: None}, now_us)
        # Now that it is kept in mind its row is wanted.
        self._tables.merge(record.raw, peer, now_us)
        self._members.learn(node, body.incarnation, now_us)

    # -- being asked -------------------------------------------------------------------------------------

    def on_find(self, peer: bytes, message: FindZone, now_us: int) -> None:
        """Somebody shows that it is of a zone: it is told of others that did."""
        config = self._ctx.config
        budget = self._budgets.get(peer)
        if budget is None:
            budget = self._budgets[peer] = Budget(FINDS_BURST, FINDS_AN_INTERVAL, config.cell_interval_us, now_us)
        if not budget.spend(1, now_us):
            return
        try:
            record = open_record(message.member) if len(message.member) <= ROW_BYTES_MAX else None
        except RecordError:
            record = None
        if record is None or record.kind is not RecordKind.MEMBER:
            self._ctx.penalise(peer, Reason.MALFORMED)
            return
        body: MemberRecord = record.body
        if not peer == record.author == body.node:
            self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
            return
        if not body.zone or not self._ctx.admitted(body.certificate, peer, Role.WORKER, now_us):
            return
        named = [known for node, (known, _) in self._kept.items() if node != peer and known.body.zone == body.zone]
        others = [known.raw for known in named if same_household(known.body.certificate, body.certificate)]
        own = self._tables.get(RecordKind.MEMBER, self._ctx.node_id)
        if self._shares_sink(body) and own is not None:
            others.append(own.raw)
            self._add_mate(record, peer, now_us)
            # It may have had no use for what it was told before: it hears this node's heat again.
            self._pushed.pop(peer, None)
        # The last ones: they are the likeliest to live.
        self._ctx.send(peer, FoundNodes(message.request, tuple(others[-TOLD_MAX:])))
        self._kept.pop(peer, None)
        self._kept[peer] = record, now_us
        while len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]

    # -- telling -----------------------------------------------------------------------------------------

    def _tell_heat(self) -> None:
        """The newest digest to each mate with a link that was not told it: tables go around one cell only."""
        own = self._tables.get(RecordKind.HEAT, self._ctx.node_id) if self._mates else None
        if own is None:
            return
        for node in self._uninformed():
            self._pushed[node] = own.id
            self._ctx.send(node, TableRows(0, False, (own.raw,), (), (), ()))

    def _uninformed(self) -> list[bytes]:
        own = self._tables.get(RecordKind.HEAT, self._ctx.node_id)
        if own is None:
            return []
        return [node for node in self._mates if self._pushed.get(node) != own.id and self._members.has_link(node)]
