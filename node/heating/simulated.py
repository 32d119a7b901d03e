"""A heater whose watts are computed from CPU time, and whose room is computed from the watts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ...protocol.events import HeatReading
from ..config import HeaterSettings
from .controller import Controller, ControlSettings, Demand
from .heater import HORIZON_US, Heater, Meter, NoHeater, UsageClock, energy_mj
from .room import Room

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
    """Steps its room at each `advance`; nothing else changes it, so equal calls give equal temperatures.

    Time passes `time_scale` times faster in the room than on the wall: the power is what the CPU really drew, but
    an hour of it may pass in a minute. The meter counts what was really drawn.

    discomfort_k_s: kelvin below the setpoint times seconds, on the room's clock, since the start.
    """

    measured = False

    def __init__(self, settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> None:
        self._settings = settings
        self.room = Room(settings.room.conductance_w_per_k, settings.room.capacity_j_per_k, settings.room.outside_c)
        self.temperature_c = settings.room.start_c
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
        room_s = duration_us / _SECOND_US * self._settings.time_scale
        wanted_s = self.room.seconds_below(self._controller.settings.limit_c, self.temperature_c, power_w, room_s)
        share = wanted_s / room_s
        self.discomfort_k_s += self.room.discomfort_k_s(
            self._controller.settings.setpoint_c, self.temperature_c, power_w, room_s
        )
        self.temperature_c = self.room.after(self.temperature_c, power_w, room_s)
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
        """Energy on the wall's clock that lifts the room to its setpoint and holds it there over the horizon."""
        control, settings = self._controller.settings, self._settings
        horizon_s = HORIZON_US / _SECOND_US
        lift_j = self.room.stored_j(self.temperature_c, control.setpoint_c) / settings.time_scale
        hold_j = self.room.loss_w_per_k * (control.setpoint_c - self.room.outside_c) * horizon_s
        idle_j = settings.idle_watts * horizon_s
        most_j = control.capacity_w * horizon_s
        return max(0.0, min(most_j, lift_j + hold_j - idle_j)) / _JOULES_PER_WH


def heater_of(settings: HeaterSettings, now_us: int, cpu_us_total: int = 0) -> Heater:
    """The heater that a config asks for, its time beginning now."""
    made = SimulatedHeater if settings.kind == "simulated" else NoHeater
    return made(settings, now_us, cpu_us_total)
