"""The best that can be done with everything known beforehand: a linear programme, for a few rooms and a day or so.

Work is taken as a fluid that may be divided and stopped at any moment, power as any number from 0 to a heater's: so no
policy can be better in what is minimised, `cost_of`. Variables of each room and step: work and burning (W), the state,
and by how much the step's mean temperature is below the setpoint and above the band. Deadlines are not a constraint, so
the bound holds whatever is missed. A room that ends below its setpoint owes the heat that brings it there; work itself
costs nothing, and is worth what it saves in burning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...node.heating.sinks.sink import HeatSink, State
from ...node.heating.weather.conditions import Weather
from ...node.heating.weather.year import WeatherYear
from .control import BAND_K
from .play import Case, Course
from .season import DAY_S, Demand, town_of, year_of
from .town import WATTS_PER_SLOT, Floats, Town
from .work import Work

# What is minimised: K·h below the setpoint, K·h above the band, kWh burnt or owed.
COLD_PER_KH, HOT_PER_KH, BURNT_PER_KWH = 1.0, 1.0, 1.0
ROOMS_MAX, DAYS_MAX, STEPS_MAX = 12, 3, 1000


class TooLarge(ValueError):
    """More rooms or steps than a programme of this kind is solved for."""


@dataclass(frozen=True)
class Optimum:
    """By step and room.  cost: as of `cost_of`; a bound from below for every policy."""

    cost: float
    work_w: np.ndarray
    burn_w: np.ndarray
    mean_c: np.ndarray

    def numbers(self, case: Case) -> dict[str, Any]:
        """As of a policy that acts, as far as they mean anything for a fluid: it ends when its last drop is done."""
        town, hours = town_of(case.town), case.time.step_s / 3600.0
        setpoint_c = town.setpoint_c
        discomfort_kh = np.maximum(0.0, setpoint_c - self.mean_c).sum(axis=0) * hours
        hot = self.mean_c > limits_c(case.demand(), setpoint_c, len(self.mean_c), case.time.step_s) + 1e-6
        outside = hot | (self.mean_c < setpoint_c - BAND_K - 1e-6)
        at_work = np.flatnonzero(self.work_w.sum(axis=1) > 1e-3)
        heat_w = self.work_w + self.burn_w
        kwh = hours / 1000.0
        return {
            "discomfort_kh_p50": round(float(np.percentile(discomfort_kh, 50)), 4),
            "discomfort_kh_p95": round(float(np.percentile(discomfort_kh, 95)), 4),
            "outside_band_percent": round(100.0 * float(outside.mean()), 4),
            "wasted_kwh": round(float(heat_w[hot].sum()) * kwh, 4),
            "burnt_kwh": round(float(self.burn_w.sum()) * kwh, 4),
            "wasted_or_burnt_kwh": round(float(np.where(hot, heat_w, self.burn_w).sum()) * kwh, 4),
            "work_kwh": round(float(self.work_w.sum()) * kwh, 4),
            "demand_kwh": round(case.demand().total_wh / 1000.0, 4),
            "lost_work_percent": 0.0,
            "makespan_h": round(float((at_work[-1] + 1) * hours) if len(at_work) else 0.0, 4),
            "deadline_misses": 0,
            "cost": round(self.cost, 4),
        }


def limits_c(demand: Demand, setpoint_c: Floats, steps: int, step_s: float) -> np.ndarray:
    """Above which heat is too much, by step and room: the band's end, or the band above an ideal heater's room where
    that is warmer by itself."""
    hours = np.minimum((np.arange(steps) * step_s // 3600.0).astype(np.int64), len(demand.temperature_c) - 1)
    found: np.ndarray = np.maximum(setpoint_c, demand.temperature_c[hours]) + BAND_K
    return found


def cost_of(course: Course, town: Town, demand: Demand, step_s: float) -> float:
    """Of a policy's course, as the programme counts it; what it lost was heat without work."""
    hours, setpoint_c = step_s / 3600.0, town.setpoint_c
    mean_c, burn_w = np.array(course.mean_c), np.array(course.burn_w)
    cold_kh = float(np.maximum(0.0, setpoint_c - mean_c).sum()) * hours
    hot_kh = float(np.maximum(0.0, mean_c - limits_c(demand, setpoint_c, len(mean_c), step_s)).sum()) * hours
    burnt_kwh = float(burn_w.sum()) * hours / 1000.0
    owed_kwh = float((np.maximum(0.0, setpoint_c - course.end_c) * _kwh_per_k(town)).sum())
    burnt_kwh += owed_kwh + course.lost_wh / 1000.0
    return COLD_PER_KH * cold_kh + HOT_PER_KH * hot_kh + BURNT_PER_KWH * burnt_kwh


