"""Optimum start: when to begin warming up, so that the room is there when the schedule says so, and not before."""

from __future__ import annotations

from dataclasses import dataclass

from ..sinks.room import Room1R1C
from ..sinks.sink import HeatSink
from ..weather.conditions import Weather
from .identify import Estimate

# Below this confidence the model is a guess, and the plain rate is used.
CONFIDENCE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class StartSettings:
    """lead_max_s: never earlier than this.  rate_k_per_h > 0: warming up while the room is not known yet."""

    lead_max_s: float
    rate_k_per_h: float


def lead_s(
    settings: StartSettings,
    estimate: Estimate,
    temperature_c: float,
    target_c: float,
    outside_c: float | None,
    power_w: float,
) -> float:
    """Seconds that warming up to target_c takes at power_w, 0 … lead_max_s.

    The less is known of the room, the earlier it begins: the model's time is divided by its confidence.
    """
    rise_k = target_c - temperature_c
    if rise_k <= 0:
        return 0.0
    if outside_c is None or estimate.confidence < CONFIDENCE_MIN:
        return min(settings.lead_max_s, rise_k / settings.rate_k_per_h * 3600)
    room = Room1R1C(1 / estimate.resistance_k_per_w, estimate.capacity_j_per_k, gains_w=estimate.gain_w)
    sink = HeatSink(room, temperature_c)
    needed_s = sink.seconds_to(target_c, power_w, Weather(outside_c), settings.lead_max_s)
    return min(settings.lead_max_s, needed_s / estimate.confidence)
