"""Who is served first: who would be coldest; and who waited long enough, so that nobody starves."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .appetite import FOREVER_US

# A kelvin below its setpoint is worth so much of a room's, in percent: people feel rooms, a pool keeps its warmth.
COMFORT_PERCENT = {"room": 100, "loop": 50, "tank": 30, "pool": 10, "none": 0}
# Most discomfort to come that counts, so that a claim of more gains nothing.
DISCOMFORT_MAX_MKH = 10_000
# Who waits so long is as urgent as a room with a kelvin-hour to come.
AGEING_US_PER_KH = 300 * 1_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """A node that wants work, as a victim sees it.

    thief: its name; orders equals.  urgency_mkh: see `urgency_mkh`.  appetite_us: CPU time that it can burn within
    the horizon, its own microseconds.  slots: tasks that it could start now.  longest_us: see `longest_task_us`.
    speed_permille: see `in_units_of`.  price_micro: what an hour of its CPU costs, in millionths of the mesh's
    currency, because nobody wants its heat; 0 where somebody does, or where it is given for nothing.
    has: the jobs whose shared blobs it has.  keeps: those whose tasks' inputs it has as well, being a replica.
    rtt_us: to it and back, 0 if unknown; orders equals.  places: tasks that it runs at once, with those that run now;
    0: as many as slots.  busy_us: CPU time of all that it runs and has queued already, as it says.
    """

    thief: bytes
    urgency_mkh: int
    appetite_us: int
    slots: int
    longest_us: int = FOREVER_US
    speed_permille: int = 1000
    price_micro: int = 0
    has: frozenset[bytes] = frozenset()
    rtt_us: int = 0
    keeps: frozenset[bytes] = frozenset()
    places: int = 0
    busy_us: int = 0


def discomfort_mkh(discomfort_kh: float, sink: str) -> int:
    """Thousandths of a room's kelvin-hour, of what a sink will be too cold within the horizon if it gets no work."""
    if not math.isfinite(discomfort_kh):
        return 0
    worth = COMFORT_PERCENT.get(sink, 100)
    return _within(round(discomfort_kh * 10 * worth))


def urgency_mkh(discomfort_to_come_mkh: int, waited_us: int) -> int:
    """Discomfort to come and time waited in one number.

    waited_us: since others were served first while this one asked; 0 while there is nothing for anybody. Ageing counts
    for as much as discomfort can, so a fast node in a warm place waits at most 50 minutes for those that come later,
    however cold they say they are.
    """
    aged = max(0, waited_us) * 1000 // AGEING_US_PER_KH
    return _within(discomfort_to_come_mkh) + _within(aged)


def by_urgency(asks: Iterable[Ask]) -> list[Ask]:
    """The most urgent first, of equals the nearest."""
    return sorted(asks, key=lambda ask: (-ask.urgency_mkh, ask.rtt_us, ask.thief))


def _within(mkh: int) -> int:
    return max(0, min(DISCOMFORT_MAX_MKH, mkh))
