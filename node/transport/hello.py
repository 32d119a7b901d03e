"""The first frames of a link: who I am, and whether you may stay. Pure; hostile bytes in, typed answers out."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from ...crypto.bounded import DecodeError, decode_bounded, encode
from ...crypto.certificates import CERTIFICATE_BYTES_MAX, Certificate, CertificateError, MembershipPolicy
from ...protocol.codec import WIRE_VERSION

HELLO_VERSION = 1
HELLO_BYTES_MAX = 4096
REASON_LENGTH_MAX = 200
AGENT_LENGTH_MAX = 64
AGENT = "hearthmesh/0.1"

Reason = Annotated[str, Meta(max_length=REASON_LENGTH_MAX)]


class Hello(Struct, array_like=True, frozen=True, tag=0):
    """Who speaks.  life: random, 8 bytes, new with each start of a process."""

    version: Annotated[int, Meta(ge=0, le=1 << 16)]
    mesh_id: Annotated[bytes, Meta(max_length=32)]
    certificate: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)]
    wire_version: Annotated[int, Meta(ge=0, le=1 << 16)]
    agent: Annotated[str, Meta(max_length=AGENT_LENGTH_MAX)]
    life: Annotated[bytes, Meta(min_length=8, max_length=8)]


class Welcome(Struct, array_like=True, frozen=True, tag=1):
    """The other side is admitted. Once both have said so, payloads follow."""


class Reject(Struct, array_like=True, frozen=True, tag=2):
    """The other side is refused. The connection ends after this."""

    reason: Reason


class Goodbye(Struct, array_like=True, frozen=True, tag=3):
    """An established link is closed on purpose.  reason: for people; empty at an orderly end."""

    reason: Reason


Greeting = Hello | Welcome | Reject | Goodbye


class Refused(Exception):
    """The peer is not admitted.  reason: printable, told to the peer and to the owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode_greeting(greeting: Greeting) -> bytes:
    return encode(greeting)


def decode_greeting(data: bytes) -> Greeting:
    """Raises DecodeError."""
    greeting: Greeting = decode_bounded(data, Greeting, max_bytes=HELLO_BYTES_MAX, max_items=16)
    return greeting


def printable(text: str) -> str:
    """A peer's text as it may reach a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text[:REASON_LENGTH_MAX])


def judge(hello: Hello, peer: bytes, policy: MembershipPolicy, now_s: int) -> Certificate:
    """The certificate that admits the peer, whom the connection has authenticated. Raises Refused."""
    if hello.version != HELLO_VERSION:
        raise Refused(f"link version {hello.version}, this node speaks {HELLO_VERSION}")
    if hello.mesh_id != policy.mesh.mesh_id:
        raise Refused(f"another mesh: {hello.mesh_id.hex()[:16]}, this is {policy.mesh.mesh_id.hex()[:16]}")
    if hello.wire_version != WIRE_VERSION:
        raise Refused(f"wire version {hello.wire_version}, this node speaks {WIRE_VERSION}")
    try:
        return policy.check(hello.certificate, peer, now_s)
    except CertificateError as error:
        raise Refused(printable(f"certificate {error}")) from None


def malformed(error: DecodeError) -> Refused:
    return Refused(printable(f"malformed greeting: {error.reason}"))
