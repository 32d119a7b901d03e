"""The times of the year that are compared, and what an ideal heater would need in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...node.heating.weather.generator import CLIMATES, generate_year
from ...node.heating.weather.year import WeatherYear
from .physics import Physics
from .town import Floats, Town, TownPlan, build_town

DAY_S = 86_400.0
HOUR_S = 3600.0
IDEAL_STEP_S = 300.0


@dataclass(frozen=True, slots=True)
class Season:
    """begin_day: since January 1st.  step_s: of the comparison.  grain: how many times longer tasks are."""

    name: str
    begin_day: int
    days: int
    step_s: float
    grain: float = 1.0


SEASONS = {
    "winter": Season("winter", 12, 7, 60.0),
    "shoulder": Season("shoulder", 100, 7, 60.0),
    "summer": Season("summer", 190, 7, 60.0),
    "year": Season("year", 0, 365, 900.0, grain=8.0),
}


@dataclass(frozen=True)
class Demand:
    """What keeps every sink at its target, if that can be done, with no thought of work.

    energy_wh: of each node, in all.  power_w, temperature_c: by the hour and node, as of each hour's end.
    """

    energy_wh: Floats
    power_w: np.ndarray
    temperature_c: np.ndarray

    @property
    def total_wh(self) -> float:
        return float(self.energy_wh.sum())


@lru_cache(maxsize=4)
def town_of(plan: TownPlan) -> Town:
    return build_town(plan)


@lru_cache(maxsize=4)
def year_of(climate: str, seed: int) -> WeatherYear:
    return generate_year(CLIMATES[climate], seed)


@lru_cache(maxsize=4)
def demand_of(plan: TownPlan, climate: str, begin_day: int, days: int) -> Demand:
    """Of a town from a day on; by the power that ends each step at the target."""
    town, year = town_of(plan), year_of(climate, plan.seed)
    physics = Physics(town, year, begin_day * DAY_S, IDEAL_STEP_S)
    hours = days * 24
    energy_wh = np.zeros(len(town))
    power_w = np.zeros((hours, len(town)), dtype=np.float32)
    temperature_c = np.zeros((hours, len(town)), dtype=np.float32)
    steps = round(HOUR_S / IDEAL_STEP_S)
    for hour in range(hours):
        for _ in range(steps):
            wanted_w = physics.wanted_w(IDEAL_STEP_S)
            physics.step(wanted_w)
            power_w[hour] += wanted_w / steps
        energy_wh += power_w[hour]
        temperature_c[hour] = physics.temperature_c
    return Demand(energy_wh, power_w, temperature_c)
