"""A short run of the fuzzer: every target on its seeds, on changed ones, and on what did harm once."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.__main__ import MACHINE_NAMES, NAMES
from tests.fuzz.machines import MACHINES
from tests.fuzz.mutate import changed
from tests.fuzz.targets import TARGETS, found

CHANGED = {"codec": 1_500, "streams": 600, "mesh": 60, "mesh-bytes": 120, "restore": 25, "journal": 10, "wasm": 300}


@pytest.mark.parametrize("name", sorted(TARGETS))
async def test_target_withstands_its_seeds_and_changes_of_them(name: str) -> None:
    target, dice = TARGETS[name], random.Random(1)
    seeds = target.seeds()
    assert seeds
    for data in seeds:
        target.run(data)
    for _ in range(CHANGED.get(name, 150)):
        target.run(changed(dice, seeds))


def test_the_command_names_every_target() -> None:
    assert sorted([*TARGETS, *MACHINES]) == list(NAMES)
    assert sorted(MACHINES) == list(MACHINE_NAMES)


@pytest.mark.parametrize(("name", "session"), found())
async def test_what_did_harm_once_does_none(name: str, session: list[bytes]) -> None:
    for data in session:
        TARGETS[name].run(data)
