"""An ideal heater and cooler: the very power that keeps a temperature. For validation, and as a bound of control."""

from __future__ import annotations

import math

from ..weather.conditions import Weather
from .sink import HeatSink

_TRIAL_W = 1000.0


def holding_w(sink: HeatSink, target_c: float, weather: Weather, duration_s: float) -> float:
    """The constant power over a step to come with which its mean controlled temperature is the target.

    Exact for a sink whose circuit does not change within the step: the mean is linear in the power.
    """
    without_c, with_c = (sink.copy().step(power_w, weather, duration_s).mean_c for power_w in (0.0, _TRIAL_W))
    return _TRIAL_W * (target_c - without_c) / (with_c - without_c)


def between_w(
    sink: HeatSink,
    low_c: float,
    high_c: float,
    weather: Weather,
    duration_s: float,
    cooling_max_w: float = math.inf,
    heating_max_w: float = math.inf,
) -> float:
    """Heating (positive) up to low_c, cooling (negative) down to high_c, nothing between; within the two limits."""
    free_c = sink.copy().step(0.0, weather, duration_s).mean_c
    if free_c < low_c:
        return min(heating_max_w, holding_w(sink, low_c, weather, duration_s))
    if free_c > high_c:
        return max(-cooling_max_w, holding_w(sink, high_c, weather, duration_s))
    return 0.0
