"""The node's links: one with each admitted peer that it talks to, dialled when first needed.

Everything runs on one trio thread. `send`, `publish`, `learn`, `connect`, `close`, `block` and `recheck` only queue.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from ...crypto.certificates import Certificate, MembershipPolicy, Role
from ...crypto.identity import Identity, peer_id_text
from ...protocol.limits import Limit
from ..limits import LimitMeter
from ..storage.blobs import BlobStore
from .addresses import AddressBook, announced
from .blobs import BLOB_PROTOCOL, BlobFetchError, BlobTransfers
from .circuits import HOP_PROTOCOL, STOP_PROTOCOL
from .discovery import Bootstrap
from .frames import MuxerLimits
from .gate import LINK_PROTOCOL, Gate, Greeted, GreetingFailed, RefusedByPeer
from .gossip import Gossip
from .hello import Refused
from .host import DialFailed, HostConfig, SecureHost, create_host
from .lan import LanDiscovery
from .link import STREAM_GONE, Link, LinkEnd, shielded
from .link_api import LinkConfig, LinkHandler, LinkInfo
from .muxer import YamuxConnection
from .providers import PROVIDERS_PROTOCOL, Providers
from .relay import CircuitTransport, RelayService, Reservations
from .streams import bytes_of, connection_of, node_id_of, peer_id_of
from .unreached import FailedDials, WaitingFrames

if TYPE_CHECKING:
    from trio_typing import TaskStatus

__all__ = ["BlobFetchError", "LinkConfig", "LinkHandler", "LinkInfo", "Links"]

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
# Where nobody configured logging, a library must not write to a user's terminal.
logging.getLogger("libp2p").addHandler(logging.NullHandler())

# Two links of one pair that began within this time of each other are one pair's simultaneous dials.
SIMULTANEOUS_S = 5.0
LINKLESS_S = 6.0
RECHECK_S = 60.0
DIALS_AT_ONCE = 16
REJECTION_REPEAT_S = 30.0
REMEMBERED_MAX = 4096
ANNOUNCED_BLOB_BYTES = 1 << 20
ANNOUNCE_AFTER_S = 5.0


class Links:
    """Runs one node's links. `blobs` None: the node serves and fetches none."""

    def __init__(
        self,
        identity: Identity,
        certificate: bytes,
        policy: MembershipPolicy,
        config: LinkConfig,
        handler: LinkHandler,
        blobs: BlobStore | None,
        meter: LimitMeter | None = None,
    ) -> None:
        self.node_id = identity.node_id
        self.config = config
        self.addresses: tuple[str, ...] = ()
        self.relays: tuple[bytes, ...] = ()
        self.dropped_frames = 0
        self.meter = meter or LimitMeter()
        self._handler = handler
        self._mesh_id = policy.mesh.mesh_id
        self._roles = Certificate.from_bytes(certificate).roles
        self._book = AddressBook()
        self._gate = Gate(
            certificate,
            policy,
            has_room=lambda: len(self._links) < config.max_links,
            on_limit=self.meter.hit,
        )
        self._links: dict[bytes, Link] = {}
        self._connections: dict[Link, SwarmConn] = {}
        self._greeting: dict[SwarmConn, None] = {}
        self._waiting = WaitingFrames(config.pending_frames, config.pending_bytes)
        self._dialling: dict[bytes, None] = {}
        self._failures = FailedDials()
        self._told: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        self._dial_slots = trio.CapacityLimiter(DIALS_AT_ONCE)
        self._settled = trio.lowlevel.ParkingLot()
        self._addresses_changed = trio.Event()
        self._links_changed = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._host: SecureHost = create_host(
            identity.seed,
            HostConfig(
                listen=tuple(config.listen),
                max_inbound_connections=config.max_inbound_connections,
                max_connections_per_source=config.max_connections_per_source,
                on_limit=self.meter.hit,
                muxer=MuxerLimits(max_inbound_streams=config.max_streams_per_connection),
            ),
        )
        self._gossip = Gossip(self._host.host, self._mesh_id, handler.on_gossip, self.meter.hit, handler.knows)
        self._providers = Providers(self._host.host, self)
        self._circuits = CircuitTransport(self, self._host.swarm)
        self._host.swarm.transport_manager.add_transport(self._circuits)
        self._transfers = None if blobs is None else BlobTransfers(blobs, self.open_peer_stream)
        if self._transfers is not None:
            self._transfers.on_limit = self.meter.hit

    # -- running -------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, find the mesh, serve until cancelled. Started once `addresses` is valid."""
        self._host.admit_stream = self._admit_stream
        self._host.observe(self._on_connection, lambda _: None)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._host.run())
            self._host.set_stream_handler(LINK_PROTOCOL, self._on_link_stream)
            self._host.set_stream_handler(PROVIDERS_PROTOCOL, self._providers.serve)
            if self._transfers is not None:
                self._host.set_stream_handler(BLOB_PROTOCOL, self._transfers.serve)
                self._transfers.find_providers = self._providers.find
                self._transfers.on_fetched = self._announce_blob
            self._host.set_stream_handler(STOP_PROTOCOL, self._circuits.serve_stop)
            if self._serves_as_relay():
                service = RelayService(self, self.config.relay_limits, self.meter.hit)
                self._host.set_stream_handler(HOP_PROTOCOL, service.serve_hop)
            nursery = await stack.enter_async_context(trio.open_nursery())
            self._nursery = nursery
            direct = announced(map(str, self._host.addresses()), self.node_id)
            self._set_addresses(direct, ())
            nursery.start_soon(self._recheck_forever)
            nursery.start_soon(self._gossip.run)
            nursery.start_soon(self._providers.run)
            if self.config.mdns:
                nursery.start_soon(LanDiscovery(self, self._mesh_id).run)
            reservations = Reservations(
                self, self.config.relay_through, lambda circuits, relays: self._set_addresses(direct + circuits, relays)
            )
            nursery.start_soon(reservations.run)
            nursery.start_soon(Bootstrap(self, self.config.bootstrap).run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _serves_as_relay(self) -> bool:
        wanted = self.config.relay_service
        if wanted and not self._roles & Role.RELAY:
            log.warning("relay.not_served", reason="the certificate grants no role relay")
            return False
        return wanted

    def _set_addresses(self, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None:
        if (addresses, relays) != (self.addresses, self.relays):
            self.addresses, self.relays = addresses, relays
            self._addresses_changed.set()
            self._addresses_changed = trio.Event()

    async def addresses_changed(self) -> None:
        """Wait until `addresses` or `relays` is another."""
        await self._addresses_changed.wait()

    async def links_changed(self) -> None:
        """Wait until a link begins or ends."""
        await self._links_changed.wait()

    async def _recheck_forever(self) -> None:
        while True:
            await trio.sleep(RECHECK_S)
            self.recheck()

    # -- what the driver calls -----------------------------------------------------------------------------

    def send(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        """Send a frame each, in one write if the peer keeps up; without a link, dial.

        What cannot be delivered is dropped and reported once.
        """
        link = self._links.get(peer)
        if link is not None:
            dropped = link.send(payloads)
            if dropped:
                self.dropped_frames += dropped
                self.meter.hit(Limit.SEND_QUEUE, peer, times=dropped)
            return
        self.dropped_frames += sum(not self._waiting.add(peer, payload) for payload in payloads)
        self.connect(peer)

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None:
        """Where a peer says it can be reached."""
        if peer != self.node_id and self._book.learn(peer, addresses, relays):
            self._failures.forget(peer)

    def connect(self, peer: bytes) -> None:
        """Make sure that there is a link, or that one is being made."""
        if self._nursery is None or peer == self.node_id:
            self.dropped_frames += len(self._waiting.take(peer))
            return
        if peer in self._links or peer in self._dialling:
            return
        self._dialling[peer] = None
        self._nursery.start_soon(self._dial, peer)

    def close(self, peer: bytes, reason: str) -> None:
        """End the link after what is queued; the peer is told why."""
        link = self._links.get(peer)
        if link is not None:
            link.close(reason)

    def publish(self, payload: bytes) -> None:
        """Tell all nodes of the mesh, by gossip; at most 64 KiB."""
        self._gossip.publish(payload)

    def block(self, peers: Collection[bytes] | None, others: bool = False) -> None:
        """For testnets: drop the links with these peers (with `others`: with all but these) and refuse new ones.

        None heals it.
        """
        self._gate.block(peers, others)
        for peer, link in list(self._links.items()):
            if self._gate.is_blocked(peer):
                link.end(LinkEnd("partitioned"))
        if peers is None:
            self._failures.clear()

    def recheck(self) -> None:
        """Close the links of peers that the policy no longer admits: revoked or expired meanwhile."""
        for peer, link in list(self._links.items()):
            reason = self._gate.refusal(peer, link.certificate_bytes)
            if reason is not None:
                self._tell_rejected(peer, reason)
                link.close(reason)

    async def fetch_blob(self, digest: bytes, sources: Sequence[bytes], limit_bytes: int) -> None:
        """Bring a blob into the store from the first source that has it. Raises BlobFetchError, StorageError."""
        if self._transfers is None:
            raise BlobFetchError("this node keeps no blobs")
        await self._transfers.fetch_blob(digest, sources, limit_bytes)

    def provide(self, key: bytes) -> None:
        """Announce that this node has the job or blob of this id, 32 bytes."""
        self._providers.provide(key)

    async def find_providers(self, key: bytes) -> Sequence[bytes]:
        """Nodes that announced that they have it; empty after 10 s without any."""
        return await self._providers.find(key)

    def _announce_blob(self, digest: bytes, size_bytes: int) -> None:
        """Large ones, once the work that they were fetched for has begun; small ones their replicas serve."""
        if size_bytes >= ANNOUNCED_BLOB_BYTES:
            self._providers.provide(digest, ANNOUNCE_AFTER_S)

    def peers(self) -> list[LinkInfo]:
        """All links, in the order of their beginning."""
        return [
            LinkInfo(
                peer=peer,
                dialled=link.dialled,
                address=link.address,
                relayed=link.relayed,
                rtt_us=_rtt_us(self._connections[link]),
                received_bytes=link.received_bytes,
                sent_bytes=link.sent_bytes,
                queue_bytes=link.queue_bytes,
                dropped_frames=link.dropped_frames,
                agent=link.agent,
            )
            for peer, link in self._links.items()
        ]

    def peers_count(self) -> int:
        return len(self._links)

    def knows(self, peer: bytes) -> bool:
        """Whether any address of it was learned."""
        return self._book.knows(peer)

    def source_of(self, peer: bytes) -> str:
        """The address without a port that a linked peer comes from, or the relay; empty if it has no link."""
        link = self._links.get(peer)
        if link is None:
            return ""
        return link.address.partition("/p2p-circuit")[0] if link.relayed else link.address.rpartition("/tcp/")[0]

    def note_fault(self, peer: bytes) -> None:
        """The peer broke a rule of the protocol: gossip thinks less of it too."""
        self._gossip.note_fault(peer)

    def gossip_score(self, peer: bytes) -> float:
        """What gossip thinks of a peer; below 0 it is heard less, see gossip.py."""
        return self._gossip.score(peer)

    def is_linked(self, peer: bytes) -> bool:
        return peer in self._links

    async def flush(self, timeout_s: float) -> None:
        """Wait until what was sent so far is on its way, or the time is over."""
        with trio.move_on_after(timeout_s):
            while self._dialling:
                await self._settled.park()
            for link in list(self._links.values()):
                await link.drained()
            for connection in list(self._connections.values()):
                if isinstance(connection.muxed_conn, YamuxConnection):
                    await connection.muxed_conn.drained()

    # -- dialling ------------------------------------------------------------------------------------------

    async def _dial(self, peer: bytes) -> None:
        try:
            linked = await self._link_with(peer)
        finally:
            self._dialling.pop(peer, None)
            self._settled.unpark_all()
        if linked or peer in self._links:
            self._failures.forget(peer)
            return
        self._failures.note(peer, trio.current_time())
        self.dropped_frames += len(self._waiting.take(peer))
        self._handler.on_unreachable(peer)

    async def _link_with(self, peer: bytes) -> bool:
        """False if no address answered, or the peer was not willing."""
        if self._gate.is_blocked(peer) or not self._failures.may_try(peer, trio.current_time()):
            return False
        for _ in range(2):
            existed = bool(self._host.connections(peer_id_of(peer)))
            connection = await self._direct_connection(peer) or await self._relayed_connection(peer)
            if peer in self._links:
                if connection is not None and connection is not self._connections.get(self._links[peer]):
                    await self._close_connection(connection)
                return True
            if connection is None:
                return False
            if await self._open_link(peer, connection):
                return True
            if not existed:
                return False
        return False

    async def _direct_connection(self, peer: bytes) -> SwarmConn | None:
        return await self._dial_addresses(peer, [Multiaddr(address) for address in self._book.direct(peer)])

    async def _relayed_connection(self, peer: bytes) -> SwarmConn | None:
        """Through whichever of the peer's relays we have a link with, or get one."""
        for relay, bases in self._book.circuits(peer):
            if peer in self._links or self._nursery is None:
                return None
            if not self._book.knows(relay):
                self.learn(relay, tuple(bases), ())
            self.connect(relay)
            with trio.move_on_after(self.config.dial_timeout_s):
                while relay in self._dialling:
                    await self._settled.park()
            if relay in self._links:
                connection = await self._dial_addresses(peer, [self._circuits.address(relay, peer)])
                if connection is not None:
                    return connection
        return None

    async def _dial_addresses(self, peer: bytes, addresses: list[Multiaddr]) -> SwarmConn | None:
        if not addresses or peer in self._links:
            return None
        async with self._dial_slots:
            try:
                return await self._host.dial(peer_id_of(peer), addresses, self.config.dial_timeout_s)
            except DialFailed as error:
                log.debug("link.unreachable", peer=peer_id_text(peer), reason=str(error))
                return None

    async def _open_link(self, peer: bytes, connection: SwarmConn) -> bool:
        greeted = None
        try:
            stream = await self._host.open_stream(connection, LINK_PROTOCOL)
            greeted = await self._greet(stream, peer, dialled=True)
        except (*STREAM_GONE, trio.TooSlowError) as error:
            log.debug("link.no_stream", peer=peer_id_text(peer), reason=str(error))
        if greeted is None or self._nursery is None:
            if peer not in self._links and connection not in self._greeting:
                await self._close_connection(connection)
            return False
        link = self._make_link(peer, greeted, stream, connection, dialled=True)
        self._install(link)
        self._nursery.start_soon(self._serve, link, stream)
        return True

    # -- being dialled -------------------------------------------------------------------------------------

    async def _admit_stream(self, peer_id: ID, protocol: str) -> bool:
        peer = node_id_of(peer_id)
        return peer is not None and await self._gate.admits_stream(peer, str(protocol))

    def _on_connection(self, connection: SwarmConn) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._expect_link, connection)

    async def _expect_link(self, connection: SwarmConn) -> None:
        """A connection whose peer has no link after a while is a stranger's: it ends."""
        with trio.move_on_after(LINKLESS_S):
            await connection.event_closed.wait()
            return
        peer = node_id_of(connection.muxed_conn.peer_id)
        if peer is None or not (peer in self._links or peer in self._dialling):
            await self._close_connection(connection)

    async def _on_link_stream(self, stream: INetStream) -> None:
        """An inbound link, from its greeting to its end."""
        connection = connection_of(stream)
        peer = node_id_of(stream.muxed_conn.peer_id)
        if peer is None or connection in self._greeting or self._nursery is None:
            await stream.reset()
            return
        self._greeting[connection] = None
        try:
            greeted = await self._greet(stream, peer, dialled=False)
        finally:
            self._greeting.pop(connection, None)
        if greeted is None or self._gate.is_blocked(peer) or self._nursery is None:
            await stream.reset()
            if self._nursery is not None and peer not in self._links:
                self._nursery.start_soon(self._close_connection, connection)
            return
        link = self._make_link(peer, greeted, stream, connection, dialled=False)
        self._install(link)
        await self._serve(link, stream)

    # -- links ---------------------------------------------------------------------------------------------

    async def _greet(self, stream: INetStream, peer: bytes, *, dialled: bool) -> Greeted | None:
        """None if it came to nothing; whoever must know was told."""
        try:
            return await self._gate.greet(bytes_of(stream), peer, dialled=dialled)
        except Refused as refused:
            log.info("link.refused", peer=peer_id_text(peer), reason=refused.reason)
            self._tell_rejected(peer, refused.reason)
        except RefusedByPeer as refused:
            self._tell_rejected(peer, refused.reason)
        except GreetingFailed as failed:
            log.debug("link.no_greeting", peer=peer_id_text(peer), reason=str(failed))
        return None

    def _make_link(
        self, peer: bytes, greeted: Greeted, stream: INetStream, connection: SwarmConn, *, dialled: bool
    ) -> Link:
        address, relayed = _where(connection)
        link = Link(
            peer,
            greeted.certificate,
            greeted.certificate_bytes,
            bytes_of(stream),
            greeted.frames,
            dialled=dialled,
            life=greeted.life,
            agent=greeted.agent,
            address=address,
            relayed=relayed,
            limits=self.config.limits,
        )
        self._connections[link] = connection
        return link

    def _install(self, link: Link) -> None:
        """Make it the pair's one link, or retire it: both sides decide alike."""
        peer, old = link.peer, self._links.get(link.peer)
        if old is not None and self._is_twin(old, link):
            if self._is_preferred(old):
                link.retire()
                return
            self._links[peer] = link
            self.dropped_frames += link.send(old.retire())
            return
        if old is not None:
            # The peer would not make another link if it still had this one.
            del self._links[peer]
            old.end(LinkEnd("the peer began anew"))
            self._handler.on_lost(peer, True)
        self._links[peer] = link
        self._gate.admit(peer)
        self._gossip.enter(peer)
        if self._nursery is not None:
            self._nursery.start_soon(self._providers.enter, peer, self._book.direct(peer))
        log.info("link.up", peer=peer_id_text(peer), address=link.address, dialled=link.dialled, relayed=link.relayed)
        self._note_change()
        # First what waited for the link, then what the owner says to its beginning.
        self.dropped_frames += link.send(self._waiting.take(peer))
        self._handler.on_connected(peer, link.certificate)

    def _is_twin(self, old: Link, new: Link) -> bool:
        is_young = trio.current_time() - old.since_s < SIMULTANEOUS_S
        return is_young and old.dialled != new.dialled and old.life == new.life and not old.ended.is_set()

    def _is_preferred(self, link: Link) -> bool:
        """Of twins the one stays that the smaller id dialled."""
        return link.dialled == (self.node_id < link.peer)

    async def _serve(self, link: Link, stream: INetStream) -> None:
        try:
            end = await link.run(self._handler)
        finally:
            connection = self._connections.pop(link)
            is_last = self._links.get(link.peer) is link
            if is_last:
                del self._links[link.peer]
                self._gate.expel(link.peer)
                self._gossip.leave(link.peer)
                self._providers.leave(link.peer)
            with shielded(1.0):
                await stream.reset()
        if is_last:
            self._on_end(link, end)
        if connection not in self._connections.values():
            await self._close_connection(connection)

    def _on_end(self, link: Link, end: LinkEnd) -> None:
        log.info("link.down", peer=peer_id_text(link.peer), reason=end.why, said=end.said)
        if end.limit is not None:
            self.meter.hit(end.limit, link.peer)
        if end.said:
            self._tell_rejected(link.peer, end.said)
        self._note_change()
        self._handler.on_lost(link.peer, end.by_peer)

    def _note_change(self) -> None:
        self._links_changed.set()
        self._links_changed = trio.Event()

    def _tell_rejected(self, peer: bytes, reason: str) -> None:
        """Once in a while for the same peer and reason: a refused peer tries again and again."""
        now = trio.current_time()
        key = (peer, reason)
        if now - self._told.get(key, -REJECTION_REPEAT_S) < REJECTION_REPEAT_S:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        while len(self._told) > REMEMBERED_MAX:
            self._told.popitem(last=False)
        self._handler.on_rejected(peer, reason)

    async def _close_connection(self, connection: SwarmConn) -> None:
        try:
            await connection.close()
        except STREAM_GONE:
            pass  # it is closed all the same

    async def open_peer_stream(self, peer: bytes, protocol: str) -> INetStream:
        """A stream on the link's connection; dials if there is no link. Raises one of STREAM_GONE or TooSlowError."""
        link = self._links.get(peer)
        if link is None:
            self.connect(peer)
            while peer in self._dialling:
                await self._settled.park()
            link = self._links.get(peer)
        if link is None:
            raise OSError("no link with the peer")
        if protocol == HOP_PROTOCOL and not link.certificate.roles & Role.RELAY:
            self.meter.hit(Limit.ROLE, peer)
            raise OSError("the peer's certificate grants no role relay")
        return await self._host.open_stream(self._connections[link], protocol)


def _rtt_us(connection: SwarmConn) -> int | None:
    muxed = connection.muxed_conn
    return muxed.rtt_us if isinstance(muxed, YamuxConnection) else None


def _where(connection: SwarmConn) -> tuple[str, bool]:
    """The other end's address for people, and whether a relay lies between."""
    addresses = [str(address) for address in connection.get_transport_addresses()]
    relayed = any("/p2p-circuit" in address for address in addresses)
    if relayed:
        return next(address for address in addresses if "/p2p-circuit" in address), True
    muxed = connection.muxed_conn
    remote = muxed.get_remote_address() if isinstance(muxed, YamuxConnection) else None
    if remote is None:
        return addresses[0] if addresses else "", False
    return f"/{'ip6' if ':' in remote[0] else 'ip4'}/{remote[0]}/tcp/{remote[1]}", False
