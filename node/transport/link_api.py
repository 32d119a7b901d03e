"""What a node's links are told, what they tell, and how they are configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...crypto.certificates import Certificate
from .link import LinkLimits
from .relay import RelayLimits


class LinkHandler(Protocol):
    """Told what happens, on the trio thread; must neither block nor raise."""

    def on_connected(self, peer: bytes, certificate: Certificate) -> None: ...

    def on_lost(self, peer: bytes, reset: bool) -> None:
        """reset: the other side's process or connection went away, rather than that we closed it."""

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        """What arrived together, in order."""

    def has_room(self, peer: bytes) -> bool:
        """Whether more messages of the peer may come now."""

    async def room(self, peer: bytes) -> None:
        """Return when more messages of the peer may come; it is not read from until then."""

    def on_gossip(self, source: bytes, payload: bytes) -> None: ...

    def knows(self, node: bytes) -> bool:
        """Whether the node has shown here that it is admitted, linked or not."""

    def on_unreachable(self, peer: bytes) -> None:
        """What was sent to the peer is dropped: no address answered."""

    def on_rejected(self, peer: bytes, reason: str) -> None:
        """The other side refused us, or we it. reason: printable."""


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How a node reaches others, and what they may cost it.

    listen: multiaddrs; empty for a node that only dials.  bootstrap: addresses that end in /p2p/ and a peer id.
    """

    listen: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    relay_service: bool = False
    relay_through: tuple[str, ...] = ()
    max_links: int = 512
    max_inbound_connections: int = 256
    max_connections_per_source: int = 128
    max_streams_per_connection: int = 64
    dial_timeout_s: float = 10.0
    pending_frames: int = 4096
    """Frames kept for a peer that is being dialled; so many, and"""
    pending_bytes: int = 4 * 1024 * 1024
    """so many bytes. What comes on top is dropped."""
    limits: LinkLimits = field(default_factory=LinkLimits)
    relay_limits: RelayLimits = field(default_factory=RelayLimits)


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One link as it stands.  rtt_us: of the last keepalive; None before the first."""

    peer: bytes
    dialled: bool
    address: str
    relayed: bool
    rtt_us: int | None
    received_bytes: int
    sent_bytes: int
    queue_bytes: int
    dropped_frames: int
    agent: str
