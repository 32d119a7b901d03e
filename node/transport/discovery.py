"""Finding the mesh: the bootstrap list."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from .addresses import AddressError, split_peer_address

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
# With links, the rest of the list is tried again so often: a mesh that was split when it began meets there. Each time
# after twice as long, so that those in everybody's list are not dialled by the whole mesh all the time.
REDIAL_S = 30.0
REDIAL_MAX_S = 960.0


class Dialler(Protocol):
    """What finding peers needs of the links."""

    node_id: bytes

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    def connect(self, peer: bytes) -> None: ...

    def peers_count(self) -> int: ...

    async def links_changed(self) -> None: ...


class Bootstrap:
    """Dials the known peers until there is a link, again when all links are lost, and now and then in any case."""

    def __init__(self, links: Dialler, addresses: Sequence[str]) -> None:
        self._links = links
        self._known: dict[bytes, list[str]] = {}
        for text in addresses:
            try:
                peer, base = split_peer_address(text)
            except AddressError as error:
                log.warning("bootstrap.unusable", address=text, reason=str(error))
                continue
            if peer != links.node_id:
                self._known.setdefault(peer, []).append(base)

    async def run(self) -> None:
        """Until cancelled."""
        delay_s, redial_s = RETRY_FIRST_S, REDIAL_S
        while self._known:
            linked = self._links.peers_count() > 0
            if not linked:
                self._dial_all()
            with trio.move_on_after((redial_s if linked else delay_s) * random.uniform(0.75, 1.25)) as waiting:
                await self._links.links_changed()
            if linked and waiting.cancelled_caught:
                self._dial_all()
                redial_s = min(REDIAL_MAX_S, 2 * redial_s)
            elif not linked:
                redial_s = REDIAL_S
            delay_s = RETRY_FIRST_S if linked else min(RETRY_MAX_S, 1.5 * delay_s)

    def _dial_all(self) -> None:
        for peer, addresses in self._known.items():
            self._links.learn(peer, tuple(addresses), ())
            self._links.connect(peer)
