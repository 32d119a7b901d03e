"""What a sink's model foretells within the horizon: for the mesh, which divides work by it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .sinks.sink import HeatSink
from .weather.conditions import Weather

_JOULES_PER_WH = 3600.0
_SECONDS_PER_HOUR = 3600.0
# Of its band, how far above the setpoint a sink is full: a thermostat leaves it a tenth of its power from there on.
FULL_SHARE = 0.2
# Whose losses are foretold, by those of the day before.
HOURS_AHEAD = 24


def full_above_k(band_k: float) -> float:
    """How far above its setpoint a sink takes no more tasks than it has."""
    return FULL_SHARE * band_k


@dataclass(frozen=True, slots=True)
class Foretold:
    """Of the work's heat; the idle machine's is given anyway.

    wanted_wh: that brings the sink to its setpoint within the horizon, >= 0.  buffer_wh: that fills it, what it loses
    meanwhile apart; 0 if it is full, infinity where full power does not fill it.
    hold_w: that holds it when it is full, >= 0.  discomfort_kh: below the setpoint within the horizon, without work.
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
    full_c: float,
    capacity_w: float,
    idle_w: float,
    horizon_s: float,
    time_scale: float = 1.0,
) -> Foretold:
    """horizon_s: of the wall's clock, on which the sink's runs time_scale times faster; joules are the wall's.

    capacity_w: of the work's heat, > 0.  full_c: see `full_above_k`.
    """
    sink_s, most_w = horizon_s * time_scale, capacity_w + idle_w
    wanted_w = sink.wanted_j(setpoint_c, weather, sink_s, most_w) / sink_s
    wanted_wh = max(0.0, wanted_w - idle_w) * horizon_s / _JOULES_PER_WH
    hold_w = max(0.0, sink.hold_w(full_c, weather) - idle_w)
    now_c = sink.temperature_c(weather, idle_w)
    at_full_s = _seconds_to_full(sink, weather, full_c, now_c, most_w, sink_s) / time_scale
    buffer_wh = max(0.0, capacity_w - hold_w) * at_full_s / _JOULES_PER_WH if at_full_s < math.inf else math.inf
    discomfort_kh = sink.discomfort_k_s(setpoint_c, idle_w, weather, sink_s) / _JOULES_PER_WH
    return Foretold(wanted_wh, buffer_wh, hold_w, discomfort_kh)


def _seconds_to_full(
    sink: HeatSink, weather: Weather, full_c: float, now_c: float, power_w: float, sink_s: float
) -> float:
    """Until full power has filled the sink: as it would go on after the horizon as fast as within it."""
    if now_c >= full_c or not sink.model.wants_heat or sink.limits(weather).power_max_w <= 0:
        return 0.0
    ahead = sink.copy()
    ahead.step(power_w, weather, sink_s)
    rise_k = ahead.temperature_c(weather.later(sink_s), power_w) - now_c
    return sink_s * (full_c - now_c) / rise_k if rise_k > 0 else math.inf


class Losses:
    """What a full sink lost in each hour of the last day, and so will, most likely, in each hour of the next."""

    def __init__(self) -> None:
        # By hour: watt-seconds and seconds that were seen of it.
        self._hours: dict[int, tuple[float, float]] = {}
        self._last_s: float | None = None

    def note(self, now_s: float, hold_w: float) -> None:
        """It loses so much, since the last note. now_s: of a clock that never goes back."""
        since_s = self._last_s if self._last_s is not None else now_s
        self._last_s = now_s
        hour = int(now_s // _SECONDS_PER_HOUR)
        # A moment counts as a second, so that each hour that was seen has an entry.
        passed_s = max(1.0, min(now_s - since_s, now_s % _SECONDS_PER_HOUR))
        watt_s, seconds = self._hours.get(hour, (0.0, 0.0))
        self._hours[hour] = (watt_s + hold_w * passed_s, seconds + passed_s)
        for old in [each for each in self._hours if each < hour - HOURS_AHEAD]:
            del self._hours[old]

    def ahead(self, now_s: float, hold_w: float) -> tuple[float, ...]:
        """In each hour to come; hold_w, the present loss, in the first and where the last day is unknown. Empty if all
        of it is."""
        hour = int(now_s // _SECONDS_PER_HOUR)
        seen = [self._hours.get(hour + each - HOURS_AHEAD) for each in range(1, HOURS_AHEAD)]
        if not any(seen):
            return ()
        return (hold_w, *(each[0] / each[1] if each else hold_w for each in seen))
