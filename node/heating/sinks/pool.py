"""A swimming pool: its water loses heat by evaporation first, then to air, sky, fresh water and ground; all year round.

Evaporation: A (a + b v) (p_water - p_air) W with a = 0.089 and b = 0.0782 (W/m²Pa, wind v in m/s), for a pool in use;
source: ASHRAE Handbook, HVAC Applications (2019), chapter 6, eq. 2, after Carrier (1918). Convection follows from
Bowen's ratio: 61.3 Pa/K at 101,325 Pa. The curve of saturation is replaced by its tangent, renewed by the hour of the
sink's own clock: a pool moves by some hundredths of a kelvin meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..weather.conditions import Weather
from ..weather.sky import saturation_pa, saturation_slope_pa_per_k
from .clock import HOUR_S, hour_of_day, is_point, until_next
from .network import Account, Link, Network, loss
from .sink import Drive, Limits, LinearModel, State
from .water import DAY_S, J_PER_L_K

STILL_W_M2_PA = 0.089
WIND_W_M2_PA_PER_M_S = 0.0782
BOWEN_PA_PER_K = 61.3
SEA_LEVEL_PA = 101_325.0
RADIATIVE_W_M2_K = 5.6
# Of evaporation and convection that a cover leaves, and of sunlight on open water that stays in it.
COVERED_SHARE = 0.1
SUN_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Hall:
    """Air over an indoor pool, kept all year."""

    air_c: float = 29.0
    humidity: float = 0.55

    def __post_init__(self) -> None:
        if not (0 <= self.air_c <= 50 and 0 <= self.humidity <= 1):
            raise ValueError("no air of a hall")


@dataclass(frozen=True, kw_only=True)
class Pool(LinearModel):
    """hall: of an indoor pool; None for one outdoors.  activity: 1 in a busy public pool, 0.5 at a home.

    open_from, open_until: hours of the day without a cover, which is on else; both 0: never covered.
    fresh_l_per_day: let in at cold_c, and let out warm.  ground_w_per_k: through floor and walls to ground_c.
    """

    surface_m2: float
    depth_m: float = 1.6
    hall: Hall | None = Hall()
    activity: float = 1.0
    open_from: int = 0
    open_until: int = 0
    fresh_l_per_day: float = 0.0
    cold_c: float = 10.0
    ground_w_per_k: float = 0.0
    ground_c: float = 10.0
    max_c: float = 34.0
    power_max_w: float = math.inf

    kind = "pool"
    names = ("water",)

    def __post_init__(self) -> None:
        if not (0 < self.surface_m2 < 1e6 and 0 < self.depth_m < 100 and 0 <= self.activity <= 5):
            raise ValueError("a pool has a surface, a depth and an activity")
        if not (0 <= self.open_from <= 24 and 0 <= self.open_until <= 24 and self.open_from <= self.open_until):
            raise ValueError("a pool is open from an hour to a later one")
        if self.fresh_l_per_day < 0 or self.ground_w_per_k < 0 or self.power_max_w <= 0:
            raise ValueError("fresh water, losses and powers are not negative")

    @property
    def capacity_j_per_k(self) -> float:
        return self.surface_m2 * self.depth_m * 1000.0 * J_PER_L_K

    def begin(self, temperature_c: float) -> State:
        """Its memory: where the tangent touches the curve of saturation."""
        return State((temperature_c,), (temperature_c,))

    def drive(self, state: State, weather: Weather) -> Drive:
        touch_c = state.memory[0]
        air_c = self.hall.air_c if self.hall else weather.outside_c
        humidity = self.hall.humidity if self.hall else weather.humidity
        around_c = self.hall.air_c if self.hall else weather.sky_temperature_c
        uncovered = 1.0 if self._is_open(weather) else COVERED_SHARE
        per_pa = self.surface_m2 * uncovered * self._evaporation_w_m2_pa(weather)
        slope = saturation_slope_pa_per_k(touch_c)
        # Where the tangent says that nothing evaporates.
        still_c = touch_c - (saturation_pa(touch_c) - humidity * saturation_pa(air_c)) / slope
        links = (
            loss(0, 1, per_pa * slope),
            loss(0, 2, per_pa * BOWEN_PA_PER_K * weather.pressure_pa / SEA_LEVEL_PA),
            loss(0, 3, self.surface_m2 * uncovered * RADIATIVE_W_M2_K),
            Link(0, 4, self.fresh_l_per_day * J_PER_L_K / DAY_S, Account.LOST),
            loss(0, 5, self.ground_w_per_k),
        )
        circuit = Network((self.capacity_j_per_k,), 0, 5, links).circuit()
        sun_w = 0.0 if self.hall else self.surface_m2 * SUN_SHARE * weather.global_w_m2 * uncovered
        return Drive(circuit, (still_c, air_c, around_c, self.cold_c, self.ground_c), (sun_w,), (1.0,))

    def piece_s(self, state: State, weather: Weather) -> float:
        return until_next(weather.time_s, HOUR_S)

    def settled(self, state: State, weather: Weather, duration_s: float) -> State:
        if not is_point(weather.time_s + duration_s, HOUR_S):
            return state
        # Beyond what water can be, the curve has no meaning; the tangent stays at its end.
        return State(state.temperatures_c, (min(100.0, max(-20.0, state.temperatures_c[0])),))

    def limits(self, state: State, weather: Weather) -> Limits:
        return Limits(0.0 if state.temperatures_c[0] >= self.max_c else self.power_max_w, 5.0, self.max_c)

    def _is_open(self, weather: Weather) -> bool:
        if self.open_until == 0:
            return True
        return self.open_from <= hour_of_day(weather.time_s) < self.open_until

    def _evaporation_w_m2_pa(self, weather: Weather) -> float:
        wind_m_s = 0.0 if self.hall else weather.wind_m_s
        return self.activity * (STILL_W_M2_PA + WIND_W_M2_PA_PER_M_S * wind_m_s)
