"""A data centre's row: air carries its heat off, nobody wants it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ..weather.conditions import Weather
from .network import Circuit, Network, loss
from .sink import Drive, Limits, LinearModel, State


@dataclass(frozen=True, kw_only=True)
class DataCentre(LinearModel):
    """inlet_c: of the cooled air.  air_w_per_k: its flow times its heat capacity; 1 kg/s is 1,005 W/K."""

    inlet_c: float = 24.0
    air_w_per_k: float = 1005.0
    max_c: float = 45.0

    kind = "data-centre"
    names = ("outlet air",)
    wants_heat = False

    def __post_init__(self) -> None:
        if not (0 < self.air_w_per_k < math.inf and self.inlet_c < self.max_c):
            raise ValueError("a data centre needs air, cooler than its limit")

    @cached_property
    def circuit(self) -> Circuit:
        return Network((), 1, 1, (loss(0, 1, self.air_w_per_k),)).circuit()

    def begin(self, temperature_c: float) -> State:
        """Nothing in it keeps a temperature."""
        return State(())

    def drive(self, state: State, weather: Weather) -> Drive:
        return Drive(self.circuit, (self.inlet_c,), (0.0,), (1.0,))

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(self.air_w_per_k * (self.max_c - self.inlet_c), -math.inf, self.max_c)
