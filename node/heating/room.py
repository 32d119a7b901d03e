"""A room as one resistance and one capacity: C dT/dt = P - H (T - T_outside), stepped exactly.

With P constant the solution is T(t) = T_end + (T(0) - T_end) exp(-t / tau), where T_end = T_outside + P / H and
tau = C / H; so a step's length adds no error, and crossings and integrals have closed forms too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """The constants of a room.

    loss_w_per_k: H, to the outside, > 0.  capacity_j_per_k: C, > 0.  outside_c: constant.
    Powers are watts into the room and constant over a step; durations are seconds, >= 0.
    """

    loss_w_per_k: float
    capacity_j_per_k: float
    outside_c: float

    def __post_init__(self) -> None:
        if not (self.loss_w_per_k > 0 and self.capacity_j_per_k > 0):
            raise ValueError("a room needs a positive loss and a positive capacity")

    @property
    def time_constant_s(self) -> float:
        return self.capacity_j_per_k / self.loss_w_per_k

    def final_c(self, power_w: float) -> float:
        """Where the temperature ends if the power stays."""
        return self.outside_c + power_w / self.loss_w_per_k

    def after(self, temperature_c: float, power_w: float, duration_s: float) -> float:
        """Temperature at the end of a step."""
        final_c = self.final_c(power_w)
        # expm1 keeps the digits of a change that is small beside the temperature.
        return temperature_c + (final_c - temperature_c) * -math.expm1(-duration_s / self.time_constant_s)

    def stored_j(self, before_c: float, after_c: float) -> float:
        """Heat that the room took up between two temperatures."""
        return self.capacity_j_per_k * (after_c - before_c)

    def lost_j(self, temperature_c: float, power_w: float, duration_s: float) -> float:
        """Heat that left to the outside during a step: H times the integral of T - T_outside."""
        settled_k = self.final_c(power_w) - self.outside_c
        ratio = duration_s / self.time_constant_s
        excess_k_s = (temperature_c - self.final_c(power_w)) * self.time_constant_s * -math.expm1(-ratio)
        return self.loss_w_per_k * (settled_k * duration_s + excess_k_s)

    def seconds_to(self, target_c: float, temperature_c: float, power_w: float) -> float:
        """Time until the temperature is target_c: 0 if it is now, infinity if it never will be."""
        final_c = self.final_c(power_w)
        if temperature_c == target_c:
            return 0.0
        if not (temperature_c < target_c < final_c or temperature_c > target_c > final_c):
            return math.inf
        share = (target_c - temperature_c) / (final_c - temperature_c)
        if share >= 1:  # so near to the end that it rounds to it
            return math.inf
        return self.time_constant_s * -math.log1p(-share)

    def seconds_below(self, limit_c: float, temperature_c: float, power_w: float, duration_s: float) -> float:
        """How long of a step the temperature is at most limit_c. It crosses at most once."""
        crossing_s = min(self.seconds_to(limit_c, temperature_c, power_w), duration_s)
        if temperature_c == limit_c:
            return duration_s if self.final_c(power_w) <= limit_c else 0.0
        return crossing_s if temperature_c < limit_c else duration_s - crossing_s

    def discomfort_k_s(self, limit_c: float, temperature_c: float, power_w: float, duration_s: float) -> float:
        """Integral of max(0, limit_c - T) over a step, in kelvin seconds (3,600 are one K·h)."""
        cold_s = self.seconds_below(limit_c, temperature_c, power_w, duration_s)
        start_c = temperature_c
        if temperature_c > limit_c:
            start_c = self.after(temperature_c, power_w, duration_s - cold_s)
        final_c = self.final_c(power_w)
        decay_s = self.time_constant_s * -math.expm1(-cold_s / self.time_constant_s)
        return (limit_c - final_c) * cold_s - (start_c - final_c) * decay_s
