"""A published rule: thresholds on the temperature, a dispatcher that looks every 30 s, and work that is killed.

A board burns without work from 1 K below its target until 1 K above. Work of low priority starts below target + 1 K
and is killed above target + 3 K; of high priority: + 4 K and + 10 K. What is killed is lost. All boards work at full
power. The data centre takes work of high priority that finds no other place.
"""

from __future__ import annotations

import numpy as np

from ..scene import Scene
from ..town import WATTS_PER_SLOT, Ints
from .backlog import Backlog

BURN_FROM_K, BURN_UNTIL_K = -1.0, 1.0
START_K = {0: 1.0, 1: 4.0}
KILL_K = {0: 3.0, 1: 10.0}


class Qarnot:
    def __init__(self, scene: Scene, seed: int) -> None:
        work = scene.work
        self._backlog = Backlog(work)
        self._high = work.of("priority") > 0
        self._deadline_s = work.of("deadline_s")
        self._burning = np.zeros(len(scene.town), dtype=bool)

    def arrive(self, tasks: Ints, job: int) -> None:
        self._backlog.add(tasks, job)

    def act(self, scene: Scene) -> None:
        floor, wants = scene.floor, scene.town.wants_heat
        above_k = scene.temperature_c - scene.target_c
        self._kill(scene, above_k)
        for priority in (1, 0):
            allowed = wants & (above_k < START_K[priority])
            self._start(scene, priority, allowed, above_k)
        self._start(scene, 1, ~wants, above_k)
        floor.duty = np.ones(len(scene.town))
        self._burning = wants & np.where(
            above_k < BURN_FROM_K, True, np.where(above_k > BURN_UNTIL_K, False, self._burning)
        )
        scene.burn_w = np.where(self._burning, floor.free * WATTS_PER_SLOT, 0.0)

    def _kill(self, scene: Scene, above_k: np.ndarray) -> None:
        floor = scene.floor
        busy = floor.busy()
        high = self._high[scene.work.job_of[floor.task[busy]]]
        limit_k = np.where(high, KILL_K[1], KILL_K[0])
        nodes = floor.owner[busy]
        over = scene.town.wants_heat[nodes] & (above_k[nodes] > limit_k)
        if over.any():
            self._backlog.give_back(floor.kill(busy[over]))

    def _start(self, scene: Scene, priority: int, allowed: np.ndarray, above_k: np.ndarray) -> None:
        """On the coldest first; what is due first, first."""
        floor = scene.floor
        jobs = self._backlog.open_jobs
        jobs = jobs[self._high[jobs] == bool(priority)]
        if not len(jobs):
            return
        free = np.where(allowed, floor.free, 0)
        nodes = np.repeat(np.arange(len(scene.town)), free)
        nodes = nodes[np.argsort(above_k[nodes], kind="stable")]
        order = jobs[np.argsort(self._deadline_s[jobs], kind="stable")]
        tasks = self._backlog.take(order.tolist(), len(nodes))
        floor.start(nodes[: len(tasks)], tasks)
