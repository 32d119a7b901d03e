"""One dispatcher that sees every temperature, every slot and every task, now: greedy, and never late by a message.

Each step: tasks in warm rooms that can be saved are taken back; then the slots that heat is wanted from get work, the
coldest first. Work is ordered by deadline and priority; of equals steady sinks get the longest tasks and others the
shortest. What would miss its deadline may use the data centre. It looks no further ahead than that.
"""

from __future__ import annotations

import numpy as np

from ..scene import Scene
from ..town import Floats, Ints
from .backlog import Backlog

# A job is late if its mean task, at so many times its length, would end after its deadline.
LATE_STRETCH = 2.0
# Work that is due comes first by so wide classes of time left.
_CLASS_S = 6 * 3600.0


class Central:
    def __init__(self, scene: Scene, seed: int) -> None:
        work = scene.work
        self._backlog = Backlog(work)
        self._deadline_s = work.of("deadline_s")
        self._length_s = work.of("length_s")
        self._priority = work.of("priority")
        self._steady = scene.town.year_round

    def arrive(self, tasks: Ints, job: int) -> None:
        self._backlog.add(tasks, job)

    def act(self, scene: Scene) -> None:
        self._recall(scene)
        self._fill(scene)
        self._rescue(scene)
        scene.follow_thermostats()

    def _recall(self, scene: Scene) -> None:
        """From where nothing is wanted, if there is a slot elsewhere that wants it."""
        floor = scene.floor
        wanting = int(np.maximum(0, scene.wanted_slots - floor.running).sum())
        if not wanting:
            return
        warm = (scene.wanted_w <= 0) & scene.town.wants_heat & (floor.running > 0)
        if not warm.any():
            return
        busy = floor.busy()
        slots = busy[warm[floor.owner[busy]]]
        slots = slots[floor.can_checkpoint(floor.task[slots])][:wanting]
        if len(slots):
            self._backlog.give_back(floor.checkpoint(slots))

    def _fill(self, scene: Scene) -> None:
        floor = scene.floor
        wanted = np.clip(scene.wanted_slots - floor.running, 0, floor.free)
        count = int(wanted.sum())
        if not count or not self._backlog.count.any():
            return
        coldness: Floats = scene.target_c - scene.temperature_c
        places = np.repeat(np.arange(len(scene.town)), wanted)
        places = places[np.argsort(-coldness[places], kind="stable")]
        steady = self._steady[places]
        longest, shortest = places[steady], places[~steady]
        for nodes, sign in ((shortest, 1.0), (longest, -1.0)):
            tasks = self._backlog.take(self._order(scene.now_s, sign), len(nodes))
            floor.start(nodes[: len(tasks)], tasks)

    def _order(self, now_s: float, sign: float) -> list[int]:
        jobs = self._backlog.open_jobs
        left_s = np.minimum(self._deadline_s[jobs] - now_s, 1e9)
        keys = (sign * self._length_s[jobs], -self._priority[jobs], np.floor(left_s / _CLASS_S))
        order: list[int] = jobs[np.lexsort(keys)].tolist()
        return order

    def _rescue(self, scene: Scene) -> None:
        """What would be late, onto slots whose heat nobody wants."""
        floor = scene.floor
        jobs = self._backlog.open_jobs
        late = jobs[self._deadline_s[jobs] - scene.now_s < LATE_STRETCH * self._length_s[jobs]]
        free = np.where(scene.town.wants_heat, 0, floor.free)
        if not len(late) or not free.any():
            return
        tasks = self._backlog.take(late[np.argsort(self._deadline_s[late])].tolist(), int(free.sum()))
        floor.start(np.repeat(np.arange(len(scene.town)), free)[: len(tasks)], tasks)
