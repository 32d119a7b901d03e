"""A machine in virtual time that obeys the files of a `FakeLinux` as hardware does. Its watts are its own.

A core draws by frequency and the square of its voltage, the first one wakes the package, a fan follows the power; tasks
get a bit less than they are allowed, by chance; RAPL's limit slows all cores until it is kept; the quota is a quota.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.choose import hardware_of
from hearthmesh.node.heating.control.power import PowerStep, PowerTable
from hearthmesh.node.heating.control.sensor import Sample
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater
from tests.node.heating.drivers.fake_linux import FakeLinux

PERIOD_S = 0.5
PACKAGE = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"
POLICY = "sys/devices/system/cpu/cpufreq/policy0/"
QUOTA = "sys/fs/cgroup/hearth.slice/cpu.max"


@dataclass(frozen=True)
class Physics:
    """idle_w of the whole.  wake_w: of the package once a core is busy.  core_w: of one at full speed.

    got: share of what tasks are allowed that they get, on average.  noise: of the watts in one period.
    """

    cores: int = 4
    idle_w: float = 30.0
    wake_w: float = 12.0
    core_w: float = 20.0
    got: float = 0.94
    noise: float = 0.05

    def busy_w(self, load: float, speed: float) -> float:
        """Above idle. The voltage falls with the frequency; the fan takes 4 % of it all."""
        if load <= 0:
            return 0.0
        volts = 0.55 + 0.45 * speed
        return 1.04 * (min(1.0, 2 * load) * self.wake_w + load * self.core_w * speed * volts**2)

    @property
    def most_w(self) -> float:
        return self.busy_w(float(self.cores), 1.0)

    def table(self) -> PowerTable:
        """As a perfect calibration would find it."""
        return PowerTable([PowerStep(cores, self.busy_w(cores, 1.0), True) for cores in range(1, self.cores + 1)])


class Still:
    """A sensor that says what the test wants."""

    def __init__(self, value: float, clock: FakeMachine) -> None:
        self.value = value
        self._clock = clock

    def latest(self) -> Sample:
        return Sample(self.value, self._clock.now_us / 1e6)

    async def run(self) -> None:
        return


class FakeMachine:
    """One machine, and its heater, which asks for a constant power. It looks at its files each two seconds.

    watts: of each period, above idle, as it truly was.  settings: without a meter, or with one of whatever kind.
    """

    def __init__(
        self, linux: FakeLinux, physics: Physics, settings: HeaterSettings, table: PowerTable, *, meter: bool
    ) -> None:
        self.linux = linux
        self.physics = physics
        self.dice = random.Random(1)
        self.now_us = self.cpu_us = self.burn_us = self.drawn_uj = 0
        self.watts: list[float] = []
        self.work: list[float] = []
        self.sensor = Still(0.0, self)
        found = hardware_of(settings, lambda: self.now_us / 1e6)
        hardware = replace(found, sensors=(self.sensor,), meter=self if meter else None)
        self.settings = settings
        self.heater = MachineHeater(settings, hardware, table, 0, local=lambda: LocalTime(self.now_us / 1e6))

    def energy_uj(self) -> int:
        """What a meter at the plug counts."""
        return self.drawn_uj

    def ask_for(self, watts: float) -> None:
        """The proportional law's error that asks for it."""
        self.sensor.value = self.settings.setpoint_c - watts / self.settings.effective_gain_w_per_k

    def run(self, seconds: float, *, works: bool = True) -> None:
        for number in range(round(seconds / PERIOD_S)):
            if number % 4 == 0:
                self._look()
            self._period(works)

    def mean(self, values: list[float], seconds: float) -> float:
        """Of the last of them."""
        last = values[-round(seconds / PERIOD_S) :]
        return sum(last) / len(last)

    def _look(self) -> None:
        quota, period = self.linux.read(QUOTA).split()
        self._most = float(self.physics.cores) if quota == "max" else int(quota) / int(period) - 0.25
        highest = int(self.linux.read(POLICY + "cpuinfo_max_freq"))
        self.speed = int(self.linux.read(POLICY + "scaling_max_freq")) / highest
        self._limit_w = 2 * int(self.linux.read(PACKAGE)) / 1e6 - self.physics.idle_w

    def _period(self, works: bool) -> None:
        physics, heater = self.physics, self.heater
        slots = heater.reading().slots if works else 0
        got = min(1.0, max(0.0, self.dice.gauss(physics.got, 0.03)))
        work, burnt = slots * heater.duty * got, heater.burn_load
        share = min(1.0, self._most / (work + burnt)) if work + burnt > 0 else 1.0
        work, burnt, speed = work * share, burnt * share, self.speed
        watts = physics.busy_w(work + burnt, speed)
        while watts > self._limit_w and speed > 0.17:
            speed *= 0.99
            watts = physics.busy_w(work + burnt, speed)
        watts = max(0.0, watts * (1 + self.dice.gauss(0.0, physics.noise)))
        self.watts.append(watts)
        self.work.append(work)
        self.drawn_uj += round((watts + physics.idle_w) * PERIOD_S * 1e6)
        self.now_us += round(PERIOD_S * 1e6)
        self.cpu_us += round(work * PERIOD_S * 1e6)
        self.burn_us += round(burnt * PERIOD_S * 1e6)
        heater.advance(self.now_us, self.cpu_us, self.burn_us, running=heater.reading().slots if works else 0)
