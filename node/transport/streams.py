"""Streams and peer ids between py-libp2p's types and ours."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from libp2p.abc import INetStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID

from ...crypto.identity import peer_id_text
from .link import ByteStream

_PEER_ID_PREFIX = bytes.fromhex("002408011220")
_PEER_ID_BYTES = len(_PEER_ID_PREFIX) + 32


@lru_cache(maxsize=4096)
def peer_id_of(node: bytes) -> ID:
    """libp2p's id of a node."""
    return ID.from_string(peer_id_text(node))


def node_id_of(peer_id: ID) -> bytes | None:
    """The node's key, 32 bytes; None for an id that isn't of an Ed25519 key."""
    raw = peer_id.to_bytes()
    if len(raw) != _PEER_ID_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        return None
    return raw[len(_PEER_ID_PREFIX) :]


def bytes_of(stream: INetStream) -> ByteStream:
    """The muxer's own stream below py-libp2p's: without its lock a call. Close and reset both all the same."""
    muxed: Any = getattr(stream, "muxed_stream", stream)
    return muxed  # type: ignore[no-any-return]


def connection_of(stream: INetStream) -> SwarmConn:
    """The connection that a stream of our swarm runs on."""
    assert isinstance(stream, NetStream) and stream.swarm_conn is not None
    return stream.swarm_conn
