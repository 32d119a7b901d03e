"""py-libp2p's swarm with its connection handling replaced: slots that come back, handlers that cannot hurt.

What is overridden, and the fault of py-libp2p 0.8.1 that it closes, stands at each method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
import trio
from libp2p.abc import IMuxedConn, IMuxedStream, ISecureConn
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from multiaddr import Multiaddr

from .frames import BufferBudget, MuxerLimits
from .muxed_stream import YamuxStream
from .muxer import YamuxConnection

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

STREAM_END_S = 1.0
NEGOTIATE_S = 5


class OurMuxer(MuxerMultistream):
    """Negotiates Yamux as ever, and builds our connection; upstream's would build its own, whatever is registered."""

    def __init__(self, limits: MuxerLimits, budget: BufferBudget) -> None:
        super().__init__({YAMUX: YamuxConnection}, negotiate_timeout=NEGOTIATE_S)
        self._limits = limits
        self._budget = budget

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return YamuxConnection(conn, peer_id, self._limits, self._budget)  # type: ignore[arg-type]


class GuardedConnection(SwarmConn):
    """B3, B10: a handler that raises loses its stream only, and one that returns leaves none open."""

    async def _handle_muxed_stream(self, muxed_stream: IMuxedStream) -> None:
        stream = await self._add_stream(muxed_stream)
        stream._direction = Direction.INBOUND
        handed_over = False
        try:
            await self.swarm.common_stream_handler(stream)
            protocol = stream.get_protocol()
            handed_over = protocol in self.swarm.handed_over_protocols
        except Exception as error:
            # The boundary to every protocol handler, ours and py-libp2p's: a peer's bytes must not end the host.
            log.debug("stream.handler-failed", peer=str(self.muxed_conn.peer_id), error=repr(error)[:200])
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STREAM_END_S):
                if not handed_over:
                    await _finish(muxed_stream)
                self.remove_stream(stream)
                if not stream._resource_released:
                    await self.swarm.notify_closed_stream(stream)

    async def _cleanup(self) -> None:
        """Without upstream's 100 ms pause: whoever reads a stream of a dead connection is woken by the muxer."""
        self.swarm.remove_conn(self)
        for stream in self.streams.copy():
            if isinstance(stream.muxed_stream, YamuxStream):
                await stream.muxed_stream.reset()
        await self._notify_disconnected()


async def _finish(stream: IMuxedStream) -> None:
    """End a stream whose handler is done: gracefully if both sides may still be writing their end, else reset."""
    if isinstance(stream, YamuxStream):
        await stream.abandon()
    else:
        await stream.reset()


class GuardedSwarm(Swarm):
    """See the module. `on_connected(connection)` and `on_disconnected(connection)` are plain calls.

    handed_over_protocols: those whose handler passes its stream on and returns (the relay's).
    """

    handed_over_protocols: frozenset[str] = frozenset()

    def __init__(
        self, *arguments: Any, max_inbound: int, max_handshakes: int, handshake_s: float, **named: Any
    ) -> None:
        super().__init__(*arguments, **named)
        self._max_inbound = max_inbound
        self._max_handshakes = max_handshakes
        self._handshake_s = handshake_s
        self._handshakes: dict[int, trio.CancelScope] = {}
        self._handshake_count = 0
        self._inbound = 0
        self.refused_inbound = 0
        self.on_connected: Callable[[SwarmConn], None] = lambda _connection: None
        self.on_disconnected: Callable[[SwarmConn], None] = lambda _connection: None

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
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 2.0):
                    await self._close_everything()
                nursery.cancel_scope.cancel()
                self.background_nursery = None

    async def _close_everything(self) -> None:
        async with trio.open_nursery() as nursery:
            for connections in list(self.connections.values()):
                for connection in list(connections):
                    nursery.start_soon(connection.close)
            for listener in list(self.listeners.values()):
                nursery.start_soon(listener.close)

    async def _handle_inbound_connection(self, read_write_closer: ReadWriteCloser, maddr: Multiaddr) -> None:
        """B2: the slot is held while the connection lives, not while the host does.

        Half-open connections are few and short: one too many drops the oldest of them.
        """
        if self._inbound >= self._max_inbound:
            self.refused_inbound += 1
            await read_write_closer.close()
            return
        connection: SwarmConn | None = None
        raw = RawConnection(read_write_closer, False)
        self._inbound += 1
        try:
            connection = await self._greet(raw)
            if connection is not None:
                muxed = connection.muxed_conn
                assert isinstance(muxed, YamuxConnection)
                await muxed.wait_closed()
        except Exception as error:
            # The boundary to strangers on the port: whatever they send ends their connection only.
            log.debug("connection.refused", error=repr(error)[:200])
        finally:
            self._inbound -= 1
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STREAM_END_S):
                await raw.close()

    async def _greet(self, raw: RawConnection) -> SwarmConn | None:
        """Noise and Yamux negotiation under a deadline; None if it was dropped for a newer one."""
        while len(self._handshakes) >= self._max_handshakes:
            oldest = next(iter(self._handshakes))
            self._handshakes.pop(oldest).cancel()
        self._handshake_count += 1
        number = self._handshake_count
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + self._handshake_s
            self._handshakes[number] = scope
            try:
                secured = await self.upgrader.upgrade_security(raw, False)
                muxed = await self.upgrader.upgrade_connection(secured, secured.get_remote_peer())
            finally:
                self._handshakes.pop(number, None)
        if scope.cancelled_caught:
            return None
        return await self.add_conn(muxed, direction="inbound")

    async def dial_once(self, address: Multiaddr, peer_id: ID) -> SwarmConn:
        """One attempt at one address; no retry, no memory of failures (B9). Raises SwarmException and its kin."""
        transport = self.transport_manager.transport_for_dialing(address)
        if transport is None:
            raise SwarmException(f"no transport dials {address}")
        raw = await transport.dial(address)
        connected = False
        try:
            with trio.fail_after(self._handshake_s):
                secured = await self.upgrader.upgrade_security(raw, True, peer_id)
                if secured.get_remote_peer() != peer_id:
                    raise SwarmException(f"{address} is {secured.get_remote_peer()}, not {peer_id}")
                muxed = await self.upgrader.upgrade_connection(secured, peer_id)
            connection = await self.add_conn(muxed, direction="outbound")
            connected = True
            return connection
        finally:
            if not connected:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + STREAM_END_S):
                    await raw.close()

    async def add_conn(self, muxed_conn: IMuxedConn, direction: str = "unknown") -> SwarmConn:
        """Register and start a connection; nothing of upstream's resource accounting, which leaks."""
        connection = GuardedConnection(muxed_conn, self, direction=direction)
        try:
            connection.set_transport_info(muxed_conn.get_transport_addresses(), muxed_conn.get_connection_type())
            self.manager.run_task(muxed_conn.start)
            await muxed_conn.event_started.wait()
            if muxed_conn.is_closed:
                raise SwarmException("the connection ended while it began")
            self.connections.setdefault(muxed_conn.peer_id, []).append(connection)
            self.manager.run_task(connection.start)
            await connection.event_started.wait()
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STREAM_END_S):
                await connection.close()
            raise
        self.on_connected(connection)
        await self.notify_connected(connection)
        return connection

    def remove_conn(self, swarm_conn: SwarmConn) -> None:
        peer_id = swarm_conn.muxed_conn.peer_id
        connections = self.connections.get(peer_id, [])
        if swarm_conn not in connections:
            return
        connections.remove(swarm_conn)
        if not connections:
            self.connections.pop(peer_id, None)
        self.on_disconnected(swarm_conn)


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
