"""What a seed draws: liars that can be outvoted, and all that was drawn before there were any."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.testnet.simulator.engine import HOUR, SECOND
from hearthmesh.testnet.simulator.liars import LIARS
from hearthmesh.testnet.simulator.plan import COMPARED, LIES, POLICIES, Fault, FaultKind, Plan, draw_plan

SEEDS = range(1_000)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [draw_plan(seed) for seed in SEEDS]


def test_every_lie_policy_checkpoint_and_cancellation_is_drawn(plans: list[Plan]) -> None:
    assert (
        {lie for plan in plans for lie in plan.liars} == set(LIES) == LIARS.keys() - {"usurper", "eclipser", "faulty"}
    )
    assert {job.verification for plan in plans for job in plan.jobs} == set(POLICIES)
    assert {job.checkpoint_us > 0 for plan in plans for job in plan.jobs} == {False, True}
    assert {any(fault.kind is FaultKind.CANCEL for fault in plan.faults) for plan in plans} == {False, True}


def test_what_was_drawn_before_is_drawn_still(plans: list[Plan]) -> None:
    for plan in plans:
        honest = draw_plan(plan.seed, honest=True)
        assert not honest.liars and {job.verification for job in honest.jobs} == {"none"}
        jobs = tuple(replace(job, verification="none", checkpoint_us=0) for job in plan.jobs)
        faults = tuple(_unset(fault) for fault in plan.faults if fault.kind is not FaultKind.CANCEL)
        then = tuple(_unset(fault) for fault in honest.faults)
        assert replace(plan, jobs=jobs, faults=faults, liars=()) == replace(honest, faults=then)


def _unset(fault: Fault) -> Fault:
    return replace(fault, step_us=0)


def test_clocks_are_set_ahead_and_back_by_little_and_by_much(plans: list[Plan]) -> None:
    steps = [fault.step_us for plan in plans for fault in plan.faults if fault.kind is FaultKind.CLOCK]
    assert min(steps) < -HOUR // 2 and max(steps) > HOUR // 2 and all(-HOUR <= step <= HOUR for step in steps)
    small = [step for step in steps if abs(step) <= SECOND]
    assert min(small) < 0 < max(small) and len(small) > len(steps) // 5
    assert {fault.step_us for plan in plans for fault in plan.faults if fault.kind is not FaultKind.CLOCK} == {0}


@pytest.mark.parametrize("nodes", [3, 5, 8, 12])
def test_liars_can_be_outvoted(nodes: int) -> None:
    for seed in range(300):
        plan = draw_plan(seed, nodes=nodes)
        assert plan.nodes >= plan.nodes_least and len(plan.liars) <= nodes // 4
        if sum(lie in COMPARED[1:] for lie in plan.liars) > 1:
            assert {job.verification for job in plan.jobs} <= {"none", "quorum(3)"}
