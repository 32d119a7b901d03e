"""What a peer that breaks the rules can do to our muxer: lose its stream or its connection, and nothing else."""

from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.stream_muxer.exceptions import MuxedStreamReset
from trio.testing import MockClock

from hearthmesh.node.transport.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INITIAL_WINDOW_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    BufferBudget,
    MuxerLimits,
    ProtocolViolation,
    header,
)
from hearthmesh.node.transport.muxer import YamuxConnection

from .hosts import PEER, memory_channels, raw_peer, until

KIB = 1024


def opened(stream_id: int) -> bytes:
    return header(WINDOW_UPDATE, SYN, stream_id, 0)


def sent(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    return header(DATA, flags, stream_id, len(payload)) + payload


async def test_a_stream_that_overruns_its_window_is_reset_and_the_rest_lives(autojump_clock: MockClock) -> None:
    """B7: the stock muxer buffers it all, 489 MB for 400 MiB pushed."""
    async with raw_peer() as peer:
        await peer.send(opened(1), opened(3), sent(3, b"honest"))
        cheat, honest = await peer.muxer.accept_stream(), await peer.muxer.accept_stream()
        await peer.send(*[sent(1, bytes(64 * KIB))] * 5)
        await until(lambda: peer.muxer.counters["window_overruns"] == 1)
        assert await honest.read() == b"honest"
        with pytest.raises(MuxedStreamReset, match="overran"):
            await cheat.read()
        assert peer.muxer.buffered_bytes == 0
        await until(lambda: not peer.muxer.queued_bytes)
        assert await peer.received() + await peer.received() == b"".join(
            header(WINDOW_UPDATE, flags, stream_id, 0) for flags, stream_id in ((ACK, 1), (ACK, 3), (RST, 1))
        )
        assert peer.muxer.is_established


async def test_a_peer_that_keeps_overrunning_loses_the_connection(autojump_clock: MockClock) -> None:
    async with raw_peer(MuxerLimits(max_violations=3)) as peer:
        for stream_id in (1, 3, 5):
            await peer.send(opened(stream_id), *[sent(stream_id, bytes(64 * KIB))] * 5)
        await peer.muxer.wait_closed()
        assert "overrun" in (peer.muxer.close_reason or "")


async def test_a_single_frame_larger_than_the_window_is_not_buffered(autojump_clock: MockClock) -> None:
    async with raw_peer() as peer:
        await peer.send(opened(1), header(DATA, 0, 1, INITIAL_WINDOW_BYTES + 1), bytes(INITIAL_WINDOW_BYTES + 1))
        await peer.send(opened(3), sent(3, b"after it"))
        await until(lambda: peer.muxer.counters["window_overruns"] == 1)
        assert await (await peer.muxer.accept_stream()).read() == b"after it"


async def test_the_connections_budget_is_taken_from_the_fullest_stream(autojump_clock: MockClock) -> None:
    limits = MuxerLimits(max_buffered_bytes=300 * KIB)
    async with raw_peer(limits) as peer:
        await peer.send(opened(1), opened(3), opened(5))
        await peer.send(sent(3, bytes(10 * KIB)), sent(1, bytes(200 * KIB)), sent(5, bytes(100 * KIB)))
        await until(lambda: peer.muxer.counters["streams_over_budget"])
        assert peer.muxer.buffered_bytes == 110 * KIB
        small = await peer.muxer.accept_stream()
        assert (small.stream_id, len(await small.read())) == (3, 10 * KIB)


async def test_the_hosts_budget_is_taken_from_the_fullest_connection(autojump_clock: MockClock) -> None:
    """A stranger that fills the budget pays for it; a modest neighbour does not."""
    budget = BufferBudget(300 * KIB)
    async with raw_peer(budget=budget) as greedy, raw_peer(budget=budget) as modest:
        await greedy.send(opened(1), sent(1, bytes(250 * KIB)))
        await until(lambda: greedy.muxer.buffered_bytes == 250 * KIB)
        await modest.send(opened(1), sent(1, bytes(60 * KIB)))
        await until(lambda: greedy.muxer.counters["streams_over_budget"])
        assert modest.muxer.buffered_bytes == budget.used_bytes == 60 * KIB
        assert len(await (await modest.muxer.accept_stream()).read()) == 60 * KIB


async def test_streams_beyond_the_limit_are_reset_and_places_come_back(autojump_clock: MockClock) -> None:
    async with raw_peer(MuxerLimits(max_inbound_streams=10)) as peer:
        await peer.send(*[opened(1 + 2 * number) for number in range(100)])
        await until(lambda: peer.muxer.counters["streams_refused"] == 90)
        assert peer.muxer.stream_count == 10
        for _ in range(10):
            await (await peer.muxer.accept_stream()).reset()
        await peer.send(opened(1001))
        assert (await peer.muxer.accept_stream()).stream_id == 1001


async def test_a_flood_of_streams_ends_the_connection(autojump_clock: MockClock) -> None:
    async with raw_peer(MuxerLimits(max_inbound_streams=10, max_refused_streams=500)) as peer:
        await peer.send(*[opened(1 + 2 * number) for number in range(2_000)])
        await peer.muxer.wait_closed()
        assert peer.muxer.stream_count == 0 and peer.muxer.counters["streams_refused"] <= 501


async def test_streams_opened_and_reset_without_end_are_a_flood_too(autojump_clock: MockClock) -> None:
    async with raw_peer(MuxerLimits(max_inbound_streams=10)) as peer:
        ids = range(1, 401, 2)
        await peer.send(*[opened(stream_id) + header(WINDOW_UPDATE, RST, stream_id, 0) for stream_id in ids])
        await peer.muxer.wait_closed()
        assert "faster than" in (peer.muxer.close_reason or "")


async def test_pings_are_answered_until_they_are_a_flood(autojump_clock: MockClock) -> None:
    async with raw_peer(MuxerLimits(max_bare_frames=1000)) as peer:
        await peer.send(header(PING, SYN, 0, 77))
        assert await peer.received() == header(PING, ACK, 0, 77)
        await peer.send(*[header(PING, SYN, 0, 1)] * 2000)
        await peer.muxer.wait_closed()
        assert "flood" in (peer.muxer.close_reason or "")


async def test_a_peer_that_reads_no_answers_loses_the_connection(autojump_clock: MockClock) -> None:
    """The answers that we owe are bounded; the socket takes none of them here."""
    hostile, ours = memory_channels(pieces=0)
    muxer = YamuxConnection(ours, PEER, MuxerLimits(control_queue_bytes=12 * 50))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(muxer.start)
        await hostile.write(header(PING, SYN, 0, 1) * 200)
        await muxer.wait_closed()
    assert "does not read" in (muxer.close_reason or "")


async def test_data_after_the_peers_own_fin_resets_the_stream(autojump_clock: MockClock) -> None:
    async with raw_peer() as peer:
        await peer.send(opened(1), sent(1, b"end", FIN))
        stream = await peer.muxer.accept_stream()
        await peer.send(sent(1, b"and on"))
        await until(lambda: stream.is_closed)
        assert peer.muxer.buffered_bytes == 0 and peer.muxer.is_established


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (HEADER.pack(1, DATA, 0, 1, 0), "version 1"),
        (header(9, 0, 1, 0), "frame type 9"),
        (header(DATA, SYN, 0, 0), "stream 0"),
        (opened(2), "our own side"),
        (opened(1) + opened(1), "in use"),
        (opened(1) + header(DATA, 0, 1, 0xFFFF_FFFF), "4294967295 bytes"),
        (header(DATA, 0, 99, 1000), "do not exist"),
        (opened(1) + header(WINDOW_UPDATE, 0, 1, 0xFFFF_FFFF), "overflow"),
    ],
)
async def test_a_broken_rule_ends_the_connection_and_says_so(
    frames: bytes, reason: str, autojump_clock: MockClock
) -> None:
    async with raw_peer() as peer:
        await peer.send(frames)
        assert (await peer.received()).endswith(header(GO_AWAY, 0, 0, 1))
        await peer.muxer.wait_closed()
        assert reason in (peer.muxer.close_reason or "")


