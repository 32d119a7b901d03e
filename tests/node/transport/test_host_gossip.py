"""B4: what is gossiped at us, and what our validators make of it, never ends the host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed

from hearthmesh.node.transport.guards import GuardedPubsub
from hearthmesh.node.transport.host import SecureHost

from .hosts import answers, dial, running_host, until

MESHSUB = TProtocol("/meshsub/1.1.0")
TOPIC = "test"


@asynccontextmanager
async def gossiping(host: SecureHost, kind: type[Pubsub]) -> AsyncIterator[Pubsub]:
    router = GossipSub(protocols=[MESHSUB], degree=3, degree_low=2, degree_high=4, heartbeat_interval=1)
    pubsub = kind(host.host, router, strict_signing=True)
    async with background_trio_service(pubsub), background_trio_service(router):
        await pubsub.wait_until_ready()
        yield pubsub


async def publish_until(pubsub: Pubsub, payload: bytes, condition: Callable[[], object]) -> None:
    """The mesh of a topic takes a moment to form; until then a message reaches nobody."""
    with trio.fail_after(60):
        while not condition():
            await pubsub.publish(TOPIC, payload)
            await trio.sleep(0.05)


def raising(asked: list[bytes]) -> Callable[[ID, rpc_pb2.Message], bool]:
    def validator(forwarder: ID, message: rpc_pb2.Message) -> bool:
        asked.append(message.data)
        if message.data == b"bad":
            raise RuntimeError("a bug in a validator")
        return True

    return validator


async def gossip_something_bad(kind: type[Pubsub]) -> None:
    asked: list[bytes] = []
    async with running_host() as host, running_host() as peer:
        async with gossiping(host, kind) as ours, gossiping(peer, GuardedPubsub) as theirs:
            subscription = await ours.subscribe(TOPIC)
            await theirs.subscribe(TOPIC)
            ours.set_topic_validator(TOPIC, raising(asked), False)
            connection = await dial(peer, host)
            await publish_until(theirs, b"bad", lambda: b"bad" in asked)
            await publish_until(theirs, b"good", lambda: b"good" in asked)
            assert (await subscription.get()).data == b"good"
            assert await answers(peer, connection)


async def test_a_validator_that_raises_drops_the_message_only() -> None:
    await gossip_something_bad(GuardedPubsub)


async def test_stock_pubsub_dies_of_a_validator_that_raises() -> None:
    """When this fails, upstream has mended that part of B4."""
    with pytest.raises(BaseExceptionGroup) as raised:
        await gossip_something_bad(Pubsub)
    assert raised.group_contains(RuntimeError, match="a bug in a validator")


MALFORMED = {
    "not protobuf": b"\xff" * 50,
    "a length that never ends": b"\xff" * 20,
    "a message without anything": rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])]).SerializeToString(),
    "a signature by no key": rpc_pb2.RPC(
        publish=[rpc_pb2.Message(topicIDs=[TOPIC], from_id=b"\x12\x20" + bytes(32), signature=b"s", key=b"\xff\xff")]
    ).SerializeToString(),
    "a peer record that is none": rpc_pb2.RPC(senderRecord=b"\xff\xff\xff").SerializeToString(),
    "control of unknown topics": rpc_pb2.RPC(
        control=rpc_pb2.ControlMessage(
            graft=[rpc_pb2.ControlGraft(topicID="?")] * 10,
            prune=[rpc_pb2.ControlPrune(topicID="?", backoff=2**63)],
            ihave=[rpc_pb2.ControlIHave(topicID="?", messageIDs=[b"?"] * 10)],
            iwant=[rpc_pb2.ControlIWant(messageIDs=[b"\x00", b"(", b"\xff\xfe"])],
        )
    ).SerializeToString(),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_gossip_costs_its_stream_at_most(message: bytes) -> None:
    async with running_host() as host, running_host() as attacker, running_host() as friend:
        async with gossiping(host, GuardedPubsub) as ours, gossiping(friend, GuardedPubsub) as theirs:
            heard: list[bytes] = []
            await ours.subscribe(TOPIC)
            await theirs.subscribe(TOPIC)
            ours.set_topic_validator(TOPIC, raising(heard), False)
            stream = await attacker.open_stream(await dial(attacker, host), MESHSUB)
            await stream.write(encode_varint_prefixed(message) if message != b"\xff" * 20 else message)
            await stream.close()
            await dial(friend, host)
            await publish_until(theirs, b"good", lambda: b"good" in heard)
            await until(lambda: not host.connections(attacker.peer_id)[0].muxed_conn.stream_count)  # type: ignore[attr-defined]
            assert await answers(friend, friend.connections()[0])
