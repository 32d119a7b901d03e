"""Whoever finds the port: liars about who they are, garbage, silence, floods. The host lives, its bounds hold."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import structlog
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError
from libp2p.security.noise.transport import Transport
from libp2p.utils import encode_delim
from multiaddr import Multiaddr

from hearthmesh.node.transport.frames import MuxerLimits
from hearthmesh.node.transport.host import DialFailed, HostConfig, SecureHost
from hearthmesh.node.transport.tcp import TcpTransport, host_and_port

from .hosts import ECHO, LOOPBACK, all_is_quiet, answers, dial, read_exactly, running_host, until

IMPOSTURES = ["/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0"]


async def connect(address: Multiaddr) -> trio.SocketStream:
    return await trio.open_tcp_stream(*host_and_port(address))


async def agrees(address: Multiaddr, protocol: str) -> bool:
    """Whether whoever listens there would secure a connection with that protocol."""
    async with await connect(address) as stream:
        await stream.send_all(encode_delim(b"/multistream/1.0.0") + encode_delim(protocol.encode()))
        said = b""
        with trio.fail_after(60):
            while said.count(b"\n") < 2:
                said += await stream.receive_some(1024)
        return protocol.encode() in said


@asynccontextmanager
async def stock_host() -> AsyncIterator[Multiaddr]:
    listen = [Multiaddr(LOOPBACK[0])]
    host = new_host(key_pair=create_new_key_pair(secrets.token_bytes(32)), listen_addrs=listen)
    async with host.run(listen):
        yield host.get_addrs()[0]


@pytest.mark.parametrize("protocol", IMPOSTURES)
async def test_no_security_but_noise_is_agreed_on(protocol: str) -> None:
    """B1: plaintext lets anybody be anybody. The stock host agrees to it, see below."""
    async with running_host() as host:
        assert not await agrees(host.addresses()[0], protocol)
        assert await agrees(host.addresses()[0], "/noise")


async def test_the_stock_host_agrees_to_plaintext() -> None:
    """When this fails, upstream has mended B1."""
    async with stock_host() as address:
        assert await agrees(address, IMPOSTURES[0])


async def test_dialling_one_peer_never_yields_another() -> None:
    async with running_host() as host, running_host() as impostor, running_host() as wanted:
        with pytest.raises(DialFailed, match="handshake failed"):
            await host.dial(wanted.peer_id, impostor.addresses(), 5)
        assert host.connections() == [] == impostor.connections(host.peer_id)
        assert (
            await host.dial(wanted.peer_id, [*impostor.addresses(), *wanted.addresses()], 5)
        ).muxed_conn.peer_id == (wanted.peer_id)


async def test_an_identity_of_another_kind_of_key_is_refused() -> None:
    async with running_host() as host:
        raw = await TcpTransport().dial(host.addresses()[0])
        await raw.write(encode_delim(b"/multistream/1.0.0") + encode_delim(b"/noise"))
        said = b""
        while said.count(b"\n") < 2:
            said += await raw.read(1)
        noise = Transport(create_secp256k1_key_pair(), create_x25519_key_pair().private_key)
        await noise.secure_outbound(raw, host.peer_id)
        with trio.fail_after(60):
            assert await raw.read(1) == b""  # not even a word about muxers
        assert host.connections() == [] and host.swarm.half_open_count == 0
        await raw.close()


GARBAGE = {
    "noise": os.urandom(4096),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless length": b"\xff" * 100,
    "huge length": b"\xff\xff\xff\xff\x7f" + bytes(1 << 20),
    "zeros": bytes(100_000),
    "header, then a name that is not text": encode_delim(b"/multistream/1.0.0") + encode_delim(b"\xff\xfe\xfd"),
    "noise agreed, then a full message of garbage": (
        encode_delim(b"/multistream/1.0.0") + encode_delim(b"/noise") + b"\xff\xff" + bytes(65_535)
    ),
    "noise agreed, then an empty message": (
        encode_delim(b"/multistream/1.0.0") + encode_delim(b"/noise") + b"\x00\x00" * 10
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_on_the_port_ends_its_connection_only(garbage: bytes) -> None:
    with structlog.testing.capture_logs() as logged:
        async with running_host() as host, running_host() as friend:
            async with await connect(host.addresses()[0]) as stream:
                with trio.fail_after(60):
                    with suppress(trio.BrokenResourceError):  # it may be reset before all is sent
                        await stream.send_all(garbage)
                        await stream.send_eof()
                    await _end_of(stream)
            await until(lambda: host.swarm.half_open_count == 0)
            assert await answers(friend, await dial(friend, host))
    assert not [line for line in logged if line["log_level"] != "debug"], "no stranger fills the log"


async def test_a_bug_behind_the_port_is_told_and_ends_one_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_host() as host, running_host() as friend:
        upgrade = host.swarm._upgrade

        async def broken(*_: object) -> None:
            raise TypeError("a bug")

        monkeypatch.setattr(host.swarm, "_upgrade", broken)
        with structlog.testing.capture_logs() as logged, trio.fail_after(60):
            async with await connect(host.addresses()[0]) as stream:
                await _end_of(stream)
        told = [line for line in logged if line["event"] == "connection.refused"]
        assert [(line["log_level"], line["error"], line["source"]) for line in told] == [
            ("warning", "TypeError('a bug')", "127.0.0.1")
        ]
        monkeypatch.setattr(host.swarm, "_upgrade", upgrade)
        assert await answers(friend, await dial(friend, host))


async def test_garbage_from_the_peer_that_we_dial_is_one_failed_address() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await stream.send_all(encode_delim(b"/multistream/1.0.0") + encode_delim(b"/noise") + os.urandom(5000))
                await stream.receive_some(65_536)
        except trio.BrokenResourceError:
            pass

    async with running_host() as host, running_host() as wanted, trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        liar = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")
        with pytest.raises(DialFailed):
            await host.dial(wanted.peer_id, [liar], 5)
        await host.dial(wanted.peer_id, [liar, *wanted.addresses()], 5)
        nursery.cancel_scope.cancel()


async def test_silent_connections_lose_their_place_to_new_ones_and_end_in_time() -> None:
    config = HostConfig(listen=LOOPBACK, max_handshakes=5, handshake_s=2.0)
    async with running_host(config) as host, running_host() as friend, AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await connect(host.addresses()[0])) for _ in range(30)]
        await until(lambda: host.swarm.half_open_count == 5)
        assert await answers(friend, await dial(friend, host))
        with trio.fail_after(60):
            for stream in silent:
                await _end_of(stream)
        assert host.swarm.half_open_count == 0


async def _end_of(stream: trio.SocketStream) -> None:
    try:
        while await stream.receive_some(4096):
            pass
    except trio.BrokenResourceError:
        pass  # reset: just as well


async def test_a_slot_comes_back_when_its_connection_ends() -> None:
    """B2: the stock host holds 250 slots until it shuts down, whatever became of their connections."""
    config = HostConfig(listen=LOOPBACK, max_inbound_connections=3)
    async with running_host(config) as host, running_host() as visitor:
        for _ in range(20):
            connection = await dial(visitor, host)
            await all_is_quiet()
            assert host.swarm.inbound_count == 1
            await connection.close()
            await all_is_quiet()
            assert host.swarm.inbound_count == 0
        assert host.swarm.refused_inbound == 0


async def test_connections_beyond_the_limit_are_refused_and_counted() -> None:
    config = HostConfig(listen=LOOPBACK, max_inbound_connections=2)
    async with running_host(config) as host, running_host() as one, running_host() as two, running_host() as three:
        await dial(one, host)
        await dial(two, host)
        await until(lambda: host.swarm.inbound_count == 2)
        with pytest.raises(DialFailed):
            await dial(three, host)
        assert host.swarm.refused_inbound == 1 and len(host.connections()) == 2
        await one.close_peer(host.peer_id)
        await until(lambda: host.swarm.inbound_count == 1)
        await dial(three, host)


async def test_a_peer_with_too_many_connections_loses_its_oldest() -> None:
    config = HostConfig(listen=LOOPBACK, max_connections_per_peer=2)
    async with running_host(config) as host, running_host() as peer:
        made = [await peer.swarm.dial_once(host.addresses()[0], host.peer_id) for _ in range(4)]
        await until(lambda: [one.is_closed for one in made] == [True, True, False, False])
        assert len(host.connections(peer.peer_id)) == 2


async def test_thousands_of_streams_leave_the_host_with_its_limit_and_answering() -> None:
    config = HostConfig(listen=LOOPBACK, muxer=MuxerLimits(max_inbound_streams=20, max_refused_streams=100_000))
    async with running_host(config) as host, running_host() as flooder, running_host() as friend:
        connection = await dial(flooder, host)
        for _ in range(3_000):
            await connection.muxed_conn.open_stream()
        await until(lambda: _muxer(host, flooder).counters["streams_refused"] >= 2_900)
        assert _muxer(host, flooder).stream_count <= 20
        assert await answers(friend, await dial(friend, host))


def _muxer(host: SecureHost, peer: SecureHost):  # type: ignore[no-untyped-def]
    return host.connections(peer.peer_id)[0].muxed_conn


@pytest.mark.parametrize(
    "negotiation",
    [
        b"\xff" * 9 + b"\x01",
        b"\xff\xff\xff\x7f" + bytes(200_000),
        b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n",
        b"\x00",
    ],
    ids=["overlong", "huge", "not text", "empty"],
)
async def test_a_stream_that_negotiates_garbage_is_reset(negotiation: bytes) -> None:
    async with running_host() as host, running_host() as peer:
        connection = await dial(peer, host)
        stream = await connection.muxed_conn.open_stream()
        await stream.write(negotiation)
        with trio.fail_after(60), pytest.raises(Exception):  # noqa: B017 - a reset or an end, after our greeting
            while True:
                await stream.read()
        await until(lambda: _muxer(host, peer).stream_count == 0)
        assert await answers(peer, connection)


@pytest.mark.parametrize("message", [os.urandom(48), b"", bytes(65_535)], ids=["forged", "empty", "longest"])
async def test_a_message_that_does_not_authenticate_ends_its_connection_only(message: bytes) -> None:
    async with running_host() as host, running_host() as peer, running_host() as friend:
        connection = await dial(peer, host)
        await connection.muxed_conn.secured_conn.conn.read_writer.write_msg(message)  # type: ignore[attr-defined]
        await until(lambda: not host.connections() and host.swarm.inbound_count == 0)
        assert await answers(friend, await dial(friend, host))


async def test_garbage_instead_of_muxer_frames_ends_its_connection_only() -> None:
    async with running_host() as host, running_host() as peer, running_host() as friend:
        connection = await dial(peer, host)
        await connection.muxed_conn.secured_conn.write(b"\xff" * 100_000)  # type: ignore[attr-defined]
        await until(lambda: not host.connections() and not peer.connections())
        assert await answers(friend, await dial(friend, host))


async def test_a_protocol_that_nobody_serves_is_refused_by_name() -> None:
    async with running_host() as host, running_host() as peer:
        connection = await dial(peer, host)
        with pytest.raises(MultiselectClientError, match="/nobody/1"):
            await peer.open_stream(connection, "/nobody/1")
        await until(lambda: connection.get_streams() == () and _muxer(host, peer).stream_count == 0)


async def test_nobody_gets_a_stream_that_the_door_refuses() -> None:
    async with running_host() as host, running_host() as friend, running_host() as stranger:
        asked: list[tuple[ID, str]] = []

        async def admit(peer_id: ID, protocol: str) -> bool:
            asked.append((peer_id, protocol))
            return peer_id == friend.peer_id

        host.admit_stream = admit
        assert await answers(friend, await dial(friend, host))
        with pytest.raises((StreamError, MultiselectClientError)):
            await read_exactly(await stranger.open_stream(await dial(stranger, host), ECHO), 1)
        assert asked == [(friend.peer_id, ECHO), (stranger.peer_id, ECHO)]
