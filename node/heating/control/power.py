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


class PowerLoop:
    """Corrects the table by what the meter says, or by the CPU time that tasks really got. Its factor is bounded:
    a meter that is wrong by more than that is broken, not informative."""

    FACTOR_MIN, FACTOR_MAX = 0.5, 2.0
    # Share of an error that one step of settle_s corrects.
    STEP = 0.5

    def __init__(self, table: PowerTable, settle_s: float = 10.0) -> None:
        self.table = table
        self._settle_s = settle_s
        self.factor = 1.0

    def load(self, request_w: float) -> float:
        """Cores to keep busy, 0 … cores of the table."""
        return self.table.load(request_w * self.factor)

    def observe(self, asked_load: float, busy_load: float, measured_w: float, duration_s: float) -> None:
        """asked_load cores were asked for, busy_load (by CPU time) worked, and measured_w above idle were drawn.

        Nothing is learnt while work lacks: few watts then are no reason to ask for more.
        """
        expected_w = self.table.watts(busy_load)
        if busy_load < 0.5 * asked_load or expected_w <= 0.02 * self.table.capacity_w or measured_w <= 0:
            return
        wanted = min(self.FACTOR_MAX, max(self.FACTOR_MIN, expected_w / measured_w))
        weight = 1 - (1 - self.STEP) ** (duration_s / self._settle_s)
        self.factor += (wanted - self.factor) * weight


@dataclass(frozen=True, slots=True)
class Work:
    """slots: tasks to run at once.  duty: share of its core that each may use, DUTY_MIN … 1."""

    slots: int
    duty: float


def work_for(load: float, cores: int) -> Work:
    """As few tasks as can make a load in cores, 0 … cores; no work for none, else one at DUTY_MIN or more."""
    if load <= 0:
        return Work(0, DUTY_MIN)
    load = max(DUTY_MIN, load)
    # A rounding error above a whole number of cores is no reason to start one more task.
    slots = min(cores, math.ceil(load - 1e-9))
    return Work(slots, min(1.0, load / slots))
