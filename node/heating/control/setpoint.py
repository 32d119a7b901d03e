"""Which temperature holds now, of all that have a say: the schedule, who is at home, a hand on the dial, a window."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from .limits import CLOCK_SET_S
from .schedule import WEEK_S, WeekSchedule


class Wish(Enum):
    """What somebody chose on the wall or in an app; AUTO leaves it to the schedule and to presence."""

    AUTO = "auto"
    MANUAL = "manual"
    COMFORT = "comfort"
    ECO = "eco"
    AWAY = "away"
    BOOST = "boost"
    OFF = "off"


class Reason(Enum):
    """Why the setpoint is what it is."""

    OFF = "off, protected from frost"
    WINDOW = "a window is open"
    BOOST = "boost"
    MANUAL = "set by hand"
    COMFORT = "comfort"
    ECO = "eco"
    AWAY = "nobody is at home"
    EARLY = "warming up for the schedule"
    SCHEDULE = "the schedule"
    PLAIN = "the plain setpoint"


@dataclass(frozen=True, slots=True)
class SetpointPlan:
    """Temperatures in °C. plain_c: without a schedule, and of comfort.  away_after_s: absence before it counts.

    boost_s: a boost's length.  low_c and high_c bound whatever is wished; frost_c is the least that is ever kept.
    """

    plain_c: float
    schedule: WeekSchedule
    eco_c: float
    away_c: float
    boost_c: float
    boost_s: float
    frost_c: float
    low_c: float
    high_c: float
    away_after_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """The setpoint that holds, why, and the next higher one of the schedule: in how many seconds, and what."""

    setpoint_c: float
    reason: Reason
    rise_in_s: float | None = None
    rise_to_c: float | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What holds without a boost. manual_c: of MANUAL, which ends at until_s of local time, None for never.

    waits_c: what somebody set while OFF, for when it is on again; None where nobody did.
    """

    wish: Wish
    manual_c: float
    until_s: float | None = None
    waits_c: float | None = None


