"""A short run of the state machines, the same each time."""

from __future__ import annotations

import pytest

from tests.fuzz.machines import MACHINES, play


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_machine_keeps_its_invariants(name: str) -> None:
    play(MACHINES[name], examples=3, steps=10, same_each_time=True)
