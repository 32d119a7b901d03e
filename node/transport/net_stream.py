"""py-libp2p's network stream without a lock per read and write."""

from __future__ import annotations

from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamError

from .muxed_stream import YamuxStream


class GuardedStream(NetStream):
    """What py-libp2p's services get; the muxer's stream below has the same calls with fewer layers.

    It leaves its connection's table whenever the stream below ends, not only when it is closed through here.
    """

    muxed_stream: YamuxStream

    def __init__(self, muxed_stream: YamuxStream, connection: SwarmConn) -> None:
        super().__init__(muxed_stream, connection, None)
        self._state = StreamState.OPEN
        self._removed = False

    async def set_state(self, state: StreamState) -> None:
        self._state = state

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte, at most `n`. Raises StreamEOF or StreamReset."""
        try:
            return await self.muxed_stream.read(n)
        except MuxedStreamEOF as error:
            raise StreamEOF("the peer closed") from error
        except MuxedStreamError as error:
            self._state = StreamState.RESET
            raise StreamReset(str(error)) from error

    async def write(self, data: bytes) -> None:
        """Raises StreamClosed after our close, StreamReset when the stream is gone."""
        try:
            await self.muxed_stream.write(data)
        except MuxedStreamClosed as error:
            raise StreamClosed("closed for writing") from error
        except MuxedStreamError as error:
            self._state = StreamState.RESET
            raise StreamReset(str(error)) from error

    async def close_write(self) -> None:
        """Our FIN; the answer can still be read."""
        await self.muxed_stream.close()

    async def close(self) -> None:
        """Done with it: our FIN, nothing more is read, and a peer that goes on or never closes is reset."""
        await self.muxed_stream.abandon()
        if self._state is not StreamState.RESET:
            self._state = StreamState.CLOSE_BOTH
        await self.remove()

    async def reset(self) -> None:
        await self.muxed_stream.reset()
        self._state = StreamState.RESET
        await self.remove()

    async def remove(self) -> None:
        if not self._removed:
            self._removed = True
            await super().remove()
