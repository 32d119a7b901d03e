"""A winter week of one sink of each kind under an ideal heater, and how fast many of them are stepped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ...node.config import HeaterSettings, RoomSettings
from ...node.heating.simulation import model_of
from ...node.heating.sink_settings import KINDS, ModelTable, SunTable, TankTable
from ...node.heating.sinks.fleet import Fleet, is_steady
from ...node.heating.sinks.ideal import between_w
from ...node.heating.sinks.sink import HeatSink
from ...node.heating.weather.generator import CLIMATES, generate_year

DAY_S = 86_400.0
STEP_S = 900.0
BEGIN_S = 12 * DAY_S
# Sinks that are stepped one by one are counted on fewer.
SINGLES_MOST = 50

# Of each kind: where it begins, its setpoint, and the heater's power.
_PLANS = {
    "tank": (50.0, 55.0, 4000.0),
    "tank-layers": (50.0, 55.0, 4000.0),
    "pool": (27.0, 28.0, 60_000.0),
    "boiler-rack": (20.0, 20.0, 12_000.0),
    "district": (55.0, 68.0, 30_000.0),
    "data-centre": (24.0, 24.0, 5000.0),
}
_ROOM_PLAN = (17.0, 20.0, 800.0)


@dataclass(frozen=True, slots=True)
class Week:
    """One sample a step: hours since its begin, °C, W."""

    kind: str
    hours: tuple[float, ...]
    outside_c: tuple[float, ...]
    target_c: tuple[float, ...]
    temperature_c: tuple[float, ...]
    power_w: tuple[float, ...]
    heat_kwh: float
    gains_kwh: float
    lost_kwh: float
    delivered_kwh: float
    stored_kwh: float

    def row(self) -> dict[str, Any]:
        """Without the samples."""
        return {
            "kind": self.kind,
            "heat_kwh": round(self.heat_kwh, 2),
            "gains_kwh": round(self.gains_kwh, 2),
            "lost_kwh": round(self.lost_kwh, 2),
            "delivered_kwh": round(self.delivered_kwh, 2),
            "stored_kwh": round(self.stored_kwh, 2),
            "lowest_c": round(min(self.temperature_c), 2),
            "highest_c": round(max(self.temperature_c), 2),
        }


def sink_of_kind(kind: str) -> HeatSink:
    """Default numbers, but for a window to the south and some gains, and draws from the tanks."""
    model = ModelTable(
        kind=kind,
        sun=SunTable(gains_w=80.0, south_m2=2.0),
        tank=TankTable(draws_l_per_day=600.0, disinfect_c="60"),
    )
    start_c = _PLANS.get(kind, _ROOM_PLAN)[0]
    return HeatSink(model_of(HeaterSettings(model=model, room=RoomSettings(start_c=start_c))), start_c)


def week_of(kind: str, climate: str, seed: int, days: int = 7) -> Week:
    """From January 13th on; the heater gives just what keeps the target, from 0 to its power and the sink's limit."""
    sink, year = sink_of_kind(kind), generate_year(CLIMATES[climate], seed)
    _, setpoint_c, most_w = _PLANS.get(kind, _ROOM_PLAN)
    samples: list[tuple[float, ...]] = []
    sums_j = [0.0] * 5
    for number in range(round(days * DAY_S / STEP_S)):
        weather = year.at(BEGIN_S + number * STEP_S)
        target_c = sink.target_c(setpoint_c, weather)
        limit_w = min(most_w, sink.limits(weather).power_max_w)
        power_w = 0.0
        if sink.model.wants_heat and limit_w > 0:
            power_w = max(0.0, between_w(sink, target_c, float("inf"), weather, STEP_S, 0.0, limit_w))
        elif not sink.model.wants_heat:
            power_w = most_w
        done = sink.step(power_w, weather, STEP_S)
        samples.append((number * STEP_S / 3600, weather.outside_c, target_c, done.mean_c, power_w))
        flows_j = (done.heater_j, done.gains_j, done.lost_j, done.delivered_j, done.stored_j)
        sums_j = [total + flow for total, flow in zip(sums_j, flows_j, strict=True)]
    hours, outside_c, targets_c, temperatures_c, powers_w = zip(*samples, strict=True)
    heat, gains, lost, delivered, stored = (total / 3.6e6 for total in sums_j)
    return Week(kind, hours, outside_c, targets_c, temperatures_c, powers_w, heat, gains, lost, delivered, stored)


def steps_per_cpu_s(kind: str, count: int, steps: int) -> float:
    """Sinks stepped in a second of CPU time, `count` at once, `steps` steps of STEP_S in changing weather."""
    import numpy as np

    sink, year = sink_of_kind(kind), generate_year(CLIMATES["paris"], 1)
    number = count if is_steady(sink) else min(count, SINGLES_MOST)
    fleet = Fleet([sink] * number)
    powers_w = np.full(number, 300.0)
    weathers = [year.at(BEGIN_S + step * STEP_S) for step in range(steps + 1)]
    fleet.step(powers_w, weathers[:1], STEP_S)
    begin_s = time.process_time()
    for weather in weathers[1:]:
        fleet.step(powers_w, [weather], STEP_S)
    return number * steps / max(1e-9, time.process_time() - begin_s)


def all_kinds() -> tuple[str, ...]:
    return KINDS
