"""Which temperature holds now, of all that have a say: the schedule, who is at home, a hand on the dial, a window."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .schedule import WeekSchedule


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


class SetpointChooser:
    """Remembers the last wish and since when nobody is at home. Times are seconds of a clock that never goes back."""

    def __init__(self, plan: SetpointPlan) -> None:
        self.plan = plan
        self.wish = Wish.AUTO
        self._manual_c = plan.plain_c
        self._until_s: float | None = None
        self._absent_since_s: float | None = None
        self._early_until_s: float | None = None

    def choose(self, wish: Wish, now_s: float, *, setpoint_c: float | None = None, week_s: float = 0.0) -> None:
        """Follow a wish. MANUAL takes setpoint_c, bounded by the plan, and holds until the schedule's next change.

        Raises ValueError for MANUAL without a finite temperature.
        """
        self._until_s = self._early_until_s = None
        if wish is Wish.MANUAL:
            if setpoint_c is None or not -1e3 < setpoint_c < 1e3:
                raise ValueError(f"not a temperature: {setpoint_c}")
            self._manual_c = min(self.plan.high_c, max(self.plan.low_c, setpoint_c))
            if self.plan.schedule:
                self._until_s = now_s + self.plan.schedule.upcoming(week_s)[0]
        elif wish is Wish.BOOST:
            self._until_s = now_s + self.plan.boost_s
        self.wish = wish

    def target(
        self,
        now_s: float,
        week_s: float,
        *,
        present: bool | None = None,
        window_open: bool = False,
        lead_s: float = 0.0,
    ) -> Target:
        """The setpoint now. present: None where nothing tells.  lead_s: warming up begins so long before a rise."""
        if self._until_s is not None and now_s >= self._until_s:
            self.wish, self._until_s = Wish.AUTO, None
        away = self._away(now_s, present)
        setpoint_c, reason = self._wished(away, week_s)
        rise_in_s, rise_to_c = self._rise(setpoint_c, reason, week_s)
        if window_open and reason is not Reason.OFF:
            setpoint_c, reason = self.plan.frost_c, Reason.WINDOW
        elif rise_in_s is not None and rise_to_c is not None and self._early(now_s, rise_in_s, lead_s):
            setpoint_c, reason = rise_to_c, Reason.EARLY
        return Target(max(self.plan.frost_c, setpoint_c), reason, rise_in_s, rise_to_c)

    def _early(self, now_s: float, rise_in_s: float, lead_s: float) -> bool:
        """Once begun it goes on: a warmer room needs less time, which is no reason to let it cool again."""
        if rise_in_s <= lead_s and self._early_until_s is None:
            self._early_until_s = now_s + rise_in_s
        if self._early_until_s is not None and now_s >= self._early_until_s:
            self._early_until_s = None
        return self._early_until_s is not None

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
                return self._manual_c, Reason.MANUAL
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
