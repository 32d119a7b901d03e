"""Faults of a run: what each does, and how those that overlap add up."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from hearthmesh.protocol.effects import Notify
from hearthmesh.testnet.simulator.engine import HOUR, MS, SECOND
from hearthmesh.testnet.simulator.network import FAIR
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, Plan
from hearthmesh.testnet.simulator.run import play
from hearthmesh.testnet.simulator.world import World


@pytest.mark.parametrize("step_us", [-HOUR, -1, 700_000, HOUR])
def test_a_clock_is_set_by_its_own_step_however_long_the_fault_lasts(step_us: int) -> None:
    faults = tuple(Fault(FaultKind.CLOCK, 0, lasts_us, (1,), step_us) for lasts_us in (SECOND, 9 * SECOND))
    with World.opened(Plan(seed=1, nodes=3, jobs=(), faults=faults)) as world:
        machine = world.nodes[1]
        world.engine.run(world.settled_us - 1)
        life = machine.life
        assert life is not None
        before_us = life.mesh.ctx.wall_offset_us
        world.engine.run(world.calm_us)
        assert machine.clock.skew_us == 2 * step_us
        assert life.mesh.ctx.wall_offset_us - before_us == 2 * step_us


@contextmanager
def hurt(*faults: Fault) -> Iterator[World]:
    """Three nodes, of which n1 is the target; as they have settled."""
    plan = Plan(seed=1, nodes=3, jobs=(), faults=faults, active_us=9 * SECOND)
    with World.opened(plan) as world:
        world.engine.run(world.settled_us - 1)
        yield world


def after(world: World, us: int) -> World:
    """As it is so long after the mesh had settled."""
    world.engine.run(world.settled_us + us)
    return world


@pytest.mark.parametrize("kind", [FaultKind.KILL, FaultKind.POWER_CUT, FaultKind.NEW_DISK, FaultKind.DRAIN])
@pytest.mark.parametrize(("first", "second"), [((1, 6), (2, 2)), ((1, 3), (2, 5)), ((1, 60), (2, 60))])
def test_who_is_off_for_two_reasons_is_started_once_at_the_last_mending(
    kind: FaultKind, first: tuple[int, int], second: tuple[int, int]
) -> None:
    """Each: when it begins, and how long it lasts; the last two end when nothing breaks any more."""
    outages = [Fault(k, at * SECOND, s * SECOND, (1,)) for k, (at, s) in ((FaultKind.POWER_CUT, first), (kind, second))]
    end_us = min(9, max(first[0] + first[1], second[0] + second[1])) * SECOND
    with hurt(*outages) as world:
        machine = world.nodes[1]
        assert after(world, SECOND).nodes[1].life is None
        for at_us in range(SECOND, end_us, 500 * MS):
            assert after(world, at_us).nodes[1].life is None and machine.lives == 1
        assert after(world, end_us).nodes[1].life is not None
        life = machine.life
        assert after(world, 12 * SECOND).nodes[1].life is life and machine.lives == 2


def test_who_is_gone_for_good_is_not_brought_back_by_another_faults_mending() -> None:
    with hurt(Fault(FaultKind.KILL, SECOND, 0, (1,)), Fault(FaultKind.POWER_CUT, 2 * SECOND, SECOND, (1,))) as world:
        assert after(world, 12 * SECOND).nodes[1].life is None


def test_who_is_frozen_sleeps_until_the_last_mending_whatever_else_wakes_it() -> None:
    """A starved processor, that gets its turns meanwhile, and a shorter freeze within."""
    starved, frozen = Fault(FaultKind.STARVE, 0, 8 * SECOND, (1,)), Fault(FaultKind.FREEZE, 100 * MS, 6 * SECOND, (1,))
    with hurt(starved, frozen, Fault(FaultKind.FREEZE, 2 * SECOND, SECOND, (1,))) as world:
        for at_us in range(200 * MS, 6 * SECOND, 100 * MS):
            assert after(world, at_us).nodes[1].frozen
        assert not all(after(world, at_us).nodes[1].frozen for at_us in range(6200 * MS, 8 * SECOND, 50 * MS))
        assert not after(world, 9 * SECOND).nodes[1].frozen


def test_a_freeze_is_of_a_process_and_not_of_the_next_one() -> None:
    long, kill = Fault(FaultKind.FREEZE, SECOND, 7 * SECOND, (1,)), Fault(FaultKind.KILL, 2 * SECOND, SECOND, (1,))
    with hurt(long, kill, Fault(FaultKind.FREEZE, 4 * SECOND, SECOND, (1,))) as world:
        assert after(world, 3500 * MS).nodes[1].well
        assert after(world, 4500 * MS).nodes[1].frozen
        assert after(world, 5500 * MS).nodes[1].well
        assert after(world, 9 * SECOND).nodes[1].well


def test_a_full_disk_a_warm_room_and_foul_weather_last_until_the_last_mending() -> None:
    kinds = (FaultKind.FULL_DISK, FaultKind.WARM, FaultKind.WEATHER)
    faults = [Fault(kind, at * SECOND, lasts * SECOND, (1,)) for kind in kinds for at, lasts in ((1, 6), (2, 2))]
    with hurt(*faults) as world:
        machine = world.nodes[1]
        assert machine.sink is not None
        for at_us, hurts in ((1500 * MS, True), (5 * SECOND, True), (7500 * MS, False)):
            after(world, at_us)
            found = machine.disk.full, machine.sink.forced_warm, world.network.weather is not FAIR
            assert found == (hurts, hurts, hurts)


def test_a_death_is_noticed_from_the_first_of_two_faults_on() -> None:
    cut, kill = Fault(FaultKind.POWER_CUT, SECOND, 8 * SECOND, (1,)), Fault(FaultKind.KILL, 2 * SECOND, SECOND, (1,))
    plan = Plan(seed=1, nodes=5, jobs=(), active_us=9 * SECOND)
    (alone,) = play(replace(plan, faults=(cut,))).happened
    first, second = play(replace(plan, faults=(cut, kill))).happened
    assert alone.seen_us and first.seen_us == alone.seen_us and not second.seen_us


def test_who_left_in_order_and_is_back_at_once_is_not_ended_again() -> None:
    with hurt() as world:
        machine = world.nodes[1]
        assert machine.life is not None
        world.noted(machine.life, Notify("node.drained", {}))
        world.kill(machine)
        world.start(machine)
        life = machine.life
        assert after(world, SECOND).nodes[1].life is life
