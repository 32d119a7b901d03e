"""GossipSub for what is rare and urgent: announcements, cancellations, revocations. One topic a mesh.

py-libp2p's router, with the settings that it needs to work at all (its heartbeat comes every 120 s, and it drops over
ten messages a second). Peers join it when they have a link and leave with it, so that a stranger neither hears nor
is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.pubsub.score import ScoreParams, TopicScoreParams
from libp2p.pubsub.validators import signature_validator
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import encode_varint_prefixed

from ...protocol.limits import Limit
from .forwarding import Forwarding
from .frames import OnLimit, ignore_limit
from .guards import GuardedPubsub
from .streams import node_id_of, peer_id_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

GOSSIP_PROTOCOL = "/meshsub/1.1.0"
PAYLOAD_BYTES_MAX = 64 * 1024
RPC_BYTES_MAX = 256 * 1024
# Repairs the overlay, and re-offers what a peer missed; forwarding itself waits for no heartbeat.
HEARTBEAT_S = 1
RESTART_S = 5.0
PUBLISHES_MAX = 64
# An invalid message costs its forwarder a point, which it earns back in some ten minutes.
INVALID_LOWEST = 100.0
# A rule broken on a link; from the sixth in a short time on they count, and the driver cuts off at twenty.
FAULT_POINTS = 2.0
POINTS_KEPT_A_HEARTBEAT = 0.995
PUBLISH_THRESHOLD = -20.0
GRAYLIST_THRESHOLD = -40.0


class Gossip:
    """One node's part in its mesh's topic. `on_gossip(source, payload)`: once for each message, not for our own."""

    def __init__(
        self,
        host: BasicHost,
        mesh_id: bytes,
        on_gossip: Callable[[bytes, bytes], None],
        on_limit: OnLimit = ignore_limit,
        knows: Callable[[bytes], bool] = lambda _node: False,
    ) -> None:
        """knows: whether a node has shown here that it is admitted; who has a link is known anyway."""
        self.topic = f"hearth/{mesh_id.hex()[:16]}/announcements"
        self._host = host
        self._on_gossip = on_gossip
        self._on_limit = on_limit
        self._knows = knows
        self._peers: dict[bytes, None] = {}
        self._pubsub: _MembersPubsub | None = None
        self._outgoing, self._outbox = trio.open_memory_channel[bytes](PUBLISHES_MAX)
        self.dropped = 0

    @property
    def peers(self) -> Iterable[bytes]:
        """Peers that are known to listen to the topic."""
        listeners = self._pubsub.peer_topics.get(self.topic, ()) if self._pubsub is not None else ()
        return [peer for peer in self._peers if peer_id_of(peer) in listeners]

    async def run(self) -> None:
        """Until cancelled; begins anew if py-libp2p's service falls over."""
        while True:
            try:
                await self._run_once()
            except Exception:
                # The boundary to py-libp2p's service: what ends it ends neither links nor node.
                log.exception("gossip.restarts", after_s=RESTART_S)
            self._pubsub = None
            await trio.sleep(RESTART_S)

    async def _run_once(self) -> None:
        router = _router()
        pubsub = _MembersPubsub(self._host, router, self.topic, self._peers, self._on_limit, self._knows)
        pubsub.set_topic_validator(self.topic, self._is_valid, False)
        async with background_trio_service(router), background_trio_service(pubsub):
            await pubsub.wait_until_ready()
            subscription = await pubsub.subscribe(self.topic)
            self._pubsub = pubsub
            for peer in list(self._peers):
                self._enter(peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publish_forever, pubsub)
                while True:
                    self._hear(await subscription.get())

    def _is_valid(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        if len(message.data) > PAYLOAD_BYTES_MAX:
            self._on_limit(Limit.GOSSIP_BYTES, node_id_of(forwarder) or b"", "")
            return False
        return list(message.topicIDs) == [self.topic]

    def _hear(self, message: rpc_pb2.Message) -> None:
        if message.from_id == self._host.get_id().to_bytes():
            return
        try:
            source = node_id_of(ID(message.from_id))
        except ValueError:
            return
        if source is not None:
            self._on_gossip(source, message.data)

    def publish(self, payload: bytes) -> None:
        """Queue it. More than fits, or than 64 KiB, is dropped and counted."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            self.dropped += 1
            log.error("gossip.too_long", size_bytes=len(payload))
            return
        try:
            self._outgoing.send_nowait(payload)
        except trio.WouldBlock:
            self.dropped += 1

    async def _publish_forever(self, pubsub: _MembersPubsub) -> None:
        while True:
            payload = await self._outbox.receive()
            await pubsub.publish(self.topic, payload)

    def enter(self, peer: bytes) -> None:
        """The peer has a link."""
        self._peers[peer] = None
        self._enter(peer)

    def _enter(self, peer: bytes) -> None:
        if self._pubsub is not None and self._pubsub.manager.is_running:
            self._pubsub.greet(peer_id_of(peer))

    def leave(self, peer: bytes) -> None:
        """The peer's link ended."""
        self._peers.pop(peer, None)
        if self._pubsub is not None and self._pubsub.manager.is_running:
            self._pubsub._handle_dead_peer(peer_id_of(peer))

    def note_fault(self, peer: bytes) -> None:
        """The peer broke a rule elsewhere. Only of those with a link: what is kept of others nobody would remove."""
        if self._pubsub is not None and peer in self._peers:
            self._pubsub.scorer.penalize_behavior(peer_id_of(peer), FAULT_POINTS)

    def score(self, peer: bytes) -> float:
        """0 for a peer of which nothing is known; down to the thresholds for one that misbehaves."""
        return self._pubsub.scorer.score(peer_id_of(peer), [self.topic]) if self._pubsub is not None else 0.0


def _router() -> GossipSub:
    scores = ScoreParams(
        p2_first_message_deliveries=TopicScoreParams(weight=0.1, cap=50.0, decay=POINTS_KEPT_A_HEARTBEAT),
        p4_invalid_messages=TopicScoreParams(weight=1.0, cap=INVALID_LOWEST, decay=POINTS_KEPT_A_HEARTBEAT),
        p5_behavior_penalty_weight=1.0,
        p5_behavior_penalty_decay=POINTS_KEPT_A_HEARTBEAT,
        p5_behavior_penalty_threshold=10.0,
        publish_threshold=PUBLISH_THRESHOLD,
        gossip_threshold=PUBLISH_THRESHOLD,
        graylist_threshold=GRAYLIST_THRESHOLD,
    )
    return GossipSub(
        protocols=[TProtocol(GOSSIP_PROTOCOL)],
        degree=6,
        degree_low=4,
        degree_high=12,
        gossip_window=3,
        gossip_history=5,
        heartbeat_interval=HEARTBEAT_S,
        score_params=scores,
        adaptive_gossip_enabled=False,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )


class _MembersPubsub(GuardedPubsub):
    """Talks to those only that have a link, and tells an old stream's end from the new one's."""

    def __init__(
        self,
        host: BasicHost,
        router: GossipSub,
        topic: str,
        members: Container[bytes],
        on_limit: OnLimit,
        knows: Callable[[bytes], bool],
    ) -> None:
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=RPC_BYTES_MAX, allowed_topics={topic})
        self._members = members
        self._on_limit = on_limit
        self._knows = knows
        self._forwarding = Forwarding(lambda peer: peer in members)
        assert router.scorer is not None
        self.scorer = router.scorer
        self._greeting: dict[ID, None] = {}
        network = host.get_network()
        for notifee in list(getattr(network, "notifees", ())):
            if isinstance(notifee, PubsubNotifee):  # it greets whoever connects
                network.notifees.remove(notifee)  # type: ignore[attr-defined]

    def greet(self, peer_id: ID) -> None:
        """A member has a link, maybe a new one."""
        if peer_id in self.peers:
            self._handle_dead_peer(peer_id)  # what is left of the link before; greets again by itself
        else:
            self.manager.run_task(self.ensure_peer_stream, peer_id)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """What a forwarder may make us check; and a forged signature costs it as much as any other invalid message.

        Upstream counts those only that a topic's validator refused.
        """
        if msg_forwarder == self.my_id or self._is_msg_seen(msg):
            await super().push_msg(msg_forwarder, msg)
        elif (over := self._over(msg_forwarder, msg)) is not None:
            self._on_limit(over, node_id_of(msg_forwarder) or b"", "")
        elif not _is_signed(msg):
            for topic in msg.topicIDs[:1]:
                self.scorer.on_invalid_message(msg_forwarder, topic)
        else:
            await super().push_msg(msg_forwarder, msg)

    def _over(self, forwarder: ID, message: rpc_pb2.Message) -> Limit | None:
        try:
            author = node_id_of(ID(message.from_id))
        except ValueError:
            author = None
        is_known = author is not None and (author in self._members or self._knows(author))
        return self._forwarding.refusal(node_id_of(forwarder) or b"", is_known, int(trio.current_time() * 1e6))

    def _peer_is_connected(self, peer_id: ID) -> bool:
        return node_id_of(peer_id) in self._members

    async def _handle_new_peer(self, peer_id: ID) -> None:
        if peer_id in self._greeting or not self._peer_is_connected(peer_id):
            return
        self._greeting[peer_id] = None
        try:
            await super()._handle_new_peer(peer_id)
        finally:
            del self._greeting[peer_id]

    async def write_msg(self, stream: INetStream, rpc_msg: rpc_pb2.RPC) -> bool:
        try:
            await stream.write(encode_varint_prefixed(rpc_msg.SerializeToString()))
            return True
        except StreamError:
            peer_id = stream.muxed_conn.peer_id
            if self.peers.get(peer_id) is stream:
                self._handle_dead_peer(peer_id)
            return False


def _is_signed(message: rpc_pb2.Message) -> bool:
    try:
        return bool(signature_validator(message))
    except Exception:
        # The boundary to py-libp2p's parsing of a stranger's key.
        return False
