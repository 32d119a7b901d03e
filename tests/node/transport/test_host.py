"""The host among peers that are admitted and merely faulty: handlers that raise, addresses that are dead."""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import time

import pytest
import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.peerinfo import PeerInfo
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from multiaddr import Multiaddr

from hearthmesh.node.bench.transport import ECHO_PROTOCOL, far_process, measure_bulk, measure_idle, measure_requests
from hearthmesh.node.transport.frames import MuxerLimits
from hearthmesh.node.transport.host import DialFailed, HostConfig, create_host

from .hosts import ECHO, LOOPBACK, all_is_quiet, answers, dial, read_exactly, running_host, until

RAISES = TProtocol("/test/raises/1")
RETURNS = TProtocol("/test/returns/1")


async def raising(stream: INetStream) -> None:
    raise RuntimeError("a bug in a handler")


async def returning(stream: INetStream) -> None:
    await stream.write(b"done")


async def test_a_handler_that_raises_loses_its_stream_only() -> None:
    """B3."""
    async with running_host() as host, running_host() as peer:
        host.set_stream_handler(RAISES, raising)
        connection = await dial(peer, host)
        for _ in range(3):
            with pytest.raises((StreamError, MultiselectClientError)):
                await read_exactly(await peer.open_stream(connection, RAISES), 1)
        assert await answers(peer, connection)
        await until(lambda: host.connections(peer.peer_id)[0].get_streams() == ())


async def test_a_handler_that_raises_ends_the_stock_host() -> None:
    """When this fails, upstream has mended B3."""
    listen = [Multiaddr(LOOPBACK[0])]
    with pytest.raises(BaseExceptionGroup) as raised:
        host = new_host(key_pair=create_new_key_pair(secrets.token_bytes(32)), listen_addrs=listen)
        host.set_stream_handler(RAISES, raising)
        async with running_host() as peer:
            with trio.fail_after(60):
                async with host.run(listen):
                    address = host.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{host.get_id()}"))
                    connection = await peer.dial(host.get_id(), [address], 5)
                    await peer.open_stream(connection, RAISES)
                    await trio.sleep_forever()
    assert raised.group_contains(RuntimeError, match="a bug in a handler")


async def test_a_handler_that_returns_leaves_no_stream_at_either_end() -> None:
    """B10: the stock stream stays in the tables of both for as long as they are connected."""
    async with running_host() as host, running_host() as peer:
        host.set_stream_handler(RETURNS, returning)
        connection = await dial(peer, host)
        far = host.connections(peer.peer_id)[0]
        for _ in range(20):
            stream = await peer.open_stream(connection, RETURNS)
            assert await read_exactly(stream, 4) == b"done"
            await all_is_quiet()
            with trio.move_on_after(0) as waited, pytest.raises(StreamEOF):
                await stream.read(1)
            assert not waited.cancelled_caught, "the handler has returned, and its stream is open"
            await stream.close()
        await all_is_quiet()
        for end in (far, connection):
            assert not end.get_streams() and end.muxed_conn.stream_count == 0  # type: ignore[attr-defined]


async def test_a_stream_that_is_ended_below_its_wrapper_is_forgotten_too() -> None:
    async with running_host() as host, running_host() as peer:
        connection = await dial(peer, host)
        stream = await peer.open_stream(connection, ECHO)
        assert connection.get_streams() == (stream,)
        await stream.muxed_stream.reset()  # type: ignore[attr-defined]
        assert connection.get_streams() == ()


async def test_a_handler_does_not_outlive_its_connection_for_long(autojump_clock: trio.testing.MockClock) -> None:
    ended = trio.Event()

    async def stubborn(stream: INetStream) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    # The sockets are real: what is on its way must not count as silence.
    autojump_clock.autojump_threshold = 0.05
    async with running_host() as host, running_host() as peer:
        host.set_stream_handler(RETURNS, stubborn)
        connection = await dial(peer, host)
        await peer.open_stream(connection, RETURNS)
        await connection.close()
        with trio.fail_after(60):
            await ended.wait()


async def test_a_dead_first_address_costs_a_quarter_of_a_second_at_most_and_is_not_remembered() -> None:
    """B9: the stock dial tries one address, fails, and refuses to try that peer for the next minute."""
    with socket.socket() as closed, socket.socket() as deaf:
        closed.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()  # accepted by the kernel, answered by nobody
        dead = [Multiaddr(f"/ip4/127.0.0.1/tcp/{one.getsockname()[1]}") for one in (closed, deaf)]
        async with running_host() as host, running_host() as peer:
            with pytest.raises(DialFailed) as failed:
                await peer.dial(host.peer_id, dead, 0.6)
            assert all(str(address) in str(failed.value) for address in dead)
            connection = await peer.dial(host.peer_id, [*dead, *host.addresses()], 5)
            assert await answers(peer, connection)
            assert len(peer.connections()) == 1


