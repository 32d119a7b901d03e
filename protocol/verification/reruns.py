"""Later copies' results of a job: which of them count.

One counts if the submitter asked for it of anybody but a few nodes that include not its worker, and a replica granted
it to that one, as far as whoever looks knows of either; both may be heard of later than of the result. So which count
follows from the records alone, in whatever order they came, and replicas that know the same agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ..intervals import IntervalMap, IntervalSet
from ..records import AVOID_MAX

# Of one number, those who are remembered to have run it: one more than a request excludes, so that one of them counts.
RUNNERS_MAX = AVOID_MAX + 1
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

    run: those with a result that was granted.  done: those of them that the submitter wants, or wanted, from a node
    that has run it.  runners: by number, who ran it and was granted it, in the order in which that became known.
    results: how many there are of those in `run`.
    """

    def __init__(self) -> None:
        self.batches: dict[bytes, Rerun] = {}
        # What the submitter asked for, and who may not run it: those whom each request for it excludes.
        self._asked: IntervalMap[frozenset[bytes]] = IntervalMap()
        self._granters: dict[bytes, bool] = {}
        self._clear()

    def _clear(self) -> None:
        self.run, self.done, self.results = IntervalSet(), IntervalSet(), 0
        self.runners: IntervalMap[tuple[bytes, ...]] = IntervalMap()

    def ask(self, lo: int, hi: int, avoid: Iterable[bytes]) -> Parts:
        """The submitter wants these numbers, but from none of those. Returns the parts that count now."""
        barred = frozenset(avoid)
        self._asked.update(lo, hi, lambda known: barred if known is None else known & barred)
        return self._settle(lo, hi)

    def asked_of(self, node: bytes, lo: int, hi: int) -> Parts:
        """The parts of [lo, hi) of which the submitter wants, or wanted, a result that may be this node's."""
        pieces = self._asked.pieces(lo, hi)
        return [(a, b) for a, b, barred in pieces if barred is not None and node not in barred]

    def add(self, rerun: Rerun, *, good: bool) -> Parts:
        """good: whether its granter may grant, as far as is known now. Returns the parts that count now."""
        self.batches[rerun.batch_id] = rerun
        self._granters[rerun.granter] = good
        return self._take(rerun) if good else []

    def _take(self, rerun: Rerun) -> Parts:
        lo, hi = rerun.first, rerun.first + rerun.count
        self.run.add(lo, hi)
        self.runners.update(lo, hi, partial(_with_runner, rerun.worker))
        self.results += rerun.count
        return self._settle(lo, hi)

    def _settle(self, lo: int, hi: int) -> Parts:
        parts: Parts = []
        for a, b, barred in self._asked.pieces(lo, hi):
            if barred is not None:
                ran = self.runners.pieces(a, b)
                parts.extend((c, d) for c, d, nodes in ran if nodes and any(node not in barred for node in nodes))
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


def _with_runner(node: bytes, known: tuple[bytes, ...] | None) -> tuple[bytes, ...]:
    if known is None:
        return (node,)
    return known if node in known or len(known) >= RUNNERS_MAX else (*known, node)
