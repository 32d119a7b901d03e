"""A short run of the state machines, the same each time; and how the fuzzer plays them."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.fuzz.__main__ import share_of
from tests.fuzz.machines import MACHINES, Counted, play


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_machine_keeps_its_invariants(name: str) -> None:
    play(MACHINES[name], examples=3, steps=10, same_each_time=True)


def test_a_seed_draws_the_same_steps_again_and_another_draws_others() -> None:
    assert steps_of(1) == steps_of(1) != steps_of(2)


def steps_of(seed: int) -> list[int]:
    told: list[int] = []

    class Told(Counted):
        @rule(number=st.integers(0, 1 << 30))
        def say(self, number: int) -> None:
            told.append(number)

    play(Told, examples=3, steps=3, drawn_from=seed)
    return told


@pytest.mark.parametrize(("jobs", "targets", "share_s"), [(2, 1, 600.0), (2, 2, 600.0), (2, 12, 100.0), (1, 2, 300.0)])
def test_targets_share_the_time_that_was_asked_for(jobs: int, targets: int, share_s: float) -> None:
    assert share_of(600.0, jobs, targets) == share_s
