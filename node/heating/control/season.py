"""Too warm outside to heat, and too warm inside to do anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Season(Enum):
    WINTER = "winter"
    SUMMER = "summer"


class Outside(Enum):
    """The mean outside temperature of the last two days."""

    COLD = "cold outside"
    BETWEEN = "neither"
    WARM = "warm outside"


SEASONS: dict[tuple[Season, Outside], Season] = {
    (Season.WINTER, Outside.COLD): Season.WINTER,
    (Season.WINTER, Outside.BETWEEN): Season.WINTER,
    (Season.WINTER, Outside.WARM): Season.SUMMER,
    (Season.SUMMER, Outside.COLD): Season.WINTER,
    (Season.SUMMER, Outside.BETWEEN): Season.SUMMER,
    (Season.SUMMER, Outside.WARM): Season.SUMMER,
}


class Heat(Enum):
    CLEAR = "clear"
    BLOCKED = "blocked"


class Inside(Enum):
    COOL = "cooled down"
    BETWEEN = "neither"
    HOT = "too hot"


BLOCKS: dict[tuple[Heat, Inside], Heat] = {
    (Heat.CLEAR, Inside.COOL): Heat.CLEAR,
    (Heat.CLEAR, Inside.BETWEEN): Heat.CLEAR,
    (Heat.CLEAR, Inside.HOT): Heat.BLOCKED,
    (Heat.BLOCKED, Inside.COOL): Heat.CLEAR,
    (Heat.BLOCKED, Inside.BETWEEN): Heat.BLOCKED,
    (Heat.BLOCKED, Inside.HOT): Heat.BLOCKED,
}


@dataclass(frozen=True, slots=True)
class SeasonSettings:
    """Summer begins above summer_c and ends 2 K lower.  floor_w: what a sink takes in summer though it wants none.

    block_c: above it nothing runs, until block_hysteresis_k lower; surface_block_c likewise, of the heater's surface.
    """

    summer_c: float = 16.0
    floor_w: float = 0.0
    block_c: float = 27.0
    block_hysteresis_k: float = 1.0
    surface_block_c: float = 75.0


@dataclass(frozen=True, slots=True)
class SeasonKept:
    """The season, and the mean that it goes by, of seen_s seconds."""

    season: Season
    mean_c: float
    seen_s: float


class SeasonWatch:
    """Winter until two days have been seen: one warm afternoon at a node's start is no summer.

    Seconds are of a clock that never goes back.
    """

    MEAN_S = 2 * 86_400.0
    HYSTERESIS_K = 2.0
    # So long after the weather was known last it may still be summer for whom frost would harm.
    LATELY_S = 7 * 86_400.0

    def __init__(self, settings: SeasonSettings) -> None:
        self._settings = settings
        self._mean_c = 0.0
        self._seen_s = 0.0
        self._last_s: float | None = None
        self._known_s: float | None = None
        self.season = Season.WINTER

    def update(self, now_s: float, outside_c: float | None) -> Season:
        """outside_c None: the season stays."""
        if outside_c is not None:
            self._known_s = now_s
        if outside_c is not None and self._last_s is not None:
            elapsed_s = now_s - self._last_s
            self._seen_s = min(self.MEAN_S, self._seen_s + elapsed_s)
            if self._seen_s > 0:
                # The plain mean of what was seen, and once that is two days, one that fades.
                self._mean_c += (outside_c - self._mean_c) * min(1.0, elapsed_s / self._seen_s)
            if self._seen_s >= self.MEAN_S:
                self.season = SEASONS[self.season, self._outside(self._mean_c)]
        self._last_s = now_s
        return self.season

    def is_surely_summer(self, now_s: float) -> bool:
        """Not where nothing told the weather for long, nor in this life: nothing freezes for an old summer."""
        lately = self._known_s is not None and now_s - self._known_s <= self.LATELY_S
        return lately and self.season is Season.SUMMER

    def kept(self) -> SeasonKept:
        return SeasonKept(self.season, self._mean_c, self._seen_s)

    def recall(self, kept: SeasonKept, age_s: float) -> None:
        """Go on from what was so age_s ago, unless that is longer than what is looked at."""
        if age_s < self.MEAN_S:
            self.season, self._mean_c, self._seen_s = kept.season, kept.mean_c, kept.seen_s

    def _outside(self, mean_c: float) -> Outside:
        if mean_c > self._settings.summer_c:
            return Outside.WARM
        return Outside.COLD if mean_c < self._settings.summer_c - self.HYSTERESIS_K else Outside.BETWEEN


class OverheatBlock:
    """The last word below the hardware's own cut-out: too hot a sink or surface stops everything, work too."""

    def __init__(self, settings: SeasonSettings) -> None:
        self._hysteresis_k = settings.block_hysteresis_k
        self._limits_c = (settings.block_c, settings.surface_block_c)
        self._states = [Heat.CLEAR, Heat.CLEAR]
        self.reading_c: float | None = None

    def update(self, temperature_c: float | None, surface_c: float | None = None) -> bool:
        """Whether everything has to stop: each of the two blocks until it has cooled itself. Unknown ones stay.

        reading_c is then of what blocks, as far as that is known.
        """
        self.reading_c = None
        for place, (reading_c, limit_c) in enumerate(zip((temperature_c, surface_c), self._limits_c, strict=True)):
            if reading_c is not None:
                self._states[place] = BLOCKS[self._states[place], self._inside(reading_c - limit_c)]
                if self._states[place] is Heat.BLOCKED and self.reading_c is None:
                    self.reading_c = reading_c
        return Heat.BLOCKED in self._states

    def _inside(self, above_k: float) -> Inside:
        if above_k > 0:
            return Inside.HOT
        return Inside.COOL if above_k <= -self._hysteresis_k else Inside.BETWEEN
