"""What a sink's model foretells within the horizon: for the mesh, which divides work by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .sinks.sink import HeatSink
from .weather.conditions import Weather

_JOULES_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class Foretold:
    """Of the work's heat; the idle machine's is given anyway.

    wanted_wh: that brings the sink to its setpoint within the horizon, >= 0.  buffer_wh: that lifts it to its limit,
    what it loses meanwhile apart; 0 at the limit, infinity where full power does not get it there.
    hold_w: that holds it at its limit, >= 0.  discomfort_kh: below the setpoint within the horizon, without work.
    """

    wanted_wh: float = 0.0
    buffer_wh: float = math.inf
    hold_w: float = 0.0
    discomfort_kh: float = 0.0


def foretell(
    sink: HeatSink,
    weather: Weather,
    *,
    setpoint_c: float,
    limit_c: float,
    capacity_w: float,
    idle_w: float,
    horizon_s: float,
    time_scale: float = 1.0,
) -> Foretold:
    """horizon_s: of the wall's clock, on which the sink's runs time_scale times faster; joules are the wall's.

    capacity_w: of the work's heat, > 0.  limit_c: above it heat is waste.
    """
    sink_s, most_w = horizon_s * time_scale, capacity_w + idle_w
    wanted_w = sink.wanted_j(setpoint_c, weather, sink_s, most_w) / sink_s
    wanted_wh = max(0.0, wanted_w - idle_w) * horizon_s / _JOULES_PER_WH
    hold_w = max(0.0, sink.hold_w(limit_c, weather) - idle_w)
    now_c = sink.temperature_c(weather, idle_w)
    at_full_s = _seconds_to_full(sink, weather, limit_c, now_c, most_w, sink_s) / time_scale
    buffer_wh = max(0.0, capacity_w - hold_w) * at_full_s / _JOULES_PER_WH if at_full_s < math.inf else math.inf
    discomfort_kh = sink.discomfort_k_s(setpoint_c, idle_w, weather, sink_s) / _JOULES_PER_WH
    return Foretold(wanted_wh, buffer_wh, hold_w, discomfort_kh)


def _seconds_to_full(
    sink: HeatSink, weather: Weather, limit_c: float, now_c: float, power_w: float, sink_s: float
) -> float:
    """Until full power has the sink at its limit: as it would go on after the horizon as fast as within it."""
    if now_c >= limit_c or not sink.model.wants_heat or sink.limits(weather).power_max_w <= 0:
        return 0.0
    ahead = sink.copy()
    ahead.step(power_w, weather, sink_s)
    rise_k = ahead.temperature_c(weather.later(sink_s), power_w) - now_c
    return sink_s * (limit_c - now_c) / rise_k if rise_k > 0 else math.inf
