"""Later copies' results of a job: which of them count.

One counts if the submitter asked for it and a replica granted it to its worker, as far as whoever looks knows of
either; both may be heard of later than of the result. So which count follows from the records alone, in whatever order
they came, and replicas that know the same agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..intervals import IntervalMap, IntervalSet

# Of one number, those who are remembered to have run it.
RUNNERS_MAX = 8
Parts = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Rerun:
    """A batch of a later copy. first: number of the copy of its first task.  granter: who signed its grant."""

    batch_id: bytes
    worker: bytes
    first: int
    count: int
    granter: bytes


class Reruns:
    """All that are known of one job, by numbers of copies.

    asked: those that the submitter wants, or wanted.  run: those with a result that was granted.  done: both, so they
    count.  runners: by number, who ran it and was granted it, in the order in which that became known.
    results: how many there are of those in `run`.
    """

    def __init__(self) -> None:
        self.batches: dict[bytes, Rerun] = {}
        self.asked = IntervalSet()
        self._granters: dict[bytes, bool] = {}
        self._clear()

    def _clear(self) -> None:
        self.run, self.done, self.results = IntervalSet(), IntervalSet(), 0
        self.runners: IntervalMap[tuple[bytes, ...]] = IntervalMap()

    def ask(self, lo: int, hi: int) -> Parts:
        """The submitter wants these numbers. Returns the parts that count now."""
        self.asked.add(lo, hi)
        return self._settle(lo, hi)

    def add(self, rerun: Rerun, *, good: bool) -> Parts:
        """good: whether its granter may grant, as far as is known now. Returns the parts that count now."""
        self.batches[rerun.batch_id] = rerun
        self._granters[rerun.granter] = good
        return self._take(rerun) if good else []

    def _take(self, rerun: Rerun) -> Parts:
        lo, hi = rerun.first, rerun.first + rerun.count
        self.run.add(lo, hi)
        self.runners.update(lo, hi, lambda known: (*(known or ()), rerun.worker)[:RUNNERS_MAX])
        self.results += rerun.count
        return self._settle(lo, hi)

    def _settle(self, lo: int, hi: int) -> Parts:
        parts = [part for a, b in self.asked.overlap(lo, hi) for part in self.run.overlap(a, b)]
        for a, b in parts:
            self.done.add(a, b)
        return parts

    def review(self, may_grant: Callable[[bytes], bool]) -> bool:
        """Another replica set is known. True if others count than before."""
        granters = {granter: may_grant(granter) for granter in self._granters}
        changed = granters != self._granters
        if changed:
            self._granters = granters
            self._recount()
        return changed

    def forget(self, batch_id: bytes) -> None:
        if self.batches.pop(batch_id, None) is not None:
            self._recount()

    def _recount(self) -> None:
        self._clear()
        for rerun in self.batches.values():
            if self._granters[rerun.granter]:
                self._take(rerun)
