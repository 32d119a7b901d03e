"""The wall clock has one door, so that setting a node's clock in a test sets all of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearthmesh.node import clock

NODE = Path(__file__).parents[2] / "node"
# The door itself; tools for people, who have the machine's clock; and the age of files, which is by the machine's.
MACHINE_TIME = {"clock.py", "service.py", "cli/authority.py", "cli/ledger.py"}


@pytest.fixture(autouse=True)
def right_again() -> Iterator[None]:
    yield
    clock.set_offset(0.0)


def test_whatever_a_node_asks_goes_through_one_door() -> None:
    asking = {
        path.relative_to(NODE).as_posix()
        for path in NODE.rglob("*.py")
        if re.search(r"\btime\.(time|time_ns|localtime|gmtime)\(\)", path.read_text(encoding="utf-8"))
        and path.relative_to(NODE).parts[0] != "bench"
    }
    assert asking == MACHINE_TIME


def test_a_clock_that_jumps_is_off_by_what_it_was_told() -> None:
    clock.set_offset(86_400.0)
    assert 86_390 <= clock.wall_s() - time.time() <= 86_401
    clock.set_offset(-3_600.5)
    assert -3_602 <= clock.wall_us() / 1e6 - time.time() <= -3_600


@pytest.mark.parametrize("offset_s", [float("nan"), float("inf"), 1e12])
def test_no_clock_is_off_by_more_than_a_century(offset_s: float) -> None:
    with pytest.raises(ValueError, match="a clock can be off by"):
        clock.set_offset(offset_s)
