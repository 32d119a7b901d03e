"""What a machine heats: a room by its exact solution, under the proportional part of a node's thermostat."""

from __future__ import annotations

import math

from msgspec.structs import replace

from ...node.heating.sinks.room import Room1R1C
from ...node.heating.sinks.sink import HeatSink, State
from ...node.heating.weather.conditions import Weather
from ...protocol.events import HeatReading
from .dice import Stream
from .proportional import Controller, ControlSettings

HORIZON_S = 900.0
# Loads and durations that a room remembers its steps of.
STEPS_MAX = 64


class Sink:
    """A room and its control. speed: so many times faster does time pass for the room than for the rest.

    A step of a room is affine in its temperature, so the model is asked but once for each load and duration.
    """

    __slots__ = (
        "_always_cold",
        "_capacity_j_per_k",
        "_controller",
        "_demand",
        "_hold_w",
        "_room",
        "_speed",
        "_steps",
        "_temperature_c",
        "_weather",
        "forced_warm",
        "watts_per_slot",
    )

    def __init__(self, slots: int, dice: Stream, *, always_cold: bool, speed: float) -> None:
        self.watts_per_slot = 150.0
        self._speed = speed
        self._always_cold = always_cold
        capacity_w = slots * self.watts_per_slot
        # At full load some 30 K above the outside, so that every room can be warmed.
        room = Room1R1C(capacity_w / 30.0, capacity_w * 700.0)
        self._capacity_j_per_k = capacity_w * 700.0
        self._weather = Weather(dice.between(-5, 10))
        self._temperature_c = dice.between(150, 205) / 10
        self._room = HeatSink(room, self._temperature_c)
        self._steps: dict[tuple[float, int], tuple[float, float]] = {}
        self._controller = Controller(
            ControlSettings(
                setpoint_c=20.0, band_c=0.5, gain_w_per_k=capacity_w, slots=slots, watts_per_slot=self.watts_per_slot
            )
        )
        self._hold_w = capacity_w / 30.0 * (self.limit_c - self._weather.outside_c)
        self._demand = self._controller.update(self.temperature_c)
        self.forced_warm = False

    @property
    def temperature_c(self) -> float:
        return self._temperature_c

    @property
    def duty(self) -> float:
        return 1.0 if self._always_cold else self._demand.duty

    @property
    def useful(self) -> bool:
        return not self.forced_warm and self.temperature_c <= self._controller.settings.limit_c

    @property
    def outside_c(self) -> float:
        return self._weather.outside_c

    @property
    def limit_c(self) -> float:
        return self._controller.settings.limit_c

    def step(self, duration_us: int, load_w: float) -> HeatReading:
        """The reading after a time at this load."""
        temperature_c = self._temperature_c = self._after_c(load_w, duration_us)
        if not self._always_cold:
            self._demand = self._controller.update(temperature_c)
        return self.reading()

    def _after_c(self, load_w: float, duration_us: int) -> float:
        found = self._steps.get((load_w, duration_us))
        if found is None:
            if len(self._steps) == STEPS_MAX:
                self._steps.clear()
            found = self._steps[load_w, duration_us] = self._affine(load_w, duration_us / 1e6 * self._speed)
        kept, added_c = found
        return kept * self._temperature_c + added_c

    def _discomfort_kh(self) -> float:
        """Within the horizon, of the room's own clock, if no work comes."""
        mean_c = (self._temperature_c + self._after_c(0.0, int(HORIZON_S * 1e6))) / 2
        return max(0.0, self._controller.settings.setpoint_c - mean_c) * HORIZON_S * self._speed / 3600

    def _affine(self, load_w: float, duration_s: float) -> tuple[float, float]:
        """(a, b) such that a temperature T becomes a * T + b."""
        drive = self._room.model.drive(self._room.state, self._weather)
        inputs = drive.inputs(load_w)
        (of_zero_c,) = drive.circuit.rises((0.0,), inputs, duration_s)
        (of_one_c,) = drive.circuit.rises((1.0,), inputs, duration_s)
        return 1.0 + of_one_c - of_zero_c, of_zero_c

    def reading(self) -> HeatReading:
        control, demand = self._controller.settings, self._demand
        capacity_w = control.capacity_w
        if self.forced_warm:
            reading = HeatReading(-capacity_w, capacity_w, 0, 0.0, self.watts_per_slot, False, "room", 23.0, 0.0)
            return replace(reading, reason=f"too warm: 23.0 of {control.setpoint_c:.1f} °C")
        slots, deficit_w, horizon_j = demand.slots, demand.deficit_w, 0.0
        if self._always_cold:
            slots, deficit_w, horizon_j = control.slots, capacity_w, capacity_w * HORIZON_S
        elif deficit_w > 0:
            horizon_s = HORIZON_S * self._speed
            self._room.state = State((self._temperature_c,))
            wanted_j = self._room.wanted_j(control.setpoint_c, self._weather, horizon_s, capacity_w)
            horizon_j = wanted_j / self._speed
        return HeatReading(
            deficit_w=deficit_w,
            capacity_w=capacity_w,
            slots=slots,
            horizon_wh=horizon_j / 3600,
            watts_per_slot=self.watts_per_slot,
            useful=self.useful,
            sink="room",
            temperature_c=self._temperature_c,
            buffer_wh=self._buffer_wh(),
            hold_w=self._hold_w,
            discomfort_kh=self._discomfort_kh() if deficit_w > 0 else 0.0,
            reason="" if slots else f"too warm: {self._temperature_c:.1f} of {control.setpoint_c:.1f} °C",
        )

    def _buffer_wh(self) -> float:
        if self._always_cold:
            return math.inf
        return max(0.0, self.limit_c - self._temperature_c) * self._capacity_j_per_k / self._speed / 3600
