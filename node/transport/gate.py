"""Who is let in: greetings on a new link, and a refusal of every other stream of a peer that has none."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog
import trio

from ...crypto.bounded import DecodeError
from ...crypto.certificates import Certificate, MembershipPolicy
from ...protocol.codec import WIRE_VERSION
from ...protocol.limits import Limit
from ..clock import wall_s
from .frames import OnLimit, ignore_limit
from .hello import (
    AGENT,
    HELLO_BYTES_MAX,
    HELLO_VERSION,
    Goodbye,
    Greeting,
    Hello,
    Refused,
    Reject,
    Welcome,
    decode_greeting,
    judge,
    malformed,
    printable,
)
from .link import STREAM_GONE, ByteStream, FrameBuffer, FrameError, greeting_frame

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

LINK_PROTOCOL = "/hearth/link/1"
GREETING_S = 5.0
REJECT_FLUSH_S = 1.0
REFUSALS_KEPT = 1024


class GreetingFailed(Exception):
    """The stream ended, or stayed silent, before both sides had said welcome."""


class RefusedByPeer(Exception):
    """The peer does not admit us.  reason: its words, printable."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Greeted:
    """A peer that both sides welcomed, and what it sent after that."""

    certificate: Certificate
    certificate_bytes: bytes
    life: bytes
    agent: str
    frames: FrameBuffer


