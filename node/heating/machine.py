"""A real heater: sensors, maybe a meter, maybe actuators; and the thermostat that goes between them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from ...protocol.events import HeatReading
from ..config import HeaterSettings
from .aims import Aims, ReturnWatch
from .assembly import burn_settings, heat_reading, thermostat_settings
from .control.meter_doubt import MeterDoubt
from .control.power import DUTY_MIN, PowerLoop, PowerTable
from .control.setpoint import Wish
from .control.thermostat import Decision, Inputs, Thermostat
from .control.zone import Member
from .disinfected import Disinfected
from .drivers.cpufreq import CpuFreqLimit
from .drivers.interface import Allowed, DriverError, PowerActuator, PowerMeter, SafeWrite, Sensor
from .drivers.polled_meter import TOO_MUCH
from .foretell import Foretold, Losses, foretell, full_above_k
from .heater import HORIZON_US, Meter, UsageClock, UsageStep, energy_mj
from .local_time import LocalTime
from .modulation import Modulation
from .observed import Observed, What
from .outside import OutsideWatch
from .sinks.room import Room1R1C
from .sinks.sink import HeatSink
from .weather.conditions import Weather

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

HISTORY_STEPS = 4096
_SECOND_US = 1_000_000
# Others write the machine's files too: a system's power profiles, a watchdog that came late.
APPLY_AGAIN_US = 60 * _SECOND_US
DOUBTED = "the meter tells next to nothing of what busy cores draw by {table}"
# A meter is read a while before or after the time of its step.
METER_LATE_S = 1.0


def meter_most_w(capacity_w: float, idle_w: float) -> float:
    """A meter that tells more is wrong, or the heater's settings are: by more than the power loop would follow."""
    return (capacity_w + idle_w) / PowerLoop.FACTOR_MIN


def meter_least_w(capacity_w: float) -> float:
    """A meter that tells less is turned round; at rest one may tell a little below 0, whatever the heater's size."""
    return min(-5.0, -0.02 * capacity_w)


