"""A warm mesh: everybody knows its cell before anything is asked, by messages alone."""

from dataclasses import replace

from hearthmesh.testnet.simulator.engine import SECOND
from hearthmesh.testnet.simulator.long_plan import long_plan
from hearthmesh.testnet.simulator.run import play
from hearthmesh.testnet.simulator.world import World

WARM = replace(long_plan(1, nodes=16, hours=0.001, jobs=1, preset="small cell", warm=True), join_us=SECOND)


def test_nodes_know_their_cells_when_a_warm_mesh_has_settled() -> None:
    with World.opened(WARM) as world:
        world.engine.run(world.settled_us)
        assert world.checkers.violations == []
        shares, depths = [], []
        for machine in world.nodes:
            assert machine.life is not None
            members, cell = machine.life.mesh.members, machine.life.mesh.cell
            mates = [other.id for other in world.nodes if other is not machine and cell.holds(other.id)]
            shares.append(sum(members.is_alive(mate) for mate in mates) / max(1, len(mates)))
            depths.append(cell.depth)
    assert sum(shares) / len(shares) > 0.95 and max(depths) >= 1


def test_warm_mesh_does_its_job_and_is_the_same_run_twice() -> None:
    first = play(WARM)
    assert first.ok and first.tasks_accepted == first.tasks_submitted == 4 * WARM.nodes
    assert play(WARM).trace_digest == first.trace_digest


def test_a_large_job_keeps_the_nodes_of_all_cells_busy_from_the_start() -> None:
    plan = long_plan(2, nodes=64, hours=0.001, jobs=1, preset="thin", warm=True, tasks=30)
    outcome = play(plan)
    assert outcome.ok and outcome.tasks_run == outcome.tasks_accepted == 30 * plan.nodes
    # Tasks of a second on two slots. It took 1.35 times as long as that while no other cell was told.
    assert outcome.makespan_us < 1.15 * 30 / 2 * SECOND
