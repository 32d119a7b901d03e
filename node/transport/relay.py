"""Circuit relay v2, both roles: carrying connections for members behind NAT, and being reached through such a relay.

Only admitted peers reserve, dial through us, or reach us: the gate stands before each of these streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio
from libp2p.abc import ConnectionType, IListener, INetStream, IRawConnection, ITransport  # type: ignore[attr-defined]
from libp2p.custom_types import THandler
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, PeerId, Reservation, Status, StopMessage
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from ...crypto.identity import peer_id_text
from ...protocol.limits import Limit as Bound
from ..clock import wall_s
from .addresses import CIRCUIT, AddressError, split_peer_address, with_peer
from .circuits import (
    CONTROL_S,
    HOP_PROTOCOL,
    STOP_PROTOCOL,
    RelayError,
    circuit_connection,
    join,
    read_control,
    write_control,
)
from .frames import OnLimit, ignore_limit
from .link import STREAM_GONE, ByteStream
from .muxer import YamuxConnection
from .streams import bytes_of, connection_of, node_id_of, peer_id_of
from .swarm import GuardedSwarm

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
RENEW_MIN_S = 30.0
# The relay's clock says until when, and it may be a day off: a reservation of an hour must be renewed all the same.
RENEW_MAX_S = 900.0
# Connections that relays brought and that are alive.
CIRCUITS_INBOUND_MAX = 256


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What a relay carries.

    Worst memory: circuits * 2 * the muxer's window, as a copy in flight waits for the slower side.
    """

    reservations: int = 128
    circuits: int = 64
    circuits_per_peer: int = 16
    circuit_bytes: int = 1 << 36
    """Both ways together; then the circuit ends, and its nodes make another. 0: no limit."""
    circuit_s: int = 24 * 3600
    reservation_s: int = 3600


class PeerStreams(Protocol):
    """What relaying needs of the links: streams with peers that have one."""

    node_id: bytes

    def is_linked(self, peer: bytes) -> bool: ...

    def connect(self, peer: bytes) -> None: ...

    def learn(self, peer: bytes, addresses: tuple[str, ...], relays: tuple[bytes, ...]) -> None: ...

    async def open_peer_stream(self, peer: bytes, protocol: str) -> INetStream: ...

    async def links_changed(self) -> None: ...


class RelayService:
    """The middle: keeps reservations of its linked peers and joins streams."""

    def __init__(self, links: PeerStreams, limits: RelayLimits, on_limit: OnLimit = ignore_limit) -> None:
        self._on_limit = on_limit
        self._links = links
        self._limits = limits
        self._expires_s: dict[bytes, float] = {}
        self._circuits: dict[bytes, int] = {}
        self.circuits = 0

    async def serve_hop(self, stream: INetStream) -> None:
        """One reservation, or one circuit from its request to its end."""
        raw, peer = bytes_of(stream), node_id_of(stream.muxed_conn.peer_id)
        is_relayed = connection_of(stream).get_connection_type() is ConnectionType.RELAYED
        try:
            with trio.fail_after(CONTROL_S):
                request = await read_control(raw, HopMessage)
            if peer is None or is_relayed:
                await _answer(raw, Status.PERMISSION_DENIED)
            elif request.type == HopMessage.RESERVE:
                await self._reserve(raw, peer)
            elif request.type == HopMessage.CONNECT:
                await self._connect(raw, peer, request)
            else:
                await _answer(raw, Status.UNEXPECTED_MESSAGE)
        except (*STREAM_GONE, trio.TooSlowError) as error:
            log.debug("relay.failed", peer=str(stream.muxed_conn.peer_id), reason=str(error))
            await raw.reset()

    async def _reserve(self, raw: ByteStream, peer: bytes) -> None:
        """In the name of who asks, whatever the message says."""
        now_s = time.monotonic()
        for old in [known for known, expires_s in self._expires_s.items() if expires_s <= now_s]:
            del self._expires_s[old]
        if peer not in self._expires_s and len(self._expires_s) >= self._limits.reservations:
            self._on_limit(Bound.RELAY_RESERVATIONS, peer, "")
            await _answer(raw, Status.RESERVATION_REFUSED)
            return
        self._expires_s[peer] = now_s + self._limits.reservation_s
        expires = wall_s() + self._limits.reservation_s
        await write_control(
            raw,
            HopMessage(
                type=HopMessage.STATUS,
                status=Status.OK,
                reservation=Reservation(expire=expires),
                limit=self._limit(),
            ),
        )
        log.info("relay.reserved", peer=peer_id_text(peer))

    async def _connect(self, raw: ByteStream, peer: bytes, request: HopMessage) -> None:
        target = _node_of(request.peer.id)
        if target is None or self._expires_s.get(target, 0.0) <= time.monotonic() or not self._links.is_linked(target):
            await _answer(raw, Status.NO_RESERVATION)
            return
        limits = self._limits
        if self.circuits >= limits.circuits or self._circuits.get(target, 0) >= limits.circuits_per_peer:
            self._on_limit(Bound.RELAY_CIRCUITS, peer, "")
            await _answer(raw, Status.RESOURCE_LIMIT_EXCEEDED)
            return
        self.circuits += 1
        self._circuits[target] = self._circuits.get(target, 0) + 1
        try:
            await self._carry(raw, peer, target)
        finally:
            self.circuits -= 1
            self._circuits[target] -= 1
            if not self._circuits[target]:
                del self._circuits[target]

    async def _carry(self, raw: ByteStream, peer: bytes, target: bytes) -> None:
        try:
            with trio.fail_after(CONTROL_S):
                stream = await self._links.open_peer_stream(target, STOP_PROTOCOL)
        except (*STREAM_GONE, trio.TooSlowError):
            await _answer(raw, Status.CONNECTION_FAILED)
            return
        onward = bytes_of(stream)
        try:
            with trio.fail_after(CONTROL_S):
                source = PeerId(id=peer_id_of(peer).to_bytes())
                await write_control(onward, StopMessage(type=StopMessage.CONNECT, peer=source, limit=self._limit()))
                answer = await read_control(onward, StopMessage)
            if answer.status != Status.OK:
                await _answer(raw, Status.CONNECTION_FAILED)
                return
            await write_control(raw, HopMessage(type=HopMessage.STATUS, status=Status.OK, limit=self._limit()))
            await join(raw, onward, self._limits.circuit_bytes, self._limits.circuit_s)
        finally:
            await stream.reset()

    def _limit(self) -> Limit:
        return Limit(duration=self._limits.circuit_s, data=self._limits.circuit_bytes)


