"""Finding nodes: the replicas that a job depends on, the neighbours of a newcomer, contacts in sibling prefixes.

Whoever is asked answers with the member records it has that are closest to a place; the closest of those are asked in
turn, until nobody closer is left. In a mesh of N nodes that takes log2(N / cell) rounds, since each node knows its own
cell and contacts in every sibling prefix. What is found is a signed record; who lies can only waste a question.

Source: the lookup of Maymounkov and Mazieres, Kademlia (2002).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, nsmallest

from ..crypto.certificates import Role
from .budget import Budget
from .cells import PLACE_BITS, place_of
from .context import Context
from .effects import LearnAddress
from .limits import Limit
from .membership import Membership, Status
from .messages import FindNodes, FoundNodes
from .records import MemberRecord, Record, RecordError, RecordKind, open_record
from .rows import ROW_BYTES_MAX
from .tables import Tables

SEARCHES_MAX = 8
# Asked at once, in one search; and in all of it.
ASKED_AT_ONCE = 3
ASKED_MAX = 24
CANDIDATES_MAX = 16
ROWS_AN_ANSWER = 4
# A search ends when so many of the closest were asked: as many as one answer names where each may know more, or may be
# the one who is sought; for a place fewer, since whoever is close to it knows the others who are; for anybody
# somewhere one, since one answer names as many as are wanted. Each that is silent, or whose answer leads nowhere, lets
# one more be asked, up to WIDTH: of a level fewer are known, `contacts_a_level`, and they might hide all others.
WIDTH = ROWS_AN_ANSWER
WIDTH_OF_PLACES = 2
WIDTH_OF_CONTACTS = 1
# Questions of one peer that are answered: a burst, then so many an interval.
ANSWERS_BURST = 32
ANSWERS_AN_INTERVAL = 8
# A half of a cell that has so many times fewer nodes than the other half was not found yet.
LOPSIDED = 4
# A newcomer looks around for the first time after so many intervals of the tables.
FIRST_LOOK_INTERVALS = 2
# So many looks around that found nothing wanting make the next ones more seldom, up to so many times what else rests:
# a loss makes a node look at once.
CONTENT_LOOKS = 2
CONTENT_FACTOR = 4
# Nodes whose address was found for a steal; the last ones.
REACHED_MAX = 64


@dataclass(slots=True)
class _Search:
    """node: which is sought; None if all that are close to the place are of interest.  asked: until when we wait.

    on_end: gets the closest nodes that there are, in the end.  width: so many of the closest are asked, if all help.
    most: if none does.  questions: so many at most.
    answered: how many did.  helped: how many of these led on, or came after one that did.
    """

    place: int
    node: bytes | None
    candidates: dict[bytes, None]
    on_end: Callable[[list[bytes]], None] | None = None
    width: int = WIDTH
    most: int = WIDTH
    questions: int = ASKED_MAX
    asked: dict[bytes, int] = field(default_factory=dict)
    answered: int = 0
    helped: int = 0

    def closest(self) -> list[bytes]:
        return nsmallest(CANDIDATES_MAX, self.candidates, key=lambda node: (place_of(node) ^ self.place, node))

    def to_ask(self, waiting: int) -> list[bytes]:
        """Those among the closest that were not asked. Who is not among the closest any more need not be.

        waiting: how many may answer yet.
        """
        in_vain = len(self.asked) - waiting - self.helped
        width = min(self.most, self.width + in_vain)
        return [node for node in self.closest()[:width] if node not in self.asked]

    def leads_on(self, peer: bytes, named: list[bytes], before: dict[bytes, None]) -> bool:
        """Whether the peer's answer was of use: the next to ask is new by it, or it named others of the closest.

        named: nodes in the answer.  before: the candidates without it.
        """
        closest = self.closest()
        following = next((node for node in closest if node not in self.asked), None)
        is_new = following is not None and following not in before
        # Of one alone nobody else can tell anything by naming it: it may be who is silent.
        others = closest[: self.width] if self.width > 1 else []
        return is_new or any(node in named and node != peer for node in others)


class Seeker:
    """Bounded by `SEARCHES_MAX` searches."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._searches: dict[bytes, _Search] = {}
        self._requests: dict[int, tuple[bytes, bytes]] = {}
        self._budgets: dict[bytes, Budget] = {}
        self._due_us: dict[bytes, int] = {}
        self._around_us = -1
        # Looks around in a row at which all was as it should be.
        self._content = 0
        # As of the last tick: the depth of the cell, its living nodes, and the contacts.
        self._seen: tuple[int, int, list[bytes]] = (0, 0, [])
        self._reached: dict[bytes, None] = {}
        self.on_reached: Callable[[bytes, int], None] = lambda _node, _now_us: None

    # -- questions ---------------------------------------------------------------------------------------

    @property
    def searches(self) -> int:
        """That are under way."""
        return len(self._searches)

    def can_reach(self, node: bytes) -> bool:
        """Whether a message to it would be delivered, as far as is known."""
        return node in self._reached or self._members.is_alive(node)

    def reach(self, node: bytes) -> None:
        """Find out where a node is that is no member; ends in `on_reached`, or in nothing."""
        if not self.can_reach(node):
            self._begin(node, place_of(node), node)

    def find_place(self, key: bytes, place: int, on_end: Callable[[list[bytes]], None]) -> None:
        """Find the nodes that are closest to a place; nothing if too many searches go on, or one under this key."""
        self._begin(key, place, None, on_end, WIDTH_OF_PLACES)

    def peer_lost(self, peer: bytes) -> None:
        self._budgets.pop(peer, None)
        self._reached.pop(peer, None)

    # -- time --------------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Once an interval of the tables'."""
        for node in self._members.unknown():
            if self._due_us.get(node, 0) <= now_us:
                self._due_us[node] = now_us + self._ctx.config.suspicion_max_us // 2
                self._begin(node, place_of(node), node)
        while len(self._due_us) > self._ctx.config.members_max:
            del self._due_us[next(iter(self._due_us))]
        self._notice_losses(now_us)
        if self._members.cell.depth or self._tables.depths.deepest:
            if self._around_us < 0:
                # Those whom a newcomer was told of tell it of others first; it seeks whom it still lacks then.
                self._around_us = now_us + FIRST_LOOK_INTERVALS * self._ctx.config.sync_interval_us
            if now_us >= self._around_us:
                self._look_around(now_us)
        for key in list(self._searches):
            self._go_on(key, now_us)

    def _notice_losses(self, now_us: int) -> None:
        """Another cell, or somebody fewer to know: it is not content any more, and looks around within an interval."""
        depth, nodes, contacts = self._seen
        self._seen = now = (self._members.cell.depth, sum(self._members.halves), self._members.circle.contacts)
        if now[0] != depth or now[1] < nodes or not set(contacts) <= set(now[2]):
            self._content = 0
            soon_us = now_us + self._ctx.config.cell_interval_us
            self._around_us = min(self._around_us, soon_us) if self._around_us >= 0 else -1

    def _look_around(self, now_us: int) -> None:
        """For neighbours while there are few, else for contacts, a level at a time."""
        cell, config = self._members.cell, self._ctx.config
        own, other = self._members.halves
        lonely = own + other < config.cell_merge
        # Places are hashes, so both halves have about as many: one that is all but empty is not known here yet.
        blind, one_sided = LOPSIDED * own < other, LOPSIDED * other < own
        thin = self._members.circle.thin_levels() or ([cell.depth] if one_sided else [])
        hurry = lonely or blind or bool(thin)
        self._content = 0 if hurry else self._content + 1
        slowness = min(CONTENT_FACTOR * config.rest_factor, 1 << max(0, min(self._content, 16) - CONTENT_LOOKS))
        self._around_us = now_us + (config.probe_interval_us * 4 if hurry else slowness * config.cell_interval_us)
        if lonely or blind:
            self._begin(b"neighbours", cell.place, None)
        if cell.depth == 0:
            return
        rng = self._ctx.rng
        level = thin[rng.randrange(len(thin))] if thin else rng.randrange(cell.depth + 1)
        beyond = level < cell.depth or one_sided
        rest = PLACE_BITS - level - beyond
        # The first bits as here, the next one not, and the rest at random: somewhere in that sibling prefix. Or, where
        # neighbours have split and this node has not, somewhere in its own cell.
        place = ((cell.place >> rest) ^ beyond) << rest | rng.getrandbits(rest)
        if beyond:
            self._begin(b"contacts", place, None, width=WIDTH_OF_CONTACTS)
        else:
            self._ask_outside(place)

    def _ask_outside(self, place: int) -> None:
        """Ask one contact in another cell whom it knows in this one.

        Of whom the own tables tell, one's mates know as little as oneself: some may never have met the others, or have
        others in their tables, as they have split. Whom a contact knows is drawn from all of the cell.
        """
        known = [record.author for record in self._tables.rows(RecordKind.MEMBER)]
        outside = [node for node in known if not self._members.cell.holds(node) and self._members.is_alive(node)]
        if self._has_room(b"contacts"):
            self._searches[b"contacts"] = _Search(place, None, dict.fromkeys(outside), width=1, most=1, questions=1)

    # -- searching ---------------------------------------------------------------------------------------

    def _begin(
        self,
        key: bytes,
        place: int,
        node: bytes | None,
        on_end: Callable[[list[bytes]], None] | None = None,
        width: int = WIDTH,
    ) -> None:
        if not self._has_room(key):
            return
        known = [record.author for record in self._nearest(place, CANDIDATES_MAX)]
        # Those who keep the same jobs know each other.
        others = [each for each in self._members.circle.watched if self._members.is_alive(each)]
        known.extend(self._ctx.sample(others, ASKED_AT_ONCE))
        self._searches[key] = _Search(place, node, dict.fromkeys(known), on_end, width)

    def _has_room(self, key: bytes) -> bool:
        return key not in self._searches and len(self._searches) < SEARCHES_MAX

    def _go_on(self, key: bytes, now_us: int) -> None:
        """Ask the closest that were not asked; at the end, say what came of it."""
        search = self._searches[key]
        if search.node is not None and self._found(search.node, now_us):
            del self._searches[key]
            return
        waiting = [node for node, until_us in search.asked.items() if until_us > now_us]
        for node in search.to_ask(len(waiting))[: ASKED_AT_ONCE - len(waiting)]:
            if len(search.asked) >= search.questions:
                break
            request = self._ctx.next_request()
            self._requests[request] = (key, node)
            search.asked[node] = now_us + self._ctx.config.steal_timeout_us
            waiting.append(node)
            self._ctx.send(node, FindNodes(request, search.place.to_bytes(PLACE_BITS // 8, "big")))
        while len(self._requests) > SEARCHES_MAX * ASKED_MAX:
            del self._requests[next(iter(self._requests))]
        if not waiting:
            del self._searches[key]
            if search.node is not None and search.answered:
                self._members.missed(search.node, now_us)
            if search.on_end is not None:
                search.on_end(search.closest())

    def _found(self, node: bytes, now_us: int) -> bool:
        status = self._members.status(node)
        return node in self._reached or (status is not None and status is not Status.UNKNOWN)

    def _nearest(self, place: int, count: int) -> list[Record]:
        """Living members with a record, closest first, this node itself apart."""
        me, rows = self._ctx.node_id, self._tables.rows(RecordKind.MEMBER)
        by_distance = [(place_of(record.author) ^ place, at) for at, record in enumerate(rows)]
        heapify(by_distance)
        found: list[Record] = []
        while by_distance and len(found) < count:
            record = rows[heappop(by_distance)[1]]
            if record.author != me and self._members.is_alive(record.author):
                found.append(record)
        return found

    # -- messages ----------------------------------------------------------------------------------------

    def on_find(self, peer: bytes, message: FindNodes, now_us: int) -> None:
        budget = self._budgets.get(peer)
        if budget is None:
            interval_us = self._ctx.config.sync_interval_us
            budget = self._budgets[peer] = Budget(ANSWERS_BURST, ANSWERS_AN_INTERVAL, interval_us, now_us)
        if not budget.spend(1, now_us):
            self._ctx.limit(Limit.LOOKUPS, peer)
            return
        place = int.from_bytes(message.place, "big")
        near = [record for record in self._nearest(place, ROWS_AN_ANSWER + 1) if record.author != peer]
        own = self._tables.get(RecordKind.MEMBER, self._ctx.node_id)
        if own is not None:
            near.append(own)
            near.sort(key=lambda record: place_of(record.author) ^ place)
        self._ctx.send(peer, FoundNodes(message.request, tuple(record.raw for record in near[:ROWS_AN_ANSWER])))

    def on_found(self, peer: bytes, message: FoundNodes, now_us: int) -> None:
        key, asked = self._requests.pop(message.request, (b"", b""))
        search = self._searches.get(key)
        if search is None or asked != peer:
            return
        search.asked[peer] = 0
        search.answered += 1
        before, named = search.candidates.copy(), list[bytes]()
        for raw in message.rows:
            if not self._learn(search, raw, peer, now_us, named):
                return
        # What is said after that only bears it out, in most cases.
        search.helped += search.helped > 0 or search.leads_on(peer, named, before)
        self._go_on(key, now_us)

    def _learn(self, search: _Search, raw: bytes, peer: bytes, now_us: int, named: list[bytes]) -> bool:
        """False: the peer broke a rule, and is penalised. named: gets whose record it is."""
        if not self._tables.merge(raw, peer, now_us):
            return False
        try:
            record = open_record(raw, check_signature=False)
            named.append(record.author)
            if record.kind is not RecordKind.MEMBER or record.author in search.candidates or len(raw) > ROW_BYTES_MAX:
                return True
            record = open_record(raw)
        except RecordError:
            return True
        body: MemberRecord = record.body
        if record.author != body.node or body.node == self._ctx.node_id:
            return True
        if not self._ctx.admitted(body.certificate, body.node, Role(body.roles), now_us):
            return True
        if not self._members.is_alive(body.node):
            self._ctx.emit(LearnAddress(body.node, body.addresses, body.relays))
        search.candidates[body.node] = None
        if search.node == body.node and not self.can_reach(body.node):
            self._reached[body.node] = None
            while len(self._reached) > REACHED_MAX:
                del self._reached[next(iter(self._reached))]
            self.on_reached(body.node, now_us)
        while len(search.candidates) > 2 * CANDIDATES_MAX:
            search.candidates = dict.fromkeys(search.closest())
        return True
