"""A heater whose watts are computed from CPU time, and whose sink is computed from the watts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from ...protocol.events import HeatReading
from ..config import HeaterSettings
from .assembly import burn_settings, heat_reading, thermostat_settings
from .control.power import PowerTable
from .control.sensor import Sample
from .control.setpoint import Wish
from .control.thermostat import Decision, Inputs, Thermostat
from .control.zone import Member
from .disinfected import Disinfected
from .foretell import Foretold, Losses, foretell, full_above_k
from .heater import HORIZON_US, Meter, UsageClock, UsageStep, energy_mj
from .local_time import LocalTime
from .modulation import Modulation
from .observed import Observed, What
from .simulation import second_of_year, sink_of, weather_of

# Steps over which an execution's useful share can be told: 17 minutes at one a second.
HISTORY_STEPS = 1024
# Of the wall, where the sink's clock runs fast.
HORIZON_LEAST_S = 10.0
# What a sink wants within the horizon is worked out anew when it moved by so much, or after such a share of the
# horizon, a second at least: that of a tank in ten layers takes a tenth of a second, at each reading.
FORECAST_K = 0.05
FORECAST_SHARE = 1 / 60
FORECAST_LEAST_S = 1.0
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class _Mark:
    """The meter's work at a time."""

    at_us: int
    work_uj: int
    work_useful_uj: int


def horizon_of(time_scale: float) -> float:
    """Seconds of the wall that are foretold: a quarter of an hour of the sink's, but no less than a mesh needs to act.

    Else a room's next 15 minutes would be days, in which all that get no work are as cold as can be.
    """
    return min(HORIZON_US / _SECOND_US, max(HORIZON_LEAST_S, HORIZON_US / _SECOND_US / time_scale))


@dataclass(frozen=True, slots=True)
class _Forecast:
    """What was foretold, as of a temperature, and until when that is good enough."""

    setpoint_c: float
    temperature_c: float
    until_s: float
    foretold: Foretold

    def holds(self, setpoint_c: float, temperature_c: float, now_s: float) -> bool:
        same = setpoint_c == self.setpoint_c and abs(temperature_c - self.temperature_c) <= FORECAST_K
        return same and now_s < self.until_s


