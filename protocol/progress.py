"""How fast those who hold tasks of a job get on, and what part of the rest each may have so that all end together.

A replica counts what each holder delivers, by its own clock. A room that is nearly warm runs its tasks at a fraction of
a core, a boiler rack several at once: what a task takes there is how often one is delivered, not the CPU time that it
costs. Soft state: after a restart everybody is taken for average.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Holders remembered; of whom was heard longest ago is forgotten first.
HOLDERS_MAX = 1024
# Nobody counts for more slots at once: results that are worth nothing come as fast as one likes.
SLOTS_COUNTED_MAX = 256
# Speeds are tasks in so many microseconds.
SPEED_US = 1_000_000_000_000


@dataclass(slots=True)
class _Holder:
    """heard_us: when it last delivered, or came to hold something.  tasks, took_us: what it delivered in which time,
    of which half is forgotten with each delivery."""

    heard_us: int
    tasks: int = 0
    took_us: int = 0


class Progress:
    """Of one kept job at one replica."""

    def __init__(self) -> None:
        self._holders: dict[bytes, _Holder] = {}

    def began(self, holder: bytes, now_us: int, *, had: bool) -> None:
        """It was given tasks. had: it held others already."""
        known = self._holders.pop(holder, None)
        if known is None:
            while len(self._holders) >= HOLDERS_MAX:
                del self._holders[next(iter(self._holders))]
            known = _Holder(now_us)
        elif not had:
            known.heard_us = now_us
        self._holders[holder] = known

    def delivered(self, holder: bytes, tasks: int, now_us: int) -> None:
        """tasks: those of which nobody had delivered a result before.

        What comes at the moment in which the grant was heard of, as where one catches up, tells nothing of speed.
        """
        known = self._holders.pop(holder, None)
        if known is None:
            return
        self._holders[holder] = known
        took_us = now_us - known.heard_us
        if tasks > 0 and took_us > 0:
            known.tasks = known.tasks // 2 + tasks
            known.took_us = known.took_us // 2 + took_us
            known.heard_us = now_us

    def task_us(self, holder: bytes, usual_us: int) -> int:
        """From one of its tasks to the next: microseconds, at least 1. usual_us: of one that delivered nothing yet."""
        known = self._holders.get(holder)
        if known is None or not known.tasks:
            return max(1, usual_us)
        return max(1, usual_us // SLOTS_COUNTED_MAX, known.took_us // known.tasks)

    def fair_share(
        self, thief: bytes, slots: int, free: int, held: Mapping[bytes, int], task_us: int, now_us: int
    ) -> int:
        """Tasks that bring the thief to its part of all that is left to do, so that all who hold some end together.

        Who asks first near the end would else be busy after the others have nothing left. What a holder should have
        done since it was last heard of counts as done.

        slots: of the thief.  free: tasks that nobody has.  held: tasks by holder.  task_us: CPU time of a task, 0 if
        unknown: then nothing is taken for done.
        """
        left: dict[bytes, int] = {}
        speeds: dict[bytes, int] = {}
        for holder in {**held, thief: 0}:
            usual_us = task_us // max(1, slots) if holder == thief else task_us
            each_us = self.task_us(holder, usual_us)
            speeds[holder] = max(1, SPEED_US // each_us)
            known, left[holder] = self._holders.get(holder), held.get(holder, 0)
            if known is not None and task_us:
                left[holder] = max(0, left[holder] - max(0, now_us - known.heard_us) // each_us)
        part = -(-(free + sum(left.values())) * speeds[thief] // sum(speeds.values()))
        return max(0, part - left[thief])
