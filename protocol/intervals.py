"""Maps and sets over intervals of task numbers: a million untouched tasks are one entry.

Intervals are half-open, [lo, hi). Values are compared with `==` and merged where equal and adjacent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class IntervalMap(Generic[V]):
    """A piecewise constant function on [0, infinity); absent means no value.

    Kept as parallel sorted lists; a change costs O(log n + touched) and a list move.
    """

    __slots__ = ("_his", "_los", "_values")

    def __init__(self) -> None:
        self._los: list[int] = []
        self._his: list[int] = []
        self._values: list[V] = []

    def __len__(self) -> int:
        return len(self._los)

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        return zip(list(self._los), list(self._his), list(self._values), strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalMap):
            return NotImplemented
        return (self._los, self._his, self._values) == (other._los, other._his, other._values)

    __hash__ = None  # type: ignore[assignment]

    def get(self, index: int) -> V | None:
        at = bisect_right(self._los, index) - 1
        if at >= 0 and index < self._his[at]:
            return self._values[at]
        return None

    def count(self, lo: int, hi: int) -> int:
        """Number of pieces with a value in [lo, hi), without a walk over them."""
        return max(0, bisect_left(self._los, hi) - bisect_right(self._his, lo))

    def pieces(self, lo: int, hi: int) -> list[tuple[int, int, V | None]]:
        """[lo, hi) cut where the value changes, gaps included as None, in order."""
        found: list[tuple[int, int, V | None]] = []
        at = max(0, bisect_right(self._los, lo) - 1)
        cursor = lo
        while cursor < hi and at < len(self._los):
            piece_lo, piece_hi = self._los[at], self._his[at]
            if piece_hi <= cursor:
                at += 1
                continue
            if piece_lo >= hi:
                break
            if piece_lo > cursor:
                found.append((cursor, piece_lo, None))
                cursor = piece_lo
            end = min(piece_hi, hi)
            found.append((cursor, end, self._values[at]))
            cursor = end
            at += 1
        if cursor < hi:
            found.append((cursor, hi, None))
        return found

    def update(self, lo: int, hi: int, choose: Callable[[V | None], V | None]) -> bool:
        """Replace each value in [lo, hi) by choose(value); None removes. True if anything changed."""
        if lo >= hi:
            return False
        before = self.pieces(lo, hi)
        after = [(a, b, choose(value)) for a, b, value in before]
        if after == before:
            return False
        self._splice(lo, hi, after)
        return True

    def assign(self, lo: int, hi: int, value: V) -> bool:
        return self.update(lo, hi, lambda _old: value)

    def remove(self, lo: int, hi: int) -> bool:
        return self.update(lo, hi, lambda _old: None)

    def _splice(self, lo: int, hi: int, pieces: list[tuple[int, int, V | None]]) -> None:
        """Put `pieces`, which cover [lo, hi) exactly, in place of what is there."""
        start = bisect_right(self._his, lo)
        stop = bisect_left(self._los, hi)
        merged: list[tuple[int, int, V]] = []

        def add(a: int, b: int, value: V | None) -> None:
            if value is None or a >= b:
                return
            if merged and merged[-1][1] == a and merged[-1][2] == value:
                merged[-1] = (merged[-1][0], b, value)
            else:
                merged.append((a, b, value))

        # Neighbours that touch the range may merge with it.
        if start > 0 and self._his[start - 1] == lo:
            start -= 1
        if stop < len(self._los) and self._los[stop] == hi:
            stop += 1
        if start < stop:
            add(self._los[start], min(self._his[start], lo), self._values[start])
        for a, b, value in pieces:
            add(a, b, value)
        if start < stop:
            add(max(self._los[stop - 1], hi), self._his[stop - 1], self._values[stop - 1])
        self._los[start:stop] = [a for a, _, _ in merged]
        self._his[start:stop] = [b for _, b, _ in merged]
        self._values[start:stop] = [value for _, _, value in merged]


class IntervalSet:
    """A set of task numbers as disjoint, sorted, non-adjacent intervals."""

    __slots__ = ("_his", "_los", "total")

    def __init__(self, *intervals: tuple[int, int]) -> None:
        self._los: list[int] = []
        self._his: list[int] = []
        self.total = 0
        for lo, hi in intervals:
            self.add(lo, hi)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(list(self._los), list(self._his), strict=True)

    def __len__(self) -> int:
        """Number of intervals; `total` is the number of tasks."""
        return len(self._los)

    def __bool__(self) -> bool:
        return bool(self._los)

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._los, index) - 1
        return at >= 0 and index < self._his[at]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return (self._los, self._his) == (other._los, other._his)

    __hash__ = None  # type: ignore[assignment]

    def copy(self) -> IntervalSet:
        twin = IntervalSet()
        twin._los, twin._his, twin.total = list(self._los), list(self._his), self.total
        return twin

    def count(self, lo: int, hi: int) -> int:
        """Number of intervals in [lo, hi), without a walk over them."""
        return max(0, bisect_left(self._los, hi) - bisect_right(self._his, lo))

    def covers(self, lo: int, hi: int) -> bool:
        """Whether all of [lo, hi) is in the set, without a walk over it."""
        at = bisect_right(self._los, lo) - 1
        return lo >= hi or (at >= 0 and hi <= self._his[at])

    def overlap(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The parts of [lo, hi) that are in the set."""
        found = []
        at = bisect_right(self._his, lo)
        while at < len(self._los) and self._los[at] < hi:
            found.append((max(lo, self._los[at]), min(hi, self._his[at])))
            at += 1
        return found

    def gaps(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The parts of [lo, hi) that are not in the set."""
        found = []
        cursor = lo
        for a, b in self.overlap(lo, hi):
            if a > cursor:
                found.append((cursor, a))
            cursor = b
        if cursor < hi:
            found.append((cursor, hi))
        return found

    def add(self, lo: int, hi: int) -> int:
        """Number of tasks that were new."""
        if lo >= hi:
            return 0
        start = bisect_left(self._his, lo)
        stop = bisect_right(self._los, hi)
        covered = sum(b - a for a, b in self.overlap(lo, hi))
        if start < stop:
            lo, hi = min(lo, self._los[start]), max(hi, self._his[stop - 1])
        before = sum(b - a for a, b in zip(self._los[start:stop], self._his[start:stop], strict=True))
        self._los[start:stop] = [lo]
        self._his[start:stop] = [hi]
        added = hi - lo - before
        assert added >= 0 and covered >= 0
        self.total += added
        return added

    def discard(self, lo: int, hi: int) -> int:
        """Number of tasks that were taken out."""
        if lo >= hi:
            return 0
        start = bisect_right(self._his, lo)
        stop = bisect_left(self._los, hi)
        if start >= stop:
            return 0
        taken = sum(b - a for a, b in self.overlap(lo, hi))
        keep = []
        if self._los[start] < lo:
            keep.append((self._los[start], lo))
        if self._his[stop - 1] > hi:
            keep.append((hi, self._his[stop - 1]))
        self._los[start:stop] = [a for a, _ in keep]
        self._his[start:stop] = [b for _, b in keep]
        self.total -= taken
        return taken