@dataclass(frozen=True, slots=True)
class Hardware:
    """sensors: of the sink, one or two.  returning: of a loop's return.  The others are None where there is none.

    frequency: one of the actuators, too.  background: what has to be read besides, for the meter.
    close: lets connections go; may block for seconds.
    """

    sensors: tuple[Sensor, ...]
    outside: Sensor | None = None
    surface: Sensor | None = None
    returning: Sensor | None = None
    presence: Sensor | None = None
    window: Sensor | None = None
    meter: PowerMeter | None = None
    actuators: tuple[PowerActuator, ...] = ()
    frequency: CpuFreqLimit | None = None
    background: tuple[Sensor, ...] = ()
    close: Callable[[], None] = lambda: None

    @property
    def to_read(self) -> list[Sensor]:
        """All that has to be read."""
        others = (self.outside, self.surface, self.returning, self.presence, self.window)
        return [*self.sensors, *self.background, *(sensor for sensor in others if sensor is not None)]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Sums at a time."""

    at_us: int
    work_uj: int
    work_useful_uj: int
    cpu_us: int


class MachineHeater:
    """Its power is the meter's where there is one and it answers; else CPU time times the table's watts."""

    def __init__(
        self,
        settings: HeaterSettings,
        hardware: Hardware,
        table: PowerTable,
        now_us: int,
        cpu_us_total: int = 0,
        *,
        local: Callable[[], LocalTime],
    ) -> None:
        """local: the machine's clock, which may be set at any time."""
        self._settings = settings
        self._hardware = hardware
        self._table = table
        self._clock = UsageClock(now_us, cpu_us_total)
        self.observed = Observed(lambda: self._clock.now_us / _SECOND_US, settings.schedule.believe_s)
        self._local = local
        self._energy_uj: int | None = None
        self._meter_problem = ""
        self._meter_doubt = MeterDoubt(table)
        self._meter_lost_us = now_us
        self._power_w = settings.idle_watts
        self._cpu_us = 0
        self._applied: Allowed | None = None
        self._applied_us = now_us
        self._speed = 1.0
        # By the actuator's place: why it was not told.
        self._untold: dict[int, str] = {}
        self._logged_meter = ""
        self.measured = False
        self.meter = Meter()
        self._history = deque([_Mark(now_us, 0, 0, 0)], maxlen=HISTORY_STEPS)
        self._others: tuple[Member, ...] = ()
        self._losses = Losses()
        self.aims = Aims(settings.model, settings.setpoint_c, now_us / _SECOND_US + local().asleep_s)
        chosen = thermostat_settings(
            settings, table, sensors=len(hardware.sensors), surface=hardware.surface is not None
        )
        self._return = ReturnWatch(chosen.sensor, settings.model.loop.return_max_c)
        rack = self.aims.curve is not None
        self._outside = OutsideWatch(settings.sensors, now_us / _SECOND_US, rack=rack)
        self.thermostat = Thermostat(chosen)
        self.decision: Decision = self.thermostat.update(self.inputs())
        self._modulation = Modulation(burn_settings(settings))

    @property
    def duty(self) -> float:
        """Where cores are slowed down, they pause the less."""
        return min(1.0, self._modulation.duty(self.decision.work) / self._speed)

    @property
    def problems(self) -> tuple[str, ...]:
        found = [each.problem for each in self._hardware.actuators if each.problem]
        found += self._untold.values()
        found += self._return.problems
        found += self._outside.problems
        found += self.aims.problems(off=self.thermostat.wished is Wish.OFF)
        if (
            self._meter_problem
            and self._clock.now_us - self._meter_lost_us >= self._settings.sensors.lost_s * _SECOND_US
        ):
            found.append(f"{self._meter_problem}; the power is estimated")
        return tuple(found)

    @property
    def disinfected(self) -> Disinfected | None:
        return self.aims.disinfected

    def recall_disinfected(self, ago_s: float, *, known: bool) -> None:
        self.aims.recall(ago_s, known=known)

    @property
    def burn_load(self) -> float:
        return min(self._modulation.burn_load / self._speed, float(self._table.cores))

    @property
    def load(self) -> float:
        return self._modulation.load

    def hear(self, others: Sequence[Member]) -> None:
        self._others = tuple(others)

    async def run(self) -> None:
        """Read the sensors until cancelled; then give the machine back as it was found."""
        hardware = self._hardware
        try:
            async with trio.open_nursery() as nursery:
                for sensor in hardware.to_read:
                    nursery.start_soon(sensor.run)
                for actuator in hardware.actuators:
                    nursery.start_soon(actuator.run)
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._give_back)

    def _give_back(self) -> None:
        for place, actuator in enumerate(self._hardware.actuators):
            self._do(place, actuator.release)
        self._hardware.close()

    def safe_writes(self) -> list[SafeWrite]:
        return [write for each in self._hardware.actuators for write in each.safe_writes()]

    def inputs(self) -> Inputs:
        hardware, now_s, local = self._hardware, self._clock.now_us / _SECOND_US, self._local()
        for what, sensor in ((What.PRESENCE, hardware.presence), (What.WINDOW, hardware.window)):
            if sensor is not None:
                said = _fresh(sensor, now_s, self._settings.sensors.lost_s)
                self.observed.tell(what, "hardware", None if said is None else said != 0.0)
        return Inputs(
            now_s=now_s,
            wall_s=local.wall_s,
            utc_offset_s=local.utc_offset_s,
            asleep_s=local.asleep_s,
            samples=tuple(sensor.latest() for sensor in hardware.sensors),
            power_w=self._power_w,
            others=self._others,
            present=self.observed.found(What.PRESENCE),
            contact_open=self.observed.found(What.WINDOW),
            outside_c=self._outside.temperature_c,
            surface=hardware.surface.latest() if hardware.surface is not None else None,
            aim=self.aims.aim_c,
            curve=self.aims.curve,
            full=self._is_full,
        )

    def reading(self) -> HeatReading:
        foretold, now_s = self._foretold(), self._clock.now_us / _SECOND_US
        temperature_c = self.decision.believed.temperature_c
        return heat_reading(
            self.decision,
            self._table,
            sink=self._settings.sink,
            temperature_c=0.0 if temperature_c is None else temperature_c,
            setpoint_c=self.decision.aim_c,
            limit_c=self.decision.aim_c + self._settings.band_c,
            foretold=foretold,
            later_w=self._losses.ahead(now_s, foretold.hold_w),
            price_micro=self._settings.price_micro,
        )

    def advance(self, now_us: int, cpu_us_total: int, burn_us_total: int = 0, *, running: int = 0) -> HeatReading:
        step = self._clock.step(now_us, cpu_us_total, burn_us_total)
        if step.duration_us:
            self._modulation.learn(self.thermostat.loop, self.decision, self.duty, step, running)
            self._count(step)
        self._look_around()
        self.decision = self.thermostat.update(self.inputs())
        if step.duration_us:
            self._modulation.burn(now_us, self.decision, step, self._speed)
        self._actuate()
        self._losses.note(now_us / _SECOND_US, self._foretold().hold_w)
        return self.reading()

    def attribute(self, cpu_us: int, since_us: int | None = None) -> tuple[int, int]:
        first, last = self._mark_before(since_us), self._history[-1]
        work_uj, used_us = last.work_uj - first.work_uj, last.cpu_us - first.cpu_us
        if work_uj <= 0 or used_us <= 0:
            spent_mj = energy_mj(cpu_us, self._table.capacity_w / self._table.cores)
            return spent_mj, spent_mj if self.reading().useful else 0
        spent_uj = work_uj * min(cpu_us, used_us) // used_us
        return spent_uj // 1000, spent_uj * (last.work_useful_uj - first.work_useful_uj) // work_uj // 1000

    # -- steps ---------------------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return self._hardware.returning is not None and self._return.full

    def _look_around(self) -> None:
        """At weather and water. A tank by what was believed last: a sensor that shows too much disinfects nothing."""
        now_s = self._clock.now_us / _SECOND_US
        if self._hardware.outside is not None:
            self._outside.see(self._hardware.outside.latest(), now_s)
        self.aims.see(now_s + self._local().asleep_s, self.decision.believed.coldest_c, self._outside.temperature_c)
        if self._hardware.returning is not None:
            self._return.see(self._hardware.returning.latest(), now_s)

    def _count(self, step: UsageStep) -> None:
        duration_us = step.duration_us
        idle_uj = round(duration_us * self._settings.idle_watts)
        measured_uj = self._measured_uj(step)
        if measured_uj is None:
            busy_uj = round(self._table.watts(step.load * self._speed) * duration_us)
        else:
            idle_uj = min(idle_uj, measured_uj)
            busy_uj = measured_uj - idle_uj
            self.thermostat.loop.saw_watts(step.load * self._speed, busy_uj / duration_us, duration_us / _SECOND_US)
        self.measured = measured_uj is not None
        self._power_w = (busy_uj + idle_uj) / duration_us
        # No meter tells one process from another: they share by their CPU time.
        used_us = step.cpu_us + step.burn_us
        burn_uj = busy_uj * step.burn_us // used_us if used_us else 0
        work_uj = busy_uj - burn_uj
        useful = self.reading().useful
        self.meter = Meter(
            work_uj=self.meter.work_uj + work_uj,
            work_useful_uj=self.meter.work_useful_uj + (work_uj if useful else 0),
            idle_uj=self.meter.idle_uj + idle_uj,
            idle_useful_uj=self.meter.idle_useful_uj + (idle_uj if useful else 0),
            burn_uj=self.meter.burn_uj + burn_uj,
            burn_useful_uj=self.meter.burn_useful_uj + (burn_uj if useful else 0),
        )
        self._cpu_us += step.cpu_us
        self._history.append(_Mark(self._clock.now_us, self.meter.work_uj, self.meter.work_useful_uj, self._cpu_us))

    def _measured_uj(self, step: UsageStep) -> int | None:
        """In this step; None where that is not known."""
        if self._hardware.meter is None:
            return None
        try:
            now_uj = self._hardware.meter.energy_uj()
        except DriverError as error:
            self._meter_failed(str(error))
            self._energy_uj = None
            return None
        before_uj, self._energy_uj = self._energy_uj, now_uj
        if before_uj is None:
            return None
        most_w = meter_most_w(self._table.capacity_w, self._settings.idle_watts)
        if now_uj - before_uj > most_w * (step.duration_us + METER_LATE_S * _SECOND_US):
            # A counter that began anew, or a register read in the wrong order.
            self._meter_failed(TOO_MUCH.format(most_w=most_w))
            return None
        self._meter_doubt.see(step.load * self._speed, now_uj - before_uj, step.duration_us)
        if self._meter_doubt.doubted:
            self._meter_failed(DOUBTED.format(table="its settings" if not self._table.measured else "hearth calibrate"))
            return None
        self._meter_problem = ""
        return now_uj - before_uj

    def _meter_failed(self, problem: str) -> None:
        if not self._meter_problem:
            self._meter_lost_us = self._clock.now_us
        self._meter_problem = problem
        if problem != self._logged_meter:
            self._logged_meter = problem
            log.warning("heater.driver", problem=problem)

    def _actuate(self) -> None:
        """Let the machine do what is granted; told where that changed by a hundredth, and once a minute."""
        decision, table, hardware = self.decision, self._table, self._hardware
        work = decision.work
        if hardware.frequency is not None:
            # Slower rather than with pauses: the same heat from more work. In steps of a twentieth.
            wanted = math.ceil(work.duty * 20 - 1e-9) / 20 if work.slots else 0.0
            self._speed = min(1.0, max(hardware.frequency.lowest_speed, wanted))
        # A task that is left to end has its least duty's power, whatever is granted.
        granted_w = max(decision.granted_w, table.watts(DUTY_MIN) if work.slots else 0.0)
        cores = max(
            self._modulation.tasks(work) * self.duty,
            decision.heat_load / self._speed if self._modulation.burn_load else 0.0,
        )
        # A device with a thermostat of its own would go on by it where nothing may heat.
        unknown = decision.believed.temperature_c is None
        barred = decision.blocked or unknown or self._is_full or (decision.limit.limit_w <= 0 and granted_w <= 0)
        allowed = Allowed(
            watts=granted_w + self._settings.idle_watts,
            share=granted_w / table.capacity_w,
            cores=min(float(table.cores), cores),
            speed=self._speed,
            setpoint_c=-math.inf if barred else decision.aim_c,
        )
        lately = self._clock.now_us - self._applied_us < APPLY_AGAIN_US
        if lately and self._applied is not None and not self._differs(allowed, self._applied):
            return
        self._applied, self._applied_us = allowed, self._clock.now_us
        told = [self._do(place, partial(each.apply, allowed)) for place, each in enumerate(hardware.actuators)]
        if not all(told):
            # To be told again at the next step, when it may work.
            self._applied = None

    def _differs(self, new: Allowed, old: Allowed) -> bool:
        return (
            abs(new.share - old.share) >= 0.01
            or abs(new.cores - old.cores) >= 0.01 * self._table.cores
            or new.speed != old.speed
            or new.setpoint_c != old.setpoint_c
            or (new.share > 0) != (old.share > 0)
        )

    def _do(self, place: int, act: Callable[[], None]) -> bool:
        """Whether an actuator could be told; why not is logged once a change, not once a step."""
        try:
            act()
        except DriverError as error:
            if self._untold.get(place) != str(error):
                log.warning("heater.driver", problem=str(error))
            self._untold[place] = str(error)
            return False
        self._untold.pop(place, None)
        return True

    def _mark_before(self, since_us: int | None) -> _Mark:
        if since_us is None:
            return self._history[-2] if len(self._history) > 1 else self._history[-1]
        for mark in reversed(self._history):
            if mark.at_us <= since_us:
                return mark
        return self._history[0]

    def _foretold(self) -> Foretold:
        """By what was learnt of the sink; without the weather, by how far it is from where it should be."""
        decision, estimate, settings = self.decision, self.thermostat.estimate, self._settings
        temperature_c, setpoint_c = decision.believed.temperature_c, decision.aim_c
        horizon_s = HORIZON_US / _SECOND_US
        most_j = self._table.capacity_w * horizon_s
        if temperature_c is None:
            return Foretold(decision.granted_w * horizon_s / 3600)
        outside_c = self._outside.temperature_c
        full_c = setpoint_c + full_above_k(settings.band_c)
        if outside_c is None:
            lift_j = max(0.0, setpoint_c - temperature_c) * estimate.capacity_j_per_k
            return Foretold(
                wanted_wh=min(most_j, lift_j + decision.granted_w * horizon_s) / 3600,
                buffer_wh=max(0.0, full_c - temperature_c) * estimate.capacity_j_per_k / 3600,
                hold_w=decision.granted_w if decision.deficit_w > 0 else 0.0,
                discomfort_kh=max(0.0, setpoint_c - temperature_c) * horizon_s / 3600,
            )
        sink = HeatSink(
            Room1R1C(1 / estimate.resistance_k_per_w, estimate.capacity_j_per_k, gains_w=estimate.gain_w), temperature_c
        )
        return foretell(
            sink,
            Weather(outside_c),
            setpoint_c=setpoint_c,
            full_c=full_c,
            capacity_w=self._table.capacity_w,
            idle_w=settings.idle_watts,
            horizon_s=horizon_s,
        )


def _fresh(sensor: Sensor | None, now_s: float, age_max_s: float) -> float | None:
    """The last reading, if it is no older."""
    sample = sensor.latest() if sensor is not None else None
    return sample.value if sample is not None and now_s - sample.at_s <= age_max_s else None