FRAME = st.one_of(
    st.binary(max_size=40),
    st.builds(
        HEADER.pack,
        st.sampled_from([0, 0, 0, 0, 0, 1]),
        st.integers(0, 4),
        st.integers(0, 15),
        st.sampled_from([0, 1, 2, 3, 5, 0xFFFF_FFFF]),
        st.sampled_from([0, 1, 5, 70_000, INITIAL_WINDOW_BYTES, 0xFFFF_FFFF]),
    ),
    st.builds(sent, st.sampled_from([1, 3, 5]), st.binary(max_size=100), st.sampled_from([0, SYN, FIN, SYN | FIN])),
)


def fed(pieces: list[bytes]) -> tuple[object, ...]:
    """All that can be seen of a muxer that took these pieces in; only ProtocolViolation may end it early."""
    _, ours = memory_channels()
    limits = MuxerLimits(max_inbound_streams=2, max_refused_streams=3, max_buffered_bytes=300 * KIB)
    muxer = YamuxConnection(ours, PEER, limits)
    violation = None
    try:
        for piece in pieces:
            muxer.feed(piece)
    except ProtocolViolation as error:
        violation = error.reason
    assert muxer.buffered_bytes <= limits.max_buffered_bytes
    assert muxer.stream_count <= 2
    assert muxer.queued_bytes <= limits.control_queue_bytes + 12
    return violation, muxer.stream_count, muxer.buffered_bytes, muxer.queued_bytes, muxer.counters


@given(st.lists(FRAME, max_size=30), st.randoms(use_true_random=False))
def test_any_bytes_in_any_pieces_have_the_same_effect_and_stay_within_bounds(
    frames: list[bytes], rng: random.Random
) -> None:
    whole = b"".join(frames)
    cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(6))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert fed([whole]) == fed(pieces) == fed([whole[at : at + 1] for at in range(len(whole))])
