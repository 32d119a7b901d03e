"""One seed is one run, to the byte: in one process, in two, and whatever sets of Python hash to."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from hearthmesh.testnet.simulator.long_plan import long_plan
from hearthmesh.testnet.simulator.plan import Plan, draw_plan
from hearthmesh.testnet.simulator.run import play
from tests.testnet.simulator.digests import RUNS, recorded

PROGRAM = (
    "from hearthmesh.testnet.simulator.plan import draw_plan\n"
    "from hearthmesh.testnet.simulator.run import play\n"
    "print(*(play(draw_plan(seed)).trace_digest for seed in (7, 8)))\n"
)


def _digests_with(hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return ran.stdout.split()


@pytest.mark.parametrize(
    "plan", [draw_plan(7), replace(draw_plan(8), liars=("noise",)), long_plan(3, nodes=6, hours=0.004)]
)
def test_a_plan_played_twice_is_the_same_run(plan: Plan) -> None:
    first, second = play(plan), play(plan)
    assert first.trace_digest == second.trace_digest
    assert (first.events, first.messages, first.bytes, first.virtual_us) == (
        second.events,
        second.messages,
        second.bytes,
        second.virtual_us,
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_trace_is_the_same_under_every_python(name: str) -> None:
    found = play(RUNS[name]()).trace_digest
    assert found == recorded()[name], "the protocol or the simulator behaves otherwise; if it should: make digests"


def test_a_run_does_not_depend_on_the_hash_seed() -> None:
    here = [play(draw_plan(seed)).trace_digest for seed in (7, 8)]
    assert _digests_with("1") == _digests_with("4242") == here


def test_other_seeds_are_other_runs() -> None:
    assert len({play(draw_plan(seed, nodes=6, faults=0)).trace_digest for seed in range(4)}) == 4


def test_leaving_a_fault_out_shifts_nothing_before_it() -> None:
    plan = replace(draw_plan(12), stops_early=False, active_us=3_000_000, bound_us=0)
    late = replace(plan, faults=tuple(fault for fault in plan.faults if fault.at_us > 3_000_000))
    assert play(replace(late, faults=())).trace_digest == play(late).trace_digest
