"""Water loops: a boiler rack that heats a building, and a district network that others feed as well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from ..weather.conditions import Weather
from .clock import is_point, until_next
from .network import Circuit, Network, conduction, loss
from .sink import Drive, Limits, LinearModel, State
from .water import J_PER_L_K

# How often a district's other plant looks at its flow temperature.
PLANT_GRID_S = 60.0


@dataclass(frozen=True, slots=True)
class HeatingCurve:
    """Flow temperature by the weather: room + span_k ((room - T_out) / design_k)^(1 / exponent).

    design_k: of the coldest day, below the room.  exponent: of the radiators (EN 442), 1.3; floor heating has 1.1.
    """

    span_k: float = 35.0
    design_k: float = 27.0
    exponent: float = 1.3

    def __post_init__(self) -> None:
        if not (0 < self.span_k < 100 and 0 < self.design_k < 100 and 1 <= self.exponent < 3):
            raise ValueError("no heating curve")

    def flow_c(self, room_c: float, outside_c: float) -> float:
        colder_k = max(0.0, room_c - outside_c)
        return float(room_c + self.span_k * (colder_k / self.design_k) ** (1.0 / self.exponent))


@dataclass(frozen=True, slots=True)
class LoopLimits:
    """return_max_c: warmer return water no longer cools the computers.  supply_max_c: of the pipes and people."""

    return_max_c: float = 55.0
    supply_max_c: float = 75.0

    def __post_init__(self) -> None:
        if not 0 < self.return_max_c <= self.supply_max_c < 150:
            raise ValueError("a return is cooler than a supply")

    def power_max_w(self, return_c: float, flow_w_per_k: float) -> float:
        """What lifts the return to the hottest supply; none over the limit of the return."""
        if return_c >= self.return_max_c:
            return 0.0
        return max(0.0, flow_w_per_k * (self.supply_max_c - return_c))


@dataclass(frozen=True, kw_only=True)
class BoilerRack(LinearModel):
    """Computers heat a supply; it flows through radiators, whose outlet is the return; they heat a building.

    flow_l_s: of the pump.  supply_litres, return_litres: in boiler and pipes, and in the radiators.
    emitter_w_per_k: radiators to building, taken as linear.  building: its loss and capacity, as of a 1R1C room.
    pipe_w_per_k: from the supply to the building.  The setpoint is the building's; the supply follows the curve.
    """

    flow_l_s: float
    emitter_w_per_k: float
    building_w_per_k: float
    building_j_per_k: float
    supply_litres: float = 100.0
    return_litres: float = 200.0
    pipe_w_per_k: float = 0.0
    gains_w: float = 0.0
    curve: HeatingCurve = HeatingCurve()
    loop: LoopLimits = LoopLimits()

    kind = "boiler-rack"
    names = ("supply", "return", "building")

    def __post_init__(self) -> None:
        values = (self.flow_l_s, self.emitter_w_per_k, self.building_w_per_k, self.building_j_per_k)
        if not all(0 < value < math.inf for value in (*values, self.supply_litres, self.return_litres)):
            raise ValueError("a loop needs a flow, radiators, water and a building")

    @property
    def flow_w_per_k(self) -> float:
        return self.flow_l_s * J_PER_L_K

    @cached_property
    def circuit(self) -> Circuit:
        # Round a closed loop of two mixed volumes, the stream exchanges heat as a conductance does.
        links = (
            *conduction(0, 1, self.flow_w_per_k),
            *conduction(1, 2, self.emitter_w_per_k),
            *conduction(0, 2, self.pipe_w_per_k),
            loss(2, 3, self.building_w_per_k),
        )
        capacities = (self.supply_litres * J_PER_L_K, self.return_litres * J_PER_L_K, self.building_j_per_k)
        return Network(capacities, 0, 1, links).circuit()

    def begin(self, temperature_c: float) -> State:
        return State((temperature_c,) * 3)

    def drive(self, state: State, weather: Weather) -> Drive:
        return Drive(self.circuit, (weather.outside_c,), (0.0, 0.0, self.gains_w), (1.0, 0.0, 0.0))

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(self.loop.power_max_w(state.temperatures_c[1], self.flow_w_per_k), 5.0, self.loop.supply_max_c)

    def target_c(self, setpoint_c: float, state: State, weather: Weather) -> float:
        return min(self.curve.flow_c(setpoint_c, weather.outside_c), self.loop.supply_max_c)


@dataclass(frozen=True, kw_only=True)
class DistrictLoop(LinearModel):
    """A network whose customers take heat from the return side, and whose other plant keeps the supply at plant_c.

    flow_l_s.  supply_litres, return_litres: in the pipes.  loss_w_per_k: of each to a ground of ground_c.
    base_w: taken at any time (hot water).  load_w_per_k: more, per kelvin that it is colder outside than load_from_c.
    plant_max_w, plant_gain_w_per_k: the other plant's power, by how far the supply is below plant_c; it looks once a
    PLANT_GRID_S. Our setpoint is the supply's: above plant_c our heat takes the place of the plant's.
    """

    flow_l_s: float
    supply_litres: float
    return_litres: float
    loss_w_per_k: float = 0.0
    ground_c: float = 10.0
    base_w: float = 0.0
    load_w_per_k: float = 0.0
    load_from_c: float = 15.0
    plant_c: float = 65.0
    plant_max_w: float = 0.0
    plant_gain_w_per_k: float = 0.0
    loop: LoopLimits = LoopLimits(return_max_c=60.0, supply_max_c=85.0)

    kind = "district"
    names = ("supply", "return")

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.flow_l_s, self.supply_litres, self.return_litres)):
            raise ValueError("a network needs a flow and water")
        rest = (self.loss_w_per_k, self.base_w, self.load_w_per_k, self.plant_max_w, self.plant_gain_w_per_k)
        if min(rest) < 0:
            raise ValueError("losses, loads and powers are not negative")
        if self.plant_gain_w_per_k * PLANT_GRID_S > self.supply_litres * J_PER_L_K:
            raise ValueError("the other plant would overshoot: its gain is too high for the water in the supply")

    @property
    def flow_w_per_k(self) -> float:
        return self.flow_l_s * J_PER_L_K

    @cached_property
    def circuit(self) -> Circuit:
        links = (*conduction(0, 1, self.flow_w_per_k), loss(0, 2, self.loss_w_per_k), loss(1, 2, self.loss_w_per_k))
        return Network((self.supply_litres * J_PER_L_K, self.return_litres * J_PER_L_K), 0, 1, links).circuit()

    def begin(self, temperature_c: float) -> State:
        """Its memory: the power of the other plant."""
        return State((temperature_c, temperature_c), (self._plant_w(temperature_c),))

    def load_w(self, weather: Weather) -> float:
        return self.base_w + self.load_w_per_k * max(0.0, self.load_from_c - weather.outside_c)

    def drive(self, state: State, weather: Weather) -> Drive:
        return Drive(self.circuit, (self.ground_c,), (state.memory[0], 0.0), (1.0, 0.0), (0.0, self.load_w(weather)))

    def piece_s(self, state: State, weather: Weather) -> float:
        return until_next(weather.time_s, PLANT_GRID_S) if self.plant_max_w else math.inf

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        if not (self.plant_max_w and is_point(weather.time_s + duration_s, PLANT_GRID_S)):
            return state
        return State(state.temperatures_c, (self._plant_w(state.temperatures_c[0]),))

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(self.loop.power_max_w(state.temperatures_c[1], self.flow_w_per_k), 5.0, self.loop.supply_max_c)

    def _plant_w(self, supply_c: float) -> float:
        return min(self.plant_max_w, max(0.0, self.plant_gain_w_per_k * (self.plant_c - supply_c)))