def _kwh_per_k(town: Town) -> Floats:
    """Raises TooLarge for what has more than one capacity."""
    circuits = [sink.model.drive(sink.state, Weather(10.0)).circuit for sink in town.sinks]
    if any(len(circuit.capacities_j_per_k) != 1 for circuit in circuits):
        raise TooLarge("rooms of one capacity only")
    return np.array([circuit.capacities_j_per_k[0] for circuit in circuits]) / 3.6e6


def solve(case: Case) -> Optimum:
    """Raises TooLarge for more than it is for; ModuleNotFoundError without SciPy."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix

    time, town = case.time, town_of(case.town)
    steps, rooms = round(time.days * DAY_S / time.step_s), len(town)
    if case.whole or rooms > ROOMS_MAX or time.days > DAYS_MAX or steps > STEPS_MAX:
        raise TooLarge(f"at most {ROOMS_MAX} rooms and nothing else, {DAYS_MAX} days and {STEPS_MAX} steps")
    layout = _Layout(steps, rooms)
    build = _Rows()
    upper = np.full(layout.count, np.inf)
    lower = np.zeros(layout.count)
    cost = np.zeros(layout.count)
    hours = time.step_s / 3600.0
    cost[layout.cold] = COLD_PER_KH * hours
    cost[layout.hot] = HOT_PER_KH * hours
    cost[layout.burn] = BURNT_PER_KWH * hours / 1000.0
    cost[layout.owed] = BURNT_PER_KWH * _kwh_per_k(town)
    upper[layout.work] = upper[layout.burn] = town.capacity_w[None, :]
    year = year_of(case.climate, case.seed)
    high_c = limits_c(case.demand(), town.setpoint_c, steps, time.step_s)
    for room, sink in enumerate(town.sinks):
        setpoint_c = float(town.setpoint_c[room])
        _dynamics(build, layout, room, sink, setpoint_c, high_c[:, room], year, time.begin_day * DAY_S, time.step_s)
        most_w = float(town.capacity_w[room])
        for step in range(steps):
            build.at_most([(layout.work[step, room], 1.0), (layout.burn[step, room], 1.0)], most_w)
        last = layout.temperature[steps, room]
        build.at_most([(last, -1.0), (layout.owed[room], -1.0)], -float(town.setpoint_c[room]))
    work = case.work()
    _supply(build, layout, work, time.step_s)
    lower[layout.free] = -np.inf
    found = linprog(
        cost,
        A_ub=build.matrix(build.unequal, layout.count, coo_matrix),
        b_ub=build.bounds,
        A_eq=build.matrix(build.equal, layout.count, coo_matrix),
        b_eq=build.values,
        bounds=np.column_stack([lower, upper]),
        method="highs",
    )
    assert found.success, found.message
    x = np.asarray(found.x)
    mean_c = x[layout.mean]
    return Optimum(float(found.fun), x[layout.work], x[layout.burn], mean_c)


@dataclass(frozen=True)
class _Layout:
    """Where each variable stands, by step and room. temperature: at each step's begin, and at the last one's end."""

    steps: int
    rooms: int

    def _block(self, number: int) -> np.ndarray:
        size = self.steps * self.rooms
        return np.arange(number * size, (number + 1) * size).reshape(self.steps, self.rooms)

    @property
    def work(self) -> np.ndarray:
        return self._block(0)

    @property
    def burn(self) -> np.ndarray:
        return self._block(1)

    @property
    def cold(self) -> np.ndarray:
        return self._block(2)

    @property
    def hot(self) -> np.ndarray:
        return self._block(3)

    @property
    def mean(self) -> np.ndarray:
        return self._block(4)

    @property
    def free(self) -> np.ndarray:
        """Means and states: any numbers."""
        first = 4 * self.steps * self.rooms
        return np.arange(first, self.count - self.rooms)

    @property
    def temperature(self) -> np.ndarray:
        first = 5 * self.steps * self.rooms
        return np.arange(first, self.count - self.rooms).reshape(self.steps + 1, self.rooms)

    @property
    def owed(self) -> np.ndarray:
        """Kelvin below the setpoint at the end."""
        return np.arange(self.count - self.rooms, self.count)

    @property
    def count(self) -> int:
        return (6 * self.steps + 2) * self.rooms


class _Rows:
    """Rows of the two matrices, as they come."""

    def __init__(self) -> None:
        self.equal: list[tuple[int, int, float]] = []
        self.values: list[float] = []
        self.unequal: list[tuple[int, int, float]] = []
        self.bounds: list[float] = []

    def equals(self, terms: list[tuple[Any, float]], value: float) -> None:
        self.equal += [(len(self.values), int(place), factor) for place, factor in terms]
        self.values.append(value)

    def at_most(self, terms: list[tuple[Any, float]], bound: float) -> None:
        self.unequal += [(len(self.bounds), int(place), factor) for place, factor in terms]
        self.bounds.append(bound)

    @staticmethod
    def matrix(entries: list[tuple[int, int, float]], columns: int, coo: Any) -> Any:
        rows, places, factors = zip(*entries, strict=True)
        return coo((factors, (rows, places)), shape=(max(rows) + 1, columns)).tocsr()


def _dynamics(
    build: _Rows,
    layout: _Layout,
    room: int,
    sink: HeatSink,
    setpoint_c: float,
    high_c: np.ndarray,
    year: WeatherYear,
    begin_s: float,
    step_s: float,
) -> None:
    """The exact step of a sink with one capacity: state and mean are affine in the state before and the power."""
    states, work, burn = layout.temperature[:, room], layout.work[:, room], layout.burn[:, room]
    mean, cold, hot = layout.mean[:, room], layout.cold[:, room], layout.hot[:, room]
    build.equals([(states[0], 1.0)], sink.state.temperatures_c[0])
    for step in range(layout.steps):
        weather = year.hour(int((begin_s + step * step_s) // 3600.0) % 8760)
        base_c, base_mean_c = _stepped(sink, 0.0, 0.0, weather, step_s)
        warm_c, warm_mean_c = _stepped(sink, 1.0, 0.0, weather, step_s)
        fed_c, fed_mean_c = _stepped(sink, 0.0, 1000.0, weather, step_s)
        for place, base, of_state, of_kw in (
            (states[step + 1], base_c, warm_c - base_c, fed_c - base_c),
            (mean[step], base_mean_c, warm_mean_c - base_mean_c, fed_mean_c - base_mean_c),
        ):
            power = [(work[step], -of_kw / 1000.0), (burn[step], -of_kw / 1000.0)]
            build.equals([(place, 1.0), (states[step], -of_state), *power], base)
        build.at_most([(mean[step], -1.0), (cold[step], -1.0)], -setpoint_c)
        build.at_most([(mean[step], 1.0), (hot[step], -1.0)], float(high_c[step]))


def _stepped(sink: HeatSink, state_c: float, power_w: float, weather: Weather, step_s: float) -> tuple[float, float]:
    """(state, mean) after a step from a state."""
    trial = HeatSink(sink.model, State((state_c,), sink.state.memory))
    mean_c = trial.step(power_w, weather, step_s).mean_c
    return trial.state.temperatures_c[0], mean_c


def _supply(build: _Rows, layout: _Layout, work: Work, step_s: float) -> None:
    """At no time more work than has come."""
    arrival = np.array([job.arrival_s for job in work.jobs])
    energy_ws = np.bincount(work.job_of, weights=work.length_s, minlength=len(work.jobs)) * WATTS_PER_SLOT
    # Between two arrivals the last of them bounds all that is before.
    checks = sorted({min(layout.steps, int(at_s // step_s) + 1) for at_s in arrival[arrival > 0]} | {layout.steps})
    for before in checks:
        come_ws = float(energy_ws[arrival < before * step_s].sum())
        places = layout.work[:before].ravel()
        build.at_most([(place, step_s / 3600.0) for place in places], come_ws / 3600.0)
