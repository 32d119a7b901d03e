"""Which of a batch's results are checked where chance decides, and how much that was to be of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..intervals import IntervalSet

# Tasks of a batch that one stretch stands for: as many as an honest batch has at most (`batch_tasks_max`). A worker may
# sign longer ones, in which one stretch would miss more.
SECTION_TASKS = 1024

Ranges = tuple[tuple[int, int], ...]


def sample_length(count: int, share: float, chance: float) -> int:
    """How many tasks of a batch are checked: share * count, rounded up or down by chance so that it is that on average.

    So a batch of 1/share tasks or more is never left out, and what checking costs is no matter of luck. All are in one
    stretch: each is a request, a grant and a batch of its own, some 10 ms of processor over the mesh.
    """
    wanted = share * count
    whole = int(wanted)
    return min(count, whole + (chance < wanted - whole))


def stretch(count: int, length: int, place: float) -> Ranges:
    """Offsets [lo, hi) in a batch of `count` tasks. It is a ring, so that its ends are checked as often as its middle.

    place: uniform in [0, 1).
    """
    if not length:
        return ()
    start = int(place * count)
    end = start + length
    if end <= count:
        return ((start, end),)
    return (0, end - count), (start, count)


@dataclass(slots=True)
class Sampled:
    """What was left to chance in a job. expected: how many results the policy would have checked on average.
    variance: of that number.  checked: how many it came to."""

    tasks: int = 0
    expected: float = 0.0
    variance: float = 0.0
    checked: int = 0

    def draw(self, count: int, share: float, uniform: Callable[[], float]) -> Ranges:
        """Offsets of a batch that are checked, each with the probability `share`.

        count: its tasks, > 0.  uniform: draws from [0, 1), after the worker signed.
        """
        sections = -(-count // SECTION_TASKS)
        found: Ranges = ()
        for number in range(sections):
            first, last = number * count // sections, (number + 1) * count // sections
            found += tuple((first + lo, first + hi) for lo, hi in self._draw_section(last - first, share, uniform))
        return found

    def _draw_section(self, count: int, share: float, uniform: Callable[[], float]) -> Ranges:
        length, part = sample_length(count, share, uniform()), share * count % 1
        self.tasks += count
        self.expected += share * count
        self.variance += part * (1 - part)
        self.checked += length
        return stretch(count, length, uniform())


def pick(tasks: IntervalSet, lo: int, hi: int) -> list[tuple[int, int]]:
    """The lo-th to the hi-th task of a set, as ranges."""
    found, at = [], 0
    for a, b in tasks:
        first, last = max(a, a + lo - at), min(b, a + hi - at)
        if first < last:
            found.append((first, last))
        at += b - a
    return found
