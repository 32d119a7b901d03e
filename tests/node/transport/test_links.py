"""One link per pair, dialled on demand, bounded, and ended with a reason."""

from __future__ import annotations

import gc
import struct

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.certificates import revoke
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.transport.gate import LINK_PROTOCOL
from hearthmesh.node.transport.link import FrameBuffer, FrameError, LinkLimits
from hearthmesh.node.transport.streams import bytes_of

from .village import Villager, eventually, linked, village


@given(st.lists(st.binary(max_size=300), max_size=20), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(struct.pack("!I", len(payload)) + payload for payload in payloads)
    frames, found, position = FrameBuffer(300), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        frames.feed(stream[position : position + size])
        position += size
        while (frame := frames.next()) is not None:
            found.append(frame)
    assert found == [(False, payload) for payload in payloads]


def test_frame_over_the_limit_is_an_error_before_its_bytes_arrive() -> None:
    frames = FrameBuffer(100)
    frames.feed(struct.pack("!I", 101))
    with pytest.raises(FrameError):
        frames.next()


async def test_first_message_dials_and_answers_come_back() -> None:
    async with village() as mesh:
        one, other = await mesh.settle(), await mesh.settle()
        one.knows(other)
        one.links.send(other.id, [b"hello"])
        await other.seen.until(lambda: other.seen.messages == [(one.id, b"hello")])
        assert other.seen.connected == [one.id]
        other.links.send(one.id, [b"hello back"])
        await one.seen.until(lambda: one.seen.messages == [(other.id, b"hello back")])
        (mine,), (theirs,) = one.links.peers(), other.links.peers()
        assert mine.dialled and not theirs.dialled and not mine.relayed


async def test_pure_client_is_answered_over_the_link_that_it_dialled() -> None:
    async with village() as mesh:
        server = await mesh.settle()
        client = await mesh.settle(listen=(), bootstrap=server.addresses)
        await server.seen.until(lambda: server.seen.connected == [client.id])
        server.links.send(client.id, [b"work"])
        await client.seen.until(lambda: client.seen.messages == [(server.id, b"work")])


async def test_messages_keep_their_order_and_size() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        payloads = [bytes([n % 251]) * (n * 977 % 70_000) for n in range(200)] + [bytes(4 << 20)]
        for payload in payloads:
            one.links.send(other.id, [payload])
        await one.links.flush(10.0)
        await other.seen.until(lambda: len(other.seen.messages) == len(payloads))
        assert [payload for _, payload in other.seen.messages] == payloads


async def test_simultaneous_dials_leave_one_link_and_lose_nothing() -> None:
    async with village() as mesh:
        for _ in range(10):
            one, other = await mesh.neighbours(2)
            for number in range(50):
                one.links.send(other.id, [b"%d" % number])
                other.links.send(one.id, [b"%d" % number])
            expected = [b"%d" % number for number in range(50)]
            for node in (one, other):
                await node.seen.until(lambda node=node: len(node.seen.messages) >= 50)
                assert sorted(payload for _, payload in node.seen.messages) == sorted(expected)
                assert len(node.seen.connected) == 1 and len(node.links.peers()) == 1
                assert not node.seen.lost and not node.seen.unreachable


def ends(node: Villager) -> list[bool]:
    """For each link, retired ones included, whether it was dialled here."""
    return [link.dialled for link in node.links._connections]


@pytest.mark.parametrize("smaller_dials_first", [True, False])
async def test_twin_links_resolve_alike_on_both_sides(smaller_dials_first: bool) -> None:
    async with village() as mesh:
        one, other = sorted(await mesh.neighbours(2), key=lambda node: node.id, reverse=not smaller_dials_first)
        one.links.connect(other.id)
        other.links.connect(one.id)
        await eventually(lambda: ends(one) + ends(other) in ([True, False], [False, True]))
        one.links.send(other.id, [b"there"])
        other.links.send(one.id, [b"back"])
        await other.seen.until(lambda: other.seen.messages)
        await one.seen.until(lambda: one.seen.messages)


async def test_peer_without_address_is_unreachable_and_told_once() -> None:
    async with village() as mesh:
        one = await mesh.settle()
        nobody = Identity.generate().node_id
        for _ in range(5):
            one.links.send(nobody, [b"anybody?"])
        await one.seen.until(lambda: one.seen.unreachable)
        assert one.seen.unreachable == [nobody] and one.links.dropped_frames == 5


async def test_dead_first_address_does_not_hide_the_second() -> None:
    async with village() as mesh:
        one, other = await mesh.settle(), await mesh.settle()
        one.links.learn(other.id, ("/ip4/127.0.0.1/tcp/1", *other.addresses), ())
        one.links.send(other.id, [b"found"])
        await other.seen.until(lambda: other.seen.messages)


async def test_address_of_somebody_else_makes_no_link() -> None:
    async with village() as mesh:
        one, other, third = [await mesh.settle() for _ in range(3)]
        base = third.addresses[0].partition("/p2p/")[0]
        one.links.learn(other.id, (base,), ())
        one.links.send(other.id, [b"for your eyes only"])
        await one.seen.until(lambda: one.seen.unreachable == [other.id])
        assert not third.seen.messages and not third.seen.connected


async def test_frames_for_a_peer_being_dialled_are_bounded() -> None:
    async with village() as mesh:
        one, other = await mesh.settle(pending_frames=10, pending_bytes=1000), await mesh.settle()
        one.knows(other)
        for _ in range(20):
            one.links.send(other.id, [bytes(10)])
        await other.seen.until(lambda: len(other.seen.messages) == 10)
        assert one.links.dropped_frames == 10


async def test_an_owner_without_room_is_given_nothing_until_it_has_some() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        other.seen.has_room_now = False
        before = other.links.peers()[0].received_bytes
        one.links.send(other.id, [b"first"])
        one.links.send(other.id, [b"second"])
        await eventually(lambda: other.links.peers()[0].received_bytes > before)
        assert other.seen.messages == []
        other.seen.make_room()
        await other.seen.until(lambda: len(other.seen.messages) == 2)
        assert [payload for _, payload in other.seen.messages] == [b"first", b"second"]


async def test_frames_before_a_broken_one_arrive() -> None:
    async with village() as mesh:
        small, big = await mesh.settle(limits=LinkLimits(max_frame_bytes=1000)), await mesh.settle()
        big.knows(small)
        big.links.send(small.id, [b"good", b"good too", bytes(1001), b"too late"])
        await small.seen.until(lambda: small.seen.lost)
        assert [payload for _, payload in small.seen.messages] == [b"good", b"good too"]


async def test_oversized_frame_ends_the_link_with_its_reason() -> None:
    async with village() as mesh:
        small, big = await mesh.settle(limits=LinkLimits(max_frame_bytes=1000)), await mesh.settle()
        big.knows(small)
        big.links.send(small.id, [bytes(1001)])
        await big.seen.until(lambda: big.seen.lost)
        assert big.seen.lost == [(small.id, False)]
        assert "at most 1000 allowed" in big.seen.rejected[0][1]
        await small.seen.until(lambda: small.seen.lost)


async def test_peer_that_reads_nothing_loses_the_link_and_fills_no_memory() -> None:
    async with village() as mesh:
        one, other = await mesh.settle(limits=LinkLimits(queue_bytes=1 << 20, stall_s=0.3)), await mesh.settle()
        other.knows(one)
        connection = await other.links._direct_connection(one.id)
        assert connection is not None
        stream = await other.links._host.open_stream(connection, LINK_PROTOCOL)
        await other.links._gate.greet(bytes_of(stream), one.id, dialled=True)
        await one.seen.until(lambda: one.seen.connected)
        for _ in range(64):
            one.links.send(other.id, [bytes(1 << 18)])
            assert sum(peer.queue_bytes for peer in one.links.peers()) <= 1 << 20
            await trio.sleep(0)
        await one.seen.until(lambda: one.seen.lost)
        assert one.links.dropped_frames > 0


async def test_closing_tells_why_after_what_was_sent() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        for number in range(100):
            one.links.send(other.id, [b"%d" % number])
        one.links.close(other.id, "we are moving")
        await other.seen.until(lambda: other.seen.lost == [(one.id, False)])
        await one.seen.until(lambda: one.seen.lost == [(other.id, False)])
        assert len(other.seen.messages) == 100
        assert other.seen.rejected == [(one.id, "we are moving")]


async def test_node_that_goes_is_lost_by_reset() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        other.scope.cancel()
        await one.seen.until(lambda: one.seen.lost == [(other.id, True)])


async def test_restarted_peer_replaces_its_dead_link() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        port = other.addresses[0].split("/")[4]
        other.scope.cancel()
        again = await mesh.settle(identity=other.identity, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
        again.knows(one)
        again.links.send(one.id, [b"I am back"])
        await one.seen.until(lambda: one.seen.messages == [(other.id, b"I am back")])
        assert one.seen.lost == [(other.id, True)]


async def test_partition_drops_links_refuses_new_ones_and_heals() -> None:
    async with village() as mesh:
        one, other, third = await mesh.neighbours(3)
        await linked(one, other)
        await linked(one, third)
        one.links.block([other.id])
        await other.seen.until(lambda: other.seen.lost)
        one.links.send(other.id, [b"lost"])
        await one.seen.until(lambda: one.seen.unreachable == [other.id])
        other.links.send(one.id, [b"lost too"])
        await other.seen.until(lambda: other.seen.unreachable == [one.id])
        one.links.send(third.id, [b"still here"])
        await third.seen.until(lambda: third.seen.messages)
        one.links.block(None)
        one.links.send(other.id, [b"healed"])
        await other.seen.until(lambda: other.seen.messages == [(one.id, b"healed")])


async def test_partition_may_name_those_who_stay() -> None:
    async with village() as mesh:
        one, other, third = await mesh.neighbours(3)
        await linked(one, other)
        await linked(one, third)
        one.links.block([third.id], others=True)
        await other.seen.until(lambda: other.seen.lost)
        assert one.links.is_linked(third.id)


async def test_revoked_peer_loses_its_link_and_is_told() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)
        await linked(one, other)
        revocation = revoke(mesh.authority, mesh.mesh, [other.certificate.serial])
        assert one.policy.add_revocations(revocation.to_bytes())
        one.links.recheck()
        await other.seen.until(lambda: other.seen.lost)
        assert "revoked" in other.seen.rejected[0][1]
        assert "revoked" in one.seen.rejected[0][1]
        other.links.send(one.id, [b"let me in"])
        await other.seen.until(lambda: other.seen.unreachable)
        assert not one.seen.messages


async def test_links_are_as_many_as_allowed() -> None:
    async with village() as mesh:
        host = await mesh.settle(max_links=2)
        guests = [await mesh.settle() for _ in range(3)]
        for guest in guests:
            guest.knows(host)
        await linked(guests[0], host)
        await linked(guests[1], host)
        guests[2].links.connect(host.id)
        await guests[2].seen.until(lambda: guests[2].seen.rejected)
        assert "full" in guests[2].seen.rejected[0][1]
        assert len(host.links.peers()) == 2


async def test_bootstrap_goes_on_until_somebody_is_there_and_again_when_all_are_gone() -> None:
    async with village() as mesh:
        first = await mesh.settle()
        address = first.addresses[0]
        base = address.partition("/p2p/")[0]
        first.scope.cancel()
        await first.gone.wait()
        node = await mesh.settle(listen=(), bootstrap=(address,))
        for _ in range(2):
            again = await mesh.settle(identity=first.identity, listen=(base,))
            await node.seen.until(lambda: node.links.is_linked(first.id))
            again.scope.cancel()
            await node.seen.until(lambda: not node.links.is_linked(first.id))
            await again.gone.wait()


async def test_connecting_and_disconnecting_again_and_again_leaks_nothing() -> None:
    async with village() as mesh:
        one, other = await mesh.neighbours(2)

        async def visit() -> None:
            one.links.connect(other.id)
            await one.seen.until(lambda: one.links.is_linked(other.id))
            await other.seen.until(lambda: other.links.is_linked(one.id))
            one.links.close(other.id, "")
            await one.seen.until(lambda: not one.links.is_linked(other.id))
            await other.seen.until(lambda: not other.links.is_linked(one.id))
            await eventually(lambda: not one.links._host.connections() and not other.links._host.connections())

        for _ in range(5):
            await visit()
        gc.collect()
        tasks, objects = trio.lowlevel.current_statistics().tasks_living, len(gc.get_objects())
        for _ in range(40):
            await visit()
        gc.collect()
        await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks + 4)
        assert len(gc.get_objects()) - objects < 40 * 200
        for node in (one, other):
            links = node.links
            assert not links._connections and not len(links._waiting) and not links._greeting and not links._dialling
