"""What a node of the mesh may know of others: its cell's digests a moment ago, and hints of other cells, later.

Within a cell tables are exchanged each second, so a digest is a step old here. Of each other cell a node hears, through
its contacts, sums and the few jobs with the most free work: a step later for each level that lies between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nsmallest

from ....protocol.stealing.matching import Standing
from ...simulator.dice import Stream

# As in the protocol: nodes of a cell, jobs that a cell's digest tells others of, tries a free task.
CELL_NODES = 128
FAR_JOBS = 4
TRIES_A_TASK = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """A digest row: so many free tasks of a job at a node, as of a step ago or more.

    queued: what a worker took and has not started; else a replica's.
    """

    node: int
    job: int
    free: int
    seconds: float
    queued: bool = False


@dataclass
class Knowledge:
    """cell_of: of each node.  levels: of contacts between cells.  near, far: what is known in each cell of its own
    nodes, and of others."""

    cell_of: list[int]
    cells: int
    levels: int
    near: list[list[Offer]] = field(init=False)
    far: list[list[Offer]] = field(init=False)
    _far: deque[list[list[Offer]]] = field(init=False)

    def __post_init__(self) -> None:
        self.near = [[] for _ in range(self.cells)]
        self.far = [[] for _ in range(self.cells)]
        # By the step they are told in; the oldest first.
        self._far = deque(([[] for _ in range(self.cells)] for _ in range(max(1, self.levels))), max(1, self.levels))

    @classmethod
    def of_mesh(cls, nodes: int, dice: Stream) -> Knowledge:
        """Cells by places, and places are hashes: any nodes may be neighbours."""
        levels = 0
        while nodes >> levels > CELL_NODES + CELL_NODES // 2:
            levels += 1
        cells = 1 << levels
        order = dice.some(range(nodes), nodes)
        cell_of = [0] * nodes
        for position, node in enumerate(order):
            cell_of[node] = position * cells // nodes
        return cls(cell_of, cells, levels)

    def tell(self, offers: list[Offer], standing: Callable[[int], Standing]) -> None:
        """What all offer now; it is known from the next step on. standing: of a job; what goes first is told first."""
        near: list[list[Offer]] = [[] for _ in range(self.cells)]
        for offer in offers:
            near[self.cell_of[offer.node]].append(offer)
        self.near = near

        def rank(offer: Offer) -> tuple[Standing, float, int]:
            return (standing(offer.job), -offer.free * offer.seconds, offer.node)

        self._far.append([nsmallest(FAR_JOBS, each, key=rank) for each in near])
        self.far = [self._heard_in(cell) for cell in range(self.cells)]

    def _heard_in(self, cell: int) -> list[Offer]:
        """Hints of other cells. Cells that share more of the first bits are heard of sooner."""
        found: list[Offer] = []
        for other in range(self.cells):
            if other != cell:
                # The sibling prefix in which it lies: 1 for the nearest.
                late = min((cell ^ other).bit_length(), len(self._far))
                found.extend(self._far[-late][other])
        return found
