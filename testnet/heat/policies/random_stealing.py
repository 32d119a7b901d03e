"""Stealing as it is without heat in it: any victim, half of what it has, whatever it is, first come first served.

The thermostats are the same, and nothing starts in a warm room; but nobody asks how much a sink can burn, who is
coldest, or how long a task is, what is not started waits until somebody takes it, and the data centre joins in.
"""

from __future__ import annotations

from ..scene import Scene
from ..town import Ints
from .mesh import Mesh


class RandomStealing(Mesh):
    def __init__(self, scene: Scene, seed: int) -> None:
        super().__init__(scene, seed, "random")

    def choose(self, node: int) -> int | None:
        found = self.pick(node, 1)
        return found[0].node if found else None

    def deal(self, victim: int, thieves: list[int], wanted: Ints) -> list[tuple[int, int]]:
        given: list[tuple[int, int]] = []
        for thief in thieves:
            free = self.free[victim]
            if free:
                job = next(iter(free))
                half = -(-len(free[job]) // 2)
                given += [(thief, task) for task in self.take_free(victim, job, min(half, self._most(thief)))]
            else:
                given += [(thief, task) for task in self.take_queued(victim, -(-len(self.queue[victim]) // 2))]
        return given

    def _most(self, thief: int) -> int:
        """A grant has its bound in the protocol too; here it is two tasks a slot."""
        return 2 * int(self.scene.town.slots[thief])
