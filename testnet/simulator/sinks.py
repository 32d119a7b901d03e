"""What a machine heats: a room by its exact solution, under the same controller as on real nodes."""

from __future__ import annotations

from ...node.heating.controller import Controller, ControlSettings
from ...node.heating.sinks.room import Room1R1C
from ...node.heating.sinks.sink import HeatSink
from ...node.heating.weather.conditions import Weather
from ...protocol.events import HeatReading
from .dice import Stream

HORIZON_S = 900.0


class Sink:
    """A room and its control. speed: so many times faster does time pass for the room than for the rest."""

    def __init__(self, slots: int, dice: Stream, *, always_cold: bool, speed: float) -> None:
        self.watts_per_slot = 150.0
        self._speed = speed
        self._always_cold = always_cold
        capacity_w = slots * self.watts_per_slot
        # At full load some 30 K above the outside, so that every room can be warmed.
        room = Room1R1C(capacity_w / 30.0, capacity_w * 700.0)
        self._weather = Weather(dice.between(-5, 10))
        self._room = HeatSink(room, dice.between(150, 205) / 10)
        self._controller = Controller(
            ControlSettings(
                setpoint_c=20.0, band_c=0.5, gain_w_per_k=capacity_w, slots=slots, watts_per_slot=self.watts_per_slot
            )
        )
        self._demand = self._controller.update(self.temperature_c)
        self.forced_warm = False

    @property
    def temperature_c(self) -> float:
        return self._room.temperature_c(self._weather)

    @property
    def duty(self) -> float:
        return 1.0 if self._always_cold else self._demand.duty

    @property
    def useful(self) -> bool:
        return not self.forced_warm and self.temperature_c <= self._controller.settings.limit_c

    @property
    def limit_c(self) -> float:
        return self._controller.settings.limit_c

    def step(self, duration_us: int, load_w: float) -> HeatReading:
        """The reading after a time at this load."""
        self._room.step(load_w, self._weather, duration_us / 1e6 * self._speed)
        self._demand = self._controller.update(self.temperature_c)
        return self.reading()

    def reading(self) -> HeatReading:
        control, demand = self._controller.settings, self._demand
        if self.forced_warm:
            return HeatReading(
                -control.capacity_w, control.capacity_w, 0, 0.0, self.watts_per_slot, False, "room", 23.0
            )
        slots, deficit_w = demand.slots, demand.deficit_w
        if self._always_cold:
            slots, deficit_w = control.slots, control.capacity_w
        horizon_j = control.capacity_w * HORIZON_S if self._always_cold else 0.0
        if deficit_w > 0 and not self._always_cold:
            horizon_s = HORIZON_S * self._speed
            wanted_j = self._room.wanted_j(control.setpoint_c, self._weather, horizon_s, control.capacity_w)
            horizon_j = wanted_j / self._speed
        return HeatReading(
            deficit_w=deficit_w,
            capacity_w=control.capacity_w,
            slots=slots,
            horizon_wh=horizon_j / 3600,
            watts_per_slot=self.watts_per_slot,
            useful=self.useful,
            sink="room",
            temperature_c=self.temperature_c,
        )
