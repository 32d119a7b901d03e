"""A heater whose watts are computed from CPU time, and whose sink is computed from the watts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...protocol.events import HeatReading
from ..config import HeaterSettings
from .controller import Controller, ControlSettings, Demand
from .heater import HORIZON_US, Heater, Meter, NoHeater, UsageClock, energy_mj
from .sinks.room import Room1R1C
from .sinks.sink import HeatSink
from .weather.conditions import Weather

# Steps over which an execution's useful share can be told: 17 minutes at one a second.
HISTORY_STEPS = 1024
_SECOND_US = 1_000_000
_JOULES_PER_WH = 3600.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """The meter's work at a time."""

    at_us: int
    work_uj: int
    work_useful_uj: int


class SimulatedHeater:
    """Steps its sink at each `advance`; nothing else changes it, so equal calls give equal temperatures.

    Time passes `time_scale` times faster in the sink than on the wall: the power is what the CPU really drew, but
    an hour of it may pass in a minute. The meter counts what was really drawn.

    weather: as of the last `advance`.
    discomfort_k_s: kelvin below the setpoint times seconds, on the sink's clock, since the start.
    """

    measured = False

    def __init__(self, settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> None:
        self._settings = settings
        room = settings.room
        self.sink = HeatSink(Room1R1C(room.conductance_w_per_k, room.capacity_j_per_k), room.start_c)
        self.weather = Weather(room.outside_c)
        self._power_w = settings.idle_watts
        self.meter = Meter()
        self.discomfort_k_s = 0.0
        self._clock = UsageClock(now_us, cpu_us_total)
        self._history = deque([_Mark(now_us, 0, 0)], maxlen=HISTORY_STEPS)
        self._controller = Controller(
            ControlSettings(
                setpoint_c=settings.setpoint_c,
                band_c=settings.band_c,
                gain_w_per_k=settings.effective_gain_w_per_k,
                slots=settings.core_count,
                watts_per_slot=settings.watts_per_core,
            )
        )
        self._demand: Demand = self._controller.update(self.temperature_c)

    @property
    def duty(self) -> float:
        return self._demand.duty

    @property
    def temperature_c(self) -> float:
        return self.sink.temperature_c(self.weather, self._power_w)

    def reading(self) -> HeatReading:
        control = self._controller.settings
        return HeatReading(
            deficit_w=self._demand.deficit_w,
            capacity_w=control.capacity_w,
            slots=self._demand.slots,
            horizon_wh=self._horizon_wh() if self._demand.deficit_w > 0 else 0.0,
            watts_per_slot=control.watts_per_slot,
            useful=self.temperature_c <= control.limit_c,
            sink=self._settings.sink,
            temperature_c=self.temperature_c,
        )

    def advance(self, now_us: int, cpu_us_total: int) -> HeatReading:
        step = self._clock.step(now_us, cpu_us_total)
        if step.duration_us:
            self._heat(step.duration_us, step.cpu_us)
            self._demand = self._controller.update(self.temperature_c)
        return self.reading()

    def attribute(self, cpu_us: int, since_us: int | None = None) -> tuple[int, int]:
        spent_mj = energy_mj(cpu_us, self._settings.watts_per_core)
        first, last = self._mark_before(since_us), self._history[-1]
        work_uj = last.work_uj - first.work_uj
        if work_uj == 0:
            return spent_mj, spent_mj if self.temperature_c <= self._controller.settings.limit_c else 0
        useful_uj = last.work_useful_uj - first.work_useful_uj
        return spent_mj, spent_mj * useful_uj // work_uj

    def _heat(self, duration_us: int, cpu_us: int) -> None:
        work_uj = round(cpu_us * self._settings.watts_per_core)
        idle_uj = round(duration_us * self._settings.idle_watts)
        power_w = (work_uj + idle_uj) / duration_us
        sink_s = duration_us / _SECOND_US * self._settings.time_scale
        control, weather = self._controller.settings, self.weather
        share = self.sink.seconds_below(control.limit_c, power_w, weather, sink_s) / sink_s
        self.discomfort_k_s += self.sink.discomfort_k_s(control.setpoint_c, power_w, weather, sink_s)
        self.sink.step(power_w, weather, sink_s)
        self.weather, self._power_w = weather.later(sink_s), power_w
        self.meter = Meter(
            work_uj=self.meter.work_uj + work_uj,
            work_useful_uj=self.meter.work_useful_uj + round(work_uj * share),
            idle_uj=self.meter.idle_uj + idle_uj,
            idle_useful_uj=self.meter.idle_useful_uj + round(idle_uj * share),
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

    def _horizon_wh(self) -> float:
        """Energy, besides the idle machine's, that brings the sink to its setpoint within the horizon of the wall."""
        control, settings = self._controller.settings, self._settings
        horizon_s = HORIZON_US / _SECOND_US
        most_w = control.capacity_w + settings.idle_watts
        sink_s = horizon_s * settings.time_scale
        wanted_w = self.sink.wanted_j(control.setpoint_c, self.weather, sink_s, most_w) / sink_s
        return max(0.0, wanted_w - settings.idle_watts) * horizon_s / _JOULES_PER_WH


def heater_of(settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> Heater:
    """The heater that a config asks for, its time beginning now."""
    made = SimulatedHeater if settings.kind == "simulated" else NoHeater
    return made(settings, now_us, cpu_us_total)
