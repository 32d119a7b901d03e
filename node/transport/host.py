"""A py-libp2p host that cannot be hurt by who connects to it: Noise only, our muxer, bounded in everything.

Where each fault of py-libp2p 0.8.1 is closed: impersonation (B1) `upgrader`; slot leak (B2), handler exceptions
(B3), dialling (B9), leaked streams (B10) `swarm`; malformed gossip (B4) `guards`; yamux deadlock (B5), slow
readers (B6), window overrun (B7), frozen peers (B8) `muxer`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.host.exceptions import StreamFailure
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.manager import TransportManager
from multiaddr import Multiaddr

from .frames import BufferBudget, MuxerLimits, OnLimit, ignore_limit
from .guards import BoundedCommunicator, select_one_of
from .swarm import GuardedSwarm, connection_config
from .tcp import TcpTransport
from .upgrader import SecureUpgrader, key_pair_from_seed

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RESET_S = 1.0
AdmitStream = Callable[[ID, str], "bool | Awaitable[bool]"]


class DialFailed(Exception):
    """No address answered as the peer. The text names each address and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """Bounds of a host. The memory that others can take of it is at most

    max_handshakes * 128 KiB + buffered_bytes + connections * (60 KiB + send_queue_bytes + control_queue_bytes).
    """

    listen: tuple[str, ...] = ()
    """Multiaddrs; none for a node that accepts no inbound connection."""

    max_inbound_connections: int = 256
    """More are closed as they arrive, and counted. Slots come back when connections end."""

    max_connections_per_source: int = 128
    """Of these from one address, half-open ones included: a street may be behind one, a whole node's worth is not."""

    max_connections_per_peer: int = 4
    """Two that cross, and as many that are dead without anybody knowing yet; one more ends the oldest."""

    max_handshakes: int = 64
    """Inbound connections at once that have not proved who they are; a newer one drops the oldest.

    A handshake takes 6 ms of CPU, so more than this are not worth waiting for.
    """

    handshake_s: float = 5.0
    """From the first byte to a muxed connection, in and out."""

    negotiate_s: int = 5
    """To agree on a stream's protocol."""

    buffered_bytes: int = 128 << 20
    """Received and not yet read, over all connections; above it the stream with the most of it is reset."""

    muxer: MuxerLimits = field(default_factory=MuxerLimits)

    on_limit: OnLimit = ignore_limit
    """Told of every bound of these that somebody ran into."""


class _Host(BasicHost):
    """Upstream's host with a door: each inbound stream is admitted, by peer and protocol, before its handler runs.

    No Identify by itself: it would file every stranger's claims in the peer store, which nothing bounds.
    """

    admit_stream: AdmitStream | None = None

    def __init__(self, swarm: GuardedSwarm, negotiate_s: int) -> None:
        super().__init__(swarm, negotiate_timeout=negotiate_s, disable_identify_address_discovery=True)
        swarm.notifees.clear()
        self.multiselect.remove_handler(IDENTIFY_PUSH)

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        try:
            protocol, handler = await self.multiselect.negotiate(
                BoundedCommunicator(net_stream), self.negotiate_timeout
            )
        except MultiselectError:
            await net_stream.reset()
            return
        if protocol is None or handler is None:
            await net_stream.reset()
            return
        net_stream.set_protocol(protocol)
        if self.admit_stream is not None:
            admitted = self.admit_stream(net_stream.muxed_conn.peer_id, str(protocol))
            if inspect.isawaitable(admitted):
                admitted = await admitted
            if not admitted:
                await net_stream.reset()
                return
        await handler(net_stream)

    async def new_stream(self, peer_id: ID, protocol_ids: Sequence[TProtocol]) -> INetStream:
        """For py-libp2p's services: the first of the protocols that the peer serves.

        Raises SwarmException when there is no connection, StreamFailure when no protocol is agreed on.
        """
        stream = await self._network.new_stream(peer_id)
        try:
            return await self.negotiate(stream, list(protocol_ids))
        except (BaseLibp2pError, trio.TooSlowError) as error:
            raise StreamFailure(f"no stream to {peer_id}: {error}") from error

    async def negotiate(self, stream: INetStream, protocols: list[TProtocol]) -> INetStream:
        """Agree on a protocol in time, or reset the stream. Raises BaseLibp2pError, trio.TooSlowError."""
        agreed = False
        try:
            with trio.fail_after(self.negotiate_timeout):
                stream.set_protocol(await select_one_of(stream, protocols))
            agreed = True
            return stream
        finally:
            if not agreed:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + RESET_S):
                    await stream.reset()


