"""Bytes of a message: one version byte, then the tagged MessagePack array. Bounded before it is believed."""

from __future__ import annotations

import msgspec

from ..crypto.bounded import DecodeError, decode_bounded
from .messages import Message

# 1: first public version. A change of any message's fields, order or meaning is a new version.
WIRE_VERSION = 1
MESSAGE_BYTES_MAX = 4 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_PREFIX = bytes([WIRE_VERSION])


def encode_message(message: Message) -> bytes:
    """The frame's payload; `decode_message` is its inverse."""
    return _PREFIX + _encoder.encode(message)


def decode_message(payload: bytes, *, max_bytes: int = MESSAGE_BYTES_MAX) -> Message:
    """Typed, validated message from hostile bytes.

    Raises DecodeError: too long, other version, not canonical in type or bounds, trailing bytes.
    """
    if not payload:
        raise DecodeError(0, "empty message")
    if payload[0] != WIRE_VERSION:
        raise DecodeError(0, f"wire version {payload[0]}, this node speaks {WIRE_VERSION}")
    message: Message = decode_bounded(payload[1:], Message, max_bytes=max_bytes)
    return message
