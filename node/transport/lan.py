"""Finding peers on the local network: multicast DNS service discovery, opt-in.

With zeroconf, not py-libp2p's wrapper of it: that takes 7 s, announces no mesh, and connects to whatever answers.
Answers are unauthenticated hints: they are dialled, and the gate decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import structlog
import trio
from zeroconf import Error as ZeroconfError
from zeroconf import ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from ...crypto.identity import node_id_from_text, peer_id_text
from .addresses import ADDRESSES_PER_PEER_MAX

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SERVICE = "_hearthmesh._tcp.local."
RETRY_S = 60.0
# More links than these come from the mesh itself.
LINKS_WANTED = 4
HINTS_MAX = 256
TEXT_BYTES_MAX = 250
ANSWER_MS = 3000


class LanPeers(Protocol):
    """What finding peers needs of the links."""

    node_id: bytes
    addresses: tuple[str, ...]

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def peers_count(self) -> int: ...

    async def addresses_changed(self) -> None: ...


class LanDiscovery:
    """Announces this node if it listens, and dials members of its mesh that announce themselves."""

    def __init__(self, links: LanPeers, mesh_id: bytes) -> None:
        self._links = links
        self._mesh = mesh_id.hex()[:16]
        self._hints = 0

    async def run(self) -> None:
        """Until cancelled; without multicast, tries again each minute."""
        while True:
            try:
                await self._run_once()
            except (OSError, ZeroconfError) as error:
                log.warning("lan.unavailable", reason=str(error), retry_s=RETRY_S)
            await trio.sleep(RETRY_S)

    async def _run_once(self) -> None:
        zeroconf = await trio.to_thread.run_sync(Zeroconf)
        try:
            listener = _Listener(self, trio.lowlevel.current_trio_token())
            browser = await trio.to_thread.run_sync(partial(ServiceBrowser, zeroconf, SERVICE, listener=listener))
            announced: ServiceInfo | None = None
            while True:
                info = self._announcement()
                if info is not None:
                    act = zeroconf.register_service if announced is None else zeroconf.update_service
                    await trio.to_thread.run_sync(act, info)
                    announced = info
                self._hints = 0
                await self._links.addresses_changed()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(zeroconf.close)
            del browser

    def _announcement(self) -> ServiceInfo | None:
        peer = peer_id_text(self._links.node_id)
        texts = [text for text in self._links.addresses if len(text) <= TEXT_BYTES_MAX][:ADDRESSES_PER_PEER_MAX]
        if not texts:
            return None
        properties = {"mesh": self._mesh, "peer": peer}
        properties.update((f"a{number}", text) for number, text in enumerate(texts))
        # mDNS wants a host and a port; what counts are the texts, which may name several of both.
        _, kind, host, _, port, *_ = [*texts[0].split("/"), "", "", "", ""]
        if kind not in ("ip4", "ip6") or not port.isdigit():
            host, port = "127.0.0.1", "1"
        name = f"{peer}.{SERVICE}"
        return ServiceInfo(
            SERVICE, name, port=int(port), properties=properties, server=f"{peer}.local.", parsed_addresses=[host]
        )

    def hint(self, properties: Mapping[bytes, bytes | None]) -> None:
        """What somebody on the network says; nothing of it is believed."""
        texts = {key: (value or b"").decode("ascii", "replace") for key, value in list(properties.items())[:16]}
        if texts.get(b"mesh") != self._mesh or self._hints >= HINTS_MAX:
            return
        self._hints += 1
        try:
            peer = node_id_from_text(texts.get(b"peer", ""))
        except ValueError:
            return
        if peer == self._links.node_id:
            return
        found = [texts[key] for key in (b"a%d" % number for number in range(ADDRESSES_PER_PEER_MAX)) if key in texts]
        self._links.learn(peer, tuple(found), ())
        if self._links.peers_count() < LINKS_WANTED:
            self._links.connect(peer)


class _Listener(ServiceListener):
    """Called in zeroconf's thread; hands what it finds to trio's."""

    def __init__(self, discovery: LanDiscovery, token: trio.lowlevel.TrioToken) -> None:
        self._discovery = discovery
        self._token = token

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        info = zc.get_service_info(type_, name, ANSWER_MS)
        if info is None:
            return
        try:
            self._token.run_sync_soon(self._discovery.hint, info.properties)
        except trio.RunFinishedError:
            pass  # the node is gone

    update_service = add_service

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Links notice by themselves."""
