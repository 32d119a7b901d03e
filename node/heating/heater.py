"""What a node's driver asks of the thing that it heats: a reading of the demand, and joules for CPU time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from ...protocol.config import MINUTE
from ...protocol.events import HeatReading
from ..config import HeaterSettings
from .control.thermostat import Decision, Inputs, Thermostat
from .control.zone import Member
from .disinfected import Disinfected
from .drivers.interface import SafeWrite
from .observed import Observed

HORIZON_US = 15 * MINUTE
_US_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Meter:
    """Energy since the start, in microjoules: of tasks, of the machine being on, and of heat without work.

    The useful part met a demand; the rest was waste.
    """

    work_uj: int = 0
    work_useful_uj: int = 0
    idle_uj: int = 0
    idle_useful_uj: int = 0
    burn_uj: int = 0
    burn_useful_uj: int = 0

    @property
    def total_uj(self) -> int:
        return self.work_uj + self.idle_uj + self.burn_uj

    @property
    def useful_uj(self) -> int:
        return self.work_useful_uj + self.idle_useful_uj + self.burn_useful_uj

    @property
    def wasted_uj(self) -> int:
        return self.total_uj - self.useful_uj


class Heater(Protocol):
    """A sink and its control. The caller brings the time, in microseconds of a clock that never goes back.

    measured: whether the joules come from a meter; else they are CPU time times a configured power.
    """

    @property
    def measured(self) -> bool: ...

    @property
    def duty(self) -> float:
        """Share of its core that each running task may use now; 0: it stands still."""
        ...

    @property
    def burn_load(self) -> float:
        """Cores to burn on until the next `advance`, for want of work; 0 unless the owner wants that."""
        ...

    @property
    def load(self) -> float:
        """Cores that were busy in the last step, with tasks or for nothing."""
        ...

    @property
    def meter(self) -> Meter: ...

    @property
    def thermostat(self) -> Thermostat | None:
        """None where nothing is heated."""
        ...

    @property
    def decision(self) -> Decision | None:
        """The thermostat's last."""
        ...

    @property
    def observed(self) -> Observed | None:
        """Where presence and windows are told; None where nothing is heated."""
        ...

    @property
    def disinfected(self) -> Disinfected | None:
        """None where it heats no tank that is to be."""
        ...

    def recall_disinfected(self, ago_s: float, *, known: bool) -> None:
        """What an earlier life knew, as old as it is now; again where the clock on the wall was set meanwhile."""
        ...

    def inputs(self) -> Inputs | None:
        """What the thermostat sees now."""
        ...

    def hear(self, others: Sequence[Member]) -> None:
        """What the other heaters of the same sink said last."""
        ...

    async def run(self) -> None:
        """What has to go on beside `advance`: reading sensors. Until cancelled."""
        ...

    def safe_writes(self) -> list[SafeWrite] | None:
        """What a watchdog is to write, and where; None for a heater that needs none."""
        ...

    def reading(self) -> HeatReading:
        """The demand as of the last `advance`."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each thing that does not do as it is told."""
        ...

    def advance(self, now_us: int, cpu_us_total: int, burn_us_total: int = 0, *, running: int = 0) -> HeatReading:
        """Tell the time, and the CPU time since the start of tasks and of what was burnt; get the new demand.

        running: tasks at this moment. Nothing is burnt in their place; and while fewer run than might, nothing is
        learnt of what tasks use.

        A total that is lower than the last one (a child's count vanished with it) counts as nothing used.
        Raises ValueError if the time went back.
        """
        ...

    def attribute(self, cpu_us: int, since_us: int | None = None) -> tuple[int, int]:
        """(energy_mj, useful_mj) of an execution that used cpu_us, from since_us until the last `advance`.

        The useful share is that of all work in that time; without since_us, in the last step.
        """
        ...


class NoHeater:
    """A data centre's machine, or a developer's: every core works, and none of its heat is of use."""

    measured = False
    duty = 1.0
    burn_load = 0.0
    load = 0.0
    thermostat = None
    decision = None
    observed = None
    disinfected = None
    problems = ()

    def __init__(self, settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> None:
        self._settings = settings
        self._clock = UsageClock(now_us, cpu_us_total)
        self.meter = Meter()

    def inputs(self) -> None:
        return None

    def recall_disinfected(self, ago_s: float, *, known: bool) -> None:
        return None

    def hear(self, others: Sequence[Member]) -> None:
        return None

    async def run(self) -> None:
        await trio.sleep_forever()

    def safe_writes(self) -> None:
        return None

    def reading(self) -> HeatReading:
        capacity_w = self._settings.capacity_w
        return HeatReading(
            deficit_w=capacity_w,
            capacity_w=capacity_w,
            slots=self._settings.core_count,
            horizon_wh=capacity_w * HORIZON_US / _US_PER_HOUR,
            watts_per_slot=self._settings.watts_per_core,
            useful=False,
            sink="none",
            temperature_c=0.0,
            price_micro=self._settings.price_micro,
        )

    def advance(self, now_us: int, cpu_us_total: int, burn_us_total: int = 0, *, running: int = 0) -> HeatReading:
        step = self._clock.step(now_us, cpu_us_total)
        self.load = step.load if step.duration_us else self.load
        self.meter = Meter(
            work_uj=self.meter.work_uj + round(step.cpu_us * self._settings.watts_per_core),
            idle_uj=self.meter.idle_uj + round(step.duration_us * self._settings.idle_watts),
        )
        return self.reading()

    def attribute(self, cpu_us: int, since_us: int | None = None) -> tuple[int, int]:
        return energy_mj(cpu_us, self._settings.watts_per_core), 0


@dataclass(frozen=True, slots=True)
class UsageStep:
    """cpu_us: of tasks."""

    duration_us: int
    cpu_us: int
    burn_us: int = 0

    @property
    def work_load(self) -> float:
        """Of tasks, in cores."""
        return self.cpu_us / self.duration_us

    @property
    def load(self) -> float:
        """Of all, in cores."""
        return (self.cpu_us + self.burn_us) / self.duration_us


class UsageClock:
    """Differences of time and of CPU time between readings; CPU time waits for time to have passed."""

    def __init__(self, now_us: int, cpu_us_total: int) -> None:
        self.now_us = now_us
        self._cpu_us_total = cpu_us_total
        self._burn_us_total = 0

    def step(self, now_us: int, cpu_us_total: int, burn_us_total: int = 0) -> UsageStep:
        if now_us < self.now_us:
            raise ValueError(f"the time went back by {self.now_us - now_us} us")
        if now_us == self.now_us:
            return UsageStep(0, 0)
        step = UsageStep(
            now_us - self.now_us,
            max(0, cpu_us_total - self._cpu_us_total),
            max(0, burn_us_total - self._burn_us_total),
        )
        self.now_us, self._cpu_us_total, self._burn_us_total = now_us, cpu_us_total, burn_us_total
        return step


def energy_mj(cpu_us: int, watts_per_core: float) -> int:
    """One watt for a microsecond is a thousandth of a millijoule."""
    return round(cpu_us * watts_per_core / 1000)
