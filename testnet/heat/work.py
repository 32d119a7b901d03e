"""The jobs that a town is given: as much work as a share of its heat demand, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..simulator.dice import Stream, stream
from .town import WATTS_PER_SLOT, Floats

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
KINDS = ("bag", "deadline", "stream")
# Jobs of a week; a week's deadlines and streams come as so many.
JOBS = {"bag": 80, "deadline": 160, "stream": 240}
TASKS_A_JOB_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job's tasks are alike: from half of length_s to one and a half times it, at full duty.

    deadline_s: seconds since the begin, infinity for none.  priority: 0 for volunteers' work, 1 for paid.
    program_bytes: fetched once a node.  input_bytes: of each task.
    """

    number: int
    arrival_s: float
    deadline_s: float
    priority: int
    length_s: float
    checkpointable: bool
    program_bytes: int
    input_bytes: int
    first: int
    tasks: int

    @property
    def urgent(self) -> bool:
        return math.isfinite(self.deadline_s) and self.deadline_s - self.arrival_s < 12 * HOUR_S


@dataclass(frozen=True)
class Work:
    """All jobs, by arrival; tasks are numbered through. job_of, length_s: one entry a task."""

    kind: str
    jobs: tuple[Job, ...]
    job_of: NDArray[np.int32]
    length_s: Floats
    arrival_s: Floats = field(repr=False)
    deadline_s: Floats = field(repr=False)

    @property
    def tasks(self) -> int:
        return len(self.length_s)

    @property
    def total_s(self) -> float:
        return float(self.length_s.sum())

    def of(self, name: str) -> NDArray[np.float64]:
        """A job's number for each job."""
        return np.array([float(getattr(job, name)) for job in self.jobs])


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """kind: bag (all at the begin, nothing is due), deadline (jobs come, and are due), stream (by the time of day).

    energy_wh: of all tasks.  grain: so many times longer are tasks than in a week's plan.
    """

    kind: str
    energy_wh: float
    window_s: float
    seed: int = 1
    grain: float = 1.0


def draw_work(plan: WorkPlan) -> Work:
    """Equal plans give equal jobs. Raises ValueError for a kind that is none."""
    if plan.kind not in KINDS:
        raise ValueError(f"no kind of work: {plan.kind}")
    dice = stream(plan.seed, "work", plan.kind)
    total_s = plan.energy_wh * HOUR_S / WATTS_PER_SLOT
    weeks = plan.window_s / (7 * DAY_S)
    count = max(8, round(JOBS[plan.kind] * min(weeks, 12.0)))
    shares = [dice.between(50, 150) for _ in range(count)]
    drafts = sorted((_arrival_s(plan, dice) for _ in range(count)), key=float)
    jobs: list[Job] = []
    first = 0
    for number, arrival_s in enumerate(drafts):
        budget_s = total_s * shares[number] / sum(shares)
        job = _job(plan, dice, number, arrival_s, budget_s, first)
        jobs.append(job)
        first += job.tasks
    spread = np.random.Generator(np.random.PCG64(plan.seed)).random(first)
    job_of = np.repeat(np.arange(len(jobs), dtype=np.int32), [job.tasks for job in jobs])
    means_s = np.array([job.length_s for job in jobs])
    length_s = means_s[job_of] * (0.5 + spread)
    # To the second's fraction the energy that was asked for, whatever was drawn.
    length_s *= total_s / max(1e-9, float(length_s.sum()))
    arrivals_s = np.array([job.arrival_s for job in jobs])[job_of]
    deadlines_s = np.array([job.deadline_s for job in jobs])[job_of]
    return Work(plan.kind, tuple(jobs), job_of, length_s, arrivals_s, deadlines_s)


def _arrival_s(plan: WorkPlan, dice: Stream) -> float:
    """A deadline's work ends to come a day before the end, so that what is due can be done; a stream goes on."""
    if plan.kind == "bag":
        return 0.0
    if plan.kind == "deadline":
        return dice.random() * max(0.5 * plan.window_s, plan.window_s - DAY_S)
    while True:
        at_s = dice.random() * plan.window_s
        # Three times as much by day as by night.
        if dice.random() < (1.0 if 8 <= at_s / HOUR_S % 24 < 20 else 1 / 3):
            return at_s


def _job(plan: WorkPlan, dice: Stream, number: int, arrival_s: float, budget_s: float, first: int) -> Job:
    longest_h = 1.5 if plan.kind == "stream" else 3.0
    length_s = plan.grain * HOUR_S * math.exp(math.log(1 / 6) + dice.random() * math.log(6 * longest_h))
    tasks = min(TASKS_A_JOB_MAX, max(1, round(budget_s / length_s)))
    deadline_s = math.inf
    paid = dice.chance(0.6)
    # Volunteers' work is never due.
    if plan.kind == "deadline" and paid:
        urgent = dice.chance(0.2)
        slack_h = dice.between(4, 10) if urgent else dice.between(16, 48)
        deadline_s = arrival_s + plan.grain * slack_h * HOUR_S + 2 * length_s
    return Job(
        number,
        arrival_s,
        deadline_s,
        priority=int(paid),
        length_s=length_s,
        checkpointable=dice.chance(0.5),
        program_bytes=dice.between(1, 50) * 1_000_000,
        input_bytes=dice.between(10, 2_000) * 1_000,
        first=first,
        tasks=tasks,
    )
