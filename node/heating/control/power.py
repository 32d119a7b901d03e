"""From watts to work: how many tasks, at what duty, and a loop that corrects it by what is measured."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

# A task at a lower duty than this makes so little progress that it would better have gone elsewhere.
DUTY_MIN = 0.1


@dataclass(frozen=True, slots=True)
class PowerStep:
    """cores busy at full duty draw watts above idle; measured: by a meter, else estimated."""

    cores: int
    watts: float
    measured: bool = False


class PowerTable:
    """Watts above idle of 0 … n busy cores: never falling, linear between its steps.

    Real machines are not linear: the first core that wakes the package costs more than the eighth.
    """

    STEPS_MAX = 4097

    def __init__(self, steps: Sequence[PowerStep]) -> None:
        """Raises ValueError unless cores rise from 1 or more, and watts are above 0 and never fall."""
        if not 1 <= len(steps) < self.STEPS_MAX:
            raise ValueError(f"expected 1 to {self.STEPS_MAX - 1} steps")
        self.steps = tuple(steps)
        self._cores = [0.0, *(float(step.cores) for step in steps)]
        self._watts = [0.0, *(step.watts for step in steps)]
        if any(low >= high for low, high in zip(self._cores, self._cores[1:], strict=False)):
            raise ValueError("the numbers of cores have to rise")
        if self._watts[1] <= 0 or any(low > high for low, high in zip(self._watts, self._watts[1:], strict=False)):
            raise ValueError("watts have to be above 0, and never to fall with more cores")

    @classmethod
    def linear(cls, cores: int, watts_per_core: float) -> PowerTable:
        """The estimate where nothing was measured."""
        return cls([PowerStep(cores, cores * watts_per_core)])

    @property
    def cores(self) -> int:
        return self.steps[-1].cores

    @property
    def capacity_w(self) -> float:
        return self._watts[-1]

    @property
    def measured(self) -> bool:
        return all(step.measured for step in self.steps)

    def watts(self, load: float) -> float:
        """Of a load in cores, 0 … cores."""
        return _between(self._cores, self._watts, load)

    def load(self, watts: float) -> float:
        """Cores that draw these watts; the least of them where several do."""
        return _between(self._watts, self._cores, watts)


def _between(xs: list[float], ys: list[float], x: float) -> float:
    x = min(max(x, xs[0]), xs[-1])
    place = bisect_left(xs, x)
    if place == 0:
        return ys[0]
    span = xs[place] - xs[place - 1]
    return ys[place - 1] + (ys[place] - ys[place - 1]) * (x - xs[place - 1]) / span


class Averaged:
    """A ratio of two sums that fade alike: the noise of both is averaged before they are divided."""

    def __init__(self, low: float, high: float, fade_s: float) -> None:
        """Bounded by low <= 1 <= high: what is wrong by more is broken, not informative."""
        self._low, self._high, self._fade_s = low, high, fade_s
        # As if it had been 1 for a while: one reading alone says little.
        self._above = self._below = 0.0
        self.ratio = 1.0

    def add(self, above: float, below: float, duration_s: float) -> None:
        """above, below >= 0, of the same unit; together for duration_s."""
        kept = 0.5 ** (duration_s / self._fade_s)
        prior = max(above, below)
        if self._below <= 0:
            self._above = self._below = prior
        self._above = kept * self._above + (1 - kept) * above
        self._below = kept * self._below + (1 - kept) * below
        if self._below > 0:
            self.ratio = min(self._high, max(self._low, self._above / self._below))


class PowerLoop:
    """Closes the way from watts to tasks by what is measured.

    factor: watts that the table expects of the load, for each one that the meter saw; 1 without a meter.
    effort: cores asked for, for each one that tasks really used while as many ran as were allowed.
    """

    FACTOR_MIN, FACTOR_MAX = 0.25, 4.0
    EFFORT_MIN, EFFORT_MAX = 0.5, 1.5

    def __init__(self, table: PowerTable, fade_s: float = 10.0) -> None:
        """fade_s: a reading counts half as much after it."""
        self.table = table
        self._watts = Averaged(self.FACTOR_MIN, self.FACTOR_MAX, fade_s)
        self._cores = Averaged(self.EFFORT_MIN, self.EFFORT_MAX, fade_s)

    @property
    def factor(self) -> float:
        return self._watts.ratio

    @property
    def effort(self) -> float:
        return self._cores.ratio

    def load(self, request_w: float) -> float:
        """Cores that have to be busy for these watts, 0 … cores of the table."""
        return self.table.load(request_w * self.factor)

    def asked(self, request_w: float) -> float:
        """Cores to ask tasks for, so that so many get busy, 0 … cores of the table."""
        return min(float(self.table.cores), self.load(request_w) * self.effort)

    def saw_watts(self, busy_load: float, measured_w: float, duration_s: float) -> None:
        """busy_load: by CPU time, in cores at full speed, whatever they did.  measured_w: above idle.

        At rest nothing is learnt: a meter's error is more than what there is to measure.
        """
        expected_w = self.table.watts(busy_load)
        if expected_w > 0.02 * self.table.capacity_w and measured_w > 0:
            self._watts.add(expected_w, measured_w, duration_s)

    def saw_cores(self, asked_load: float, work_load: float, duration_s: float, *, lacks_work: bool) -> None:
        """asked_load: of tasks, in cores.  work_load: what they used.

        Nothing is learnt while work lacks: few tasks are no reason to ask each for more.
        """
        if not lacks_work and asked_load > 0 and work_load > 0.3 * asked_load:
            self._cores.add(asked_load, work_load, duration_s)


@dataclass(frozen=True, slots=True)
class Work:
    """slots: tasks to run at once.  duty: share of its core that each may use, DUTY_MIN … 1.

    most_load: cores that tasks may use together, those included that run though fewer are wanted; 0: all stand still.
    """

    slots: int
    duty: float
    most_load: float = math.inf

    @property
    def stopped(self) -> bool:
        return self.most_load <= 0


def work_for(load: float, cores: int) -> Work:
    """As few tasks as can make a load in cores, 0 … cores; no work for none, else one at DUTY_MIN or more."""
    if load <= 0:
        return Work(0, DUTY_MIN)
    load = max(DUTY_MIN, load)
    # A rounding error above a whole number of cores is no reason to start one more task.
    slots = min(cores, math.ceil(load - 1e-9))
    return Work(slots, min(1.0, load / slots))
