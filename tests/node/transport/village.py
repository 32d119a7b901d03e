"""Links on loopback for tests: an authority, nodes with certificates, handlers that remember what they were told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from hearthmesh.crypto.certificates import Certificate, MembershipPolicy, MeshDefinition, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.limits import LimitMeter
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.transport.links import LinkConfig, Links

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
WAIT_S = 120.0


@dataclass
class Witness:
    """A LinkHandler that notes everything and lets tests wait for it."""

    connected: list[bytes] = field(default_factory=list)
    lost: list[tuple[bytes, bool]] = field(default_factory=list)
    messages: list[tuple[bytes, bytes]] = field(default_factory=list)
    gossip: list[tuple[bytes, bytes]] = field(default_factory=list)
    unreachable: list[bytes] = field(default_factory=list)
    rejected: list[tuple[bytes, str]] = field(default_factory=list)
    acquainted: set[bytes] = field(default_factory=set)
    has_room_now: bool = True
    _room: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    _happened: trio.Event = field(default_factory=trio.Event)

    def on_connected(self, peer: bytes, certificate: Certificate) -> None:
        assert certificate.subject == peer
        self.connected.append(peer)
        self._happen()

    def on_lost(self, peer: bytes, reset: bool) -> None:
        self.lost.append((peer, reset))
        self._happen()

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        self.messages.extend((peer, payload) for payload in payloads)
        self._happen()

    def has_room(self, peer: bytes) -> bool:
        return self.has_room_now

    async def room(self, peer: bytes) -> None:
        while not self.has_room_now:
            await self._room.park()

    def make_room(self) -> None:
        self.has_room_now = True
        self._room.unpark_all()

    def on_gossip(self, source: bytes, payload: bytes) -> None:
        self.gossip.append((source, payload))
        self._happen()

    def knows(self, node: bytes) -> bool:
        return node in self.acquainted

    def on_unreachable(self, peer: bytes) -> None:
        self.unreachable.append(peer)
        self._happen()

    def on_rejected(self, peer: bytes, reason: str) -> None:
        self.rejected.append((peer, reason))
        self._happen()

    def _happen(self) -> None:
        self._happened.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until it holds; it may change only with what the handler is told."""
        with trio.fail_after(WAIT_S):
            while not condition():
                self._happened = trio.Event()
                await self._happened.wait()


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for what nobody announces. Raises trio.TooSlowError."""
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.sleep(0.005)


@dataclass
class Villager:
    """One node: its links, and what its handler saw."""

    identity: Identity
    links: Links
    seen: Witness
    policy: MembershipPolicy
    certificate: Certificate
    scope: trio.CancelScope
    gone: trio.Event

    @property
    def id(self) -> bytes:
        return self.identity.node_id

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.links.addresses

    def knows(self, *others: Villager) -> None:
        for other in others:
            self.links.learn(other.id, other.addresses, other.links.relays)


class Village:
    """A mesh's authority and the running nodes of a test."""

    def __init__(self, nursery: trio.Nursery, name: str = "village") -> None:
        self.nursery = nursery
        self.authority = Identity.generate()
        self.mesh = MeshDefinition(name, (self.authority.node_id,))

    def certify(
        self, identity: Identity, *, name: str = "node", begins_s: int = -60, lasts_s: int = 3600
    ) -> Certificate:
        now_s = int(time.time())
        roles = Role.WORKER | Role.RELAY
        return issue(
            self.authority, self.mesh, identity.node_id, roles, now_s + begins_s, now_s + begins_s + lasts_s, name
        )

    async def settle(
        self,
        *,
        listen: tuple[str, ...] = LOOPBACK,
        identity: Identity | None = None,
        certificate: Certificate | None = None,
        store: Path | BlobStore | None = None,
        meter: LimitMeter | None = None,
        **config: Any,
    ) -> Villager:
        """A running node."""
        identity = identity or Identity.generate()
        certificate = certificate or self.certify(identity)
        policy = MembershipPolicy(self.mesh)
        seen = Witness()
        blobs = BlobStore(store, 1 << 30, min_free_bytes=0) if isinstance(store, Path) else store
        links = Links(identity, certificate.to_bytes(), policy, LinkConfig(listen=listen, **config), seen, blobs, meter)
        scope, gone = trio.CancelScope(), trio.Event()

        async def live(*, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            with scope:
                await links.run(task_status=task_status)
            gone.set()

        await self.nursery.start(live)
        return Villager(identity, links, seen, policy, certificate, scope, gone)

    async def neighbours(self, count: int, **config: Any) -> list[Villager]:
        """Nodes that know each other's addresses."""
        nodes = [await self.settle(**config) for _ in range(count)]
        for node in nodes:
            node.knows(*(other for other in nodes if other is not node))
        return nodes


@asynccontextmanager
async def village(name: str = "village") -> AsyncIterator[Village]:
    async with trio.open_nursery() as nursery:
        yield Village(nursery, name)
        nursery.cancel_scope.cancel()


async def linked(one: Villager, other: Villager) -> None:
    """Make a link and wait until both sides have it."""
    one.links.connect(other.id)
    await one.seen.until(lambda: one.links.is_linked(other.id))
    await other.seen.until(lambda: other.links.is_linked(one.id))
