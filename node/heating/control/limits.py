"""Power limits from outside the room: demand response, tariffs; with a floor of comfort, and no peak afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

DAY_S = 86_400
WINDOWS_MAX = 64
COLOURS_MAX = 8
BASELINE_S = 3600.0
# A clock on the wall that moved by more beside the other was set; by less, it was corrected.
CLOCK_SET_S = 60.0
# Tempo: a day begins at 06:00; its peak hours end at 22:00.
PEAK_BEGIN_S, PEAK_END_S = 6 * 3600, 22 * 3600


class Colour(Enum):
    """A day's colour in the Tempo tariff: 300, 43 and 22 days a year."""

    BLUE = "blue"
    WHITE = "white"
    RED = "red"


class Phase(Enum):
    FREE = "free"
    LIMITED = "limited"
    REBOUND = "rebound"


class Grid(Enum):
    """What the grid asks, and the clock says."""

    LIMIT = "a limit holds"
    NO_LIMIT = "no limit holds"
    RECOVERED = "time to recover is over"


TRANSITIONS: dict[tuple[Phase, Grid], Phase] = {
    (Phase.FREE, Grid.LIMIT): Phase.LIMITED,
    (Phase.FREE, Grid.NO_LIMIT): Phase.FREE,
    (Phase.FREE, Grid.RECOVERED): Phase.FREE,
    (Phase.LIMITED, Grid.LIMIT): Phase.LIMITED,
    (Phase.LIMITED, Grid.NO_LIMIT): Phase.REBOUND,
    (Phase.LIMITED, Grid.RECOVERED): Phase.REBOUND,
    (Phase.REBOUND, Grid.LIMIT): Phase.LIMITED,
    (Phase.REBOUND, Grid.NO_LIMIT): Phase.REBOUND,
    (Phase.REBOUND, Grid.RECOVERED): Phase.FREE,
}


@dataclass(frozen=True, slots=True)
class LimitWindow:
    """The machine, at rest included, draws at most limit_w >= 0 from begin_s until before end_s, of a steady clock."""

    begin_s: float
    end_s: float
    limit_w: float
    name: str = "demand response"

    def __post_init__(self) -> None:
        if not (self.begin_s < self.end_s and 0 <= self.limit_w < 1e9):
            raise ValueError("a limit needs an end after its beginning, and watts of 0 or more")


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """capacity_w > 0.  floor_c: at and below it no limit holds; it comes to hold over floor_ramp_k > 0 above.

    idle_w: what the machine draws at rest, part of what a window limits.  least_w: what the least task draws above it.
    margin_k: where less is wanted, the floor is so far below what is wanted.  frost_c: but not below this.
    rebound_share: of the capacity, the most for rebound_s after a limit; the power of the hour before it, if more.
    tempo_shares: of the capacity, in the peak hours of a colour's days; a colour that lacks is free.
    """

    capacity_w: float
    floor_c: float
    idle_w: float = 0.0
    least_w: float = 0.0
    margin_k: float = 3.0
    frost_c: float = -math.inf
    floor_ramp_k: float = 0.5
    rebound_share: float = 0.7
    rebound_s: float = 1800.0
    tempo_shares: Mapping[Colour, float] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be drawn above the idle machine's power, and the reason if it is less than the capacity."""

    limit_w: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LimitsKept:
    """What outlives a restart. Seconds are from when it was taken: what is over has negative ones.

    colours: of days since 1970, by the clock on the wall.  ended_ago_s: since the last limit's end.
    """

    windows: tuple[LimitWindow, ...] = ()
    colours: tuple[tuple[int, Colour], ...] = ()
    phase: Phase = Phase.FREE
    baseline_w: float = 0.0
    rebound_w: float = 0.0
    ended_ago_s: float = 0.0


