"""Announcements reach every member once, and no stranger."""

from __future__ import annotations

import pytest
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.transport.gossip import (
    GOSSIP_PROTOCOL,
    GRAYLIST_THRESHOLD,
    PAYLOAD_BYTES_MAX,
    PUBLISH_THRESHOLD,
)
from hearthmesh.node.transport.streams import peer_id_of

from .village import Villager, eventually, linked, village


def listeners(node: Villager) -> int:
    return len(list(node.links._gossip.peers))


async def test_announcement_reaches_all_over_several_hops_and_each_once() -> None:
    async with village() as mesh:
        nodes = await mesh.neighbours(4)
        for one, other in zip(nodes, nodes[1:], strict=False):
            await linked(one, other)
        await eventually(lambda: listeners(nodes[0]) == 1 and listeners(nodes[1]) == 2 and listeners(nodes[2]) == 2)
        first, *others = nodes
        for number in range(20):
            first.links.publish(b"number %d" % number)
        for node in others:
            await node.seen.until(lambda node=node: len(node.seen.gossip) >= 20)
            assert sorted(node.seen.gossip) == sorted((first.id, b"number %d" % n) for n in range(20))
        assert first.seen.gossip == []


async def test_announcement_over_64_kib_is_not_sent() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        await eventually(lambda: listeners(one))
        one.links.publish(bytes(PAYLOAD_BYTES_MAX + 1))
        one.links.publish(bytes(PAYLOAD_BYTES_MAX))
        await other.seen.until(lambda: other.seen.gossip)
        assert [len(payload) for _, payload in other.seen.gossip] == [PAYLOAD_BYTES_MAX]


async def test_gossip_goes_on_after_a_link_was_lost_and_made_again() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        await eventually(lambda: listeners(one))
        one.links.close(other.id, "")
        await other.seen.until(lambda: other.seen.lost)
        await one.seen.until(lambda: one.seen.lost)
        await eventually(lambda: not listeners(one))
        await linked(one, other)
        await eventually(lambda: listeners(one) and listeners(other))
        one.links.publish(b"back")
        await other.seen.until(lambda: other.seen.gossip == [(one.id, b"back")])


@pytest.mark.parametrize("rude", [b"\xff" * 40, b"\x03\x0a\xff\xff", encode_varint_prefixed(b"\x12\x04junk")])
async def test_malformed_gossip_hurts_nobody_else(rude: bytes) -> None:
    async with village() as mesh:
        one, other, third = await mesh.neighbours(3)
        await linked(one, other)
        await linked(other, third)
        await eventually(lambda: listeners(one) and listeners(other) == 2)
        stream = await one.links.open_peer_stream(other.id, GOSSIP_PROTOCOL)
        await stream.write(rude)
        await stream.close()
        one.links.send(other.id, [b"still here"])
        await other.seen.until(lambda: other.seen.messages)
        other.links.publish(b"and gossiping")
        await third.seen.until(lambda: third.seen.gossip)


async def test_message_for_another_topic_or_unsigned_is_not_delivered() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        await eventually(lambda: listeners(one))
        topic = one.links._gossip.topic
        author = peer_id_of(one.id).to_bytes()
        forged = rpc_pb2.Message(data=b"forged", topicIDs=[topic], from_id=author, seqno=b"1")
        elsewhere = rpc_pb2.Message(data=b"else", topicIDs=["other"], from_id=author, seqno=b"2")
        stream = await one.links.open_peer_stream(other.id, GOSSIP_PROTOCOL)
        await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[forged, elsewhere]).SerializeToString()))
        one.links.publish(b"honest")
        await other.seen.until(lambda: other.seen.gossip)
        assert other.seen.gossip == [(one.id, b"honest")]


async def test_peer_that_forwards_forgeries_is_not_heard_any_more_and_an_honest_one_is() -> None:
    """py-libp2p's weights are all 0 by default, and it counts no forged signature."""
    async with village() as mesh:
        victim, forger, honest = await mesh.neighbours(3)
        await linked(forger, victim)
        await linked(honest, victim)
        await eventually(lambda: listeners(forger) and listeners(honest))
        topic, author = forger.links._gossip.topic, peer_id_of(forger.id).to_bytes()
        stream = await forger.links.open_peer_stream(victim.id, GOSSIP_PROTOCOL)
        for number in range(45):
            forged = rpc_pb2.Message(data=b"forged", topicIDs=[topic], from_id=author, seqno=bytes([number]))
            await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[forged]).SerializeToString()))
        await eventually(lambda: victim.links.gossip_score(forger.id) < GRAYLIST_THRESHOLD)
        honest.links.publish(b"honest")
        await victim.seen.until(lambda: victim.seen.gossip)
        assert victim.seen.gossip == [(honest.id, b"honest")]
        assert victim.links.gossip_score(honest.id) > 0


async def test_rules_broken_on_a_link_count_in_gossip_too() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        await eventually(lambda: listeners(one))
        for _ in range(5):
            one.links.note_fault(other.id)
        assert one.links.gossip_score(other.id) == 0
        for _ in range(15):
            one.links.note_fault(other.id)
        assert one.links.gossip_score(other.id) < PUBLISH_THRESHOLD


async def test_nothing_is_kept_of_who_has_no_link() -> None:
    """A member may sign nonsense in any number of invented names, each of which breaks a rule."""
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        await eventually(lambda: listeners(one))
        one.links.note_fault(Identity.generate().node_id)
        one.links.note_fault(other.id)
        assert one.links._gossip._pubsub is not None
        assert [*one.links._gossip._pubsub.scorer.behavior_penalty] == [peer_id_of(other.id)]
