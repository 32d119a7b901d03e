"""The proportional controller: how cold a sink is, in watts; how many watts, in running tasks.

Heating, it asks for gain * (setpoint - T) watts; between the setpoint and the end of the band for the least there
is, so that a temperature that hovers at the setpoint does not make work come and go. Warm, it asks for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from .control.power import DUTY_MIN, work_for


class Mode(Enum):
    HEATING = "heating"
    WARM = "warm"


class Zone(Enum):
    """Where a temperature lies."""

    BELOW_SETPOINT = "below the setpoint"
    IN_BAND = "in the band"
    ABOVE_BAND = "above the band"


TRANSITIONS: dict[tuple[Mode, Zone], Mode] = {
    (Mode.WARM, Zone.BELOW_SETPOINT): Mode.HEATING,
    (Mode.WARM, Zone.IN_BAND): Mode.WARM,
    (Mode.WARM, Zone.ABOVE_BAND): Mode.WARM,
    (Mode.HEATING, Zone.BELOW_SETPOINT): Mode.HEATING,
    (Mode.HEATING, Zone.IN_BAND): Mode.HEATING,
    (Mode.HEATING, Zone.ABOVE_BAND): Mode.WARM,
}


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """setpoint_c, band_c > 0, gain_w_per_k > 0; slots >= 1 tasks of watts_per_slot > 0 each at full duty."""

    setpoint_c: float
    band_c: float
    gain_w_per_k: float
    slots: int
    watts_per_slot: float

    @property
    def limit_c(self) -> float:
        """Heat above this temperature is waste."""
        return self.setpoint_c + self.band_c

    @property
    def capacity_w(self) -> float:
        return self.slots * self.watts_per_slot

    def zone(self, temperature_c: float) -> Zone:
        if temperature_c < self.setpoint_c:
            return Zone.BELOW_SETPOINT
        return Zone.IN_BAND if temperature_c <= self.limit_c else Zone.ABOVE_BAND


@dataclass(frozen=True, slots=True)
class Demand:
    """What the sink wants now.

    deficit_w: watts wanted, negative when too warm, within plus and minus the capacity.
    slots: tasks to run at once.  duty: share of its core that each running task may use, those included that have to
    end while slots is 0; never under DUTY_MIN, because a task that is stopped holds its job up for nothing.
    """

    deficit_w: float
    slots: int
    duty: float


class Controller:
    """Remembers only whether it heats; it begins warm, so that a restart inside the band starts no work."""

    def __init__(self, settings: ControlSettings) -> None:
        self.settings = settings
        self.mode = Mode.WARM

    def update(self, temperature_c: float) -> Demand:
        """The demand at a temperature. Raises ValueError if it is not a number: the sensor is broken."""
        if not math.isfinite(temperature_c):
            raise ValueError(f"not a temperature: {temperature_c}")
        self.mode = TRANSITIONS[self.mode, self.settings.zone(temperature_c)]
        return demand(self.settings, self.mode, temperature_c)


def demand(settings: ControlSettings, mode: Mode, temperature_c: float) -> Demand:
    """Slots and duty that make the wanted watts, with as few slots as can make them.

    Never more than the capacity; slots * duty never grows with the temperature; none in mode WARM.
    """
    wanted_w = settings.gain_w_per_k * (settings.setpoint_c - temperature_c)
    deficit_w = max(-settings.capacity_w, min(settings.capacity_w, wanted_w))
    if mode is Mode.WARM:
        return Demand(deficit_w, 0, DUTY_MIN)
    work = work_for(max(DUTY_MIN, deficit_w / settings.watts_per_slot), settings.slots)
    return Demand(deficit_w, work.slots, work.duty)
