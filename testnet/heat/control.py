"""The thermostats of all nodes at once: the law of real nodes (`node/heating/control/pi.py`), in NumPy.

A test steps both side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...node.heating.control.power import DUTY_MIN
from ...node.heating.sinks.sink import HeatSink
from ...node.heating.weather.conditions import Weather
from .town import WATTS_PER_SLOT, Floats, Town

BAND_K = 0.5
INTEGRAL_S = 3600.0
# Full power so far below the setpoint. A node's own default is 1 K; computers can be set finer than that.
FULL_POWER_K = 0.4
# A loop that looks once a step cannot be quicker than it: share of the air's capacity that one step may make up for.
STEP_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Law:
    """integral_s: 0 for none.  foresees: what holds the target is added at once.  burns: makes heat without work."""

    full_power_k: float = FULL_POWER_K
    integral_s: float = INTEGRAL_S
    foresees: bool = True
    burns: bool = True


class Thermostats:
    """As of nodes with `gain_w_per_k` = capacity / full_power_k, unless the step is too coarse for that."""

    def __init__(self, town: Town, step_s: float, law: Law | None = None) -> None:
        self.law = law or Law()
        self._capacity_w = town.capacity_w
        self._wants = town.wants_heat
        self._setpoint_c = town.setpoint_c
        first_j_per_k = np.array([_first_j_per_k(sink) for sink in town.sinks])
        self._gain_w_per_k = np.minimum(self._capacity_w / self.law.full_power_k, STEP_SHARE * first_j_per_k / step_s)
        self.integral_w = np.zeros(len(town))
        # As real nodes do, all begin warm: a restart within the band starts no work.
        self.heating: NDArray[np.bool_] = np.zeros(len(town), dtype=bool)
        self.wanted_w: Floats = np.zeros(len(town))

    def update(self, temperature_c: Floats, duration_s: float, known_w: Floats) -> Floats:
        """Watts wanted now. known_w: feed-forward."""
        error_k = self._setpoint_c - temperature_c
        self.heating = np.where(error_k > 0, True, np.where(error_k < -BAND_K, False, self.heating))
        if not self.law.foresees:
            known_w = np.zeros_like(known_w)
        gain, capacity_w = self._gain_w_per_k, self._capacity_w
        request_w = pi(error_k, duration_s, known_w, gain, capacity_w, self.integral_w, self.law.integral_s)
        request_w = np.where(self.heating, np.maximum(request_w, DUTY_MIN * WATTS_PER_SLOT), 0.0)
        self.wanted_w = np.where(self._wants, request_w, 0.0)
        return self.wanted_w


def pi(
    error_k: Floats,
    duration_s: float,
    known_w: Floats,
    gain_w_per_k: Floats,
    capacity_w: Floats,
    integral_w: Floats,
    integral_s: float,
) -> Floats:
    """`PiController.update` of many, without a limit beside the capacity; integral_w is changed in place."""
    given_w = gain_w_per_k * error_k + known_w
    wanted_w = given_w + integral_w
    step_w = gain_w_per_k * error_k * duration_s / integral_s if integral_s else np.zeros_like(error_k)
    outward = ((wanted_w >= capacity_w) & (step_w > 0)) | ((wanted_w <= 0) & (step_w < 0))
    up_w = np.minimum(step_w, np.maximum(0.0, capacity_w - wanted_w))
    down_w = np.maximum(step_w, np.minimum(0.0, -wanted_w))
    moved_w = np.where(outward, 0.0, np.where(step_w > 0, up_w, down_w))
    np.clip(integral_w + moved_w, -capacity_w, capacity_w, out=integral_w)
    return np.clip(given_w + integral_w, 0.0, capacity_w)


def _first_j_per_k(sink: HeatSink) -> float:
    """Of the controlled node; infinity for what has none."""
    capacities = sink.model.drive(sink.state, Weather(10.0)).circuit.capacities_j_per_k
    return capacities[0] if capacities else math.inf
