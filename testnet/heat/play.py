"""One policy played through one season: the loop of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .control import Thermostats
from .floor import Floor
from .metrics import Meters, Outcome, Samples, numbers_of
from .physics import Physics
from .policies import POLICIES
from .scene import Scene
from .season import DAY_S, SEASONS, Demand, Season, demand_of, town_of, year_of
from .town import WATTS_PER_SLOT, Town, TownPlan
from .work import Work, WorkPlan, draw_work

# After the window no heat is counted any more, but what was begun goes on for at most this share of it; two nights at
# least, for in summer rooms want heat by night alone.
DRAIN_SHARE = 0.5
DRAIN_LEAST_S = 2 * DAY_S
# Rooms whose temperature is drawn.
WATCHED = 12


@dataclass(frozen=True, slots=True)
class Case:
    """All that a run depends on; equal cases give equal outcomes.

    days, step_s: instead of the season's own.
    """

    season: str = "winter"
    load: float = 0.7
    policy: str = "ours"
    workload: str = "bag"
    rooms: int = 1000
    whole: bool = True
    seed: int = 1
    climate: str = "paris"
    days: int | None = None
    step_s: float | None = None

    @property
    def town(self) -> TownPlan:
        return TownPlan(self.rooms, self.seed, self.whole)

    @property
    def time(self) -> Season:
        season = SEASONS[self.season]
        days, step_s = self.days or season.days, self.step_s or season.step_s
        return Season(season.name, season.begin_day, days, step_s, season.grain)

    def demand(self) -> Demand:
        return demand_of(self.town, self.climate, self.time.begin_day, self.time.days)

    def work(self) -> Work:
        energy_wh = self.load * self.demand().total_wh
        return draw_work(WorkPlan(self.workload, energy_wh, self.time.days * DAY_S, self.seed, self.time.grain))


@dataclass
class Course:
    """All of the window, by step and node: for small cases, to be compared with the optimum."""

    mean_c: list[np.ndarray] = field(default_factory=list)
    work_w: list[np.ndarray] = field(default_factory=list)
    burn_w: list[np.ndarray] = field(default_factory=list)
    end_c: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lost_wh: float = 0.0


def play(case: Case, progress: Callable[[float], None] = lambda share: None, course: Course | None = None) -> Outcome:
    """Raises KeyError for a season or policy that is none."""
    time, town, demand, work = case.time, town_of(case.town), case.demand(), case.work()
    window_s = time.days * DAY_S
    physics = Physics(town, year_of(case.climate, case.seed), time.begin_day * DAY_S, time.step_s)
    scene = Scene(town, work, Floor(town, work), physics, Thermostats(town, time.step_s), time.step_s)
    policy = POLICIES[case.policy](scene, case.seed)
    meters, samples = Meters(town, demand, time.step_s), Samples()
    upcoming = list(work.jobs)[::-1]
    steps = round(window_s / time.step_s)
    most = steps + round(max(DRAIN_SHARE * window_s, DRAIN_LEAST_S) / time.step_s)
    hourly = round(3600.0 / time.step_s)
    step = 0
    while step < steps or (step < most and scene.floor.finished < work.tasks):
        while upcoming and upcoming[-1].arrival_s <= scene.now_s:
            job = upcoming.pop()
            policy.arrive(np.arange(job.first, job.first + job.tasks), job.number)
        scene.feel()
        policy.act(scene)
        work_w = scene.floor.run(scene.now_s, time.step_s)
        mean_c = physics.step(work_w + scene.burn_w)
        step += 1
        scene.now_s = step * time.step_s
        if step <= steps:
            meters.count(scene.now_s, mean_c, work_w, scene.burn_w)
            if course is not None:
                course.mean_c.append(mean_c)
                course.work_w.append(work_w)
                course.end_c = physics.temperature_c.copy()
                course.burn_w.append(scene.burn_w.copy())
                course.lost_wh = scene.floor.counts.lost_s * WATTS_PER_SLOT / 3600.0
            if step % hourly == 0:
                _sample(samples, scene, town, demand, mean_c, work_w)
                progress(step / steps)
    physics.flush()
    drift_s = abs(scene.floor.balance_s()) / max(1.0, scene.floor.counts.executed_s)
    assert drift_s < 1e-6, f"work out of nothing: {drift_s}"
    numbers = numbers_of(meters, scene.floor, window_s, scene.now_s, physics.account.error)
    return Outcome(case.season, case.load, case.policy, case.workload, numbers, samples)


def _sample(samples: Samples, scene: Scene, town: Town, demand: Demand, mean_c: np.ndarray, work_w: np.ndarray) -> None:
    hour = len(samples.hours)
    samples.hours.append(scene.now_s / 3600.0)
    samples.outside_c.append(scene.physics.weather.outside_c)
    samples.demand_w.append(float(demand.power_w[hour].sum()))
    samples.work_w.append(float(work_w.sum()))
    samples.burn_w.append(float(scene.burn_w.sum()))
    kinds = np.array(town.kinds)
    for kind in dict.fromkeys(town.kinds):
        samples.taken_w.setdefault(kind, []).append(float(work_w[kinds == kind].sum()))
    rooms = np.flatnonzero(kinds == "room")
    for node in rooms[:: max(1, len(rooms) // WATCHED)][:WATCHED].tolist():
        samples.watched.setdefault(node, []).append(float(mean_c[node]))
    low_c, middle_c, high_c = np.percentile((mean_c - town.setpoint_c)[rooms], (5, 50, 95))
    samples.spread_c.append((float(low_c), float(middle_c), float(high_c)))
