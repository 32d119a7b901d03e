"""Faults of a run: what each does, and how those that overlap add up."""

import pytest

from hearthmesh.testnet.simulator.engine import HOUR, SECOND
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, Plan
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
