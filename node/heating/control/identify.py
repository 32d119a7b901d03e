"""The sink's resistance and capacity, learnt while it is heated: recursive least squares with a confidence.

Over each interval, exactly for one resistance and one capacity: dT = a ∫(T_out - T) dt + b ∫P dt + c ∫dt, with
a = 1/(R C), b = 1/C, and c what the sun and people bring. Integrals, not slopes, so that the sensor's noise enters once
an interval. The parameters are taken to drift slowly, so old intervals fade; but never to be known less than at first,
or a week without change would make the next one count for everything.
Source: Ljung, System Identification (1999), section 11.2 (recursive least squares as a Kalman filter).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_HOUR_S = 3600.0
# In a, b and c of hours, kilowatts and kelvin: how far the first guess may be off, relative to itself.
_GUESS_SPREAD = 0.5
_GAIN_SPREAD_K_PER_H = 0.02
# Of the variance of the first guess, what an interval's drift brings back: the sun is less constant than the walls.
_DRIFT, _GAIN_DRIFT = 2e-5, 1e-3
# What is recalled beyond these was never learnt.
_GAIN_MOST_K_PER_H, _RESIDUAL_MOST_K2 = 100.0, 1e4

Matrix = list[list[float]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """resistance_k_per_w, capacity_j_per_k > 0; gain_w from the sun and people.

    confidence: 1 less the larger relative standard error of the two, from 0 (a guess) to 1.
    """

    resistance_k_per_w: float
    capacity_j_per_k: float
    gain_w: float
    confidence: float

    def hold_w(self, setpoint_c: float, outside_c: float) -> float:
        """Heat that keeps the sink at a temperature, >= 0."""
        return max(0.0, (setpoint_c - outside_c) / self.resistance_k_per_w - self.gain_w)


@dataclass(frozen=True, slots=True)
class Learnt:
    """All that was learnt, to be kept over a restart: theta and its covariance, of a, b and c in their own units.

    guess: the R and C that it began with, K/W and J/K: what was learnt from another guess is of another sink.
    covariance: its upper triangle by rows.
    """

    guess: tuple[float, float]
    theta: tuple[float, float, float]
    covariance: tuple[float, float, float, float, float, float]
    residual_k2: float
    intervals: int


_TRIANGLE = tuple((i, j) for i in range(3) for j in range(i, 3))


class Identifier:
    """Told every reading, it closes an interval each interval_s. The guess is what holds until it knows better."""

    def __init__(
        self,
        guess_r_k_per_w: float,
        guess_c_j_per_k: float,
        *,
        interval_s: float = 1800.0,
        noise_k: float = 0.05,
    ) -> None:
        if not (guess_r_k_per_w > 0 and guess_c_j_per_k > 0 and interval_s > 0):
            raise ValueError("expected a positive guess and interval")
        self._interval_s = interval_s
        self._begun_with = (guess_r_k_per_w, guess_c_j_per_k)
        b = 3.6e6 / guess_c_j_per_k
        a = _HOUR_S / (guess_r_k_per_w * guess_c_j_per_k)
        self._guess = (a, b)
        self._theta = [a, b, 0.0]
        self._p: Matrix = [[0.0] * 3 for _ in range(3)]
        self._prior = [spread * spread for spread in (a * _GUESS_SPREAD, b * _GUESS_SPREAD, _GAIN_SPREAD_K_PER_H)]
        self._drift = [self._prior[0] * _DRIFT, self._prior[1] * _DRIFT, self._prior[2] * _GAIN_DRIFT]
        for place, variance in enumerate(self._prior):
            self._p[place][place] = variance
        # Both ends of an interval are read with the sensor's noise.
        self._noise_k2 = 2 * noise_k * noise_k
        self._residual_k2 = self._noise_k2
        self._begun_s: float | None = None
        self._begun_c = self._last_c = self._last_s = 0.0
        self._sums = [0.0, 0.0]
        self.intervals = 0

    def update(self, now_s: float, temperature_c: float, outside_c: float, power_w: float) -> None:
        """power_w: mean since the last update. A gap longer than the interval starts anew, so does `restart`."""
        if self._begun_s is None or now_s - self._last_s > self._interval_s:
            self._begin(now_s, temperature_c)
            return
        hours = (now_s - self._last_s) / _HOUR_S
        mean_c = (self._last_c + temperature_c) / 2
        self._sums[0] += (outside_c - mean_c) * hours
        self._sums[1] += power_w / 1000 * hours
        self._last_s, self._last_c = now_s, temperature_c
        elapsed_s = now_s - self._begun_s
        if elapsed_s >= self._interval_s:
            self._learn([*self._sums, elapsed_s / _HOUR_S], temperature_c - self._begun_c)
            self._begin(now_s, temperature_c)

    def restart(self) -> None:
        """Forget the interval under way: a window is open, or the sensor is not to be believed."""
        self._begun_s = None

    def estimate(self) -> Estimate:
        """What is known now; the guess where the least squares left what is physical."""
        a, b, c = self._theta
        guess_a, guess_b = self._guess
        if not (guess_a / 50 < a < guess_a * 50 and guess_b / 50 < b < guess_b * 50):
            return self._of(guess_a, guess_b, 0.0, 0.0)
        # d(R)/R = db/b - da/a, so R's variance has the covariance of both.
        var_a, var_b, cov = self._p[0][0] / (a * a), self._p[1][1] / (b * b), self._p[0][1] / (a * b)
        scale = max(1.0, self._residual_k2 / self._noise_k2)
        error = math.sqrt(max(var_b, var_a + var_b - 2 * cov, 0.0) * scale)
        return self._of(a, b, c, max(0.0, 1.0 - error))

    def learnt(self) -> Learnt:
        a, b, c = self._theta
        (p00, p01, p02), (_, p11, p12), (_, _, p22) = self._p
        covariance = (p00, p01, p02, p11, p12, p22)
        return Learnt(self._begun_with, (a, b, c), covariance, self._residual_k2, self.intervals)

    def recall(self, learnt: Learnt, age_s: float) -> bool:
        """Go on from what was known age_s >= 0 ago; False, and nothing changes, for what is no such thing, or not ours.

        Parameters drift while nobody looks as they do between two intervals: what is old is known less well.
        """
        if learnt.guess != self._begun_with or not self._is_possible(learnt):
            return False
        self._theta = list(learnt.theta)
        for (i, j), value in zip(_TRIANGLE, learnt.covariance, strict=True):
            self._p[i][j] = self._p[j][i] = value
        for i, drift in enumerate(self._drift):
            self._p[i][i] += drift * age_s / self._interval_s
        for i, prior in enumerate(self._prior):
            self._shrink(i, prior)
        self._residual_k2, self.intervals = learnt.residual_k2, learnt.intervals
        self.restart()
        return True

    def _shrink(self, i: int, most: float) -> None:
        """A variance of no more than that, its correlations as they are."""
        if self._p[i][i] <= most:
            return
        share = math.sqrt(most / self._p[i][i])
        for j in range(3):
            self._p[i][j] *= share
            self._p[j][i] *= share
        self._p[i][i] = most

    def _is_possible(self, learnt: Learnt) -> bool:
        numbers = (*learnt.theta, *learnt.covariance, learnt.residual_k2)
        if not all(map(math.isfinite, numbers)) or learnt.intervals < 0:
            return False
        a, b, c = learnt.theta
        if abs(c) > _GAIN_MOST_K_PER_H or not 0 < learnt.residual_k2 < _RESIDUAL_MOST_K2:
            return False
        if not all(guess / 50 < each < guess * 50 for guess, each in zip(self._guess, (a, b), strict=True)):
            return False
        p00, p01, p02, p11, p12, p22 = learnt.covariance
        if any(variance > prior for variance, prior in zip((p00, p11, p22), self._prior, strict=True)):
            return False
        # Positive definite, by its leading minors.
        minor = p00 * p11 - p01 * p01
        whole = p00 * (p11 * p22 - p12 * p12) - p01 * (p01 * p22 - p12 * p02) + p02 * (p01 * p12 - p11 * p02)
        return p00 > 0 and minor > 0 and whole > 0

    @staticmethod
    def _of(a: float, b: float, c: float, confidence: float) -> Estimate:
        return Estimate(
            resistance_k_per_w=b / a / 1000,
            capacity_j_per_k=3.6e6 / b,
            gain_w=c / b * 1000,
            confidence=confidence,
        )

    def _begin(self, now_s: float, temperature_c: float) -> None:
        self._begun_s = self._last_s = now_s
        self._begun_c = self._last_c = temperature_c
        self._sums = [0.0, 0.0]

    def _learn(self, x: list[float], y: float) -> None:
        p = self._p
        px = [sum(p[i][j] * x[j] for j in range(3)) for i in range(3)]
        variance = sum(x[i] * px[i] for i in range(3))
        residual = y - sum(x[i] * self._theta[i] for i in range(3))
        self._residual_k2 += (min(residual * residual, 25 * self._residual_k2) - self._residual_k2) / 50
        k = [each / (self._noise_k2 + variance) for each in px]
        # An interval that nothing known explains (a party, a sensor moved) may not undo a winter's learning.
        bound = 3 * math.sqrt(self._noise_k2 * max(1.0, self._residual_k2 / self._noise_k2) + variance)
        innovation = max(-bound, min(bound, residual))
        self._theta = [self._theta[i] + k[i] * innovation for i in range(3)]
        for i in range(3):
            for j in range(3):
                p[i][j] -= k[i] * px[j]
            p[i][i] = min(self._prior[i], p[i][i] + self._drift[i])
        self.intervals += 1
