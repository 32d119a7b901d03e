"""Our Yamux between two ends of a pipe in memory, on a virtual clock: what each fault of the stock one was."""

from __future__ import annotations

import pytest
import trio
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamError,
    MuxedStreamReset,
)
from libp2p.stream_muxer.yamux.yamux import Yamux
from trio.testing import MockClock, wait_all_tasks_blocked

from hearthmesh.node.transport.frames import INITIAL_WINDOW_BYTES, MuxerLimits
from hearthmesh.node.transport.muxer import YamuxConnection

from .hosts import PEER, memory_channels, muxers, read_exactly, until

MIB = 1 << 20


async def test_bytes_arrive_in_order_and_end_with_the_writers_close(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, far = await pair.streams()
        data = bytes(range(256)) * 5_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, data)
            assert await read_exactly(far, len(data)) == data
        await near.close()
        with pytest.raises(MuxedStreamEOF):
            await far.read()
        with pytest.raises(MuxedStreamClosed):
            await near.write(b"more")
        await far.write(b"the other half is still open")
        await far.close()
        assert await near.read() == b"the other half is still open"
        with pytest.raises(MuxedStreamEOF):
            await near.read()
        await until(lambda: pair.dialler.stream_count == pair.listener.stream_count == 0)


async def test_a_reset_ends_both_directions_at_both_ends(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, far = await pair.streams()
        await near.write(b"unread")
        await near.reset()
        await until(lambda: far.is_closed)
        for stream in (near, far):
            with pytest.raises(MuxedStreamReset):
                await stream.read()
            with pytest.raises(MuxedStreamReset):
                await stream.write(b"x")
        assert pair.dialler.stream_count == pair.listener.stream_count == 0
        assert pair.listener.buffered_bytes == 0


@pytest.mark.parametrize("muxer", [YamuxConnection, Yamux], ids=["ours", "stock"])
async def test_bulk_and_openers_in_both_directions_cannot_block_each_other(
    muxer: type[YamuxConnection | Yamux], autojump_clock: MockClock
) -> None:
    """B5: the stock read loop answers on the write lock, so two full pipes wait for each other for ever."""
    left, right = (muxer(channel, PEER) for channel in memory_channels(pieces=1))  # type: ignore[arg-type]
    finished = 0

    async def bulk(connection: YamuxConnection) -> None:
        nonlocal finished
        stream = await connection.open_stream()
        for _ in range(8):
            await stream.write(bytes(MIB // 4))
        await stream.close()
        finished += 1

    async def opener(connection: YamuxConnection) -> None:
        nonlocal finished
        for _ in range(30):
            stream = await connection.open_stream()
            await stream.write(b"x" * 100)
            await stream.close()
        finished += 1

    async def serve(connection: YamuxConnection) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(_drain, await connection.accept_stream())

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            for connection in (left, right):
                nursery.start_soon(connection.start)
                await connection.event_started.wait()
                nursery.start_soon(serve, connection)
            async with trio.open_nursery() as work:
                for connection in (left, right):
                    for _ in range(4):
                        work.start_soon(bulk, connection)
                        work.start_soon(opener, connection)
            nursery.cancel_scope.cancel()

    with trio.move_on_after(4):
        await run()
    assert (finished == 16) == (muxer is YamuxConnection)


async def _drain(stream: object) -> None:
    try:
        while await stream.read(65_536):  # type: ignore[attr-defined]
            pass
        await stream.close()  # type: ignore[attr-defined]
    except MuxedStreamError:
        await stream.close()  # type: ignore[attr-defined]


async def test_a_reader_may_pause_for_long_without_costing_the_writer_its_stream(autojump_clock: MockClock) -> None:
    """B6: the stock writer gives up after a hard five seconds, and polls 100 times a second until then."""
    async with muxers() as pair:
        near, far = await pair.streams()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, bytes(2 * INITIAL_WINDOW_BYTES))
            await trio.sleep(50)
            await read_exactly(far, 2 * INITIAL_WINDOW_BYTES)


async def test_a_writer_waits_no_longer_than_the_stall_limit(autojump_clock: MockClock) -> None:
    async with muxers(MuxerLimits(stall_timeout_us=20_000_000)) as pair:
        near, far = await pair.streams()
        start = trio.current_time()
        with pytest.raises(MuxedStreamReset, match="stall"):
            await near.write(bytes(2 * INITIAL_WINDOW_BYTES))
        assert 20 <= trio.current_time() - start < 21
        await until(lambda: far.is_closed)
        assert not pair.dialler.is_closed and pair.dialler.counters["streams_stalled"] == 1


async def test_a_caller_may_have_a_shorter_deadline(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, _ = await pair.streams()
        near.set_deadline(3)
        with pytest.raises(MuxedStreamReset, match="deadline"):
            await near.write(bytes(2 * INITIAL_WINDOW_BYTES))
        near, _ = await pair.streams()
        near.set_deadline(3)
        with pytest.raises(MuxedStreamReset, match="deadline"):
            await near.read()


async def test_a_waiting_writer_learns_of_the_peers_reset_at_once(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, far = await pair.streams()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                with pytest.raises(MuxedStreamReset):
                    await near.write(bytes(2 * INITIAL_WINDOW_BYTES))

            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            await far.reset()
        assert trio.current_time() - start < 1


async def test_a_window_grows_while_its_reader_keeps_up_and_no_further_than_its_limit(
    autojump_clock: MockClock,
) -> None:
    async with muxers(MuxerLimits(max_window_bytes=MIB)) as pair:
        near, far = await pair.streams()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.write, bytes(16 * MIB))
            await read_exactly(far, 16 * MIB)
        assert far.window_bytes == MIB
        await near.reset()


async def test_a_silent_peer_is_dropped_after_interval_and_timeout(autojump_clock: MockClock) -> None:
    """B8: the stock connection never notices."""
    limits = MuxerLimits(keepalive_interval_us=2_000_000, keepalive_timeout_us=4_000_000)
    left, _right = memory_channels(pieces=1000)  # nobody serves the right end
    muxer = YamuxConnection(left, PEER, limits)
    start = trio.current_time()
    await muxer.start()
    assert 5.9 < trio.current_time() - start < 6.1
    assert muxer.close_reason == "silent: no answer to a ping"


async def test_a_quiet_connection_lives_on_pings_alone(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        await trio.sleep(3600)
        assert pair.dialler.is_established and pair.listener.is_established
        assert pair.dialler.rtt_us is not None
        assert pair.dialler.sent_bytes < 3600 * 30


async def test_streams_that_are_closed_but_never_read_leave_no_trace(autojump_clock: MockClock) -> None:
    async with muxers(MuxerLimits(linger_us=5_000_000)) as pair:
        for _ in range(50):
            near, far = await pair.streams()
            await far.write(b"never read")
            await near.abandon()
            del near, far
        await trio.sleep(10)
        assert pair.dialler.stream_count == pair.listener.stream_count == 0
        assert pair.dialler.buffered_bytes == 0


async def test_what_nobody_reads_is_given_back_when_the_stream_is_dropped(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, far = await pair.streams()
        await near.write(b"x" * 1000)
        await until(lambda: pair.listener.buffered_bytes == 1000)
        await pair.dialler.close()
        await until(lambda: pair.listener.is_closed)
        assert far.unread_bytes == 1000
        del far
        assert pair.listener.buffered_bytes == 0


async def test_what_arrived_before_the_end_can_be_read_after_it(autojump_clock: MockClock) -> None:
    async with muxers() as pair:
        near, far = await pair.streams()
        await near.write(b"last words")
        await pair.dialler.close()
        await until(lambda: pair.listener.is_closed)
        assert await far.read() == b"last words"
        with pytest.raises(MuxedStreamReset):
            await far.read()
        with pytest.raises(MuxedConnUnavailable):
            await pair.listener.open_stream()


async def test_opening_waits_for_the_peer_to_take_notice(autojump_clock: MockClock) -> None:
    left, _ = memory_channels(pieces=1000)
    muxer = YamuxConnection(left, PEER, MuxerLimits(max_unacknowledged_streams=3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        for _ in range(3):
            await muxer.open_stream()
        with trio.move_on_after(1) as scope:
            await muxer.open_stream()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_full_send_queue_holds_writers_back(autojump_clock: MockClock) -> None:
    """Memory: a socket that takes nothing makes writers wait, whatever the windows allow."""
    left, _ = memory_channels(pieces=1)
    limits = MuxerLimits(send_queue_bytes=100_000)
    muxer = YamuxConnection(left, PEER, limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        await muxer.event_started.wait()
        streams = [await muxer.open_stream() for _ in range(20)]
        for stream in streams:
            nursery.start_soon(stream.write, bytes(100_000))
        await wait_all_tasks_blocked()
        assert muxer.queued_bytes < 3 * limits.send_queue_bytes
        nursery.cancel_scope.cancel()
