"""A failing run gets smaller, and goes on failing."""

from dataclasses import replace

import pytest

from hearthmesh.testnet.simulator.checkers import Violation
from hearthmesh.testnet.simulator.plan import FaultKind, JobPlan, Plan, draw_plan
from hearthmesh.testnet.simulator.run import Outcome, play
from hearthmesh.testnet.simulator.shrink import Reduction, shrink


def _fails_with_a_freeze(plan: Plan) -> Outcome:
    """A stand-in for a bug: it shows when anything freezes."""
    outcome = play(replace(plan, nodes=3, jobs=(), faults=(), active_us=1, bound_us=0))
    if any(fault.kind is FaultKind.FREEZE for fault in plan.faults):
        outcome.violations.append(Violation("stand-in", 0, "it froze"))
    return outcome


def test_what_has_nothing_to_do_with_the_failure_is_left_out() -> None:
    seed = next(s for s in range(100) if any(f.kind is FaultKind.FREEZE for f in draw_plan(s, faults=6).faults))
    plan = replace(draw_plan(seed, faults=6, nodes=9), liars=("noise", "accomplice"))
    reduction, attempts = shrink(plan, "stand-in", attempt=_fails_with_a_freeze)
    smaller = reduction.of(plan)
    assert [fault.kind for fault in smaller.faults] == [FaultKind.FREEZE]
    assert (
        not smaller.liars
        and smaller.nodes == smaller.nodes_least
        and len(smaller.jobs) == 1
        and smaller.jobs[0].tasks <= 7
    )
    assert attempts <= 80


def test_a_reduction_is_written_as_the_options_that_make_it() -> None:
    reduction = Reduction(nodes=4, faults=(0, 3), jobs=(), tasks=7, liars=(1,))
    assert reduction.options() == " --keep-nodes 4 --keep-faults 0,3 --keep-jobs none --keep-liars 1 --keep-tasks 7"


def test_a_liar_that_is_left_out_leaves_the_others_where_they_were() -> None:
    plan = replace(draw_plan(1), nodes=8, liars=("noise", "forger"))
    assert Reduction(liars=(1,)).of(plan).liars == ("", "forger")
    assert Reduction(liars=()).of(plan).liars == ()


def test_no_run_is_made_so_small_that_nobody_is_left_to_outvote_its_liars() -> None:
    plan = replace(
        draw_plan(1, nodes=9, faults=0), jobs=(JobPlan(verification="quorum(3)"),), liars=("accomplice", "accomplice")
    )
    tried: list[Plan] = []

    def fails_with_both(smaller: Plan) -> Outcome:
        outcome = play(replace(smaller, nodes=3, jobs=(), faults=(), liars=(), active_us=1, bound_us=0))
        if smaller.liars == plan.liars:
            outcome.violations.append(Violation("stand-in", 0, "they agreed"))
        tried.append(smaller)
        return outcome

    reduction, _ = shrink(plan, "stand-in", attempt=fails_with_both)
    assert all(smaller.nodes >= smaller.nodes_least for smaller in tried)
    assert reduction.of(plan).nodes == 8


def test_a_position_that_the_plan_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no fault 9: seed 1 draws 3"):
        Reduction(faults=(0, 9)).of(draw_plan(1, faults=3, honest=True))
