"""Buffer tanks: well mixed, or in layers with the hot water on top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..weather.conditions import Weather
from .clock import HOUR_S, is_point, until_next
from .network import Circuit, Network, conduction, loss, stream
from .sink import Drive, Limits, LinearModel, State
from .water import J_PER_L_K, Disinfection, Draws

LAYERS_MAX = 20
# Warm water below cold rises within minutes; here at every point of this grid.
MIXING_GRID_S = 60.0
WATER_W_PER_M_K = 0.6


@dataclass(frozen=True, kw_only=True)
class Tank(LinearModel):
    """litres: its content.  loss_w_per_k: through the insulation to a cellar of ambient_c.

    max_c: where the inflow of heat is closed.  power_max_w: of the heat exchanger.
    """

    litres: float
    loss_w_per_k: float
    ambient_c: float = 20.0
    draws: Draws = Draws()
    disinfection: Disinfection | None = None
    max_c: float = 85.0
    power_max_w: float = math.inf

    def __post_init__(self) -> None:
        if not (0 < self.litres < 1e9 and 0 <= self.loss_w_per_k < 1e9 and self.power_max_w > 0):
            raise ValueError("a tank has litres, a loss that is not negative and a way in for heat")

    def target_c(self, setpoint_c: float, state: State, weather: Weather) -> float:
        if self.disinfection is None:
            return setpoint_c
        return self.disinfection.target_c(setpoint_c, state.memory)

    def limits(self, state: State, weather: Weather) -> Limits:
        full = max(state.temperatures_c) >= self.max_c
        return Limits(0.0 if full else self.power_max_w, 5.0, self.max_c)

    def _memory(self) -> tuple[float, ...]:
        return self.disinfection.begin() if self.disinfection else ()

    def _counted(self, memory: tuple[float, ...], temperatures_c: Sequence[float], end_s: float) -> tuple[float, ...]:
        if self.disinfection is None:
            return memory
        return self.disinfection.counted(memory, min(temperatures_c), end_s)

    def _until_change_s(self, weather: Weather) -> float:
        """To the next hour of draws, and the next count of the disinfection."""
        draws_s = until_next(weather.time_s, HOUR_S) if self.draws.litres_per_day else math.inf
        count_s = until_next(weather.time_s, self.disinfection.grid_s) if self.disinfection else math.inf
        return min(draws_s, count_s)


@dataclass(frozen=True, kw_only=True)
class MixedTank(Tank):
    """One temperature: C dT/dt = P - UA (T - T_ambient) - m' c (T - T_cold)."""

    kind = "tank"
    names = ("water",)

    @property
    def capacity_j_per_k(self) -> float:
        return self.litres * J_PER_L_K

    def begin(self, temperature_c: float) -> State:
        return State((temperature_c,), self._memory())

    def drive(self, state: State, weather: Weather) -> Drive:
        circuit = _mixed(self.capacity_j_per_k, self.loss_w_per_k, self.draws.w_per_k(weather.time_s))
        return Drive(circuit, (self.ambient_c, self.draws.cold_c), (0.0,), (1.0,))

    def piece_s(self, state: State, weather: Weather) -> float:
        return self._until_change_s(weather)

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        if self.disinfection is None:
            return state
        end_s = weather.time_s + duration_s
        return State(state.temperatures_c, self._counted(state.memory, state.temperatures_c, end_s))


