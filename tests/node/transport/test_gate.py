"""Strangers are told why, and get nothing else."""

from __future__ import annotations

import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.bounded import DecodeError
from hearthmesh.crypto.certificates import MembershipPolicy, MeshDefinition, revoke
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.transport.blobs import BLOB_PROTOCOL
from hearthmesh.node.transport.circuits import HOP_PROTOCOL, STOP_PROTOCOL
from hearthmesh.node.transport.gate import LINK_PROTOCOL
from hearthmesh.node.transport.gossip import GOSSIP_PROTOCOL
from hearthmesh.node.transport.hello import (
    AGENT,
    HELLO_VERSION,
    WIRE_VERSION,
    Hello,
    Refused,
    Reject,
    Welcome,
    decode_greeting,
    encode_greeting,
    judge,
)
from hearthmesh.node.transport.link import LENGTH, STREAM_GONE, greeting_frame
from hearthmesh.node.transport.streams import bytes_of

from .village import Village, Villager, eventually, linked, village


@given(st.binary(max_size=300))
def test_greeting_of_any_bytes_is_decoded_or_refused(data: bytes) -> None:
    try:
        decode_greeting(data)
    except DecodeError:
        pass


@pytest.mark.parametrize("greeting", [Welcome(), Reject("no"), Hello(1, b"m" * 32, b"c", 1, AGENT, b"12345678")])
def test_greetings_round_trip(greeting: Hello | Welcome | Reject) -> None:
    assert decode_greeting(encode_greeting(greeting)) == greeting


def test_hello_is_judged_by_version_mesh_wire_and_certificate() -> None:
    authority, peer = Identity.generate(), Identity.generate()
    policy = MembershipPolicy(MeshDefinition("m", (authority.node_id,)))
    mesh_id = policy.mesh.mesh_id
    for hello, reason in (
        (Hello(HELLO_VERSION + 1, mesh_id, b"", WIRE_VERSION, "", bytes(8)), "link version"),
        (Hello(HELLO_VERSION, bytes(32), b"", WIRE_VERSION, "", bytes(8)), "another mesh"),
        (Hello(HELLO_VERSION, mesh_id, b"", WIRE_VERSION + 1, "", bytes(8)), "wire version"),
        (Hello(HELLO_VERSION, mesh_id, b"junk", WIRE_VERSION, "", bytes(8)), "malformed"),
    ):
        with pytest.raises(Refused, match=reason):
            judge(hello, peer.node_id, policy, 0)


async def answer_of(guest: Villager, host: Villager, protocol: str) -> bytes:
    """What a stranger's stream gets back; nothing if it gets no stream."""
    connection = await guest.links._direct_connection(host.id)
    if connection is None:
        return b""
    try:
        stream = await guest.links._host.open_stream(connection, protocol)
        await stream.write(b"\x00" * 8)
        return await stream.read(1)
    except (*STREAM_GONE, trio.TooSlowError):
        return b""


async def refused(mesh: Village, guest: Villager, reason: str) -> None:
    """The guest dials a node of the mesh, is told why not, and no protocol works for it."""
    host = await mesh.settle(relay_service=True)
    guest.knows(host)
    guest.links.connect(host.id)
    await guest.seen.until(lambda: guest.seen.rejected)
    assert reason in guest.seen.rejected[0][1]
    await host.seen.until(lambda: host.seen.rejected)
    assert not host.seen.connected
    await eventually(lambda: not host.links._host.connections())
    for protocol in (BLOB_PROTOCOL, GOSSIP_PROTOCOL, HOP_PROTOCOL, STOP_PROTOCOL):
        assert await answer_of(guest, host, protocol) == b"", f"{protocol} answered a stranger"


async def test_node_of_another_mesh_is_told_and_gets_no_stream() -> None:
    async with village() as mesh, village("elsewhere") as other:
        await refused(mesh, await other.settle(), "another mesh")


async def test_expired_certificate_is_told_and_gets_no_stream() -> None:
    async with village() as mesh:
        identity = Identity.generate()
        certificate = mesh.certify(identity, begins_s=-7200, lasts_s=3600)
        await refused(mesh, await mesh.settle(identity=identity, certificate=certificate), "expired")


async def test_certificate_of_somebody_else_is_told_and_gets_no_stream() -> None:
    async with village() as mesh:
        certificate = mesh.certify(Identity.generate())
        await refused(mesh, await mesh.settle(certificate=certificate), "of another node")


async def test_two_meshes_on_one_network_do_not_mix() -> None:
    async with village() as mesh, village("elsewhere") as other:
        ours, theirs = await mesh.neighbours(2), await other.neighbours(2)
        for node in ours:
            node.knows(*theirs)
        await linked(*ours)
        await linked(*theirs)
        ours[0].links.send(theirs[0].id, [b"psst"])
        await ours[0].seen.until(lambda: ours[0].seen.unreachable)
        assert not theirs[0].seen.messages
        assert [link.peer for link in theirs[0].links.peers()] == [theirs[1].id]


async def test_revoked_node_is_told_when_it_comes_back() -> None:
    async with village() as mesh:
        host, guest = await mesh.neighbours(2)
        host.policy.add_revocations(revoke(mesh.authority, mesh.mesh, [guest.certificate.serial]).to_bytes())
        guest.links.connect(host.id)
        await guest.seen.until(lambda: guest.seen.rejected)
        assert "revoked" in guest.seen.rejected[0][1]


@pytest.mark.parametrize(
    "opening",
    [
        b"\xff" * 64,
        os.urandom(4096),
        LENGTH.pack(4 << 20),
        LENGTH.pack(5) + b"hello",
        greeting_frame(Welcome()),
        LENGTH.pack((1 << 31) | 4) + b"\x93\x00\x01\x02",
    ],
    ids=["ones", "random", "a huge payload", "a payload", "welcome first", "half a hello"],
)
async def test_garbage_instead_of_a_hello_is_refused_and_the_connection_ends(opening: bytes) -> None:
    async with village() as mesh:
        host, guest = await mesh.neighbours(2)
        connection = await guest.links._direct_connection(host.id)
        assert connection is not None
        stream = bytes_of(await guest.links._host.open_stream(connection, LINK_PROTOCOL))
        await stream.write(opening)
        answer = b""
        with pytest.raises(STREAM_GONE):
            while True:
                answer += await stream.read(4096)
        assert b"malformed greeting" in answer
        await eventually(lambda: not host.links._host.connections())
        await linked(guest, host)


async def test_silent_stranger_is_dropped() -> None:
    async with village() as mesh:
        host, guest = await mesh.neighbours(2)
        connection = await guest.links._direct_connection(host.id)
        assert connection is not None
        await eventually(lambda: connection.is_closed)
        await eventually(lambda: not host.links._host.connections())
