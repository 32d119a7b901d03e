"""The simulator's network: what a relay carries, who can reach whom, and lines that all of a machine's links share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hearthmesh.protocol.effects import Disconnect, FetchBlobs
from hearthmesh.protocol.messages import Ping
from hearthmesh.testnet.simulator import reservations
from hearthmesh.testnet.simulator.blobs import PIECE_BYTES
from hearthmesh.testnet.simulator.circuits import CIRCUITS_TO_ONE_MAX, Circuit
from hearthmesh.testnet.simulator.dice import stream
from hearthmesh.testnet.simulator.engine import MS, SECOND
from hearthmesh.testnet.simulator.life import Life
from hearthmesh.testnet.simulator.links import (
    ACCESS,
    DIAL_TIMEOUT_US,
    KEEPALIVE_LEAST_US,
    KEEPALIVE_MOST_US,
    Access,
    Line,
    Nat,
)
from hearthmesh.testnet.simulator.machine import Machine
from hearthmesh.testnet.simulator.network import Cut
from hearthmesh.testnet.simulator.plan import Plan
from hearthmesh.testnet.simulator.reservations import RETRY_MOST_US
from hearthmesh.testnet.simulator.run import play_world
from hearthmesh.testnet.simulator.world import World

BEHIND_NAT = Plan(seed=3, nodes=8, nat=1.0, jobs=(), active_us=15 * SECOND, bound_us=0, stops_early=False)
FIRST = 1_000_000


@contextmanager
def _street(plan: Plan = BEHIND_NAT) -> Iterator[World]:
    with play_world(plan) as world:
        assert not world.checkers.violations
        yield world


def _circuits(world: World) -> list[Circuit]:
    """Between nodes."""
    found = {
        id(link): link
        for machine in world.nodes
        if machine.life is not None
        for link in machine.life.links.values()
        if isinstance(link, Circuit)
    }
    return list(found.values())


class Pings:
    """What one sends the other from now on, and when it comes."""

    def __init__(self, world: World, sender: Life, target: Life, monkeypatch: pytest.MonkeyPatch) -> None:
        self._world, self._sender, self._target = world, sender, target
        self._sent = 0
        self.came: list[tuple[int, int]] = []
        receive = Life.receive

        def heard(life: Life, peer: bytes, message: object, checksum: int) -> None:
            if life is target and peer == sender.machine.id and isinstance(message, Ping) and message.request >= FIRST:
                self.came.append((message.request - FIRST, world.engine.now_us))
            receive(life, peer, message, checksum)  # type: ignore[arg-type]

        monkeypatch.setattr(Life, "receive", heard)

    def send(self, count: int, apart_us: int) -> None:
        for _ in range(count):
            ping = Ping(FIRST + self._sent, ())
            at_us = self._world.engine.now_us + self._sent * apart_us
            self._world.engine.at(at_us, self._world.network.send, self._sender, self._target.machine.id, ping)
            self._sent += 1

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.came]


def _run(world: World, us: int) -> None:
    world.engine.run(world.engine.now_us + us)


@pytest.mark.parametrize("hurt", ["freeze", "cut"])
def test_nothing_comes_over_a_relay_that_is_frozen_or_cut_off_and_the_connection_ends(
    hurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _street() as world:
        circuit = _circuits(world)[0]
        relay = circuit.carrier.machine
        pings = Pings(world, *circuit.ends, monkeypatch)
        _run(world, MS)
        if hurt == "freeze":
            world.freeze(relay)
        else:
            world.network.cut(Cut(frozenset({relay.index})))
        before_us = world.engine.now_us
        world.network.send(circuit.ends[0], circuit.ends[1].machine.id, Ping(FIRST, ()))
        _run(world, KEEPALIVE_LEAST_US - SECOND)
        assert not pings.came and all(circuit.open)
        _run(world, KEEPALIVE_MOST_US + SECOND)
        assert not any(circuit.open) and world.engine.now_us - before_us < 11 * SECOND
        assert not pings.came


@pytest.mark.parametrize("hurt", ["freeze", "cut"])
def test_what_waits_for_a_relay_goes_on_in_order_when_it_answers_in_time(
    hurt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _street() as world:
        circuit = _circuits(world)[0]
        relay, pings = circuit.carrier.machine, Pings(world, *circuit.ends, monkeypatch)
        cut = Cut(frozenset({relay.index}))
        _ = world.freeze(relay) if hurt == "freeze" else world.network.cut(cut)
        pings.send(40, 50 * MS)
        _run(world, SECOND)
        assert not pings.came
        _ = world.thaw(relay) if hurt == "freeze" else world.network.heal(cut)
        _run(world, 2 * SECOND)
        assert pings.numbers == list(range(40))


def test_a_relay_that_dies_takes_what_it_carries_with_it() -> None:
    with _street() as world:
        circuit = _circuits(world)[0]
        world.kill(circuit.carrier.machine)
        _run(world, 100 * MS)
        assert not any(circuit.open)


def test_one_who_loses_its_link_with_the_relay_loses_the_circuit_and_the_other_end_is_told() -> None:
    with _street() as world:
        circuit = _circuits(world)[0]
        one, relay = circuit.ends[0], circuit.carrier.machine
        world.network.close(one, relay.index, reset=False)
        assert not circuit.open[0]
        _run(world, 100 * MS)
        assert not circuit.open[1]


def test_a_circuit_is_as_far_as_both_legs_and_takes_of_the_relays_uplink() -> None:
    with _street(Plan(seed=1, nodes=6, access="home", nat=1.0, jobs=(), bound_us=0, stops_early=False)) as world:
        circuit = _circuits(world)[0]
        assert circuit.latency_us == sum(circuit.legs_us)
        line, sent_us = circuit.carrier.machine.line, circuit.carrier.machine.line.sent_us
        world.network.send_raw(circuit.ends[0], circuit.ends[1].machine.id, bytes(250_000))
        _run(world, SECOND)
        assert line.sent_us >= sent_us + 100 * MS


def _dial(world: World, source: Machine, target: Machine) -> int:
    """How long it took until both had a link; -1 if none was made."""
    life, ended = source.life, list[int]()
    assert life is not None and target.life is not None
    if target.index in life.links:
        world.network.close(life, target.index, reset=False)
    began_us = world.engine.now_us
    life.failed_dials.clear()
    world.network.when_linked(life, target, lambda: ended.append(world.engine.now_us))
    _run(world, 4 * DIAL_TIMEOUT_US)
    assert ended
    return ended[0] - began_us if target.index in life.links else -1


def test_who_is_behind_a_nat_is_reached_over_a_relay_by_all_but_those_of_its_house() -> None:
    plan = Plan(seed=5, nodes=12, nat=1.0, access="home", jobs=(), active_us=15 * SECOND, bound_us=0, stops_early=False)
    with _street(plan) as world:
        hidden = [machine for machine in world.nodes if machine.nat is Nat.RELAYED]
        listening = [machine for machine in world.nodes if machine.nat is Nat.HOUSE]
        mate = next((a, b) for b in listening for a in world.nodes if a.site == b.site and a is not b)
        stranger = next(machine for machine in hidden if machine.site != listening[0].site)
        assert 0 < _dial(world, *mate) < SECOND
        assert mate[0].life is not None and not isinstance(mate[0].life.links[mate[1].index], Circuit)
        # The private address is tried first, and nobody has it here.
        assert DIAL_TIMEOUT_US <= _dial(world, stranger, listening[0])
        assert 0 < _dial(world, listening[0], stranger) < SECOND
        assert listening[0].life is not None and isinstance(listening[0].life.links[stranger.index], Circuit)
        for relay in stranger.relays:
            world.kill(world.machines[relay])
        _run(world, SECOND)
        assert _dial(world, listening[0], stranger) == -1


def test_a_relay_carries_so_much_to_one_node_and_no_more() -> None:
    plan = Plan(seed=2, nodes=48, nat=1.0, access="home", jobs=(), active_us=SECOND, bound_us=0, stops_early=False)
    with _street(plan) as world:
        target = next(machine for machine in world.nodes if machine.nat is Nat.RELAYED)
        others = [other for other in world.nodes[3:] if other is not target and other.life is not None]
        assert target.life is not None
        for other in others:
            world.network.close(target.life, other.index, reset=False)
        _run(world, 50 * MS)
        for other in others:
            assert other.life is not None
            world.network.dial(other.life, target)
        _run(world, SECOND)
        carried = [circuit for circuit in _circuits(world) if circuit.ends[1].machine is target]
        by_relay = [sum(each.carrier.machine.index == relay for each in carried) for relay in target.relays]
        assert max(by_relay) == CIRCUITS_TO_ONE_MAX < len(others)


def _places(world: World, relay: int) -> list[int]:
    life = world.machines[relay].life
    assert life is not None
    return list(life.places)


def test_a_place_with_a_relay_lasts_as_long_as_the_link_and_is_asked_for_anew() -> None:
    with _street() as world:
        hidden = next(machine for machine in world.nodes if machine.relays)
        relay = hidden.relays[0]
        assert hidden.life is not None and hidden.index in _places(world, relay)
        hidden.life._disconnect(Disconnect(world.machines[relay].id, "to see"))
        # The goodbye is there, and no new link yet.
        _run(world, MS)
        assert hidden.index not in _places(world, relay)
        _run(world, SECOND)
        assert hidden.index in _places(world, relay)


@pytest.mark.parametrize("ends", [World.kill, World.cut_power, World.freeze])
def test_the_place_of_one_who_is_gone_is_anothers(
    ends: Callable[[World, Machine], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "RESERVATIONS_MAX", 1)
    with _street() as world:
        relay = next(relay for relay in range(3) if sum(relay in machine.relays for machine in world.nodes) > 1)
        (holder,) = _places(world, relay)
        ends(world, world.machines[holder])
        _run(world, RETRY_MOST_US + KEEPALIVE_MOST_US + SECOND)
        (other,) = _places(world, relay)
        assert other != holder


def test_what_came_after_a_partition_does_not_overtake_what_waited_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with _street(Plan(seed=1, nodes=4, access="wan", jobs=(), bound_us=0, stops_early=False)) as world:
        a, b = world.nodes[0].life, world.nodes[1].life
        assert a is not None and b is not None
        pings = Pings(world, a, b, monkeypatch)
        cut = Cut(frozenset({a.machine.index}))
        world.network.cut(cut)
        pings.send(300, 2 * MS)
        _run(world, 200 * MS)
        assert not pings.came
        world.network.heal(cut)
        _run(world, 2 * SECOND)
        assert pings.numbers == list(range(300))


def test_all_links_of_a_machine_share_its_uplink() -> None:
    dice = stream(1, "line")
    home, others = Line(ACCESS[Access.HOME]), [Line(ACCESS[Access.LAN]) for _ in range(5)]
    came_us = [home.crossed_us(other, 0, 250_000, 0, dice) for other in others]
    assert came_us == [100 * MS * (number + 1) for number in range(5)]


def test_what_many_send_to_one_waits_for_its_downlink() -> None:
    dice = stream(1, "line")
    home, others = Line(ACCESS[Access.HOME]), [Line(ACCESS[Access.LAN]) for _ in range(5)]
    came_us = [other.crossed_us(home, 0, 1_250_000, 0, dice) for other in others]
    assert came_us == [100 * MS] * 5
    taken_us = [home.taken_at_us(1_250_000, at_us) for at_us in came_us]
    assert taken_us == [100 * MS + number * (100 * MS + 1) + 1 for number in range(5)]


def test_blobs_and_messages_of_a_machine_share_its_uplink(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(seed=1, nodes=4, access="home", jobs=(), active_us=SECOND, bound_us=0, stops_early=False)
    with _street(plan) as world:
        source, near, far = world.nodes[0], world.nodes[2], world.nodes[3]
        assert source.life is not None and near.life is not None and far.life is not None
        digest = bytes(32)
        # A second's worth of its uplink, for each of them.
        world.blobs.put(source.index, digest, 2_500_000)
        for life in (near.life, far.life):
            world.blobs.fetch(life, FetchBlobs(b"?", (digest,), (source.id,), b""))
        pings = Pings(world, source.life, far.life, monkeypatch)
        _run(world, 500 * MS)
        began_us = world.engine.now_us
        pings.send(1, 0)
        _run(world, 1_400 * MS)
        assert not world.blobs.holds(near.index, digest) and not world.blobs.holds(far.index, digest)
        # It waited for two pieces of the blob, and not for all of it.
        assert 40 * MS < pings.came[0][1] - began_us < 200 * MS
        _run(world, 300 * MS)
        assert world.blobs.holds(near.index, digest) and world.blobs.holds(far.index, digest)


def test_a_blob_goes_on_from_the_next_source_where_the_first_one_broke_off() -> None:
    plan = Plan(seed=1, nodes=4, access="home", jobs=(), active_us=SECOND, bound_us=0, stops_early=False)
    with _street(plan) as world:
        one, other, wants = world.nodes[0], world.nodes[1], world.nodes[3]
        assert wants.life is not None
        digest = bytes(32)
        for source in (one, other):
            world.blobs.put(source.index, digest, 2_500_000)
        world.blobs.fetch(wants.life, FetchBlobs(b"?", (digest,), (one.id, other.id), b""))
        _run(world, 600 * MS)
        world.kill(one)
        _run(world, 600 * MS)
        assert world.blobs.holds(wants.index, digest)


HURTS: dict[str, Callable[[World, Machine], object]] = {
    "freeze": World.freeze,
    "kill": World.kill,
    "cut": lambda world, machine: world.network.cut(Cut(frozenset({machine.index}))),
}


@pytest.mark.parametrize("hurt", HURTS)
def test_the_last_piece_of_a_blob_does_not_come_over_a_relay_that_is_silent_or_gone(hurt: str) -> None:
    with _street() as world:
        circuit = _circuits(world)[0]
        source, wants = circuit.ends
        _fetch_whole(world, source, wants)
        # It has left, and is not at the relay.
        _run(world, circuit.latency_us + 100)
        HURTS[hurt](world, circuit.carrier.machine)
        _run(world, KEEPALIVE_LEAST_US)
        assert not world.blobs.holds(wants.machine.index, BLOB)


@pytest.mark.parametrize("hurt", ["cut", "closed"])
def test_the_last_piece_of_a_blob_does_not_come_over_a_link_that_is_cut_or_closed(hurt: str) -> None:
    with _street(Plan(seed=1, nodes=4, jobs=(), active_us=SECOND, bound_us=0, stops_early=False)) as world:
        source, wants = world.nodes[0].life, world.nodes[3].life
        assert source is not None and wants is not None
        link = wants.links[source.machine.index]
        _fetch_whole(world, source, wants)
        _run(world, link.latency_us + 100)
        if hurt == "cut":
            HURTS[hurt](world, wants.machine)
        else:
            world.network.close(wants, source.machine.index)
        _run(world, KEEPALIVE_LEAST_US)
        assert not world.blobs.holds(wants.machine.index, BLOB)


BLOB = bytes(32)


def _fetch_whole(world: World, source: Life, wants: Life) -> None:
    """Ask for a blob of one piece."""
    world.blobs.put(source.machine.index, BLOB, PIECE_BYTES)
    world.blobs.fetch(wants, FetchBlobs(b"?", (BLOB,), (source.machine.id,), b""))
