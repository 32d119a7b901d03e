"""TCP below the security layer: bounded reads, no locks, a listener that dies with its host."""

from __future__ import annotations

import os
import socket

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.custom_types import THandler
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

MAX_READ_BYTES = 256 * 1024
UNSENT_LOW_WATER_BYTES = 256 * 1024
"""What the kernel may hold unsent: a keepalive answer waits behind no more than this."""

HOST_PROTOCOLS = ("ip4", "ip6", "dns", "dns4", "dns6")
OTHER_TRANSPORTS = frozenset({"ws", "wss", "tls", "quic", "quic-v1", "udp", "p2p-circuit"})


class TcpStream(ReadWriteCloser):
    """One TCP connection. One task may read while another writes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._remote_address = _remote_address(stream)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_LOW_WATER_BYTES)

    async def read(self, n: int | None = None) -> bytes:
        """At most n bytes and never more than 256 KiB, whatever a peer's length prefix made the caller ask for."""
        size = MAX_READ_BYTES if n is None or n < 0 else min(n, MAX_READ_BYTES)
        if size == 0:
            return b""
        try:
            while True:
                # trio would try to read first, which fails nine times in ten, and then wait as we do
                number = self.stream.socket.fileno()
                if number < 0:
                    return b""
                await trio.lowlevel.wait_readable(number)
                try:
                    return os.read(number, size)
                except BlockingIOError:
                    pass
        except trio.ClosedResourceError:
            return b""
        except OSError as error:
            raise ConnectionClosedError("reset by the peer", transport="tcp") from error

    async def write(self, data: bytes) -> None:
        """Yields only when the socket does not take all of it at once."""
        sent = self.write_now(data)
        if sent < len(data):
            try:
                await self.stream.send_all(memoryview(data)[sent:])
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError("the connection is gone", transport="tcp") from error

    def write_now(self, data: bytes) -> int:
        """How many of the bytes the socket took, without waiting. Not while a `write` waits."""
        try:
            return os.write(self.stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionClosedError("the connection is gone", transport="tcp") from error

    async def close(self) -> None:
        await self.stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._remote_address


class TcpTransport(ITransport):
    """Dials and listens; no SO_REUSEPORT, so two nodes never share a port by accident."""

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Raises OpenConnectionError."""
        host, port = host_and_port(maddr)
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as error:
            raise OpenConnectionError(f"{maddr}: {error}") from error
        return RawConnection(TcpStream(stream), True)

    def create_listener(self, handler_function: THandler) -> TcpListener:
        return TcpListener(handler_function)

    def can_dial(self, maddr: Multiaddr) -> bool:
        names = [protocol.name for protocol in maddr.protocols()]
        return (
            len(names) >= 2
            and names[0] in HOST_PROTOCOLS
            and names[1] == "tcp"
            and not (OTHER_TRANSPORTS.intersection(names))
        )

    def can_listen(self, maddr: Multiaddr) -> bool:
        return self.can_dial(maddr)

    def protocols(self) -> list[str]:
        return ["tcp"]


class TcpListener(IListener):
    """Serves within `background_nursery`, which the swarm sets before it listens."""

    background_nursery: trio.Nursery | None = None

    def __init__(self, handler: THandler) -> None:
        self._handler = handler
        self._listeners: list[trio.SocketListener] = []
        self._scopes: list[trio.CancelScope] = []

    async def listen(self, maddr: Multiaddr) -> None:
        """Raises OpenConnectionError."""
        host, port = host_and_port(maddr)
        if self.background_nursery is None:
            raise OpenConnectionError("the host does not run")
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise OpenConnectionError(f"{maddr}: {error}") from error
        self._listeners.extend(listeners)
        self.background_nursery.start_soon(self._serve, listeners)

    async def _serve(self, listeners: list[trio.SocketListener]) -> None:
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            await trio.serve_listeners(self._accept, listeners)

    async def _accept(self, stream: trio.SocketStream) -> None:
        try:
            connection = TcpStream(stream)
        except OSError:  # it went while it was accepted
            await trio.aclose_forcefully(stream)
            return
        await self._handler(connection)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return tuple(_bound_address(listener.socket) for listener in self._listeners)

    async def close(self) -> None:
        for scope in self._scopes:
            scope.cancel()
        for listener in self._listeners:
            await listener.aclose()
        self._listeners.clear()


def host_and_port(maddr: Multiaddr) -> tuple[str, int]:
    """The first host and the TCP port; raises OpenConnectionError when there is none."""
    host: str | None = None
    for protocol, value in maddr.items():
        if protocol.name in HOST_PROTOCOLS and host is None:
            host = str(value)
        elif protocol.name == "tcp" and host is not None:
            return host, int(value)
    raise OpenConnectionError(f"{maddr}: not a TCP address")


def _bound_address(sock: trio.socket.SocketType) -> Multiaddr:
    host, port = sock.getsockname()[:2]
    return Multiaddr(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")


def _remote_address(stream: trio.SocketStream) -> tuple[str, int] | None:
    try:
        name = stream.socket.getpeername()
    except OSError:  # reset before we looked
        return None
    return str(name[0]), int(name[1])
