"""What holds whatever a policy does: no work and no heat out of nothing, equal seeds, and a bound that nobody beats."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.node.heating.control.pi import PiController, PiSettings
from hearthmesh.testnet.heat.compare import played, small
from hearthmesh.testnet.heat.control import pi
from hearthmesh.testnet.heat.faithful import play_machines, play_model
from hearthmesh.testnet.heat.floor import Floor
from hearthmesh.testnet.heat.metrics import Outcome
from hearthmesh.testnet.heat.optimum import TooLarge, solve
from hearthmesh.testnet.heat.play import Case, Course, play
from hearthmesh.testnet.heat.policies import POLICIES
from hearthmesh.testnet.heat.targets import judge
from hearthmesh.testnet.heat.town import TownPlan, build_town
from hearthmesh.testnet.heat.work import KINDS, WorkPlan, draw_work

TOWN = Case(season="shoulder", load=0.9, workload="deadline", rooms=8, days=1, step_s=300.0)


@lru_cache(maxsize=8)
def one_day(policy: str) -> tuple[Outcome, Course]:
    course = Course()
    return play(dataclasses.replace(TOWN, policy=policy), course=course), course


@pytest.mark.parametrize("policy", POLICIES)
def test_energy_and_work_add_up_under_every_policy(policy: str) -> None:
    outcome, course = one_day(policy)
    numbers = outcome.numbers
    assert numbers["energy_error"] < 1e-12
    # What was burnt and worked by step is what was counted.
    hours = 300.0 / 3600.0
    assert float(np.array(course.work_w).sum()) * hours / 1000 == pytest.approx(numbers["work_kwh"], rel=1e-4)
    assert numbers["useful_kwh"] <= numbers["work_kwh"] * (1 + 1e-4)
    assert numbers["tasks_finished"] <= numbers["tasks"]
    # More was executed than the jobs hold only if some of it was lost.
    whole_kwh = 0.9 * numbers["demand_kwh"]
    assert numbers["work_kwh"] <= whole_kwh * (1 + 1e-4) + course.lost_wh / 1000
    assert numbers["lost_work_percent"] == 0 or policy == "qarnot"


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_seeds_give_equal_outcomes_and_others_do_not(policy: str) -> None:
    again = play(dataclasses.replace(TOWN, policy=policy))
    assert again.row() == one_day(policy)[0].row()
    if policy == "ours":
        assert play(dataclasses.replace(TOWN, seed=2)).row() != again.row()


@pytest.mark.parametrize(("season", "load"), [("winter", 0.3), ("shoulder", 1.1)])
def test_no_policy_beats_the_optimum(season: str, load: float) -> None:
    case = small(Case(season=season, load=load, workload="bag"))
    case = dataclasses.replace(case, rooms=3, step_s=900.0)
    best = played(dataclasses.replace(case, policy="optimum")).numbers["cost"]
    costs = {name: played(dataclasses.replace(case, policy=name)).numbers["cost"] for name in POLICIES}
    assert best > 0 and all(best <= cost + 1e-3 for cost in costs.values()), (best, costs)


def test_the_optimum_refuses_what_is_too_large() -> None:
    with pytest.raises(TooLarge, match="at most 12 rooms"):
        solve(Case(rooms=1000))


def test_the_coarse_model_is_like_real_machines() -> None:
    street, real = play_machines(seed=1, nodes=6, slots=2, tasks=500, seconds=100)
    model = play_model(1, street, seconds=100)
    assert real.tasks_done == model.tasks_done == 500
    assert model.slot_hours == pytest.approx(real.slot_hours, rel=1e-6)
    # Measured: 1.4 % and 0.16 K.
    assert model.discomfort_kh == pytest.approx(real.discomfort_kh, rel=0.05)
    assert model.final_c == pytest.approx(real.final_c, abs=0.5)


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 600), st.floats(10, 900)), min_size=1, max_size=30),
    st.floats(10, 5000),
    st.floats(50, 5000),
)
@settings(max_examples=60)
def test_thermostats_of_all_nodes_follow_the_law_of_one(
    steps: list[tuple[float, float, float]], gain_w_per_k: float, capacity_w: float
) -> None:
    one = PiController(PiSettings(gain_w_per_k, 3600.0, capacity_w))
    integral_w = np.zeros(2)
    for error_k, known_w, duration_s in steps:
        expected_w = one.update(error_k, duration_s, known_w, float("inf"))
        given = (np.full(2, value) for value in (error_k, known_w, gain_w_per_k, capacity_w))
        errors, known, gains, capacities = given
        found_w = pi(errors, duration_s, known, gains, capacities, integral_w, 3600.0)
        assert found_w == pytest.approx([expected_w] * 2, rel=1e-9, abs=1e-9)
        assert integral_w == pytest.approx([one.integral_w] * 2, rel=1e-9, abs=1e-9)


@given(st.sampled_from(KINDS), st.integers(0, 1 << 40), st.floats(1e3, 1e7), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_jobs_hold_just_the_work_that_was_asked_for(kind: str, seed: int, energy_wh: float, days: int) -> None:
    window_s = days * 86_400.0
    work = draw_work(WorkPlan(kind, energy_wh, window_s, seed))
    assert work.total_s * 125.0 / 3600.0 == pytest.approx(energy_wh)
    assert sum(job.tasks for job in work.jobs) == work.tasks and (work.length_s > 0).all()
    assert all(0 <= job.arrival_s <= window_s and job.arrival_s < job.deadline_s for job in work.jobs)
    assert [job.number for job in work.jobs] == list(range(len(work.jobs)))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_floor_loses_no_work_whatever_is_started_killed_and_saved(data: st.DataObject) -> None:
    town = build_town(TownPlan(rooms=3, whole=False))
    work = draw_work(WorkPlan("bag", 4000.0, 86_400.0))
    floor = Floor(town, work)
    waiting = list(range(work.tasks))
    for step in range(data.draw(st.integers(1, 12))):
        node = data.draw(st.integers(0, 2))
        count = min(int(floor.free[node]), len(waiting), data.draw(st.integers(0, 3)))
        tasks = np.array([waiting.pop() for _ in range(count)], dtype=np.int64)
        floor.start(np.full(count, node), tasks)
        floor.duty = np.array([data.draw(st.floats(0.1, 1.0)) for _ in range(3)])
        floor.run(step * 600.0, 600.0)
        busy = floor.busy()
        if len(busy):
            slot = busy[data.draw(st.integers(0, len(busy) - 1))][None]
            can_save = bool(floor.can_checkpoint(floor.task[slot]).all())
            freed = data.draw(st.sampled_from(["leave", "kill", "save"]))
            if freed == "kill":
                waiting += floor.kill(slot).tolist()
            elif freed == "save" and can_save:
                waiting += floor.checkpoint(slot).tolist()
        assert abs(floor.balance_s()) < 1e-6
        assert (floor.running == np.bincount(floor.owner[floor.busy()], minlength=3)).all()


def test_targets_are_missed_where_they_are_missed() -> None:
    base = {"lost_work_percent": 0.0, "demand_kwh": 100.0, "makespan_h": 10.0, "all_finished": True}
    ours = base | {"discomfort_kh_p50": 2.0, "discomfort_kh_p95": 4.0, "wasted_or_burnt_kwh": 20.0, "cost": 9.0}
    central = ours | {"discomfort_kh_p50": 1.0, "wasted_or_burnt_kwh": 19.5}
    qarnot = ours | {"discomfort_kh_p50": 9.0, "discomfort_kh_p95": 9.0}
    verdicts = judge({"ours": ours, "central": central, "qarnot": qarnot, "optimum": {"cost": 5.0}})
    assert {verdict.name for verdict in verdicts if not verdict.met} == {"discomfort p50 / central", "cost / optimum"}
    names = {verdict.name for verdict in verdicts}
    unfinished = ours | {"all_finished": False, "makespan_h": 99.0}
    both = {verdict.name for verdict in judge({"ours": unfinished, "central": unfinished | {"makespan_h": 9.0}})}
    assert "makespan / central" in names and "makespan / central" not in both
    alone = judge({"ours": unfinished | {"makespan_h": 9.0}, "central": central})
    assert not next(verdict.met for verdict in alone if verdict.name == "makespan / central")
    lossy = judge({"ours": ours | {"lost_work_percent": 0.1}})
    assert [verdict.met for verdict in lossy] == [False]
