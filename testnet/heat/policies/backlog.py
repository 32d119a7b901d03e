"""Free tasks of all jobs in one place: for dispatchers that know everything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..town import Ints
from ..work import Work


class Backlog:
    """Tasks leave a job from its front; what comes back goes first."""

    def __init__(self, work: Work) -> None:
        self._free: list[list[Ints]] = [[] for _ in work.jobs]
        self.count = np.zeros(len(work.jobs), dtype=np.int64)
        self._job_of = work.job_of

    def add(self, tasks: Ints, job: int) -> None:
        if len(tasks):
            self._free[job].append(tasks)
            self.count[job] += len(tasks)

    def give_back(self, tasks: Ints) -> None:
        jobs = self._job_of[tasks]
        for job in np.unique(jobs):
            self.add(tasks[jobs == job], int(job))

    @property
    def open_jobs(self) -> Ints:
        return np.flatnonzero(self.count)

    def take(self, jobs: Iterable[int], most: int) -> Ints:
        """At most so many tasks, of the jobs in their order."""
        found: list[Ints] = []
        for job in jobs:
            parts = self._free[job]
            while parts and most > 0:
                part = parts.pop()
                if len(part) > most:
                    parts.append(part[most:])
                    part = part[:most]
                found.append(part)
                most -= len(part)
                self.count[job] -= len(part)
            if most <= 0:
                break
        return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
