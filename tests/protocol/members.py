"""A member alone, and what others have come to think."""

from __future__ import annotations

from hearthmesh.protocol.config import LAN, ProtocolConfig
from hearthmesh.protocol.effects import Send
from hearthmesh.protocol.liveness import (
    Status,
)
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.messages import MemberState, Ping
from tests.protocol.arena import Arena, Node, context, identity

ALICE, BOB, CAROL, DAVE = (identity(number).node_id for number in (1, 2, 3, 4))


def everywhere(arena: Arena, subject: Node, status: Status) -> bool:
    """Whether all other processes that run agree on it."""
    others = [node for node in arena.nodes.values() if node.running and not node.frozen and node is not subject]
    return all(node.members.status(subject.id) is status for node in others)


def blamed(arena: Arena, *guilty: Node) -> list[tuple[int, Status]]:
    """Deaths that were declared of others than the guilty."""
    ids = [node.id for node in guilty]
    return [
        (node.number, status)
        for node in arena.nodes.values()
        for subject, status in node.seen
        if status is Status.DEAD and subject not in ids and node not in guilty
    ]


def alone(config: ProtocolConfig = LAN, peers: tuple[bytes, ...] = (BOB, CAROL, DAVE)) -> Membership:
    """Alice, started, linked to peers that she watches; nothing waits in her outbox."""
    members = Membership(context(1, config), incarnation=5)
    members.start(0)
    for peer in peers:
        members.learn(peer, 7, 0)
        members.connected(peer, 0)
    members.fill_view()
    members.take_changes()
    effects(members)
    return members


def effects(members: Membership) -> list[object]:
    return list(members._ctx.take_effects())


def ping(*rumours: MemberState) -> Ping:
    return Ping(1, rumours)


def pinged(members: Membership) -> list[bytes]:
    return [e.peer for e in effects(members) if isinstance(e, Send) and isinstance(e.message, Ping)]
