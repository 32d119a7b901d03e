"""Many copies of one sub-machine in virtual time, linked by a network that can be cut, and killed or frozen
at will.

The network delivers in order with a delay that its seed decides; messages go through the codec. A killed
node's links reset; a frozen one's end when a keepalive was not answered, and until then what it was sent waits for it,
as do its timers.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from hearthmesh.crypto.certificates import MembershipPolicy, MeshDefinition, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import ProtocolConfig
from hearthmesh.protocol.context import Context
from hearthmesh.protocol.effects import CancelTimer, Connect, Penalise, Send, SetTimer
from hearthmesh.protocol.membership import Membership, Status
from hearthmesh.protocol.records import Record
from hearthmesh.protocol.tables import Tables

MS = 1_000
SECOND = 1_000_000
RESET_NOTICED_US = 50 * MS
# As the transport has them: a ping every 2 s, which has to be answered within 4 s.
KEEPALIVE_LEAST_US, KEEPALIVE_MOST_US = 4 * SECOND, 6 * SECOND
# When all certificates run out.
ADMITTED_UNTIL_S = 100_000


@cache
def identity(number: int) -> Identity:
    return Identity.from_seed(number.to_bytes(32, "big"))


@cache
def _policy() -> MembershipPolicy:
    return MembershipPolicy(MeshDefinition("test", (identity(0).node_id,)))


@cache
def _certificate(number: int) -> bytes:
    mesh, node = _policy().mesh, identity(number).node_id
    return issue(identity(0), mesh, node, Role.WORKER, 0, ADMITTED_UNTIL_S, f"n{number}", bytes(16)).to_bytes()


def context(number: int, config: ProtocolConfig, seed: int = 0) -> Context:
    rng = random.Random(seed * 1_000_003 + number)
    return Context(identity(number), config, rng, policy=_policy(), certificate=_certificate(number))


@dataclass
class Node:
    """One process: its machines, its timers, its links, and what it missed while frozen."""

    number: int
    ctx: Context
    members: Membership
    tables: Tables
    timers: dict[Any, int] = field(default_factory=dict)
    links: dict[bytes, None] = field(default_factory=dict)
    news: list[Record] = field(default_factory=list)
    seen: list[tuple[bytes, Status]] = field(default_factory=list)
    penalties: list[Penalise] = field(default_factory=list)
    running: bool = True
    frozen: bool = False
    freezes: int = 0
    missed: list[Callable[[], None]] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        return self.ctx.node_id


class Arena:
    """`nodes` are linked on demand, as a Send or a Connect dials."""

    def __init__(self, config: ProtocolConfig, seed: int = 0, delay_us: int = 2 * MS) -> None:
        self.config = config
        self.seed = seed
        self.delay_us = delay_us
        self.rng = random.Random(seed)
        self.now_us = 0
        self.nodes: dict[bytes, Node] = {}
        self.cut: dict[tuple[bytes, bytes], None] = {}
        self.sent: Counter[str] = Counter()
        self.sent_bytes = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._arrival_us: dict[tuple[bytes, bytes], int] = {}

    # -- nodes --------------------------------------------------------------------------------------------

    def add(self, number: int, incarnation: int = 1) -> Node:
        """A new process; one with the same number is a restart."""
        ctx = context(number, self.config, self.seed + incarnation)
        news: list[Record] = []
        tables = Tables(ctx, lambda record, now_us: news.append(record))
        node = Node(number, ctx, Membership(ctx, incarnation), tables, news=news)
        self.nodes[node.id] = node
        return node

    def start_members(self) -> None:
        """All know all, and link as they like."""
        for node in self.nodes.values():
            node.members.start(self.now_us)
            for other in self.nodes.values():
                if other is not node:
                    node.members.learn(other.id, other.members.incarnation, self.now_us)
            node.members.fill_view()
            self.perform(node)

    def start_tables(self) -> None:
        """All are linked to all."""
        nodes = list(self.nodes.values())
        for node in nodes:
            node.tables.start(self.now_us)
            self.perform(node)
        for at, node in enumerate(nodes):
            for other in nodes[:at]:
                self.link(node, other)

    def kill(self, node: Node) -> None:
        node.running = False
        for peer in list(node.links):
            other = self.nodes[peer]
            self._at(RESET_NOTICED_US, partial(self._unlink, other, node, reset=True))
        node.links.clear()

    def freeze(self, node: Node) -> None:
        node.frozen = True
        node.freezes += 1
        for peer in node.links:
            after_us = self.rng.randrange(KEEPALIVE_LEAST_US, KEEPALIVE_MOST_US)
            self._at(after_us, partial(self._keepalive_ends, node, self.nodes[peer], node.freezes))

    def _keepalive_ends(self, node: Node, other: Node, freezes: int) -> None:
        if node.frozen and node.freezes == freezes:
            self._unlink(node, other, reset=False)
            self._unlink(other, node, reset=False)

    def thaw(self, node: Node) -> None:
        node.frozen = False
        missed, node.missed = node.missed, []
        for event in missed:
            event()

    def partition(self, left: list[Node], right: list[Node]) -> None:
        """Nothing passes between the two; links stay up, as they do when a cable is cut."""
        for one in left:
            for other in right:
                self.cut[(one.id, other.id)] = self.cut[(other.id, one.id)] = None

    def heal(self) -> None:
        self.cut.clear()

    # -- time ---------------------------------------------------------------------------------------------

    def run_for(self, duration_us: int) -> None:
        self.run_until(lambda: False, duration_us)

    def run_until(self, condition: Callable[[], bool], within_us: int) -> bool:
        """Whether the condition came true in time; it's asked after each event."""
        end_us = self.now_us + within_us
        while not condition():
            if not self._queue or self._queue[0][0] > end_us:
                self.now_us = end_us
                return False
            self.now_us, _, event = heapq.heappop(self._queue)
            event()
        return True

    def _at(self, delay_us: int, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._order, event))

    def _on(self, node: Node, event: Callable[[], None]) -> None:
        """Let it happen to the node, now, after the thaw, or never."""
        if node.frozen:
            node.missed.append(lambda: self._on(node, event))
        elif node.running:
            event()
            self.perform(node)

    # -- effects ------------------------------------------------------------------------------------------

    def perform(self, node: Node) -> None:
        node.seen.extend(node.members.take_changes())
        for effect in node.ctx.take_effects():
            match effect:
                case Send():
                    self._send(node, effect)
                case SetTimer():
                    node.timers[effect.key] = effect.at_us
                    delay_us = max(0, effect.at_us - self.now_us)
                    self._at(delay_us, partial(self._fire, node, effect.key, effect.at_us))
                case CancelTimer():
                    node.timers.pop(effect.key, None)
                case Connect():
                    self._dial(node, effect.peer)
                case Penalise():
                    node.penalties.append(effect)

    def _fire(self, node: Node, key: Any, at_us: int) -> None:
        def event() -> None:
            if node.timers.get(key) != at_us:
                return
            del node.timers[key]
            machine = node.tables if key[0] == "sync" else node.members
            machine.on_timer(key, self.now_us)

        self._on(node, event)

    def _send(self, node: Node, effect: Send) -> None:
        raw = encode_message(effect.message)
        self.sent[type(effect.message).__name__] += 1
        self.sent_bytes += len(raw)
        if effect.peer not in node.links and not self._dial(node, effect.peer):
            return
        if (node.id, effect.peer) in self.cut:
            return
        other = self.nodes[effect.peer]
        due_us = self.now_us + self.delay_us + self.rng.randrange(self.delay_us)
        lane = (node.id, effect.peer)
        due_us = self._arrival_us[lane] = max(due_us, self._arrival_us.get(lane, 0))
        self._at(due_us - self.now_us, lambda: self._on(other, lambda: self.deliver(node.id, other, raw)))

    def deliver(self, sender: bytes, node: Node, raw: bytes) -> None:
        message: Any = decode_message(raw)
        node.members.heard(sender, self.now_us)
        if type(message).__name__.startswith("Table"):
            node.tables.on_message(sender, message, self.now_us)
        else:
            node.members.on_message(sender, message, self.now_us)

    # -- links --------------------------------------------------------------------------------------------

    def _dial(self, node: Node, peer: bytes) -> bool:
        other = self.nodes.get(peer)
        # A frozen process's kernel still accepts connections, but its handshake never ends.
        if other and other.running and not other.frozen and (node.id, peer) not in self.cut:
            self.link(node, other)
            return True
        self._at(self.delay_us, lambda: self._on(node, lambda: node.members.unreachable(peer, self.now_us)))
        return False

    def link(self, node: Node, other: Node) -> None:
        if other.id in node.links:
            return
        for one, peer in ((node, other), (other, node)):
            one.links[peer.id] = None
            one.members.connected(peer.id, self.now_us)
            if ("sync", b"") in one.timers:
                one.tables.peer_connected(peer.id, self.now_us)
        self.perform(node)
        self.perform(other)

    def _unlink(self, node: Node, other: Node, *, reset: bool) -> None:
        if node.links.pop(other.id, 0) is None:
            node.tables.peer_lost(other.id, self.now_us)
            self._on(node, lambda: node.members.lost(other.id, reset, self.now_us))


def arena_of(count: int, config: ProtocolConfig, seed: int = 0) -> Arena:
    """Nodes 1 to count, not yet started."""
    arena = Arena(config, seed)
    for number in range(1, count + 1):
        arena.add(number)
    return arena