class SetpointChooser:
    """Remembers the last wish and since when nobody is at home.

    now_s: of a clock that never goes back.  local_s: of the clock on the wall, since some Monday, 0:00; it may be set.
    chosen and boost_until_s (of now_s's clock, None without a boost) are all that a wish leaves.
    orders: wishes so far.
    """

    def __init__(self, plan: SetpointPlan) -> None:
        self.plan = plan
        self.chosen = Chosen(Wish.AUTO, plan.plain_c)
        self.boost_until_s: float | None = None
        self.orders = 0
        # Of MANUAL, where the clock that holds now has a change of the schedule before what was told.
        self._sooner_s: float | None = None
        self._clock_s: float | None = None
        self._absent_since_s: float | None = None
        self._early_until_s: float | None = None

    @property
    def wish(self) -> Wish:
        return self.chosen.wish if self.boost_until_s is None else Wish.BOOST

    def choose(self, wish: Wish, now_s: float, *, setpoint_c: float | None = None, local_s: float = 0.0) -> None:
        """Follow a wish. MANUAL takes setpoint_c, bounded by the plan, and holds until the schedule's next change.

        After a BOOST what was chosen before holds again. Raises ValueError for MANUAL without a finite temperature.
        """
        if wish is Wish.MANUAL and (setpoint_c is None or not -1e3 < setpoint_c < 1e3):
            raise ValueError(f"not a temperature: {setpoint_c}")
        self.orders += 1
        self._early_until_s = None
        self.boost_until_s = now_s + self.plan.boost_s if wish is Wish.BOOST else None
        if wish is Wish.MANUAL and setpoint_c is not None:
            self.chosen, self._sooner_s = Chosen(wish, self._bounded(setpoint_c), self._changes_at_s(local_s)), None
        elif wish is not Wish.BOOST and not (wish is Wish.OFF and self.chosen.wish is Wish.OFF):
            # Off once more keeps what waits.
            self.chosen = Chosen(wish, self.plan.plain_c)

    @property
    def set_while_off_c(self) -> float | None:
        """The temperature for when it is on again; None where none was set, or it is on."""
        return self.chosen.waits_c if self.wish is Wish.OFF else None

    def set_while_off(self, setpoint_c: float) -> None:
        """It stays off, and remembers. Bounded by the plan."""
        assert self.wish is Wish.OFF
        self.orders += 1
        self.chosen = replace(self.chosen, waits_c=self._bounded(setpoint_c))

    def _bounded(self, setpoint_c: float) -> float:
        return min(self.plan.high_c, max(self.plan.low_c, setpoint_c))

    def recall(self, chosen: Chosen, boost_left_s: float | None, now_s: float, local_s: float) -> None:
        """What was chosen before a restart, as far as it is not over. boost_left_s: of a boost, from now on."""
        manual_c, until_s = self._bounded(chosen.manual_c), None
        if chosen.wish is Wish.MANUAL and self.plan.schedule:
            until_s = self._changes_at_s(local_s) if chosen.until_s is None else chosen.until_s
        waits_c = None if chosen.waits_c is None else self._bounded(chosen.waits_c)
        over = until_s is not None and local_s >= until_s
        self.chosen = Chosen(Wish.AUTO, self.plan.plain_c) if over else Chosen(chosen.wish, manual_c, until_s, waits_c)
        self._sooner_s = None
        self.boost_until_s = None
        if boost_left_s is not None and boost_left_s > 0:
            self.boost_until_s = now_s + min(boost_left_s, self.plan.boost_s)

    def target(
        self,
        now_s: float,
        local_s: float,
        *,
        present: bool | None = None,
        window_open: bool = False,
        lead_s: float = 0.0,
    ) -> Target:
        """The setpoint now. present: None where nothing tells.  lead_s: warming up begins so long before a rise."""
        if self.boost_until_s is not None and now_s >= self.boost_until_s:
            self.boost_until_s = None
        self._expire(now_s, local_s)
        away, week_s = self._away(now_s, present), local_s % WEEK_S
        setpoint_c, reason = self._wished(away, week_s)
        rise_in_s, rise_to_c = self._rise(setpoint_c, reason, week_s)
        if window_open and reason is not Reason.OFF:
            setpoint_c, reason = self.plan.frost_c, Reason.WINDOW
        elif rise_in_s is not None and rise_to_c is not None and self._early(local_s, rise_in_s, lead_s):
            setpoint_c, reason = rise_to_c, Reason.EARLY
        return Target(max(self.plan.frost_c, setpoint_c), reason, rise_in_s, rise_to_c)

    def _changes_at_s(self, local_s: float) -> float | None:
        if not self.plan.schedule:
            return None
        # Changes are at whole seconds.
        return float(round(local_s + self.plan.schedule.upcoming(local_s % WEEK_S)[0]))

    def _expire(self, now_s: float, local_s: float) -> None:
        """MANUAL ends at the schedule's next change: as it was told, or sooner by a clock that was put back since.

        What is sooner by one clock does not hold by the next: the first may have been wrong.
        """
        before_s, self._clock_s = self._clock_s, local_s - now_s
        if before_s is not None and abs(self._clock_s - before_s) >= CLOCK_SET_S:
            self._sooner_s = None
        until_s, next_s = self.chosen.until_s, self._changes_at_s(local_s)
        if until_s is None or next_s is None:
            return
        ends_s = until_s if self._sooner_s is None else self._sooner_s
        if local_s >= ends_s:
            self.chosen, self._sooner_s = Chosen(Wish.AUTO, self.plan.plain_c), None
        else:
            self._sooner_s = min(ends_s, next_s)

    def _early(self, local_s: float, rise_in_s: float, lead_s: float) -> bool:
        """Once begun it goes on: a warmer room needs less time, which is no reason to let it cool again."""
        if self._early_until_s is not None and local_s >= self._early_until_s:
            self._early_until_s = None
        if self._early_until_s is None and rise_in_s > lead_s:
            return False
        # Anew each time: the clock may be put back.
        self._early_until_s = local_s + rise_in_s
        return True

    def _away(self, now_s: float, present: bool | None) -> bool:
        if present is not False:
            self._absent_since_s = None
            return False
        if self._absent_since_s is None:
            self._absent_since_s = now_s
        return now_s - self._absent_since_s >= self.plan.away_after_s

    def _wished(self, away: bool, week_s: float) -> tuple[float, Reason]:
        plan = self.plan
        match self.wish:
            case Wish.OFF:
                return plan.frost_c, Reason.OFF
            case Wish.BOOST:
                return plan.boost_c, Reason.BOOST
            case Wish.MANUAL:
                return self.chosen.manual_c, Reason.MANUAL
            case Wish.COMFORT:
                return plan.plain_c, Reason.COMFORT
            case Wish.ECO:
                return plan.eco_c, Reason.ECO
            case Wish.AWAY:
                return plan.away_c, Reason.AWAY
            case Wish.AUTO:
                planned_c, reason = plan.plain_c, Reason.PLAIN
                if plan.schedule:
                    planned_c, reason = plan.schedule.current(week_s).setpoint_c, Reason.SCHEDULE
                # Absence lowers the setpoint, and never raises it.
                return (plan.away_c, Reason.AWAY) if away and plan.away_c < planned_c else (planned_c, reason)

    def _rise(self, setpoint_c: float, reason: Reason, week_s: float) -> tuple[float | None, float | None]:
        if reason is not Reason.SCHEDULE:
            return None, None
        in_s, change = self.plan.schedule.upcoming(week_s)
        return (in_s, change.setpoint_c) if change.setpoint_c > setpoint_c else (None, None)
