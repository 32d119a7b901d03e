"""Hot water: what it holds, when it is drawn, and when it must be hot for the sake of health."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .clock import HOUR_S, hour_of_day, is_point

J_PER_L_K = 4186.0
DAY_S = 86_400.0

# Energy drawn in each hour of the day, kWh: tapping pattern M of Regulation (EU) No 812/2013, annex III.
_NIGHT, _MORNING = (0.0,) * 7, (1.61, 0.42, 0.21, 0.105, 0.21)
_AFTERNOON, _EVENING = (0.315, 0.0, 0.105, 0.105, 0.105, 0.0), (0.315, 0.105, 0.735, 1.505, 0.0, 0.0)
PATTERN_M: tuple[float, ...] = _NIGHT + _MORNING + _AFTERNOON + _EVENING


@dataclass(frozen=True, slots=True)
class Draws:
    """litres_per_day: of the tank's water, >= 0.  pattern: 24 shares of it by hour, in any unit.  cold_c: inflow."""

    litres_per_day: float = 0.0
    pattern: tuple[float, ...] = PATTERN_M
    cold_c: float = 10.0

    def __post_init__(self) -> None:
        if len(self.pattern) != 24 or min(self.pattern) < 0 or sum(self.pattern) <= 0:
            raise ValueError("a pattern of draws is 24 shares, some of them above 0")
        if not 0 <= self.litres_per_day < 1e9:
            raise ValueError("no amount of water")

    def w_per_k(self, time_s: float) -> float:
        """Mean stream of the hour: litres per second times their heat capacity."""
        share = self.pattern[hour_of_day(time_s)] / math.fsum(self.pattern)
        return self.litres_per_day * share * J_PER_L_K / HOUR_S


@dataclass(frozen=True, slots=True)
class Disinfection:
    """The whole content at level_c for hold_s, every day: 70 °C for 2 min, 65 °C for 4 min or 60 °C for 60 min.

    It is asked for from lead_s before it is due. Source: France, arrêté of 30 November 2005, article 36, for storage
    of 400 litres or more.
    Its memory: (seconds since it was last done, seconds held so far, whether all was hot at the grid's last point).
    """

    level_c: float = 60.0
    hold_s: float = 3600.0
    every_s: float = DAY_S
    lead_s: float = 4 * HOUR_S
    margin_k: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.hold_s < self.every_s and 0 <= self.lead_s < self.every_s and self.margin_k >= 0):
            raise ValueError("a disinfection is held for less than the time between two")

    @classmethod
    def at_level(cls, level_c: float) -> Disinfection:
        """By one of the three levels. Raises ValueError for another."""
        holds_s = {60.0: 3600.0, 65.0: 240.0, 70.0: 120.0}
        if level_c not in holds_s:
            raise ValueError("the levels are 60, 65 and 70 °C")
        return cls(level_c, holds_s[level_c])

    @property
    def target_most_c(self) -> float:
        """What the water is kept at while it is due."""
        return self.level_c + self.margin_k

    @property
    def grid_s(self) -> float:
        return min(self.hold_s, 300.0)

    def begin(self) -> tuple[float, ...]:
        """Nobody knows when it was last done, so it is due."""
        return (self.every_s, 0.0, 0.0)

    def counted(self, memory: tuple[float, ...], coldest_c: float, end_s: float) -> tuple[float, ...]:
        """The memory after a piece that ends at end_s; it counts at the grid's points only."""
        if not is_point(end_s, self.grid_s):
            return memory
        age_s, held_s, was_hot = memory
        is_hot = coldest_c >= self.level_c
        held_s = held_s + self.grid_s if was_hot and is_hot else 0.0
        if held_s >= self.hold_s:
            return (0.0, 0.0, 1.0)
        return (min(age_s + self.grid_s, 1e9), held_s, float(is_hot))

    def is_due(self, memory: tuple[float, ...]) -> bool:
        return memory[0] >= self.every_s - self.lead_s

    def target_c(self, setpoint_c: float, memory: tuple[float, ...]) -> float:
        return max(setpoint_c, self.target_most_c) if self.is_due(memory) else setpoint_c
