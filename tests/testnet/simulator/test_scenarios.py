"""The ways in which others failed, played here; and what we know to fail ourselves, until it is mended."""

from dataclasses import replace

import pytest

from hearthmesh.testnet.simulator.run import play, play_world
from hearthmesh.testnet.simulator.scenario_mutants import BROKEN, Broken, catch
from hearthmesh.testnet.simulator.scenarios import SCENARIOS, Scenario, scenario_named


def _cases() -> list[object]:
    cases: list[object] = []
    for scenario in SCENARIOS:
        marks = [pytest.mark.xfail(strict=True, reason=scenario.known)] if scenario.known else []
        cases.append(pytest.param(scenario, id=scenario.name, marks=marks))
    return cases


@pytest.mark.parametrize("scenario", _cases())
def test_what_failed_elsewhere_ends_well_here(scenario: Scenario) -> None:
    outcome = play(scenario.plan)
    assert not outcome.violations, outcome.violations[0]


def test_a_node_that_knows_only_one_half_of_its_cell_finds_the_other() -> None:
    """The first seed of this scenario shows another one: a neighbour whom it knew, and once had no room for."""
    outcome = play(replace(scenario_named("mesh-beyond-the-member-table").plan, seed=5))
    assert not outcome.violations, outcome.violations[0]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: f"{broken.scenario}: {broken.what}")
def test_a_protocol_that_is_broken_as_others_were_fails_in_the_scenario_of_theirs(broken: Broken) -> None:
    assert catch(broken).caught_by in broken.caught_by


def test_every_failure_of_others_has_a_mutant_that_shows_it() -> None:
    of_others = {scenario.name for scenario in SCENARIOS if not scenario.failed.startswith("ours: ")}
    assert of_others <= {broken.scenario for broken in BROKEN}


def test_who_lied_most_openly_is_banned_by_all_and_nobody_else_is() -> None:
    with play_world(scenario_named("ban-too-broad").plan) as world:
        noise = next(machine for machine in world.nodes if machine.liar is not None and machine.liar.name == "noise")
        banned = {
            machine.name: [world.machines[index].name for index in machine.life.banned_until_us]
            for machine in world.nodes
            if machine.honest and machine.life is not None
        }
    assert len(banned) == 4
    assert all(names == [noise.name] for names in banned.values())


def test_a_host_on_which_every_task_fails_gets_nothing_of_later_jobs_and_spoils_nothing() -> None:
    with play_world(scenario_named("faulty-host-fails-every-task").plan) as world:
        (faulty,) = [machine for machine in world.nodes if not machine.honest]
        first, *later = world.customers[0].orders
        assert first.caught.keys() == {faulty.id}
        assert [len(order.wrong) for order in (first, *later)] == [0, 0, 0]
        assert all(order.complete for order in (first, *later))
        # What it ran was of the first job, before anybody had compared; and what it may give itself as a keeper.
        assert faulty.executor.tasks_run < first.spec.tasks