class Gate:
    """One node's door: its certificate, the mesh's policy, and who is inside.

    has_room: whether one more link may be admitted.
    """

    def __init__(
        self,
        certificate: bytes,
        policy: MembershipPolicy,
        *,
        has_room: Callable[[], bool],
        on_limit: OnLimit = ignore_limit,
        now_s: Callable[[], int] = wall_s,
    ) -> None:
        self.life = os.urandom(8)
        self._certificate = certificate
        self._policy = policy
        self._has_room = has_room
        self._on_limit = on_limit
        self._now_s = now_s
        self._admitted: dict[bytes, None] = {}
        self._refused_s: dict[bytes, float] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._blocked: frozenset[bytes] | None = None
        self._blocks_others = False

    # -- who is inside -------------------------------------------------------------------------------------

    def is_admitted(self, peer: bytes) -> bool:
        return peer in self._admitted

    def admit(self, peer: bytes) -> None:
        """The peer has a link: its other streams are served."""
        self._admitted[peer] = None
        self._changed.unpark_all()

    def expel(self, peer: bytes) -> None:
        self._admitted.pop(peer, None)

    def refusal(self, peer: bytes, certificate: bytes) -> str | None:
        """Why a peer that was admitted with this certificate is not any more; None if it still is."""
        hello = Hello(HELLO_VERSION, self._policy.mesh.mesh_id, certificate, WIRE_VERSION, "", bytes(8))
        try:
            judge(hello, peer, self._policy, self._now_s())
        except Refused as refused:
            return refused.reason
        return None

    def block(self, peers: Collection[bytes] | None, others: bool = False) -> None:
        """Act as if these peers (with `others`, all but these) could not be reached; None: as if all could."""
        self._blocked = None if peers is None else frozenset(peers)
        self._blocks_others = others

    def is_blocked(self, peer: bytes) -> bool:
        return self._blocked is not None and (peer in self._blocked) != self._blocks_others

    async def admits_stream(self, peer: bytes, protocol: str) -> bool:
        """Asked before a handler sees an inbound stream. Waits for the greeting of a peer not seen before."""
        if self.is_blocked(peer):
            return False
        if protocol == LINK_PROTOCOL or peer in self._admitted:
            return True
        since_s = trio.current_time() - GREETING_S
        with trio.move_on_after(GREETING_S):
            while peer not in self._admitted and self._refused_s.get(peer, since_s) <= since_s:
                await self._changed.park()
        return peer in self._admitted

    # -- greetings -----------------------------------------------------------------------------------------

    async def greet(self, stream: ByteStream, peer: bytes, *, dialled: bool) -> Greeted:
        """Exchange hellos with a peer whom the connection has authenticated as `peer`.

        We tell a stranger that dialled us nothing but the reason. Raises Refused (ours, and the peer was told),
        RefusedByPeer, GreetingFailed.
        """
        frames = FrameBuffer(0)
        try:
            with trio.fail_after(GREETING_S):
                if dialled:
                    await stream.write(greeting_frame(self._hello()))
                    hello = await _read_hello(stream, frames)
                    await _read_welcome(stream, frames)
                    certificate = self._judge(hello, peer)
                    await stream.write(greeting_frame(Welcome()))
                else:
                    hello = await _read_hello(stream, frames)
                    certificate = self._judge(hello, peer)
                    await stream.write(greeting_frame(self._hello()) + greeting_frame(Welcome()))
                    await _read_welcome(stream, frames)
        except Refused as refused:
            self._note_refusal(peer)
            await self._say_why(stream, refused.reason)
            raise
        except trio.TooSlowError:
            raise GreetingFailed(f"no greeting within {GREETING_S:g} s") from None
        except STREAM_GONE as error:
            raise GreetingFailed(f"the stream ended during the greeting: {error or type(error).__name__}") from error
        return Greeted(certificate, hello.certificate, hello.life, printable(hello.agent), frames)

    def _hello(self) -> Hello:
        return Hello(HELLO_VERSION, self._policy.mesh.mesh_id, self._certificate, WIRE_VERSION, AGENT, self.life)

    def _judge(self, hello: Hello, peer: bytes) -> Certificate:
        certificate = judge(hello, peer, self._policy, self._now_s())
        if not self.is_admitted(peer) and not self._has_room():
            self._on_limit(Limit.LINKS, peer, "")
            raise Refused("full: this node has as many links as it may")
        return certificate

    def _note_refusal(self, peer: bytes) -> None:
        """Its other streams need not wait."""
        self._refused_s.pop(peer, None)
        self._refused_s[peer] = trio.current_time()
        while len(self._refused_s) > REFUSALS_KEPT:
            del self._refused_s[next(iter(self._refused_s))]
        self._changed.unpark_all()

    async def _say_why(self, stream: ByteStream, reason: str) -> None:
        """Flush the reason, and give the peer a moment to read it before the connection goes."""
        with trio.move_on_after(REJECT_FLUSH_S):
            try:
                await stream.write(greeting_frame(Reject(printable(reason))))
                await stream.close()
                while await stream.read(4096):
                    pass
            except STREAM_GONE:
                pass


async def _read_greeting(stream: ByteStream, frames: FrameBuffer) -> Greeting:
    """Raises Refused, RefusedByPeer, GreetingFailed and what the stream raises."""
    while True:
        try:
            frame = frames.next()
        except FrameError as error:
            raise Refused(f"malformed greeting: {error}") from None
        if frame is not None:
            break
        data = await stream.read(HELLO_BYTES_MAX)
        if not data:
            raise GreetingFailed("the stream ended during the greeting")
        frames.feed(data)
    is_greeting, payload = frame
    if not is_greeting:
        raise Refused("malformed greeting: a payload before the welcome")
    try:
        greeting = decode_greeting(payload)
    except DecodeError as error:
        raise malformed(error) from None
    if isinstance(greeting, Reject | Goodbye):
        raise RefusedByPeer(printable(greeting.reason))
    return greeting


async def _read_hello(stream: ByteStream, frames: FrameBuffer) -> Hello:
    greeting = await _read_greeting(stream, frames)
    if not isinstance(greeting, Hello):
        raise Refused("malformed greeting: no hello")
    return greeting


async def _read_welcome(stream: ByteStream, frames: FrameBuffer) -> None:
    if not isinstance(await _read_greeting(stream, frames), Welcome):
        raise Refused("malformed greeting: no welcome")
