"""py-libp2p's parts that read a stranger's bytes, made safe by subclassing.

Each class says which fault of 0.8.1 it closes and how to see that upstream has mended it.
"""

from __future__ import annotations

import structlog
from libp2p.abc import IMultiselectCommunicator, INetStream
from libp2p.custom_types import TProtocol
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import (
    MultiselectClientError,
    MultiselectCommunicatorError,
    ProtocolNotSupportedError,
)
from libp2p.protocol_muxer.multiselect import MULTISELECT_PROTOCOL_ID, PROTOCOL_NOT_FOUND_MSG
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

NEGOTIATION_BYTES_MAX = 1024
"""A protocol's name with its newline; ours have under 40 bytes."""


class BoundedCommunicator(IMultiselectCommunicator):
    """One side's multistream-select messages: a length of at most two bytes, then that many bytes of UTF-8.

    Fault closed: upstream's `read_delim` believes any 63-bit length and collects up to 100 reads of whatever
    arrives, and a name that is not UTF-8 raises past it. Mended when `MultiselectCommunicator` takes a limit.
    """

    def __init__(self, stream: ReadWriteCloser | INetStream) -> None:
        self._stream = stream

    async def write(self, msg_str: str) -> None:
        """Raises MultiselectCommunicatorError."""
        try:
            await self._stream.write(_negotiation_message(msg_str or ""))
        except (IOException, ValueError) as error:
            raise MultiselectCommunicatorError("the stream went during the negotiation") from error

    async def read(self) -> str:
        """Raises MultiselectCommunicatorError."""
        size = (await self._read_exactly(1))[0]
        if size & 0x80:
            size = (size & 0x7F) | ((await self._read_exactly(1))[0] << 7)
        if not 1 <= size <= NEGOTIATION_BYTES_MAX:
            raise MultiselectCommunicatorError(f"a negotiation message of {size} bytes or more")
        message = await self._read_exactly(size)
        if message[-1:] != b"\n":
            raise MultiselectCommunicatorError("a negotiation message without its newline")
        try:
            return message[:-1].decode()
        except UnicodeDecodeError as error:
            raise MultiselectCommunicatorError("a negotiation message that is not UTF-8") from error

    async def _read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = await self._stream.read(size - len(data))
            except IOException as error:
                raise MultiselectCommunicatorError("the stream went during the negotiation") from error
            if not piece:
                raise MultiselectCommunicatorError("the stream ended during the negotiation")
            data += piece
        return data


async def select_one_of(stream: INetStream, protocols: list[TProtocol]) -> TProtocol:
    """The first protocol that the peer serves. Raises MultiselectClientError.

    A single one takes one round trip: header and name go out together, as go-libp2p sends them, and a server
    answers each in turn all the same.
    """
    communicator = BoundedCommunicator(stream)
    try:
        await stream.write(_negotiation_message(MULTISELECT_PROTOCOL_ID) + _negotiation_message(str(protocols[0])))
        if await communicator.read() != MULTISELECT_PROTOCOL_ID:
            raise MultiselectClientError("the peer does not speak multistream-select 1.0")
        for index, protocol in enumerate(protocols):
            if index:
                await communicator.write(str(protocol))
            answer = await communicator.read()
            if answer == protocol:
                return protocol
            if answer != PROTOCOL_NOT_FOUND_MSG:
                raise MultiselectClientError(f"the peer answered another protocol than {protocol}")
    except (MultiselectCommunicatorError, IOException, ValueError) as error:
        raise MultiselectClientError(f"no agreement on {', '.join(protocols)}: {error}") from error
    raise ProtocolNotSupportedError(f"the peer serves none of {', '.join(protocols)}")


def _negotiation_message(text: str) -> bytes:
    message = text.encode() + b"\n"
    size = len(message)
    if size > NEGOTIATION_BYTES_MAX:
        raise ValueError(f"a protocol name of {size} bytes")
    prefix = bytes([size]) if size < 0x80 else bytes([(size & 0x7F) | 0x80, size >> 7])
    return prefix + message


class GuardedPubsub(Pubsub):
    """B4: whatever a message or its validator does, the service and with it the host live on.

    Upstream runs `push_msg` as a task of the service, so a validator that raises, or a signature whose key does
    not parse, ends the service and whoever runs it. Mended when
    `test_stock_pubsub_dies_of_a_validator_that_raises` fails.
    """

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            if msg_forwarder == self.my_id:
                raise  # our own publication: its caller wants to know
            # The boundary to gossiped bytes and to topic validators.
            log.info("gossip.message-failed", forwarder=str(msg_forwarder), error=repr(error)[:200])

    async def continuously_read_stream(self, stream: INetStream) -> None:
        try:
            await super().continuously_read_stream(stream)
        except Exception as error:
            # The boundary to one peer's control bytes: it loses its stream, and is a dead peer to the router.
            peer_id = stream.muxed_conn.peer_id
            log.info("gossip.stream-failed", peer=str(peer_id), error=repr(error)[:200])
            await stream.reset()
            self._handle_dead_peer(peer_id)
