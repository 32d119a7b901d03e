"""A link over a stream that the test writes byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
import trio.testing

from hearthmesh.node.transport.hello import Goodbye
from hearthmesh.node.transport.link import (
    FRAMES_A_TURN_MAX,
    LENGTH,
    FrameBuffer,
    Link,
    LinkEnd,
    LinkLimits,
    greeting_frame,
)

PEER = b"p" * 32


class Stream:
    """As the muxer's: bytes that arrive are offered to `on_readable`, and what it leaves to who waits in `read`."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.on_readable: Callable[[], object] | None = None
        self.written = bytearray()
        self.ended = False
        self._readers = trio.lowlevel.ParkingLot()

    def deliver(self, data: bytes) -> None:
        self.buffer += data
        if self.on_readable is not None:
            self.on_readable()
        if self.buffer:
            self._readers.unpark_all()

    def deliver_last(self, data: bytes) -> None:
        """With the end of the stream in the same piece of the connection's bytes."""
        self.ended = True
        self._readers.unpark_all()
        self.deliver(data)

    async def read(self, n: int | None = None) -> bytes:
        while not self.buffer:
            if self.ended:
                raise trio.BrokenResourceError("ended")
            await self._readers.park()
        return self.read_now(n)

    def read_now(self, n: int | None = None) -> bytes:
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    async def write(self, data: bytes) -> None:
        self.written += data

    def write_now(self, data: bytes) -> bool:
        self.written += data
        return True

    async def close(self) -> None:
        self.ended = True
        self._readers.unpark_all()

    reset = close


class Owner:
    def __init__(self) -> None:
        self.full = False
        self.turns: list[int] = []
        self.got: list[bytes] = []
        self._room = trio.lowlevel.ParkingLot()

    def on_messages(self, peer: bytes, payloads: Sequence[bytes]) -> None:
        self.turns.append(len(payloads))
        self.got += payloads

    def has_room(self, peer: bytes) -> bool:
        return not self.full

    async def room(self, peer: bytes) -> None:
        while self.full:
            await self._room.park()

    def make_room(self) -> None:
        self.full = False
        self._room.unpark_all()


def frame(payload: bytes) -> bytes:
    return LENGTH.pack(len(payload)) + payload


async def running(nursery: trio.Nursery) -> tuple[Link, Stream, Owner]:
    stream, owner = Stream(), Owner()
    nothing: Any = None
    link = Link(
        PEER,
        nothing,
        b"",
        stream,
        FrameBuffer(1 << 20),
        dialled=True,
        life=b"",
        agent="",
        address="",
        relayed=False,
        limits=LinkLimits(),
    )
    nursery.start_soon(link.run, owner)
    await trio.testing.wait_all_tasks_blocked()
    return link, stream, owner


async def test_what_arrives_is_with_the_owner_at_once_and_leaves_at_once(nursery: trio.Nursery) -> None:
    link, stream, owner = await running(nursery)
    stream.deliver(frame(b"one") + frame(b"two") + b"\0\0")
    assert owner.got == [b"one", b"two"] and owner.turns == [2]
    assert link.send([b"three", b"four"]) == 0
    assert bytes(stream.written) == frame(b"three") + frame(b"four") and link.queue_bytes == 0


async def test_a_fault_that_comes_as_room_returns_ends_the_link(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    link, stream, owner = await running(nursery)
    owner.full = True
    stream.deliver(frame(b"a"))
    await trio.testing.wait_all_tasks_blocked()
    owner.make_room()
    stream.deliver(LENGTH.pack(0x7FFFFFFF) + b"x")
    with trio.fail_after(60):
        await link.ended.wait()


async def test_nothing_is_handed_over_after_the_end(nursery: trio.Nursery) -> None:
    link, stream, owner = await running(nursery)
    link.end(LinkEnd("the peer began anew"))
    stream.deliver(frame(b"late"))
    await link.ended.wait()
    assert owner.got == []


async def test_a_flood_is_handed_over_in_parts_and_stops_where_there_is_no_room(nursery: trio.Nursery) -> None:
    _, stream, owner = await running(nursery)
    stream.deliver(frame(b"") * 1000)
    assert owner.turns == [FRAMES_A_TURN_MAX]
    owner.full = True
    await trio.testing.wait_all_tasks_blocked()
    assert len(owner.got) == FRAMES_A_TURN_MAX
    owner.make_room()
    await trio.testing.wait_all_tasks_blocked()
    assert len(owner.got) == 1000 and max(owner.turns) == FRAMES_A_TURN_MAX
    stream.deliver(frame(b"after it"))
    assert owner.got[-1] == b"after it"


async def test_what_came_with_the_end_of_the_stream_is_handed_over_first(nursery: trio.Nursery) -> None:
    link, stream, owner = await running(nursery)
    count = 3 * FRAMES_A_TURN_MAX
    stream.deliver_last(frame(b"x") * count + greeting_frame(Goodbye("we are moving")))
    await link.ended.wait()
    assert len(owner.got) == count
    assert link._end == LinkEnd("closed by the peer", said="we are moving")
