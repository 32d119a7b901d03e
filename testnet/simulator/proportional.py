"""A thermostat for ten thousand rooms: the real one's modes, proportional law and tasks, without its memory.

A node's own (`node/heating/control`) also integrates, learns its room and doubts its sensor; a simulated room's sensor
tells the truth, and what is simulated here is who takes work from whom.

Heating, it asks for gain * (setpoint - T) watts; between the setpoint and the end of the band for the least there
is, so that a temperature that hovers at the setpoint does not make work come and go. Warm, it asks for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...node.heating.control.mode import TRANSITIONS, Mode, place
from ...node.heating.control.power import DUTY_MIN, work_for


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
        self.mode = TRANSITIONS[self.mode, place(temperature_c, self.settings.setpoint_c, self.settings.band_c)]
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
