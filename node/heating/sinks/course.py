"""The controlled temperature along a part of a step: when it crosses a limit, and how far below one it stays.

With one capacity it is y(t) = y_end + (y(0) - y_end) exp(-t / tau): it crosses a limit at most once, and all is in
closed form. With several it is a sum of such terms: the part is cut into `PARTS`, each is taken to cross at most once,
the crossing is found by bisection and the integrals are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .exponential import dot
from .network import Circuit

PARTS = 16
_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Course:
    """A part of a step in which the temperature goes one way only.

    at_c: the temperature after so many seconds of the part.  mean_c: from the part's begin until so many seconds.
    inverse_s: when it is at a temperature between its ends.
    """

    duration_s: float
    at_c: Callable[[float], float]
    mean_c: Callable[[float], float]
    inverse_s: Callable[[float], float]

    @staticmethod
    def over(
        circuit: Circuit, controlled: int, x: Sequence[float], inputs: Sequence[float], duration_s: float
    ) -> Iterator[Course]:
        """The courses of a piece of a step, in their order."""
        if len(x) == 1:
            yield _relaxation(circuit, controlled, x, inputs, duration_s)
            return
        part_s = duration_s / PARTS
        state = list(x)
        for _ in range(PARTS):
            yield _bisected(circuit, controlled, state, inputs, part_s)
            state = [value + rise for value, rise in zip(state, circuit.rises(state, inputs, part_s), strict=True)]

    def seconds_to(self, target_c: float) -> float:
        """0 if the temperature is there at the part's begin, infinity if it never is."""
        start_c, end_c = self.at_c(0.0), self.at_c(self.duration_s)
        if start_c == target_c:
            return 0.0
        if not (start_c < target_c <= end_c or start_c > target_c >= end_c):
            return math.inf
        return min(self.inverse_s(target_c), self.duration_s)

    def seconds_below(self, limit_c: float) -> float:
        """How long the temperature is at most limit_c."""
        start_c, end_c = self.at_c(0.0), self.at_c(self.duration_s)
        if start_c <= limit_c and end_c <= limit_c:
            return self.duration_s
        if start_c >= limit_c and end_c >= limit_c:
            return 0.0
        crossing_s = min(max(0.0, self.inverse_s(limit_c)), self.duration_s)
        return crossing_s if start_c < limit_c else self.duration_s - crossing_s

    def discomfort_k_s(self, setpoint_c: float) -> float:
        """Integral of max(0, setpoint - T)."""
        below_s = self.seconds_below(setpoint_c)
        if below_s == 0.0:
            return 0.0
        if self.at_c(0.0) <= setpoint_c:
            return max(0.0, (setpoint_c - self.mean_c(below_s)) * below_s)
        above_s = self.duration_s - below_s
        whole_k_s = self.mean_c(self.duration_s) * self.duration_s
        above_k_s = self.mean_c(above_s) * above_s if above_s else 0.0
        return max(0.0, setpoint_c * below_s - (whole_k_s - above_k_s))


def _relaxation(
    circuit: Circuit, controlled: int, x: Sequence[float], inputs: Sequence[float], duration_s: float
) -> Course:
    rate_per_s = -circuit.a[0][0]
    gain = 1.0 if controlled == 0 else circuit.r[controlled - 1][0]
    start_c = x[0] if controlled == 0 else circuit.massless(x, inputs)[controlled - 1]
    slope_k_per_s = gain * circuit.rates(x, inputs)[0]

    def at_c(t: float) -> float:
        z = rate_per_s * t
        # expm1 keeps the digits of a change that is small beside the temperature.
        return start_c + slope_k_per_s * (-math.expm1(-z) / rate_per_s if z else t)

    def mean_c(t: float) -> float:
        e2 = circuit.integrals(t)[1][0][0] if t > 0 else 0.0
        return start_c + (slope_k_per_s * e2 / t if t > 0 else 0.0)

    def inverse_s(target_c: float) -> float:
        share = (target_c - start_c) / slope_k_per_s
        if rate_per_s * share >= 1.0:  # so near to the end that it rounds to it
            return duration_s
        return -math.log1p(-rate_per_s * share) / rate_per_s if rate_per_s else share

    return Course(duration_s, at_c, mean_c, inverse_s)


def _bisected(
    circuit: Circuit, controlled: int, x: Sequence[float], inputs: Sequence[float], duration_s: float
) -> Course:
    count = len(x)

    def of(states: Sequence[float]) -> float:
        if controlled < count:
            return states[controlled]
        return circuit.massless(states, inputs)[controlled - count]

    def at_c(t: float) -> float:
        if t <= 0:
            return of(x)
        return of([value + rise for value, rise in zip(x, circuit.rises(x, inputs, t), strict=True)])

    def mean_c(t: float) -> float:
        if t <= 0:
            return of(x)
        e2, rates = circuit.integrals(t)[1], circuit.rates(x, inputs)
        return of([value + dot(row, rates) / t for value, row in zip(x, e2, strict=True)])

    def inverse_s(target_c: float) -> float:
        low_s, high_s = 0.0, duration_s
        rising = at_c(high_s) > at_c(low_s)
        for _ in range(_BISECTIONS):
            middle_s = (low_s + high_s) / 2
            if (at_c(middle_s) < target_c) == rising:
                low_s = middle_s
            else:
                high_s = middle_s
        return (low_s + high_s) / 2

    return Course(duration_s, at_c, mean_c, inverse_s)
