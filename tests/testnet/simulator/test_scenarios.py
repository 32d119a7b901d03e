"""The ways in which others failed, played here; and what we know to fail ourselves, until it is mended."""

from dataclasses import replace

import pytest

from hearthmesh.testnet.simulator.run import play
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


def test_each_scenario_is_different_from_a_quiet_run() -> None:
    for scenario in SCENARIOS:
        plan = scenario.plan
        special = plan.faults or plan.liars or plan.broken or len(plan.jobs) != 1 or plan.preset != "local"
        assert special, scenario.name
