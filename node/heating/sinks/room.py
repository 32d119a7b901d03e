"""A room as one resistance and one capacity (1R1C): C dT/dt = P + gains - H (T - T_outside)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ..weather.conditions import Weather
from .network import Circuit, Network, loss
from .sink import Drive, Limits, State


@dataclass(frozen=True)
class Comfort:
    """What a room must not leave, whatever is set: frost, and what people bear."""

    min_c: float = 7.0
    max_c: float = 30.0


@dataclass(frozen=True)
class Room1R1C:
    """loss_w_per_k: H, to the outside, > 0.  capacity_j_per_k: C, > 0.  gains_w: people and devices, constant."""

    loss_w_per_k: float
    capacity_j_per_k: float
    gains_w: float = 0.0
    comfort: Comfort = Comfort()

    kind = "room-1r1c"
    names = ("room",)
    controlled = 0

    def __post_init__(self) -> None:
        if not (self.loss_w_per_k > 0 and self.capacity_j_per_k > 0):
            raise ValueError("a room needs a positive loss and a positive capacity")

    @property
    def time_constant_s(self) -> float:
        return self.capacity_j_per_k / self.loss_w_per_k

    @cached_property
    def circuit(self) -> Circuit:
        return Network((self.capacity_j_per_k,), 0, 1, (loss(0, 1, self.loss_w_per_k),)).circuit()

    def begin(self, temperature_c: float) -> State:
        return State((temperature_c,))

    def drive(self, state: State, weather: Weather) -> Drive:
        return Drive(self.circuit, (weather.outside_c,), (self.gains_w,), (1.0,))

    def piece_s(self, state: State, weather: Weather) -> float:
        return math.inf

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        return state

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(math.inf, self.comfort.min_c, self.comfort.max_c)

    def target_c(self, setpoint_c: float, state: State, weather: Weather) -> float:
        return setpoint_c