class PowerLimits:
    """Windows and the return after them go by now_s, of a steady clock: it never jumps, and counts a machine's sleep.

    A tariff goes by the clock on the wall: wall_s, unix seconds, and local_s, ahead of it by local time's offset.
    Where that clock is set, what was told of days by the old one is of the same days by the new one.
    orders: how often it was told something.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self.phase = Phase.FREE
        self.orders = 0
        self.windows: tuple[LimitWindow, ...] = ()
        self._colours: dict[int, Colour] = {}
        # Of an earlier life, whose clock is not the one that may be set now.
        self._dated: dict[int, Colour] = {}
        self._baseline_w = 0.0
        self._rebound_w = settings.capacity_w
        self._ended_s = 0.0
        self._last_s: float | None = None
        self._clock_s: float | None = None

    def add(self, window: LimitWindow, now_s: float) -> None:
        """Raises ValueError if WINDOWS_MAX of them are still to come."""
        coming = tuple(each for each in self.windows if each.end_s > now_s)
        if len(coming) >= WINDOWS_MAX:
            raise ValueError(f"{WINDOWS_MAX} limits are waiting already")
        self.windows = (*coming, window)
        self.orders += 1

    def withdraw(self) -> None:
        """All windows; a tariff stays."""
        self.windows = ()
        self.orders += 1

    def set_colour(self, day: int, colour: Colour) -> None:
        """day: local date, days since 1970, by the clock that `follow` was told of. The last eight days are known."""
        self.orders += 1
        self._colours[day] = colour
        self._dated.pop(day, None)
        for old in sorted(self._colours)[:-COLOURS_MAX]:
            del self._colours[old]

    @property
    def colours(self) -> dict[int, Colour]:
        """Of days since 1970."""
        return self._dated | self._colours

    def kept(self, now_s: float) -> LimitsKept:
        """With windows that are over, as long as what comes after them is not."""
        since_s = now_s - self.settings.rebound_s
        return LimitsKept(
            windows=tuple(_moved(each, -now_s) for each in self.windows if each.end_s > since_s),
            colours=tuple(sorted(self.colours.items())[-COLOURS_MAX:]),
            phase=self.phase,
            baseline_w=self._baseline_w,
            rebound_w=self._rebound_w,
            ended_ago_s=now_s - self._ended_s,
        )

    def recall(self, kept: LimitsKept, now_s: float, elapsed_s: float) -> None:
        """Go on from what was so elapsed_s ago: what ended since is over, and its return is capped from its end on."""
        capacity_w, share = self.settings.capacity_w, self.settings.rebound_share
        taken_s = now_s - elapsed_s
        moved = [_moved(each, taken_s) for each in kept.windows[-WINDOWS_MAX:]]
        self.windows = tuple(each for each in moved if each.end_s > now_s)
        self._dated, self._colours = dict(kept.colours), {}
        self._baseline_w = min(capacity_w, kept.baseline_w)
        self._rebound_w = max(self._baseline_w, share * capacity_w)
        ends_s = [each.end_s for each in moved if each.end_s <= now_s and self._left(each)[0] < capacity_w]
        if kept.phase is Phase.REBOUND:
            ends_s.append(taken_s - kept.ended_ago_s)
        elif kept.phase is Phase.LIMITED and not any(each.begin_s <= taken_s < each.end_s for each in moved):
            # By a colour, whose hours are over since nobody knows when.
            ends_s.append(now_s)
        if kept.phase is not Phase.FREE:
            self._rebound_w = min(capacity_w, kept.rebound_w)
        self._ended_s = max(ends_s, default=-math.inf)
        self.phase = Phase.REBOUND if now_s - self._ended_s < self.settings.rebound_s else Phase.FREE

    def follow(self, now_s: float, wall_s: float, local_s: float) -> None:
        """Look at the clock on the wall, which may have been set."""
        before_s, self._clock_s = self._clock_s, wall_s - now_s
        set_s = 0.0 if before_s is None else self._clock_s - before_s
        if abs(set_s) >= CLOCK_SET_S:
            days = int(local_s // DAY_S) - int((local_s - set_s) // DAY_S)
            self._colours = {day + days: colour for day, colour in self._colours.items()}

    def update(
        self, now_s: float, wall_s: float, local_s: float, temperature_c: float | None, setpoint_c: float
    ) -> Limit:
        """The limit now. temperature_c: None while it is unknown."""
        self.follow(now_s, wall_s, local_s)
        asked = self._asked(now_s, local_s)
        recovered = now_s - self._ended_s >= self.settings.rebound_s
        finding = Grid.LIMIT if asked is not None else Grid.RECOVERED if recovered else Grid.NO_LIMIT
        before, self.phase = self.phase, TRANSITIONS[self.phase, finding]
        if before is Phase.FREE and self.phase is Phase.LIMITED:
            settings = self.settings
            self._rebound_w = max(self._baseline_w, settings.rebound_share * settings.capacity_w)
        if before is Phase.LIMITED and self.phase is Phase.REBOUND:
            self._ended_s = now_s
        limit_w, reason = self.settings.capacity_w, ""
        if asked is not None:
            limit_w, reason = asked
        elif self.phase is Phase.REBOUND:
            limit_w, reason = self._rebound_w, "slow return after a power limit"
        return self._above_floor(limit_w, reason, temperature_c, self.floor_c(setpoint_c))

    def drew(self, now_s: float, power_w: float) -> None:
        """Mean power since the last call: what was usual before a limit bounds what comes after."""
        if self._last_s is not None and self.phase is Phase.FREE:
            weight = min(1.0, (now_s - self._last_s) / BASELINE_S)
            self._baseline_w += (power_w - self._baseline_w) * weight
        self._last_s = now_s

    def _asked(self, now_s: float, local_s: float) -> tuple[float, str] | None:
        holding = [self._left(each) for each in self.windows if each.begin_s <= now_s < each.end_s]
        day, second = divmod(local_s, DAY_S)
        colour = self.colours.get(int(day)) if PEAK_BEGIN_S <= second < PEAK_END_S else None
        shares = self.settings.tempo_shares or {}
        if colour is not None and colour in shares:
            holding.append((shares[colour] * self.settings.capacity_w, f"peak hours of a {colour.value} day"))
        limit = min(holding, default=None)
        return limit if limit is not None and limit[0] < self.settings.capacity_w else None

    def _left(self, window: LimitWindow) -> tuple[float, str]:
        """What a window leaves for tasks; the reason tells of one that the idle machine alone exceeds."""
        left_w, name, idle_w = window.limit_w - self.settings.idle_w, window.name, self.settings.idle_w
        if left_w < 0:
            return 0.0, f"{name} ({window.limit_w:g} W, which cannot be kept: the idle machine draws {idle_w:g} W)"
        return (left_w if left_w >= self.settings.least_w else 0.0), name

    def floor_c(self, setpoint_c: float) -> float:
        """Who is content with less than the plain setpoint, at night or away, is so under a limit too."""
        settings = self.settings
        return max(settings.frost_c, min(settings.floor_c, setpoint_c - settings.margin_k))

    def _above_floor(self, limit_w: float, reason: str, temperature_c: float | None, floor_c: float) -> Limit:
        settings = self.settings
        limit_w = min(limit_w, settings.capacity_w)
        if temperature_c is None or limit_w >= settings.capacity_w:
            return Limit(limit_w, reason)
        need = (floor_c + settings.floor_ramp_k - temperature_c) / settings.floor_ramp_k
        lifted_w = limit_w + (settings.capacity_w - limit_w) * min(1.0, max(0.0, need))
        return Limit(lifted_w, f"{reason}, lifted to keep {floor_c:g} °C" if need > 0 else reason)


def _moved(window: LimitWindow, by_s: float) -> LimitWindow:
    return replace(window, begin_s=window.begin_s + by_s, end_s=window.end_s + by_s)
