"""What a thermostat must not forget when it is started again: what it was told, and what it learnt."""

from __future__ import annotations

from dataclasses import dataclass

from .identify import Learnt
from .limits import LimitsKept
from .season import SeasonKept
from .setpoint import Chosen


@dataclass(frozen=True, slots=True)
class Told:
    """By owner and grid. boost_left_s: how long a boost goes on, None without one."""

    chosen: Chosen
    boost_left_s: float | None = None
    limits: LimitsKept = LimitsKept()


@dataclass(frozen=True, slots=True)
class Remembered:
    """As of the time when it was taken; None is what nobody remembers.  steps_k: of each sensor, in order."""

    told: Told | None = None
    learnt: Learnt | None = None
    season: SeasonKept | None = None
    steps_k: tuple[float | None, ...] = ()
