"""A mesh over hours: work comes and goes, rooms get warm, and now and then a machine fails."""

from __future__ import annotations

from .dice import stream
from .engine import HOUR, MINUTE, MS, SECOND
from .plan import Fault, FaultKind, JobPlan, Plan

JOBS_MOST = 48
# Below this the settling and the last job leave no time for anything.
HOURS_LEAST = 0.001
TASKS_A_NODE = 4
# Machines start two hundred a second: more at once is a flood of its own for the founders (docs/bugs-found.md). With a
# head start they begin among their neighbours, and however many there are start as fast as so many do: cells that stay
# thin for long have everybody look for more.
JOINING_MOST = 800


def long_plan(
    seed: int,
    *,
    nodes: int,
    hours: float,
    churn: float = 0.0,
    jobs: int | None = None,
    preset: str = "lan",
    warm: bool = False,
    tasks: int = TASKS_A_NODE,
) -> Plan:
    """churn: share of the nodes that dies in an hour, each for some minutes.  jobs: how many, one each five minutes.

    tasks: of a job, for each node; a second each.
    """
    dice = stream(seed, "long")
    active_us = max(SECOND, int(hours * HOUR))
    count = jobs if jobs is not None else max(1, min(JOBS_MOST, active_us // (300 * SECOND)))
    plans = tuple(JobPlan(active_us * at // count, tasks * nodes, 1000 * MS) for at in range(count))
    deaths = int(nodes * churn * hours + 0.5)
    faults = []
    for _ in range(deaths):
        kind = dice.pick((FaultKind.KILL, FaultKind.POWER_CUT))
        lasts_us = dice.between(30 * SECOND, 300 * SECOND)
        faults.append(Fault(kind, dice.below(active_us), lasts_us, (dice.below(nodes),)))
    return Plan(
        seed=seed,
        nodes=nodes,
        slots=2,
        jobs=plans,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_us)),
        preset=preset,
        join_us=max(2 * SECOND, min(nodes, JOINING_MOST if warm else nodes) * 5 * MS),
        active_us=active_us,
        access="mixed" if nodes > 8 else "lan",
        room_speed=0.0,
        heat_step_us=MINUTE if preset.startswith("slow") else SECOND if nodes <= 100 else 10 * SECOND,
        drift_ppm=50,
        skew_us=SECOND // 2,
        stops_early=True,
        warm=warm,
    )
