"""Cells: the nodes whose places share so many first bits. Each node picks its own depth, from what it sees.

A node's place is a hash of its id, so that places are spread evenly and nobody chooses a neighbour. A cell at depth 0
is the whole mesh. It splits when too many live in it and merges when too few do; the two bounds lie far apart, so
that it does not swing. Two nodes of neighbouring depths work together on the smaller of their two cells, which lies
within the larger.

Source: prefixes and contacts as in Maymounkov and Mazieres, Kademlia (2002).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from .config import ProtocolConfig

PLACE_BITS = 64
# 2**20 cells of a hundred nodes are more nodes than there are heaters.
DEPTH_MAX = 20
# So many neighbours have to have split before one follows them.
FOLLOW_LEAST = 3


@lru_cache(maxsize=1 << 17)
def place_of(node: bytes) -> int:
    """Where a node stands: 64 bits of a hash of its id."""
    return int.from_bytes(sha256(b"hearthmesh/place" + node).digest()[:8], "big")


def shared_bits(one: int, other: int) -> int:
    """How many first bits two places have in common, up to `PLACE_BITS`."""
    return PLACE_BITS - (one ^ other).bit_length()


class Depths:
    """How deep the cells of linked peers are, as they last said: counted, so that nobody has to go through the peers.

    level: first bits that a peer's place shares with this node's.
    """

    def __init__(self) -> None:
        self._peers: dict[tuple[int, int], int] = {}
        self.deepest = 0

    def __len__(self) -> int:
        return sum(self._peers.values())

    def add(self, level: int, depth: int) -> None:
        self._peers[level, depth] = self._peers.get((level, depth), 0) + 1
        self.deepest = max(self.deepest, depth)

    def remove(self, level: int, depth: int) -> None:
        """What was added once."""
        left = self._peers[level, depth] - 1
        if left:
            self._peers[level, depth] = left
            return
        del self._peers[level, depth]
        if depth == self.deepest:
            self.deepest = max((each for _, each in self._peers), default=0)

    def middle(self) -> int | None:
        """The median, the lower one of two; None if nobody said anything."""
        wanted = (len(self) - 1) // 2
        for depth, peers in sorted((min(DEPTH_MAX, depth), peers) for (_, depth), peers in self._peers.items()):
            if wanted < peers:
                return depth
            wanted -= peers
        return None

    def beyond(self, depth: int) -> tuple[int, int]:
        """Peers on this node's side of a split at that depth; and those of them that have split."""
        here = [(each, peers) for (level, each), peers in self._peers.items() if level > depth]
        return sum(peers for _, peers in here), sum(peers for each, peers in here if each > depth)


class Cell:
    """One node's own cell: its depth, and what moves it."""

    def __init__(self, node: bytes, config: ProtocolConfig) -> None:
        self._config = config
        self.place = place_of(node)
        self.depth = 0
        self._began_us: int | None = None
        self._thin_us: int | None = None
        # Whether it goes by whom it knows; a newcomer goes by what it is told.
        self.settled = False

    def level(self, node: bytes) -> int:
        """First bits that a node's place shares with this one's: the cells of depths up to it hold both."""
        return shared_bits(self.place, place_of(node))

    def holds(self, node: bytes) -> bool:
        return self.depth == 0 or self.level(node) >= self.depth

    def common(self, peer: bytes, depth: int) -> tuple[int, int] | None:
        """The smaller of this cell and a peer's of that depth, as (depth, a place in it).

        None if they do not overlap.
        """
        if self.level(peer) < min(self.depth, depth):
            return None
        return (depth, place_of(peer)) if depth > self.depth else (self.depth, self.place)

    def review(self, nodes: int, half: int, depths: Depths, now_us: int) -> bool:
        """Split, merge or follow; whether the depth changed. At most one step at a time once it has settled.

        nodes: that live in this cell, this one included.  half: those of them that would stay after a split.
        depths: of linked peers.
        """
        config = self._config
        self._began_us = now_us if self._began_us is None else self._began_us
        before = self.depth
        if not self.settled:
            # A newcomer takes the middle of the depths that it is told: a few who lie cannot make it lonely.
            self.settled = nodes >= config.cell_merge or now_us - self._began_us >= config.cell_patience_us
            told = None if self.settled else depths.middle()
            self.depth = self.depth if told is None else told
        crowded = nodes > config.cell_split
        if self.depth == before and self.depth < DEPTH_MAX and (crowded or self._follows(half, depths)):
            self.depth += 1
        self._merge_if_thin(nodes, depths, now_us)
        return self.depth != before

    def _follows(self, half: int, depths: Depths) -> bool:
        """Most neighbours on this side have split, and there are enough to stay so."""
        if depths.deepest <= self.depth:
            return False
        here, deeper = depths.beyond(self.depth)
        return deeper >= FOLLOW_LEAST and 2 * deeper > here and 2 * half >= 3 * self._config.cell_merge

    def _merge_if_thin(self, nodes: int, depths: Depths, now_us: int) -> None:
        if self.depth == 0 or nodes >= self._config.cell_merge or not self.settled:
            self._thin_us = None
            return
        if self._thin_us is None:
            self._thin_us = now_us
        # Next to nobody: the depth was wrong, and patience would not mend it. Nor does it go down step by step then.
        lonely = 4 * nodes < self._config.cell_merge
        patience_us = self._config.cell_patience_us // (4 if lonely else 1)
        if now_us - self._thin_us >= patience_us:
            told = depths.middle() if lonely else None
            self.depth = min(self.depth - 1, DEPTH_MAX if told is None else told)
            self._thin_us = now_us
