"""Who has a job or a blob: Kademlia provider records among the mesh's members.

py-libp2p's tables, messages and look-ups, without its service: that refreshes, pings and saves on timers. Every stream
goes over a link, so only members are asked and answered, and a look-up makes the links that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import structlog
import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from multiaddr import Multiaddr

from .addresses import with_peer
from .streams import node_id_of, peer_id_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

PROVIDERS_PROTOCOL = str(PROTOCOL_ID)
KEYS_MAX = 20_000
ANNOUNCEMENTS_MAX = 256
# Announcing a key talks to up to 20 peers: one at a time, and no more often than this.
ANNOUNCE_INTERVAL_S = 0.2
LOOKUP_S = 10.0
ADDRESS_TTL_S = 7200
FOUND_MAX = 8
_SHA256_MULTIHASH = bytes.fromhex("1220")


class LinkedPeers(Protocol):
    """What look-ups need of the links."""

    addresses: tuple[str, ...]

    def is_linked(self, peer: bytes) -> bool: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def knows(self, peer: bytes) -> bool: ...

    async def open_peer_stream(self, peer: bytes, protocol: str) -> INetStream: ...


class Providers:
    """One node's share of the records, and its look-ups."""

    def __init__(self, host: BasicHost, links: LinkedPeers) -> None:
        self._links = links
        self._host = host
        self._table = KadDHT(cast(IHost, _LinkedHost(host, links)), DHTMode.SERVER, enable_values=False)
        self._announce, self._announcements = trio.open_memory_channel[tuple[float, bytes]](ANNOUNCEMENTS_MAX)

    async def serve(self, stream: INetStream) -> None:
        """Questions and records of a member."""
        await self._table.handle_stream(stream)
        known = self._table.provider_store.providers
        while len(known) > KEYS_MAX:
            del known[next(iter(known))]

    async def run(self) -> None:
        """Announce what was asked for, one after the other; nothing while this node has no address."""
        while True:
            due_s, key = await self._announcements.receive()
            await trio.sleep_until(due_s)
            if not self._links.addresses:
                continue
            try:
                with trio.move_on_after(LOOKUP_S):
                    await self._table.provider_store.provide(_multihash(key))
            except Exception as error:
                # The boundary to py-libp2p's look-up, which lets through what peers cause.
                log.info("providers.not_announced", key=key.hex()[:16], error=repr(error)[:200])
            await trio.sleep(ANNOUNCE_INTERVAL_S)

    def provide(self, key: bytes, after_s: float = 0.0) -> None:
        """Announce, when those before are, that this node has the job or blob of this id. Dropped if too many wait.

        after_s: not before that, for what is in no hurry; what comes after it waits as well.
        """
        try:
            self._announce.send_nowait((trio.current_time() + after_s, key))
        except trio.WouldBlock:
            log.info("providers.not_announced", key=key.hex()[:16], error="too many wait")

    async def find(self, key: bytes) -> Sequence[bytes]:
        """Nodes that said they have it, at most 8; their addresses are learned. Empty if nobody is found in 10 s."""
        found: list[Any] = []
        try:
            with trio.move_on_after(LOOKUP_S):
                found = await self._table.provider_store.find_providers(_multihash(key), FOUND_MAX)
        except Exception as error:
            # The boundary to py-libp2p's look-up, which lets through what peers cause.
            log.info("providers.not_found", key=key.hex()[:16], error=repr(error)[:200])
        nodes: dict[bytes, None] = {}
        for info in found:
            node = node_id_of(info.peer_id)
            if node is None or info.peer_id == self._host.get_id():
                continue
            nodes[node] = None
            if not self._links.knows(node):
                self._links.learn(node, tuple(map(str, info.addrs)), ())
        return list(nodes)

    async def enter(self, peer: bytes, addresses: Sequence[str]) -> None:
        """A member has a link; addresses: without its id, where it may be dialled."""
        peer_id = peer_id_of(peer)
        known = [Multiaddr(address) for address in addresses] or [Multiaddr(with_peer("", peer))]
        self._host.get_peerstore().add_addrs(peer_id, known, ADDRESS_TTL_S)
        await self._table.add_peer(peer_id, skip_server_mode_check=True)

    def leave(self, peer: bytes) -> None:
        """The member's link ended; others who know it will name it again."""
        self._table.routing_table.remove_peer(peer_id_of(peer))


class _LinkedHost:
    """py-libp2p's host as its Kademlia sees it: streams over links, the addresses that we announce."""

    def __init__(self, host: BasicHost, links: LinkedPeers) -> None:
        self._host = host
        self._links = links

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def set_stream_handler(self, protocol: TProtocol, handler: object) -> None:
        """Ours is set by the links."""

    def get_addrs(self) -> list[Multiaddr]:
        return [Multiaddr(address) for address in self._links.addresses]

    def get_connected_peers(self) -> list[ID]:
        connected: list[ID] = self._host.get_connected_peers()
        return [peer_id for peer_id in connected if self._links.is_linked(node_id_of(peer_id) or b"")]

    async def new_stream(self, peer_id: ID, protocols: Sequence[TProtocol]) -> INetStream:
        node = node_id_of(peer_id)
        if node is None:
            raise OSError("no peer of ours")
        if not self._links.is_linked(node) and not self._links.knows(node):
            try:
                told = self._host.get_peerstore().addrs(peer_id)
            except PeerStoreError:
                told = []
            self._links.learn(node, tuple(map(str, told)), ())
        return await self._links.open_peer_stream(node, str(protocols[0]))


def _multihash(key: bytes) -> bytes:
    """Ids of jobs and blobs are SHA-256 digests."""
    return _SHA256_MULTIHASH + key
