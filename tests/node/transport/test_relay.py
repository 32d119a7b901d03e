"""A node that accepts no connection is reached through a relay, and is a full member."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from hearthmesh.crypto.certificates import Role, issue
from hearthmesh.crypto.identity import Identity, peer_id_text
from hearthmesh.node.transport.circuits import HOP_PROTOCOL
from hearthmesh.node.transport.relay import RENEW_MAX_S, RENEW_MIN_S, RelayLimits, renewal_s
from hearthmesh.protocol.limits import Limit

from .village import Village, Villager, eventually, village


async def hidden_behind(mesh: Village, relay: Villager, **config: object) -> Villager:
    node = await mesh.settle(listen=(), relay_through=relay.addresses, **config)  # type: ignore[arg-type]
    await eventually(lambda: node.links.relays)
    return node


async def test_node_without_listener_is_reached_through_a_relay() -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True)
        hidden = await hidden_behind(mesh, relay)
        (address,) = hidden.addresses
        assert "/p2p-circuit/" in address and hidden.links.relays == (relay.id,)
        visitor = await mesh.settle()
        visitor.knows(hidden)
        visitor.links.send(hidden.id, [b"knock"])
        await hidden.seen.until(lambda: (visitor.id, b"knock") in hidden.seen.messages)
        hidden.links.send(visitor.id, [b"come in"])
        await visitor.seen.until(lambda: (hidden.id, b"come in") in visitor.seen.messages)
        (link,) = [link for link in visitor.links.peers() if link.peer == hidden.id]
        assert link.relayed
        (link,) = [link for link in hidden.links.peers() if link.peer == visitor.id]
        assert link.relayed


async def test_all_who_come_by_one_relay_are_of_one_source() -> None:
    """Their common budget is what bounds them: a relay would be a way around it."""
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True)
        hidden = await hidden_behind(mesh, relay)
        visitors = [await mesh.settle(), await mesh.settle()]
        for visitor in visitors:
            visitor.knows(hidden)
            visitor.links.send(hidden.id, [b"knock"])
        await hidden.seen.until(lambda: len(hidden.seen.messages) == 2)
        sources = [hidden.links.source_of(visitor.id) for visitor in visitors]
        assert sources == [f"/p2p/{peer_id_text(relay.id)}"] * 2


async def test_blobs_flow_both_ways_over_a_relay(tmp_path: Path) -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True)
        hidden = await hidden_behind(mesh, relay, store=tmp_path / "hidden")
        visitor = await mesh.settle(store=tmp_path / "visitor")
        visitor.knows(relay)
        visitor.links.learn(hidden.id, (), (relay.id,))
        for source, sink in ((hidden, visitor), (visitor, hidden)):
            blob = os.urandom(3 << 20)
            digest = source.links._transfers._store.put_bytes(blob)  # type: ignore[union-attr]
            await sink.links.fetch_blob(digest, [source.id], 1 << 30)
            assert sink.links._transfers._store.read(digest) == blob  # type: ignore[union-attr]


async def test_circuit_address_is_gone_when_the_relay_is() -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True)
        hidden = await hidden_behind(mesh, relay)
        relay.scope.cancel()
        await eventually(lambda: not hidden.addresses and not hidden.links.relays)


async def test_second_relay_takes_over_when_the_first_goes() -> None:
    async with village() as mesh:
        relays = [await mesh.settle(relay_service=True) for _ in range(2)]
        hidden = await mesh.settle(listen=(), relay_through=relays[0].addresses + relays[1].addresses)
        await eventually(lambda: len(hidden.links.relays) == 2)
        visitor = await mesh.settle()
        visitor.knows(hidden, *relays)
        relays[0].scope.cancel()
        await eventually(lambda: hidden.links.relays == (relays[1].id,))
        visitor.links.send(hidden.id, [b"still there?"])
        await hidden.seen.until(lambda: (visitor.id, b"still there?") in hidden.seen.messages)


async def test_node_that_is_no_relay_reserves_nothing() -> None:
    async with village() as mesh:
        plain = await mesh.settle()
        hopeful = await mesh.settle(listen=(), relay_through=plain.addresses)
        await eventually(lambda: hopeful.links.is_linked(plain.id))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert hopeful.addresses == ()


@pytest.mark.parametrize(
    "limits",
    [RelayLimits(reservations=0), RelayLimits(circuits=0), RelayLimits(circuits_per_peer=0)],
    ids=["reservations", "circuits", "circuits per peer"],
)
async def test_relay_refuses_what_is_over_its_limits(limits: RelayLimits) -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True, relay_limits=limits)
        hidden = await mesh.settle(listen=(), relay_through=relay.addresses)
        await eventually(lambda: hidden.links.is_linked(relay.id))
        if limits.reservations:
            await eventually(lambda: hidden.links.relays)
        visitor = await mesh.settle()
        visitor.knows(relay)
        visitor.links.learn(hidden.id, (), (relay.id,))
        visitor.links.send(hidden.id, [b"no way"])
        await visitor.seen.until(lambda: visitor.seen.unreachable == [hidden.id])
        assert not hidden.seen.messages


async def test_circuit_ends_at_its_limit_and_is_made_anew() -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True, relay_limits=RelayLimits(circuit_bytes=200_000))
        hidden = await hidden_behind(mesh, relay)
        visitor = await mesh.settle()
        visitor.knows(hidden, relay)
        visitor.links.send(hidden.id, [bytes(150_000)])
        await hidden.seen.until(lambda: hidden.seen.messages)
        visitor.links.send(hidden.id, [bytes(150_000)])
        await visitor.seen.until(lambda: (hidden.id, True) in visitor.seen.lost)
        visitor.links.send(hidden.id, [b"again"])
        await hidden.seen.until(lambda: (visitor.id, b"again") in hidden.seen.messages)


async def test_relay_serves_no_stranger() -> None:
    async with village() as mesh, village("another") as other:
        relay = await mesh.settle(relay_service=True)
        stranger = await other.settle(listen=(), relay_through=relay.addresses)
        await stranger.seen.until(lambda: stranger.seen.rejected)
        assert "another mesh" in stranger.seen.rejected[0][1]
        assert stranger.addresses == ()


async def test_garbage_on_the_hop_protocol_ends_its_stream_only() -> None:
    async with village() as mesh:
        relay = await mesh.settle(relay_service=True)
        rude = await mesh.settle()
        rude.knows(relay)
        for garbage in (b"\xff" * 64, b"\x05hello", b"\x00", b"\x02\x08\x07"):
            stream = await rude.links.open_peer_stream(relay.id, HOP_PROTOCOL)
            await stream.write(garbage)
            await stream.close()
        rude.links.send(relay.id, [b"sorry"])
        await relay.seen.until(lambda: (rude.id, b"sorry") in relay.seen.messages)


@pytest.mark.parametrize(
    ("left_s", "renewal"),
    [(3600.0, RENEW_MAX_S), (600.0, 300.0), (-86_400.0, RENEW_MIN_S), (3600.0 + 86_400.0, RENEW_MAX_S)],
)
def test_a_reservation_is_renewed_in_time_whatever_the_clocks_say(left_s: float, renewal: float) -> None:
    """With the relay's clock a day ahead, half of what seems left would be long after the reservation is gone."""
    assert renewal_s(1_000_000.0 + left_s, 1_000_000.0) == renewal <= RelayLimits().reservation_s / 2


async def test_nobody_goes_through_a_relay_whose_certificate_grants_no_such_role() -> None:
    async with village() as mesh:
        identity, now_s = Identity.generate(), int(time.time())
        plain = issue(mesh.authority, mesh.mesh, identity.node_id, Role.WORKER, now_s - 60, now_s + 3600, "plain")
        pretender = await mesh.settle(identity=identity, certificate=plain)
        node = await mesh.settle()
        node.knows(pretender)
        with pytest.raises(OSError, match="grants no role relay"):
            await node.links.open_peer_stream(pretender.id, HOP_PROTOCOL)
        assert node.links.meter.counts[Limit.ROLE] == 1
