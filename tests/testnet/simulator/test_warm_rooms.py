"""Rooms, a boiler and a pool: the sun comes into some rooms, and no work is lost to it."""

from __future__ import annotations

from hearthmesh.testnet.simulator.engine import MS, SECOND
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, JobPlan, Plan
from hearthmesh.testnet.simulator.run import play_world
from hearthmesh.testnet.simulator.world import World

LONG, SHORT = JobPlan(tasks=60, task_us=6 * SECOND, checkpoint_us=SECOND), JobPlan(tasks=60, task_us=250 * MS)


def street(seed: int, *faults: Fault) -> Plan:
    """A second here is 100 in the rooms: the room's walls take what a minute's work gives."""
    return Plan(
        seed=seed,
        nodes=6,
        slots=2,
        room_speed=100.0,
        basins=("tank", "pool"),
        jobs=(LONG, SHORT),
        faults=faults,
        active_us=40 * SECOND,
        bound_us=400 * SECOND,
    )


def sums(world: World) -> tuple[int, int, int]:
    """Joules lost; tasks run; tasks that were saved and went on elsewhere."""
    executors = [machine.executor for machine in world.nodes]
    moved = sum(machine.life.mesh.worker.moved for machine in world.nodes if machine.life is not None)
    return sum(each.lost_uj for each in executors), sum(each.tasks_run for each in executors), moved


def test_tasks_move_out_of_rooms_that_the_sun_warms_and_nothing_is_done_twice() -> None:
    sun = [Fault(FaultKind.WARM, (4 + 2 * room) * SECOND, 25 * SECOND, (2 + room,)) for room in range(3)]
    with play_world(street(1, *sun)) as world:
        # Invariant 5 among them: nothing starts in a sink that wants no heat.
        assert not world.checkers.violations, world.checkers.violations[0]
        lost_uj, run, moved = sums(world)
        assert lost_uj == 0 and run == LONG.tasks + SHORT.tasks and moved > 0


def test_without_sun_no_task_moves_and_no_sink_is_over_its_limit() -> None:
    with play_world(street(3)) as world:
        assert not world.checkers.violations, world.checkers.violations[0]
        assert sums(world) == (0, LONG.tasks + SHORT.tasks, 0)
        for machine in world.nodes:
            assert machine.sink is not None and machine.sink.temperature_c <= machine.sink.limit_c
