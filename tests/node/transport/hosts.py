"""Hosts on loopback, and muxers over memory."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing
from libp2p.abc import INetStream
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from hearthmesh.node.transport.frames import BufferBudget, MuxerLimits
from hearthmesh.node.transport.host import HostConfig, SecureHost, create_host
from hearthmesh.node.transport.muxed_stream import YamuxStream
from hearthmesh.node.transport.muxer import YamuxConnection

LOOPBACK = ("/ip4/127.0.0.1/tcp/0",)
PEER = ID.from_string("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp")

ECHO = "/test/echo/1"


class MemoryChannel:
    """One end of a secured connection in memory; what is sent waits in a queue of `pieces`."""

    def __init__(
        self, outgoing: trio.MemorySendChannel[bytes], incoming: trio.MemoryReceiveChannel[bytes], is_initiator: bool
    ) -> None:
        self.is_initiator = is_initiator
        self._outgoing = outgoing
        self._incoming = incoming
        self._left = b""

    async def receive(self) -> bytes:
        try:
            return await self._incoming.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return b""

    async def read(self, n: int | None = None) -> bytes:
        """For py-libp2p's own muxer: exactly n bytes, b"" at the end."""
        while n is not None and len(self._left) < n:
            piece = await self.receive()
            if not piece:
                return b""
            self._left += piece
        data, self._left = self._left[:n], self._left[n:] if n is not None else b""
        return data

    async def write(self, data: bytes) -> None:
        await self._outgoing.send(bytes(data))

    def write_now(self, data: bytes) -> bool:
        return False

    unsent = False

    async def close(self) -> None:
        self._outgoing.close()
        self._incoming.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None

    def get_transport_addresses(self) -> list[Multiaddr]:
        return []

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT


@dataclass
class MuxerPair:
    dialler: YamuxConnection
    listener: YamuxConnection

    async def streams(self) -> tuple[YamuxStream, YamuxStream]:
        """A new stream, both ends."""
        return await self.dialler.open_stream(), await self.listener.accept_stream()


@dataclass
class RawPeer:
    """A muxer of ours, and in our own hands what the peer sends it."""

    muxer: YamuxConnection
    channel: MemoryChannel

    async def send(self, *frames: bytes) -> None:
        await self.channel.write(b"".join(frames))

    async def received(self) -> bytes:
        return await self.channel.receive()


def memory_channels(pieces: float = 4) -> tuple[MemoryChannel, MemoryChannel]:
    to_listener, from_dialler = trio.open_memory_channel[bytes](pieces)
    to_dialler, from_listener = trio.open_memory_channel[bytes](pieces)
    return MemoryChannel(to_listener, from_listener, True), MemoryChannel(to_dialler, from_dialler, False)


@asynccontextmanager
async def muxers(limits: MuxerLimits | None = None) -> AsyncIterator[MuxerPair]:
    """Two of our muxers that talk to each other."""
    left, right = memory_channels()
    pair = MuxerPair(YamuxConnection(left, PEER, limits), YamuxConnection(right, PEER, limits))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.dialler.start)
        nursery.start_soon(pair.listener.start)
        yield pair
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def raw_peer(limits: MuxerLimits | None = None, budget: BufferBudget | None = None) -> AsyncIterator[RawPeer]:
    """Our muxer as the listener, and a hostile dialler."""
    hostile, ours = memory_channels(pieces=100_000)
    peer = RawPeer(YamuxConnection(ours, PEER, limits, budget), hostile)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.muxer.start)
        yield peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running_host(config: HostConfig | None = None) -> AsyncIterator[SecureHost]:
    """A host on loopback that echoes."""
    host = create_host(secrets.token_bytes(32), config or HostConfig(listen=LOOPBACK))
    host.set_stream_handler(ECHO, echo)
    async with host.run():
        yield host


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition, at most two minutes of the test's clock."""
    with trio.fail_after(120):
        while not condition():
            await trio.sleep(0.005)


async def all_is_quiet() -> None:
    """What this process sent to itself over loopback has arrived, and was acted on: nothing is left to do."""
    await trio.testing.wait_all_tasks_blocked(0.02)


async def echo(stream: INetStream) -> None:
    """A handler that sends back what it gets, until the peer closes."""
    below: YamuxStream = stream.muxed_stream  # type: ignore[attr-defined]
    while True:
        await below.write(await below.read())


async def dial(host: SecureHost, to: SecureHost) -> SwarmConn:
    return await host.dial(to.peer_id, to.addresses(), 5)


async def read_exactly(stream: INetStream | YamuxStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


async def answers(host: SecureHost, connection: SwarmConn) -> bool:
    """Whether the far host still echoes."""
    stream = await host.open_stream(connection, ECHO)
    await stream.write(b"alive")
    same = await read_exactly(stream, 5) == b"alive"
    await stream.reset()
    return same
