"""Sums over the rows of a table, kept while rows come and go, so that comparing two tables costs no look at each row.

A row counts in the part of the key space that its key is in, and at its level: how many first bits its author's place
shares with this node's. The rows of a cell of this node's are those of its depth's level and above.
"""

from __future__ import annotations

# Parts of the key space that are kept; fewer are sums of those.
PARTS = 64
# Depths whose sums are kept: this node's cell, the one that it is about to have, and those of neighbours.
DEPTHS_KEPT = 3
STAMP_BITS = 64
_MASK = (1 << STAMP_BITS) - 1


def bucket_of(wire: bytes, buckets: int) -> int:
    """Which part of the keys a key is in. buckets: a power of two, <= 256."""
    return wire[0] * buckets >> 8


class Fingerprints:
    """See the module. Bounded by the number of levels, at most `PLACE_BITS` + 1."""

    def __init__(self) -> None:
        self._by_level: dict[int, list[int]] = {}
        self._by_depth: dict[int, list[int]] = {}

    def add(self, wire: bytes, stamp: int, level: int) -> None:
        at = wire[0] * PARTS >> 8
        sums = self._by_level.get(level)
        if sums is None:
            sums = self._by_level[level] = [0] * PARTS
        sums[at] = (sums[at] + stamp) & _MASK
        for depth, sums in self._by_depth.items():
            if level >= depth:
                sums[at] = (sums[at] + stamp) & _MASK

    def remove(self, wire: bytes, stamp: int, level: int) -> None:
        """What was added."""
        self.add(wire, -stamp, level)

    def sums(self, depth: int, buckets: int) -> list[int]:
        """Of the rows at that level and above, in equal parts of the keys. buckets: a power of two, <= `PARTS`."""
        sums = self._by_depth.get(depth)
        if sums is None:
            levels = [each for level, each in self._by_level.items() if level >= depth]
            sums = [sum(parts) & _MASK for parts in zip(*levels, strict=True)] if levels else [0] * PARTS
            while len(self._by_depth) >= DEPTHS_KEPT:
                del self._by_depth[next(iter(self._by_depth))]
            self._by_depth[depth] = sums
        if buckets == PARTS:
            return sums.copy()
        width = PARTS // buckets
        return [sum(sums[at : at + width]) & _MASK for at in range(0, PARTS, width)]