async def test_addresses_that_we_cannot_dial_are_skipped_with_their_reason() -> None:
    strange = [Multiaddr("/ip4/127.0.0.1/udp/1/quic-v1"), Multiaddr("/ip4/127.0.0.1/tcp/1/ws")]
    async with running_host() as host, running_host() as peer:
        with pytest.raises(DialFailed, match="no transport"):
            await peer.dial(host.peer_id, strange, 5)
        with pytest.raises(DialFailed, match="no address"):
            await peer.dial(host.peer_id, [], 5)
        with pytest.raises(DialFailed, match="this node"):
            await peer.dial(peer.peer_id, host.addresses(), 5)
        await peer.dial(host.peer_id, [*strange, *host.addresses()], 5)


async def test_an_existing_connection_is_used_again() -> None:
    async with running_host() as host, running_host() as peer:
        assert await dial(peer, host) is await peer.dial(host.peer_id, [], 1)


async def test_py_libp2ps_own_calls_dial_our_way() -> None:
    """Its services connect by peer id through the peer store; a dead address first must not matter to them."""
    async with running_host() as host, running_host() as peer:
        addresses = [Multiaddr("/ip4/127.0.0.1/tcp/1"), *host.addresses()]
        await peer.host.connect(PeerInfo(host.peer_id, addresses))
        stream = await peer.host.new_stream(host.peer_id, [TProtocol("/nobody/1"), TProtocol(ECHO)])
        assert stream.get_protocol() == ECHO
        await stream.write(b"x")
        assert await read_exactly(stream, 1) == b"x"


async def test_a_service_that_wants_a_stream_dials_nobody() -> None:
    """A link that ends while gossip greets its peer must not become a connection that nobody greets."""
    async with running_host() as host, running_host() as peer:
        peer.host.get_peerstore().add_addrs(host.peer_id, host.addresses(), 60)
        with pytest.raises(SwarmException, match="no connection"):
            await peer.host.new_stream(host.peer_id, [TProtocol(ECHO)])
        assert not peer.connections() and not host.connections()


async def test_a_node_without_listener_dials_and_is_called_back_on_its_connection() -> None:
    async with running_host() as host, running_host(HostConfig()) as hidden:
        assert hidden.addresses() == []
        await dial(hidden, host)
        await until(lambda: host.connections(hidden.peer_id))
        assert await answers(host, host.connections(hidden.peer_id)[0])


async def test_observers_hear_of_each_connection_once_whatever_they_raise() -> None:
    events: list[tuple[str, object]] = []

    def note(what: str) -> object:
        def hear(connection: SwarmConn) -> None:
            events.append((what, connection.muxed_conn.peer_id))
            raise RuntimeError("a bug in an observer")

        return hear

    async with running_host() as host, running_host() as peer:
        host.observe(note("connected"), note("gone"))  # type: ignore[arg-type]
        await dial(peer, host)
        await host.close_peer(peer.peer_id)
        await until(lambda: not peer.connections())
        assert events == [("connected", peer.peer_id), ("gone", peer.peer_id)]


async def test_a_frozen_process_is_dropped_within_interval_and_timeout() -> None:
    """B8, with a process that is stopped for good: the stock host keeps it for ever."""
    limits = MuxerLimits(keepalive_interval_us=300_000, keepalive_timeout_us=2_000_000)
    host = create_host(secrets.token_bytes(32), HostConfig(muxer=limits))
    async with far_process() as far, host.run():
        connection = await host.dial(far.peer_id, [far.address], 10)
        stream = await host.open_stream(connection, ECHO_PROTOCOL)
        os.kill(far.pid, signal.SIGSTOP)
        start = time.monotonic()
        try:
            with trio.fail_after(60), pytest.raises(StreamError):
                while True:
                    await stream.write(bytes(1000))
                    await stream.read()
            assert time.monotonic() - start > 0.4
            await until(lambda: not host.connections())
        finally:
            os.kill(far.pid, signal.SIGCONT)


async def test_a_process_that_stood_still_itself_keeps_its_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its own clock jumps past every timeout; the answers are in the socket, so nobody is to blame."""
    autojump_clock.autojump_threshold = math.inf
    async with running_host() as host, running_host() as peer:
        connection = await dial(peer, host)
        autojump_clock.jump(1.9)
        assert await answers(peer, connection)
        autojump_clock.jump(30)
        assert await answers(peer, connection)


async def test_a_taken_address_is_an_error_that_names_it() -> None:
    async with running_host() as host:
        taken = str(host.addresses()[0])
        with pytest.raises(BaseExceptionGroup) as raised:
            async with running_host(HostConfig(listen=(taken,))):
                raise AssertionError("two hosts on one port")
        assert raised.group_contains(OSError, match=taken)


async def test_the_benchmark_measures_each_of_its_numbers() -> None:
    numbers = {**await measure_requests(0.2), **await measure_bulk(4 << 20), **await measure_idle(0.2, connections=2)}
    assert set(numbers) == {
        "requests_per_s",
        "request_us_p50",
        "request_us_p99",
        "requests_pipelined_per_s",
        "requests_on_new_streams_per_s",
        "bulk_mb_per_s",
        "host_rss_mb",
        "connection_rss_kb",
        "host_cpu_idle_percent",
    }
    assert all(value >= 0 for value in numbers.values()) and numbers["requests_per_s"] > 50