class SimulatedHeater:
    """Steps its sink at each `advance`; nothing else changes it, so equal calls give equal temperatures.

    Time passes `time_scale` times faster in the sink than on the wall: the power is what the CPU really drew, but
    an hour of it may pass in a minute. The meter counts what was really drawn.

    weather: as of the last `advance`.
    discomfort_k_s: kelvin below the setpoint times seconds, on the sink's clock, since the start.
    """

    measured = False

    def __init__(
        self, settings: HeaterSettings, now_us: int, cpu_us_total: int = 0, *, local: LocalTime | None = None
    ) -> None:
        """local: the time that the sink's clock begins with. Raises WeatherError for a weather file that is none."""
        self._settings = settings
        self._local = local or LocalTime()
        self._sink_s = 0.0
        self.sink = sink_of(settings)
        self._weather_at = weather_of(settings)
        self._begin_s = second_of_year(self._local.wall_s, self._local.utc_offset_s)
        self.weather = self._weather_at(self._begin_s)
        self._power_w = settings.idle_watts
        self.meter = Meter()
        self.discomfort_k_s = 0.0
        self._clock = UsageClock(now_us, cpu_us_total)
        self.observed = Observed(lambda: self._clock.now_us / _SECOND_US, settings.schedule.believe_s)
        self._history = deque([_Mark(now_us, 0, 0)], maxlen=HISTORY_STEPS)
        self._table = PowerTable.linear(settings.core_count, settings.watts_per_core)
        self._others: tuple[Member, ...] = ()
        self._forecast: _Forecast | None = None
        self._losses = Losses()
        self.thermostat = Thermostat(thermostat_settings(settings, self._table, exact_sensor=True))
        self.decision: Decision = self.thermostat.update(self.inputs())
        self._modulation = Modulation(burn_settings(settings))

    @property
    def duty(self) -> float:
        return self._modulation.duty(self.decision.work)

    @property
    def burn_load(self) -> float:
        return self._modulation.burn_load

    @property
    def temperature_c(self) -> float:
        return self.sink.temperature_c(self.weather, self._power_w)

    @property
    def limit_c(self) -> float:
        """Heat above this temperature is waste."""
        return self.target_c + self._settings.band_c

    @property
    def target_c(self) -> float:
        """What the sink is kept at: the thermostat's setpoint, or what the sink makes of it (a heating curve)."""
        return self.decision.aim_c

    @property
    def _curve(self) -> Callable[[float], float] | None:
        if self._settings.model.kind != "boiler-rack":
            return None
        return lambda setpoint_c: self.sink.target_c(setpoint_c, self.weather)

    @property
    def load(self) -> float:
        return self._modulation.load

    def hear(self, others: Sequence[Member]) -> None:
        self._others = tuple(others)

    async def run(self) -> None:
        await trio.sleep_forever()

    def safe_writes(self) -> None:
        return None

    def inputs(self) -> Inputs:
        """What the thermostat sees now; all its times are of the sink's clock."""
        return Inputs(
            now_s=self._sink_s,
            wall_s=self._local.wall_s + self._sink_s,
            utc_offset_s=self._local.utc_offset_s,
            samples=(Sample(self.temperature_c, self._sink_s),),
            power_w=self._power_w,
            others=self._others,
            present=self.observed.found(What.PRESENCE),
            contact_open=self.observed.found(What.WINDOW),
            outside_c=self.weather.outside_c,
            aim=lambda setpoint_c: self.sink.target_c(setpoint_c, self.weather),
            curve=self._curve,
            full=not self.sink.model.wants_heat or self.sink.limits(self.weather).power_max_w <= 0,
        )

    def reading(self) -> HeatReading:
        foretold, now_s = self._foretold(), self._clock.now_us / _SECOND_US
        return heat_reading(
            self.decision,
            self._table,
            sink=self._settings.sink,
            temperature_c=self.temperature_c,
            setpoint_c=self.target_c,
            limit_c=self.limit_c,
            foretold=foretold,
            later_w=self._losses.ahead(now_s, foretold.hold_w),
            price_micro=self._settings.price_micro,
        )

    @property
    def problems(self) -> tuple[str, ...]:
        disinfection, found = self._settings.model.disinfection, self.disinfected
        if disinfection is None or found is None:
            return ()
        return found.problems(disinfection.every_s, off=self.thermostat.wished is Wish.OFF)

    @property
    def disinfected(self) -> Disinfected | None:
        disinfection = self._settings.model.disinfection
        if disinfection is None:
            return None
        memory = self.sink.state.memory
        # At its start the tank's memory is as old as one that is due.
        known = memory[0] <= self._sink_s
        return Disinfected(memory[0] if known else self._sink_s, known, disinfection.is_due(memory))

    def recall_disinfected(self, ago_s: float, *, known: bool) -> None:
        """Each life has a tank of its own."""

    def advance(self, now_us: int, cpu_us_total: int, burn_us_total: int = 0, *, running: int = 0) -> HeatReading:
        step = self._clock.step(now_us, cpu_us_total, burn_us_total)
        if step.duration_us:
            self._modulation.learn(self.thermostat.loop, self.decision, self.duty, step, running)
            self._heat(step)
        # Also where no time has passed: a hand may have been on the dial.
        self.decision = self.thermostat.update(self.inputs())
        if step.duration_us:
            self._modulation.burn(now_us, self.decision, step)
        self._losses.note(now_us / _SECOND_US, self._foretold().hold_w)
        return self.reading()

    def attribute(self, cpu_us: int, since_us: int | None = None) -> tuple[int, int]:
        spent_mj = energy_mj(cpu_us, self._settings.watts_per_core)
        first, last = self._mark_before(since_us), self._history[-1]
        work_uj = last.work_uj - first.work_uj
        if work_uj == 0:
            return spent_mj, spent_mj if self.temperature_c <= self.limit_c else 0
        useful_uj = last.work_useful_uj - first.work_useful_uj
        return spent_mj, spent_mj * useful_uj // work_uj

    def _heat(self, step: UsageStep) -> None:
        duration_us = step.duration_us
        work_uj = round(step.cpu_us * self._settings.watts_per_core)
        burn_uj = round(step.burn_us * self._settings.watts_per_core)
        idle_uj = round(duration_us * self._settings.idle_watts)
        power_w = (work_uj + burn_uj + idle_uj) / duration_us
        sink_s = duration_us / _SECOND_US * self._settings.time_scale
        weather, setpoint_c = self.weather, self.target_c
        share = self.sink.seconds_below(self.limit_c, power_w, weather, sink_s) / sink_s
        if self.decision.floored:
            share = 0.0
        self.discomfort_k_s += self.sink.discomfort_k_s(setpoint_c, power_w, weather, sink_s)
        self.sink.step(power_w, weather, sink_s)
        self._sink_s += sink_s
        self.weather, self._power_w = self._weather_at(self._begin_s + self._sink_s), power_w
        self.meter = Meter(
            work_uj=self.meter.work_uj + work_uj,
            work_useful_uj=self.meter.work_useful_uj + round(work_uj * share),
            idle_uj=self.meter.idle_uj + idle_uj,
            idle_useful_uj=self.meter.idle_useful_uj + round(idle_uj * share),
            burn_uj=self.meter.burn_uj + burn_uj,
            burn_useful_uj=self.meter.burn_useful_uj + round(burn_uj * share),
        )
        self._history.append(_Mark(self._clock.now_us, self.meter.work_uj, self.meter.work_useful_uj))

    def _mark_before(self, since_us: int | None) -> _Mark:
        """The last mark at or before a time; the oldest there is; the one before the last without a time."""
        if since_us is None:
            return self._history[-2] if len(self._history) > 1 else self._history[-1]
        for mark in reversed(self._history):
            if mark.at_us <= since_us:
                return mark
        return self._history[0]

    def _foretold(self) -> Foretold:
        """For the horizon of the wall, which is shorter where the sink's clock runs faster."""
        settings, setpoint_c = self._settings, self.target_c
        known = self._forecast
        if known is not None and known.holds(setpoint_c, self.temperature_c, self._sink_s):
            return known.foretold
        horizon_s = horizon_of(settings.time_scale)
        foretold = foretell(
            self.sink,
            self.weather,
            setpoint_c=setpoint_c,
            full_c=setpoint_c + full_above_k(settings.band_c),
            capacity_w=self._table.capacity_w,
            idle_w=settings.idle_watts,
            horizon_s=horizon_s,
            time_scale=settings.time_scale,
        )
        kept_s = min(horizon_s, max(FORECAST_LEAST_S, horizon_s * FORECAST_SHARE))
        until_s = self._sink_s + kept_s * settings.time_scale
        self._forecast = _Forecast(setpoint_c, self.temperature_c, until_s, foretold)
        return foretold
