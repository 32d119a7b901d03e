"""Each checker can fail: a protocol that is broken in one place is caught, by the checker that watches that place."""

import pytest

from hearthmesh.testnet.simulator.checkers import ALL
from hearthmesh.testnet.simulator.mutants import MUTANTS, Mutant, catch
from hearthmesh.testnet.simulator.run import play
from hearthmesh.testnet.simulator.scenario_mutants import BROKEN


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_protocol_is_caught(mutant: Mutant) -> None:
    caught = catch(mutant)
    assert caught.caught_by in mutant.caught_by


def test_what_catches_mutants_are_checkers_and_plans_hold_without_them() -> None:
    names = {checker.name for checker in ALL}
    assert all(set(mutant.caught_by) <= names for mutant in MUTANTS)
    plans = list(dict.fromkeys(mutant.plan for mutant in MUTANTS))
    assert [play(plan).violations for plan in plans] == [[] for _ in plans]


def test_every_checker_has_a_mutant() -> None:
    caught = {name for mutant in (*MUTANTS, *BROKEN) for name in mutant.caught_by}
    assert {checker.name for checker in ALL} <= caught