class CircuitTransport(ITransport):
    """Dials `/p2p/RELAY/p2p-circuit` for a peer, over the link with that relay; accepts what relays bring."""

    def __init__(self, links: PeerStreams, swarm: GuardedSwarm) -> None:
        self._links = links
        self._swarm = swarm
        self._inbound = 0

    def address(self, relay: bytes, peer: bytes) -> Multiaddr:
        """What `dial` takes."""
        return Multiaddr(f"/p2p/{peer_id_text(relay)}{CIRCUIT}/p2p/{peer_id_text(peer)}")

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Raises OpenConnectionError."""
        try:
            target, through = split_peer_address(str(maddr))
            relay, _ = split_peer_address(through.removesuffix(CIRCUIT))
            return await self._dial(relay, target)
        except (AddressError, *STREAM_GONE, trio.TooSlowError) as error:
            raise OpenConnectionError(f"{maddr}: {error or 'the relay is too slow'}") from error

    async def _dial(self, relay: bytes, target: bytes) -> IRawConnection:
        stream = await self._links.open_peer_stream(relay, HOP_PROTOCOL)
        raw, joined = bytes_of(stream), False
        try:
            with trio.fail_after(CONTROL_S):
                peer = PeerId(id=peer_id_of(target).to_bytes())
                await write_control(raw, HopMessage(type=HopMessage.CONNECT, peer=peer))
                answer = await read_control(raw, HopMessage)
            if answer.type != HopMessage.STATUS or answer.status != Status.OK:
                raise RelayError(f"the relay answers {_status_name(answer.status)}")
            joined = True
            return circuit_connection(stream, relay, target, initiator=True)
        finally:
            if not joined:
                await stream.reset()

    async def serve_stop(self, stream: INetStream) -> None:
        """A relay brings somebody: an inbound connection like any other, from its handshake to its end."""
        if self._inbound >= CIRCUITS_INBOUND_MAX:
            await stream.reset()
            return
        self._inbound += 1
        try:
            await self._serve_stop(stream)
        finally:
            self._inbound -= 1

    async def _serve_stop(self, stream: INetStream) -> None:
        raw, relay = bytes_of(stream), node_id_of(stream.muxed_conn.peer_id)
        try:
            with trio.fail_after(CONTROL_S):
                request = await read_control(raw, StopMessage)
                source = _node_of(request.peer.id)
                if request.type != StopMessage.CONNECT or source is None or relay is None:
                    await write_control(raw, StopMessage(type=StopMessage.STATUS, status=Status.MALFORMED_MESSAGE))
                    return
                await write_control(raw, StopMessage(type=StopMessage.STATUS, status=Status.OK))
        except (*STREAM_GONE, trio.TooSlowError):
            await raw.reset()
            return
        raw_connection = circuit_connection(stream, relay, source, initiator=False)
        try:
            muxed = await self._swarm.upgrade_inbound_raw_conn(raw_connection, self.address(relay, self._links.node_id))
            assert isinstance(muxed, YamuxConnection)
            await muxed.wait_closed()
        except Exception as error:
            # The boundary to strangers that a relay brings: whatever they send ends their circuit only.
            log.debug("circuit.refused", relay=peer_id_text(relay), error=repr(error)[:200])
        finally:
            await raw_connection.close()

    def create_listener(self, handler_function: THandler) -> IListener:
        raise OpenConnectionError("a circuit is not listened on: reserve at a relay")

    def can_dial(self, maddr: Multiaddr) -> bool:
        return CIRCUIT in str(maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        return False

    def protocols(self) -> list[str]:
        return ["p2p-circuit"]


class Reservations:
    """Keeps a place at each of the relays that the owner named; tells of the circuit addresses that hold now."""

    def __init__(
        self,
        links: PeerStreams,
        relays: Sequence[str],
        on_change: Callable[[tuple[str, ...], tuple[bytes, ...]], None],
    ) -> None:
        self._links = links
        self._on_change = on_change
        self._relays: dict[bytes, list[str]] = {}
        self._held: dict[bytes, None] = {}
        for text in relays:
            try:
                relay, base = split_peer_address(text)
            except AddressError as error:
                log.warning("relay.unusable", address=text, reason=str(error))
                continue
            self._relays.setdefault(relay, []).append(base)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for relay in self._relays:
                nursery.start_soon(self._keep, relay)

    async def _keep(self, relay: bytes) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                self._links.learn(relay, tuple(self._relays[relay]), ())
                renew_s = await self._reserve(relay)
            except (*STREAM_GONE, trio.TooSlowError) as error:
                log.info("relay.not_reserved", relay=peer_id_text(relay), reason=str(error), retry_s=delay_s)
                await trio.sleep(delay_s)
                delay_s = min(RETRY_MAX_S, 2 * delay_s)
                continue
            delay_s = RETRY_FIRST_S
            self._hold(relay)
            try:
                with trio.move_on_after(renew_s):
                    while self._links.is_linked(relay):
                        await self._links.links_changed()
            finally:
                if not self._links.is_linked(relay):
                    self._drop(relay)

    async def _reserve(self, relay: bytes) -> float:
        """Seconds until it should be renewed."""
        stream = await self._links.open_peer_stream(relay, HOP_PROTOCOL)
        raw = bytes_of(stream)
        try:
            with trio.fail_after(CONTROL_S):
                await write_control(raw, HopMessage(type=HopMessage.RESERVE))
                answer = await read_control(raw, HopMessage)
        finally:
            await stream.reset()
        if answer.type != HopMessage.STATUS or answer.status != Status.OK:
            raise RelayError(f"the relay answers {_status_name(answer.status)}")
        return renewal_s(answer.reservation.expire, wall_s())

    def _hold(self, relay: bytes) -> None:
        if relay not in self._held:
            log.info("relay.holds", relay=peer_id_text(relay))
            self._held[relay] = None
            self._tell()

    def _drop(self, relay: bytes) -> None:
        if self._held.pop(relay, relay) is None:
            log.info("relay.lost", relay=peer_id_text(relay))
            self._tell()

    def _tell(self) -> None:
        """In the owner's order of relays."""
        held = [relay for relay in self._relays if relay in self._held]
        addresses = tuple(
            with_peer(with_peer(base, relay) + CIRCUIT, self._links.node_id)
            for relay in held
            for base in self._relays[relay]
        )
        self._on_change(addresses, tuple(held))


def renewal_s(expires_s: float, now_s: float) -> float:
    """Seconds until a reservation is renewed: half of what is left, within bounds that hold whatever the clocks say."""
    return min(RENEW_MAX_S, max(RENEW_MIN_S, (expires_s - now_s) / 2))


async def _answer(raw: ByteStream, status: Status.ValueType) -> None:
    await write_control(raw, HopMessage(type=HopMessage.STATUS, status=status))
    await raw.close()


def _status_name(status: Status.ValueType) -> str:
    return Status.Name(status).lower() if status in Status.values() else f"status {status}"


def _node_of(raw_id: bytes) -> bytes | None:
    return node_id_of(ID(raw_id))
