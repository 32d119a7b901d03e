"""Energy of a meter that tells watts and is read in a thread: the last power holds until the next reading."""

from __future__ import annotations

import math
from collections.abc import Callable

from .interface import DriverError
from .polled import PolledSensor

# Older readings than so many periods tell nothing.
PERIODS_MAX = 3
TOO_LITTLE = "the meter tells less than {least_w:.0f} W: it is turned round, or power flows back through it"
TOO_MUCH = "the meter tells more than {most_w:.0f} W, which this heater cannot draw by its settings"


class PolledMeter:
    """watts: the polled reading.  now_s: the clock of its samples.  least_w, most_w: beyond them a meter is wrong."""

    def __init__(
        self,
        watts: PolledSensor,
        now_s: Callable[[], float],
        period_s: float,
        most_w: float = math.inf,
        *,
        least_w: float = -math.inf,
    ) -> None:
        self._watts = watts
        self._least_w, self._most_w = least_w, most_w
        self._now_s = now_s
        self._age_max_s = PERIODS_MAX * period_s + 2.0
        # A whole number: after a large one, a fraction would lose what is small.
        self._energy_uj = 0
        self._counted_s: float | None = None

    def energy_uj(self) -> int:
        """Never falls: a little below 0, as meters tell at rest, counts as none."""
        now_s, sample = self._now_s(), self._watts.latest()
        counted_s, self._counted_s = self._counted_s, now_s
        if sample is None or now_s - sample.at_s > self._age_max_s:
            raise DriverError("the meter has not answered for some time")
        if not math.isfinite(sample.value) or sample.value > self._most_w:
            raise DriverError(TOO_MUCH.format(most_w=self._most_w))
        if sample.value < self._least_w:
            raise DriverError(TOO_LITTLE.format(least_w=self._least_w))
        if counted_s is not None:
            self._energy_uj += round(max(0.0, sample.value) * 1e6 * (now_s - counted_s))
        return self._energy_uj
