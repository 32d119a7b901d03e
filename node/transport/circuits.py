"""A relayed connection's ends: a stream through a relay that looks like a raw connection. Circuit relay v2 messages.

The wire is libp2p's (specs/relay/circuit-v2.md); the schema is py-libp2p's. Its relay and transport are not used: one
circuit's end closes another's streams, reservations are made in anybody's name, failed reads are retried for seconds.
"""

from __future__ import annotations

from typing import TypeVar

import trio
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from libp2p.abc import ConnectionType, INetStream  # type: ignore[attr-defined]
from libp2p.io.abc import Reader, ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from ...crypto.identity import peer_id_text
from .link import STREAM_GONE, ByteStream, shielded
from .streams import bytes_of

HOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/hop"
STOP_PROTOCOL = "/libp2p/circuit/relay/0.2.0/stop"
MESSAGE_BYTES_MAX = 4096
# For one exchange of control messages.
CONTROL_S = 10.0

M = TypeVar("M", bound=Message)


class RelayError(OSError):
    """A relay, or the node behind it, did not make the circuit. The text says why."""


async def read_control(stream: ByteStream, kind: type[M]) -> M:
    """One length-prefixed message of at most 4 KiB. Raises RelayError, or what the stream raises."""
    message = kind()
    try:
        message.ParseFromString(await read_varint_prefixed_bytes_limited(_Exactly(stream), MESSAGE_BYTES_MAX))
    except ProtobufError:
        raise RelayError("a malformed relay message") from None
    return message


async def write_control(stream: ByteStream, message: Message) -> None:
    await stream.write(encode_varint_prefixed(message.SerializeToString()))


class _Exactly(Reader):
    """What libp2p's varint reader wants to read from."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def read(self, n: int | None = None) -> bytes:
        return await self._stream.read(n)


class CircuitEnd(ReadWriteCloser):
    """A stream to a relay, joined there with another, as the bytes of one connection."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._bytes = bytes_of(stream)

    async def read(self, n: int | None = None) -> bytes:
        try:
            return await self._bytes.read(n)
        except MuxedStreamEOF:
            return b""
        except STREAM_GONE as error:
            raise ConnectionClosedError("the circuit is gone", transport="circuit") from error

    async def write(self, data: bytes) -> None:
        try:
            await self._bytes.write(data)
        except STREAM_GONE as error:
            raise ConnectionClosedError("the circuit is gone", transport="circuit") from error

    async def close(self) -> None:
        """What was written still arrives; the stream itself ends when both sides have closed, or soon after."""
        with shielded(1.0):
            try:
                await self._bytes.close()
                while await self._bytes.read(65536):
                    pass
            except STREAM_GONE:
                pass
        with shielded(1.0):
            await self._stream.reset()

    def get_remote_address(self) -> tuple[str, int] | None:
        return None


def circuit_connection(stream: INetStream, relay: bytes, other: bytes, *, initiator: bool) -> RawConnection:
    """other: who the relay says is at the other end; the handshake will tell."""
    address = Multiaddr(f"/p2p/{peer_id_text(relay)}/p2p-circuit/p2p/{peer_id_text(other)}")
    return RawConnection(CircuitEnd(stream), initiator, connection_type=ConnectionType.RELAYED, addresses=[address])


async def join(one: ByteStream, other: ByteStream, data_bytes: int, duration_s: float) -> None:
    """Copy both ways until both have ended, or a limit is reached; limits of 0 do not limit.

    Both streams are reset if either breaks.
    """
    left = [data_bytes if data_bytes > 0 else 1 << 62]
    with trio.move_on_after(duration_s if duration_s > 0 else float("inf")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_copy, one, other, left, nursery.cancel_scope)
            nursery.start_soon(_copy, other, one, left, nursery.cancel_scope)
    with shielded(1.0):
        for stream in (one, other):
            await stream.reset()


async def _copy(source: ByteStream, sink: ByteStream, left: list[int], scope: trio.CancelScope) -> None:
    try:
        while data := await source.read(1 << 18):
            left[0] -= len(data)
            if left[0] < 0:
                break
            await sink.write(data)
    except MuxedStreamEOF:
        try:
            await sink.close()
        except STREAM_GONE:
            scope.cancel()
        return
    except STREAM_GONE:
        pass
    scope.cancel()
