"""A sink that is full hands on what it holds: to whom, and what is worth the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .appetite import FOREVER_US, is_lively
from .matching import Fit, Work, bytes_to_come, fit, transfer_us
from .urgency import Ask

# Moving what runs has to gain at least so much time.
GAIN_US = 1_000_000
# A sink that leaves its tasks less of their cores than this keeps only those that cannot be moved.
SLOW_DUTY = 0.3


@dataclass(frozen=True, slots=True)
class Heir:
    """A peer that could take over. ask: as if it had asked.  room_us: CPU time that it has room for in its queue.
    rtt_us: to it and back."""

    ask: Ask
    room_us: int
    rtt_us: int = 0


def heirs_for(work: Work, heirs: Iterable[Heir], size_bytes: int = 0) -> list[Heir]:
    """Who can take tasks of a job, the coldest first; the way of its blobs counts as time that the sink stays cold.
    Of those that are as cold, who can end it comes before who can only save it again, then who is nearest. What may
    miss its deadline goes to who can end it, if there is one, however cold others are.

    size_bytes: of what comes along to all, a checkpoint.
    """
    found = [heir for heir in heirs if heir.room_us > 0 and fit(work, heir.ask).good]

    def rank(heir: Heir) -> tuple[bool, int, bool, int, bytes]:
        way_us = heir.rtt_us + transfer_us(size_bytes + bytes_to_come(work, heir.ask))
        # A second on the way weighs like 1 mK·h less to come; a room a kelvin too cold has 250 of them in 15 minutes.
        cold = way_us // 1_000_000 - heir.ask.urgency_mkh
        saves = fit(work, heir.ask) is not Fit.FINISHES
        return (saves and work.at_risk, cold, saves, way_us, heir.ask.thief)

    return sorted(found, key=rank)


def worth_moving(left_us: int, duty: float, size_bytes: int, lost_us: int = 0) -> bool:
    """Whether a task that runs ends sooner elsewhere than here, at the duty that a full sink leaves it.

    left_us: CPU time that it still needs.  size_bytes: of its checkpoint, and of what else has to come there.
    lost_us: CPU time since its last checkpoint, to be done again there.
    """
    here_us = left_us / duty if duty > 0 else float(FOREVER_US)
    there_us = left_us + lost_us + transfer_us(size_bytes)
    return here_us - there_us >= GAIN_US


def is_late(left_us: int, duty: float, time_us: int) -> bool:
    """Whether a task that runs misses its deadline, in time_us, at the duty that it has here; not if that is over."""
    return 0 < time_us and left_us > duty * time_us


def lively(heirs: Iterable[Heir], left_us: int) -> list[Heir]:
    """Of those that could take over, where a task goes on well, see `is_lively`.

    For tasks that a sink is too slow for, though it is not full: else they would go from one slow sink to the next.
    """
    return [heir for heir in heirs if is_lively(heir.ask.appetite_us, left_us)]
