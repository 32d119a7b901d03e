"""Thieves that found nothing and wait to be given work; and what came since each was held against all that there was.

A job is news where it may suit a thief that it did not suit before: tasks of it became free, or its tasks turned out
to take another time. A thief that waits is held against news alone, so an event costs what it changed, however many
jobs are free that suit nobody. What changes with time alone (a hoarder's bar, a deadline that comes near) counts when
the thief renews its lifeline.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from .messages import Steal


@dataclass(slots=True)
class ParkedSteal:
    """A lifeline, until it expires. seen: the number of the last news that the thief was held against."""

    steal: Steal
    expires_at_us: int
    seen: int


class Lifelines:
    """Bounded by `held_max` thieves, and by the jobs of whoever tells the news."""

    def __init__(self, held_max: int) -> None:
        self._held_max = held_max
        self._parked: dict[bytes, ParkedSteal] = {}
        # By job, the number of its last news; the latest last.
        self._news: dict[bytes, int] = {}
        self._last = 0
        # Number of the last news that was about all jobs.
        self._last_of_all = 0

    def __len__(self) -> int:
        return len(self._parked)

    # -- thieves -------------------------------------------------------------------------------------------

    def park(self, thief: bytes, steal: Steal, expires_at_us: int) -> bool:
        """Keep the lifeline of a thief that was just held against everything; False if there are too many."""
        if thief not in self._parked and len(self._parked) >= self._held_max:
            return False
        self._parked[thief] = ParkedSteal(steal, expires_at_us, self._last)
        return True

    def drop(self, thief: bytes) -> None:
        self._parked.pop(thief, None)

    def expire(self, now_us: int) -> None:
        for thief in [node for node, parked in self._parked.items() if parked.expires_at_us <= now_us]:
            del self._parked[thief]

    def behind(self, urgency: Callable[[bytes, Steal], int]) -> list[tuple[bytes, ParkedSteal]]:
        """Those that were not held against all news, the most urgent first."""
        behind = [(thief, parked) for thief, parked in self._parked.items() if parked.seen < self._last]
        return sorted(behind, key=lambda each: (-urgency(each[0], each[1].steal), each[0]))

    def catch_up(self, parked: ParkedSteal, jobs: Collection[bytes]) -> list[bytes]:
        """Of these jobs the ones that are news to the thief, which has been held against them then."""
        seen, parked.seen = parked.seen, self._last
        return list(jobs) if seen < self._last_of_all else [job_id for job_id in self._since(seen) if job_id in jobs]

    # -- news ----------------------------------------------------------------------------------------------

    def tell(self, job_id: bytes) -> None:
        self._last += 1
        self._news.pop(job_id, None)
        self._news[job_id] = self._last

    def tell_all(self) -> None:
        """Anything may have changed of any job."""
        self._last += 1
        self._last_of_all = self._last
        self._news.clear()

    def forget(self, job_id: bytes) -> None:
        self._news.pop(job_id, None)

    def _since(self, seen: int) -> Iterator[bytes]:
        for job_id in reversed(self._news):
            if self._news[job_id] <= seen:
                return
            yield job_id
