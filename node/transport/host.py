"""A py-libp2p host that cannot be hurt by who connects to it: Noise only, our muxer, bounded in everything."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.exceptions import MultiselectError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.manager import TransportManager
from libp2p.transport.upgrader import TransportUpgrader
from multiaddr import Multiaddr

from .frames import BufferBudget, MuxerLimits
from .noise import NoiseTransport
from .swarm import GuardedSwarm, OurMuxer, connection_config
from .tcp import TcpTransport

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DIAL_STAGGER_S = 0.25
DIAL_ADDRESSES_MAX = 8
AdmitStream = Callable[[ID, str], "bool | Awaitable[bool]"]


class DialFailed(Exception):
    """No address answered as the peer. The text names each address and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """Bounds of a host. Memory that strangers can take: max_handshakes * ~64 KiB + buffered_bytes."""

    listen: tuple[str, ...] = ()
    max_inbound_connections: int = 256
    # Half-open connections: a handshake takes 6 ms of CPU, so more than this are not worth waiting for.
    max_handshakes: int = 64
    handshake_s: float = 5.0
    negotiate_s: int = 5
    # Over all connections: received and not yet read.
    buffered_bytes: int = 128 << 20
    muxer: MuxerLimits = field(default_factory=MuxerLimits)


class _Host(BasicHost):
    """Upstream's host with a door: each inbound stream is admitted, by peer and protocol, before its handler runs."""

    admit_stream: AdmitStream | None = None

    async def _swarm_stream_handler(self, net_stream: INetStream) -> None:
        try:
            protocol, handler = await self.multiselect.negotiate(
                MultiselectCommunicator(net_stream), self.negotiate_timeout
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
        """Plain calls for every connection that begins and ends; they must not block or raise."""
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
        """Live connections, of one peer or all."""
        if peer_id is not None:
            return list(self.swarm.connections.get(peer_id, ()))
        return [connection for group in self.swarm.connections.values() for connection in group]

    async def close_peer(self, peer_id: ID) -> None:
        for connection in self.connections(peer_id):
            await connection.close()

    def set_stream_handler(self, protocol: str, handler: Callable[[INetStream], Awaitable[None]]) -> None:
        self.host.set_stream_handler(TProtocol(protocol), handler)

    async def open_stream(self, connection: SwarmConn, protocol: str) -> INetStream:
        """A stream of one protocol on this very connection. Raises BaseLibp2pError, trio.TooSlowError."""
        stream = await connection.new_stream()
        agreed = False
        try:
            with trio.fail_after(self.config.negotiate_s):
                await self.host.multiselect_client.select_one_of(
                    [TProtocol(protocol)], MultiselectCommunicator(stream), self.config.negotiate_s
                )
            stream.set_protocol(TProtocol(protocol))
            agreed = True
            return stream
        finally:
            if not agreed:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                    await stream.reset()

    async def dial(self, peer_id: ID, addresses: Sequence[Multiaddr], timeout_s: float) -> SwarmConn:
        """Race the addresses, started a quarter of a second apart; the first that is the peer wins.

        An existing connection is returned at once. Nothing is remembered of failures. Raises DialFailed.
        """
        for connection in self.connections(peer_id):
            if not connection.is_closed:
                return connection
        reasons: dict[str, str] = {}
        winners: list[SwarmConn] = []
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:

                async def attempt(address: Multiaddr, failed: trio.Event) -> None:
                    try:
                        connection = await self.swarm.dial_once(address, peer_id)
                    except (BaseLibp2pError, OSError, trio.TooSlowError, ValueError) as error:
                        reasons[str(address)] = str(error) or type(error).__name__
                        failed.set()
                        return
                    winners.append(connection)
                    nursery.cancel_scope.cancel()

                for address in list(addresses)[:DIAL_ADDRESSES_MAX]:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(DIAL_STAGGER_S):
                        await failed.wait()
        if winners:
            return winners[0]
        tried = "; ".join(f"{address}: {reason}" for address, reason in sorted(reasons.items()))
        raise DialFailed(tried or f"none of {len(addresses)} addresses answered within {timeout_s:g} s")


def create_host(identity_seed: bytes, config: HostConfig) -> SecureHost:
    """A host whose peer id is the Ed25519 key of a 32-byte seed.

    B1: the only security transport is Noise; plaintext, secio and TLS are not offered.
    """
    key_pair = create_new_key_pair(identity_seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    upgrader = TransportUpgrader({NOISE: noise}, {})
    upgrader.muxer_multistream = OurMuxer(config.muxer, BufferBudget(config.buffered_bytes))
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    swarm = GuardedSwarm(
        peer_id,
        peerstore,
        upgrader,
        transports=[TcpTransport()],
        connection_config=connection_config(config.max_inbound_connections),
        transport_manager=TransportManager(port_demuxers={}),
        max_inbound=config.max_inbound_connections,
        max_handshakes=config.max_handshakes,
        handshake_s=config.handshake_s,
    )
    host = _Host(swarm, negotiate_timeout=config.negotiate_s, disable_identify_address_discovery=True)
    return SecureHost(host, swarm, config)
