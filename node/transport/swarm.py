"""py-libp2p's swarm with its connection handling replaced: slots that come back, handlers that cannot hurt.

What is overridden, and the fault of py-libp2p 0.8.1 that it closes, stands at each method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog
import trio
from libp2p.abc import IMuxedConn, IMuxedStream, INetConn, INetStream, IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.rcmgr import Direction
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from multiaddr import Multiaddr

from ...protocol.limits import Limit
from .frames import OnLimit
from .muxed_stream import YamuxStream
from .muxer import YamuxConnection
from .net_stream import GuardedStream
from .streams import node_id_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CLOSE_S = 1.0
NOTIFY_S = 2.0  # for py-libp2p's own services to take note of a connection
HANDLER_GRACE_S = 5.0  # for handlers of a connection that is gone
DIAL_STAGGER_S = 0.25
DIAL_ADDRESSES_MAX = 8
DIAL_TIMEOUT_S = 10.0  # for dials that py-libp2p's services ask for

Observer = Callable[[SwarmConn], None]
# What the other side or the network is the cause of: it went, was silent, or sent what cannot be read.
_NOT_OURS = (
    BaseLibp2pError,
    OSError,
    EOFError,
    ValueError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class GuardedConnection(SwarmConn):
    """B3, B10: a handler that raises loses its stream only, and one that returns leaves none open."""

    _handlers = 0

    async def _handle_new_streams(self) -> None:
        """Serve streams until the connection ends; handlers that outlive it by the grace are cancelled."""
        muxed = self.muxed_conn
        assert isinstance(muxed, YamuxConnection)
        self.event_started.set()
        async with trio.open_nursery() as nursery:
            try:
                while True:
                    stream = await muxed.accept_stream()
                    if self._handlers < muxed.limits.max_inbound_streams:
                        self._handlers += 1
                        nursery.start_soon(self._handle_muxed_stream, stream)
                    else:  # opened and reset faster than handlers notice
                        muxed.count("streams_refused")
                        await stream.reset()
            except MuxedConnUnavailable:
                pass
            await self.close()
            nursery.cancel_scope.deadline = trio.current_time() + HANDLER_GRACE_S

    async def _handle_muxed_stream(self, muxed_stream: IMuxedStream) -> None:
        swarm = self.swarm
        assert isinstance(swarm, GuardedSwarm) and isinstance(muxed_stream, YamuxStream)
        stream = await self._add_stream(muxed_stream)
        stream._direction = Direction.INBOUND
        returned = handed_over = False
        try:
            await swarm.common_stream_handler(stream)
            returned = True
            handed_over = stream.get_protocol() in swarm.handed_over_protocols
        except Exception as error:
            # The boundary to every protocol handler, ours and py-libp2p's: a peer's bytes must not end the host.
            peer, protocol = str(self.muxed_conn.peer_id), str(stream.get_protocol())
            _log_failure("stream.handler-failed", error, peer=peer, protocol=protocol)
        finally:
            self._handlers -= 1
            if not handed_over:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                    await (stream.close() if returned else stream.reset())

    async def _add_stream(self, muxed_stream: IMuxedStream) -> NetStream:
        assert isinstance(muxed_stream, YamuxStream)
        stream = GuardedStream(muxed_stream, self)
        if not muxed_stream.is_closed:
            self.streams.add(stream)
            muxed_stream.on_forgotten = lambda: self.streams.discard(stream)
        await self.swarm.notify_opened_stream(stream)
        return stream

    async def _cleanup(self) -> None:
        """Without upstream's resets and 100 ms pause: the muxer has woken every reader and writer.

        What had arrived before the end can still be read.
        """
        self.swarm.remove_conn(self)
        self.streams.clear()
        with trio.move_on_after(NOTIFY_S):
            await self._notify_disconnected()


class GuardedSwarm(Swarm):
    """See the module. `on_connected(connection)` and `on_disconnected(connection)` are plain calls, in pairs.

    handed_over_protocols: those whose handler passes its stream on and returns (the relay's).
    """

    handed_over_protocols: frozenset[str] = frozenset()

    def __init__(
        self,
        *arguments: Any,
        max_inbound: int,
        max_per_source: int,
        max_per_peer: int,
        max_handshakes: int,
        handshake_s: float,
        on_limit: OnLimit,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self.notifees.clear()  # the tag store's, which remembers every peer for ever
        self._max_inbound = max_inbound
        self._max_per_source = max_per_source
        self._max_per_peer = max_per_peer
        self._max_handshakes = max_handshakes
        self._handshake_s = handshake_s
        self._on_limit = on_limit
        self._sources: Counter[str] = Counter()
        self._handshakes: dict[int, tuple[trio.CancelScope, str]] = {}
        self._handshake_count = 0
        self._inbound = 0
        self.refused_inbound = 0
        self.on_connected: Observer = lambda _connection: None
        self.on_disconnected: Observer = lambda _connection: None

    @property
    def half_open_count(self) -> int:
        """Inbound connections that have not finished their handshake."""
        return len(self._handshakes)

    @property
    def inbound_count(self) -> int:
        """Inbound slots in use."""
        return self._inbound

    def live(self, peer_id: ID | None = None) -> list[SwarmConn]:
        """Connections of one peer, oldest first, or of all."""
        groups = self.connections.values() if peer_id is None else [self.connections.get(peer_id, [])]
        return [cast(SwarmConn, one) for group in groups for one in group if not one.is_closed]

    async def run(self) -> None:
        """Without pruner, auto-connector and health monitor: links decide what to keep, the muxer notices death."""
        async with trio.open_nursery() as nursery:
            self.background_nursery = nursery
            self.transport_manager.set_background_nursery(nursery)
            self.transport_manager.set_swarm(self)
            self.event_background_nursery_created.set()
            try:
                await self.manager.wait_finished()
            finally:
                self._closing = True
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * CLOSE_S):
                    await self._close_everything()
                nursery.cancel_scope.cancel()
                self.background_nursery = None

    async def _close_everything(self) -> None:
        async with trio.open_nursery() as nursery:
            for listener in list(self.listeners.values()):
                nursery.start_soon(listener.close)
            for connection in self.live():
                nursery.start_soon(connection.close)

    # Inbound

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """B2: the slot is held while the connection lives, not while the host does.

        Half-open connections have few slots of their own and little time: one too many drops the oldest of them.
        """
        raw = RawConnection(read_write_closer, False)
        remote = raw.get_remote_address()
        source = remote[0] if remote else ""
        counted = False
        self._sources[source] += 1
        try:
            muxed = await self._greet(raw, source) if self._has_slot(source) else None
            if muxed is None or not self._has_slot(source):
                return
            self._inbound += 1
            counted = True
            await self.add_conn(muxed, direction="inbound")
            await muxed.wait_closed()
        except Exception as error:
            # The boundary to strangers on the port: whatever they send ends their connection only.
            _log_failure("connection.refused", error, source=source)
        finally:
            self._inbound -= counted
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await raw.close()

    def _has_slot(self, source: str) -> bool:
        if self._closing:
            return False
        is_full = self._inbound >= self._max_inbound
        if not is_full and self._sources[source] <= self._max_per_source:
            return True
        self.refused_inbound += 1
        self._on_limit(Limit.CONNECTIONS if is_full else Limit.SOURCE_CONNECTIONS, b"", source)
        return False

    async def _greet(self, raw: IRawConnection, source: str) -> YamuxConnection | None:
        """Noise and Yamux negotiation under a deadline; None if time ran out or a newer one took the place."""
        while len(self._handshakes) >= self._max_handshakes:
            self._drop_handshake()
        self._handshake_count += 1
        number = self._handshake_count
        with trio.CancelScope(deadline=trio.current_time() + self._handshake_s) as scope:
            self._handshakes[number] = (scope, source)
            try:
                return await self._upgrade(raw, None)
            finally:
                self._handshakes.pop(number, None)
        return None

    def _drop_handshake(self) -> None:
        """The oldest of the address that has most of them: whoever opens many pays for it, not who is slow."""
        by_source = Counter(source for _, source in self._handshakes.values())
        most = max(by_source.values())
        number = next(each for each, (_, source) in self._handshakes.items() if by_source[source] == most)
        scope, source = self._handshakes.pop(number)
        self._on_limit(Limit.HANDSHAKES, b"", source)
        scope.cancel()

    async def _upgrade(self, raw: IRawConnection, expected: ID | None) -> YamuxConnection:
        """Outbound if a peer is expected (B1: that peer, or none). Raises UpgradeFailure."""
        secured = await self.upgrader.upgrade_security(raw, expected is not None, expected)
        muxed = await self.upgrader.upgrade_connection(secured, secured.get_remote_peer())
        assert isinstance(muxed, YamuxConnection)
        return muxed

    async def upgrade_inbound_raw_conn(self, raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        """For relayed connections, whose number the relay's reservations bound. Raises SwarmException."""
        return (await self._adopt(raw_conn, None, "inbound")).muxed_conn

    # Outbound

    async def upgrade_outbound_raw_conn(
        self, raw_conn: IRawConnection, peer_id: ID, pre_scope: Any = None
    ) -> SwarmConn:
        """Raises BaseLibp2pError. `pre_scope` is of upstream's resource manager, which does not run."""
        return await self._adopt(raw_conn, peer_id, "outbound")

    async def _adopt(self, raw: IRawConnection, expected: ID | None, direction: str) -> SwarmConn:
        """A connection of the swarm, or an error and a closed raw connection."""
        adopted = False
        try:
            with trio.fail_after(self._handshake_s):
                muxed = await self._upgrade(raw, expected)
            connection = await self.add_conn(muxed, direction)
            adopted = True
            return connection
        except trio.TooSlowError as error:
            raise SwarmException(f"no handshake within {self._handshake_s:g} s") from error
        finally:
            if not adopted:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                    await raw.close()

    async def dial_once(self, address: Multiaddr, peer_id: ID) -> SwarmConn:
        """One attempt at one address; no retry, no memory of failures (B9). Raises BaseLibp2pError."""
        transport = self.transport_manager.transport_for_dialing(address)
        if transport is None:
            raise SwarmException("no transport dials this kind of address")
        return await self._adopt(await transport.dial(address), peer_id, "outbound")

    async def race(self, peer_id: ID, addresses: Sequence[Multiaddr], timeout_s: float) -> SwarmConn:
        """B9: each address by itself, a quarter of a second apart or when the one before fails; the first wins.

        Raises SwarmException, which names each address that failed and why.
        """
        chosen = list(dict.fromkeys(addresses))[:DIAL_ADDRESSES_MAX]
        reasons = dict.fromkeys(map(str, chosen), f"no answer within {timeout_s:g} s")
        winners: list[SwarmConn] = []

        async def attempt(address: Multiaddr, failed: trio.Event) -> None:
            try:
                winners.append(await self.dial_once(address, peer_id))
                nursery.cancel_scope.cancel()
            except Exception as error:
                # The boundary to whoever listens there; an address can be wrong in any way.
                _log_failure("dial.failed", error, address=str(address))
                reasons[str(address)] = str(error) or type(error).__name__
                failed.set()

        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                for address in chosen:
                    failed = trio.Event()
                    nursery.start_soon(attempt, address, failed)
                    with trio.move_on_after(DIAL_STAGGER_S):
                        await failed.wait()
        with trio.CancelScope(shield=True):
            for loser in winners[1:]:
                await loser.close()
        if winners:
            return winners[0]
        raise SwarmException("; ".join(f"{at}: {why}" for at, why in reasons.items()) or "no address to dial")

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """For py-libp2p's services: our race over the peer store's addresses. Raises SwarmException."""
        existing = self.live(peer_id)
        if existing:
            return list(existing)
        try:
            addresses = self.peerstore.addrs(peer_id)
        except PeerStoreError as error:
            raise SwarmException(f"no address of {peer_id} is known") from error
        return [await self.race(peer_id, addresses, DIAL_TIMEOUT_S)]

    async def new_stream(self, peer_id: ID) -> INetStream:
        """On the newest connection, a direct one if there is one.

        It dials nobody: who finds a link just gone would make a connection that nobody greets. Raises SwarmException.
        """
        live = self.live(peer_id)
        if not live:
            raise SwarmException(f"no connection to {peer_id}")
        direct = [one for one in live if one.get_connection_type() == ConnectionType.DIRECT]
        try:
            stream = await (direct or live)[-1].new_stream()
        except MuxedConnUnavailable as error:
            raise SwarmException(f"no stream to {peer_id}: {error}") from error
        stream._direction = Direction.OUTBOUND
        return stream

    # Both

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Register and start a connection; nothing of upstream's resource accounting, which leaks.

        A peer's oldest connection goes when it has too many. Raises SwarmException.
        """
        nursery, peer_id = self.background_nursery, muxed_conn.peer_id
        if nursery is None or self._closing:
            raise SwarmException("the host does not run")
        connection = GuardedConnection(muxed_conn, self, direction=direction)
        try:
            connection.set_transport_info(muxed_conn.get_transport_addresses(), muxed_conn.get_connection_type())
            self.connections.setdefault(peer_id, []).append(connection)
            self._tell(self.on_connected, connection)
            nursery.start_soon(self._run_connection, connection)
            await connection.event_started.wait()
            for excess in self.live(peer_id)[: -self._max_per_peer]:
                self._on_limit(Limit.PEER_CONNECTIONS, node_id_of(peer_id) or b"", "")
                nursery.start_soon(excess.close)
            with trio.move_on_after(NOTIFY_S):
                await self.notify_connected(connection)
            if connection.is_closed:
                raise SwarmException("the connection ended while it began")
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
                await connection.close()
            raise
        return connection

    async def _run_connection(self, connection: SwarmConn) -> None:
        muxed = connection.muxed_conn
        assert isinstance(muxed, YamuxConnection)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(muxed.start)
                await muxed.event_started.wait()
                await connection.start()
        except Exception:
            # The boundary between one connection and the host: our own bug costs the connection.
            log.exception("connection.crashed", peer=str(muxed.peer_id))
        log.debug("connection.closed", peer=str(muxed.peer_id), reason=muxed.close_reason)

    def remove_conn(self, swarm_conn: SwarmConn) -> None:
        peer_id = swarm_conn.muxed_conn.peer_id
        connections = self.connections.get(peer_id, [])
        if swarm_conn not in connections:
            return
        connections.remove(swarm_conn)
        if not connections:
            self.connections.pop(peer_id, None)
        self._tell(self.on_disconnected, swarm_conn)

    def _tell(self, observer: Observer, connection: SwarmConn) -> None:
        try:
            observer(connection)
        except Exception:
            # The boundary to the observer: its bug must not keep a slot or a connection half registered.
            log.exception("connection.observer-failed", peer=str(connection.muxed_conn.peer_id))

    async def notify_disconnected(self, conn: INetConn) -> None:
        """Without upstream's auto-connector, which would dial by itself."""
        await self._notify("disconnected", conn)

    async def notify_opened_stream(self, stream: INetStream) -> None:
        if self.notifees:
            await self._notify("opened_stream", stream)

    async def notify_closed_stream(self, stream: INetStream) -> None:
        """Without upstream's resource accounting."""
        if self.notifees:
            await self._notify("closed_stream", stream)


def _log_failure(event: str, error: Exception, **fields: str) -> None:
    """What the other side or the network does is for whoever looks closely; anything else is a bug, and is told."""
    (log.debug if isinstance(error, _NOT_OURS) else log.warning)(event, error=repr(error)[:200], **fields)


def connection_config(max_connections: int) -> ConnectionConfig:
    """Upstream's knobs, set so that none of its own machinery runs."""
    return ConnectionConfig(
        min_connections=0,
        low_watermark=0,
        high_watermark=max_connections * 2,
        max_connections=max_connections * 2,
        max_connections_per_peer=4,
        enable_health_monitoring=False,
    )