@dataclass(frozen=True, kw_only=True)
class LayeredTank(Tank):
    """Equal layers, the first on top. Draws leave it and let cold water in at the bottom; heat enters one layer.

    A disinfection needs the inlet of heat in the lowest layer.

    height_m.  layers: 2 to LAYERS_MAX.  heater_height, sensor_height: of the heat's inlet and of the sensor, as shares
    of the height.  conductivity_w_per_m_k: of water, and what walls and currents add.
    """

    height_m: float = 1.8
    layers: int = 10
    heater_height: float = 0.0
    sensor_height: float = 0.5
    conductivity_w_per_m_k: float = 2 * WATER_W_PER_M_K

    kind = "tank-layers"

    def __post_init__(self) -> None:
        Tank.__post_init__(self)
        if not (2 <= self.layers <= LAYERS_MAX and 0 < self.height_m < 100 and self.conductivity_w_per_m_k >= 0):
            raise ValueError(f"a tank in layers has 2 to {LAYERS_MAX} of them and a height")
        if not (0 <= self.heater_height <= 1 and 0 <= self.sensor_height <= 1):
            raise ValueError("a height within the tank is a share from 0 to 1")
        if self.disinfection is not None and self._layer_at(self.heater_height) != self.layers - 1:
            raise ValueError("water below the heat's inlet never gets hot, so no disinfection would end")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"layer {number}" for number in range(1, self.layers + 1))

    @property
    def controlled(self) -> int:
        return self._layer_at(self.sensor_height)

    def begin(self, temperature_c: float) -> State:
        return State((temperature_c,) * self.layers, self._memory())

    def drive(self, state: State, weather: Weather) -> Drive:
        area_m2 = self.litres / 1000.0 / self.height_m
        between_w_per_k = self.conductivity_w_per_m_k * area_m2 * self.layers / self.height_m
        circuit = _layered(
            self.layers,
            self.litres * J_PER_L_K / self.layers,
            self.loss_w_per_k / self.layers,
            between_w_per_k,
            self.draws.w_per_k(weather.time_s),
        )
        shares = [0.0] * self.layers
        shares[self._layer_at(self.heater_height)] = 1.0
        return Drive(circuit, (self.ambient_c, self.draws.cold_c), (0.0,) * self.layers, shares)

    def piece_s(self, state: State, weather: Weather) -> float:
        return min(self._until_change_s(weather), until_next(weather.time_s, MIXING_GRID_S))

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        end_s = weather.time_s + duration_s
        temperatures_c = state.temperatures_c
        if is_point(end_s, MIXING_GRID_S):
            temperatures_c = tuple(risen(temperatures_c))
        return State(temperatures_c, self._counted(state.memory, temperatures_c, end_s))

    def _layer_at(self, height: float) -> int:
        return min(self.layers - 1, int((1.0 - height) * self.layers))


def risen(temperatures_c: Sequence[float]) -> list[float]:
    """Equal layers from the top after warmer water below has risen and mixed: never warmer downwards, same heat.

    Neighbours in the wrong order are mixed until none is left: pool adjacent violators.
    """
    groups: list[tuple[float, int]] = []
    for temperature_c in temperatures_c:
        mean_c, count = temperature_c, 1
        while groups and groups[-1][0] < mean_c:
            above_c, above = groups.pop()
            mean_c = (above_c * above + mean_c * count) / (above + count)
            count += above
        groups.append((mean_c, count))
    return [mean_c for mean_c, count in groups for _ in range(count)]


# Tanks of one kind and size share circuits; a day has at most 24 different draws.
@lru_cache(maxsize=512)
def _mixed(capacity_j_per_k: float, loss_w_per_k: float, draw_w_per_k: float) -> Circuit:
    return Network((capacity_j_per_k,), 0, 2, (loss(0, 1, loss_w_per_k), stream(0, 2, draw_w_per_k))).circuit()


@lru_cache(maxsize=128)
def _layered(
    layers: int, capacity_j_per_k: float, loss_w_per_k: float, between_w_per_k: float, draw_w_per_k: float
) -> Circuit:
    ambient, cold = layers, layers + 1
    links = [loss(layer, ambient, loss_w_per_k) for layer in range(layers)]
    for layer in range(layers - 1):
        links += conduction(layer, layer + 1, between_w_per_k)
        links.append(stream(layer, layer + 1, draw_w_per_k))
    links.append(stream(layers - 1, cold, draw_w_per_k))
    return Network((capacity_j_per_k,) * layers, 0, 2, tuple(links)).circuit()