class SecureHost:
    """Make one with `create_host`; use it within `async with host.run():`."""

    def __init__(self, host: _Host, swarm: GuardedSwarm, config: HostConfig) -> None:
        self.host = host
        self.swarm = swarm
        self.config = config

    @property
    def peer_id(self) -> ID:
        return self.host.get_id()

    @property
    def admit_stream(self) -> AdmitStream | None:
        """Asked for every inbound stream after negotiation; may be async. None admits all."""
        return self.host.admit_stream

    @admit_stream.setter
    def admit_stream(self, admit: AdmitStream | None) -> None:
        self.host.admit_stream = admit

    def observe(self, on_connected: Callable[[SwarmConn], None], on_disconnected: Callable[[SwarmConn], None]) -> None:
        """Plain calls for every connection that begins and ends; they must not block."""
        self.swarm.on_connected, self.swarm.on_disconnected = on_connected, on_disconnected

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Listen and serve. Raises OSError if an address cannot be listened on."""
        async with background_trio_service(self.swarm):
            for text in self.config.listen:
                if not await self.swarm.listen(Multiaddr(text)):
                    raise OSError(f"cannot listen on {text}: the address is in use or not this machine's")
            yield

    def addresses(self) -> list[Multiaddr]:
        """Where the host listens, without the peer id; wildcard addresses as they are."""
        return [address for listener in self.swarm.listeners.values() for address in listener.get_addrs()]

    def connections(self, peer_id: ID | None = None) -> list[SwarmConn]:
        """Live connections, of one peer or all; a peer's oldest first."""
        return self.swarm.live(peer_id)

    async def close_peer(self, peer_id: ID) -> None:
        for connection in self.connections(peer_id):
            await connection.close()

    def set_stream_handler(self, protocol: str, handler: Callable[[INetStream], Awaitable[None]]) -> None:
        """The stream is closed when the handler returns, and reset when it raises."""
        self.host.set_stream_handler(TProtocol(protocol), handler)

    async def open_stream(self, connection: SwarmConn, protocol: str) -> INetStream:
        """A stream of one protocol on this very connection. Raises BaseLibp2pError, trio.TooSlowError."""
        return await self.host.negotiate(await connection.new_stream(), [TProtocol(protocol)])

    async def dial(self, peer_id: ID, addresses: Sequence[Multiaddr], timeout_s: float) -> SwarmConn:
        """Race the addresses, started a quarter of a second apart; the first that is the peer wins.

        An existing connection is returned at once. Nothing is remembered of failures. Raises DialFailed.
        """
        existing = self.connections(peer_id)
        if existing:
            return existing[-1]
        if peer_id == self.peer_id:
            raise DialFailed("that peer is this node")
        try:
            return await self.swarm.race(peer_id, addresses, timeout_s)
        except SwarmException as error:
            raise DialFailed(str(error)) from error


def create_host(identity_seed: bytes, config: HostConfig) -> SecureHost:
    """A host whose peer id is the Ed25519 key of a 32-byte seed. Raises ValueError for another length.

    B1: the only security transport is Noise; plaintext, secio and TLS are not offered.
    """
    key_pair = key_pair_from_seed(identity_seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    swarm = GuardedSwarm(
        peer_id,
        peerstore,
        SecureUpgrader(key_pair, config.muxer, BufferBudget(config.buffered_bytes, config.on_limit)),
        transports=[TcpTransport()],
        connection_config=connection_config(config.max_inbound_connections),
        transport_manager=TransportManager(port_demuxers={}),
        max_inbound=config.max_inbound_connections,
        max_per_source=config.max_connections_per_source,
        max_per_peer=config.max_connections_per_peer,
        max_handshakes=config.max_handshakes,
        handshake_s=config.handshake_s,
        on_limit=config.on_limit,
    )
    return SecureHost(_Host(swarm, config.negotiate_s), swarm, config)
