"""A week of setpoints, written as a person would: "mon-fri 06:30 20.5"."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_S = 86_400
WEEK_S = 7 * DAY_S
ENTRIES_MAX = 64
_GROUPS = {"daily": DAYS, "weekdays": DAYS[:5], "weekend": DAYS[5:]}
_ENTRY = re.compile(r"([a-z,\-]{3,64}) ([01]\d|2[0-3]):([0-5]\d) (-?\d{1,3}(?:\.\d{1,2})?)\Z")


@dataclass(frozen=True, slots=True)
class Change:
    """From at_s seconds after Monday 00:00, local time, the setpoint is setpoint_c."""

    at_s: int
    setpoint_c: float


def parse_changes(text: str) -> tuple[Change, ...]:
    """One entry, "DAYS HH:MM TEMPERATURE". DAYS: "mon", "mon-fri", "sat,sun", "daily", "weekdays", "weekend".

    Raises ValueError with a problem that can stand after "key: ".
    """
    match = _ENTRY.match(text)
    if match is None:
        raise ValueError('expected "DAYS HH:MM TEMPERATURE" like "mon-fri 06:30 20.5"')
    setpoint_c = float(match[4])
    if not -30 <= setpoint_c <= 120:
        raise ValueError("expected a temperature from -30 to 120")
    second = int(match[2]) * 3600 + int(match[3]) * 60
    return tuple(Change(DAYS.index(day) * DAY_S + second, setpoint_c) for day in _days(match[1]))


def _days(text: str) -> Sequence[str]:
    if text in _GROUPS:
        return _GROUPS[text]
    days: dict[str, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"expected days like mon-fri or sat,sun, and {part} is none")
        start = DAYS.index(first)
        count = (DAYS.index(last) - start) % 7 + 1 if dash else 1
        days |= {DAYS[(start + step) % 7]: None for step in range(count)}
    return tuple(days)


class WeekSchedule:
    """What the setpoint is at a second of the week, and when it changes next. A later entry wins at the same time."""

    def __init__(self, entries: Sequence[str]) -> None:
        """Raises ValueError for an entry that cannot be read; at most ENTRIES_MAX of them."""
        if len(entries) > ENTRIES_MAX:
            raise ValueError(f"at most {ENTRIES_MAX} entries are allowed")
        by_time = {change.at_s: change for entry in entries for change in parse_changes(entry)}
        self.changes = tuple(by_time[at_s] for at_s in sorted(by_time))
        self._times = [change.at_s for change in self.changes]

    def __bool__(self) -> bool:
        return bool(self.changes)

    def current(self, week_s: float) -> Change:
        """The change that holds at week_s, 0 … WEEK_S: at the week's start, the last of the week before.

        Raises ValueError if the schedule is empty.
        """
        if not self.changes:
            raise ValueError("the schedule is empty")
        return self.changes[bisect_right(self._times, week_s) - 1]

    def upcoming(self, week_s: float) -> tuple[float, Change]:
        """Seconds until the next change, > 0 and <= WEEK_S, and that change. Raises ValueError if it is empty."""
        if not self.changes:
            raise ValueError("the schedule is empty")
        following = self.changes[bisect_right(self._times, week_s) % len(self.changes)]
        return (following.at_s - week_s) % WEEK_S or float(WEEK_S), following
