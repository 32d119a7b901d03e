"""What the mesh is held to, measured: how soon and how truly death is noticed, what is run again, how replicas meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .checkers.jobs import difference
from .dice import stream
from .engine import HOUR, MINUTE, MS, SECOND
from .long_plan import long_plan
from .network import Cut
from .plan import Fault, FaultKind, JobPlan, Plan
from .report import detection_us
from .run import play
from .world import World

HOURS_A_MONTH = 730.0
# With no event in n trials, the rate is under 3 / n with 95 % confidence.
RULE_OF_THREE = 3.0
DETECTION_NODES = 20
DEATH_EVERY_US = 30 * SECOND
DEATH_LASTS_US = 20 * SECOND
CHURN_NODES = 20
CHURN = 0.1
RECONCILING = ("Reconcile", "ReconcileIds", "Want", "Records", "Delivery")
PATIENCE_US = 20 * MINUTE


@dataclass(frozen=True, slots=True)
class Detection:
    """Of one run. noticed_us: how long it took each node to call a silent one dead, sorted.

    late_alarms: as `Faults` has them; None where they were not counted yet.
    """

    noticed_us: Sequence[int]
    false_alarms: int
    node_us: int
    events: int
    late_alarms: int | None = None


def detect(seed: int, *, minutes: float, starved: bool, preset: str = "lan") -> Detection:
    """Machines lose power one after another; starved: every processor stands still 30 % of the time, by pieces.

    Each death can be noticed by all other nodes and the client. Who does not before it is back is no sample.
    """
    dice = stream(seed, "detection")
    active_us = int(minutes * MINUTE)
    deaths = range(10 * SECOND, active_us - DEATH_LASTS_US, DEATH_EVERY_US)
    faults = [Fault(FaultKind.POWER_CUT, at_us, DEATH_LASTS_US, (dice.below(DETECTION_NODES),)) for at_us in deaths]
    if starved:
        # Each out of step with the others.
        faults += [Fault(FaultKind.STARVE, dice.below(SECOND), active_us, (n,)) for n in range(DETECTION_NODES)]
    plan = Plan(
        seed=seed,
        nodes=DETECTION_NODES,
        jobs=(),
        preset=preset,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_us)),
        active_us=active_us,
        bound_us=0,
        heat_step_us=10 * SECOND,
        stops_early=False,
    )
    outcome = play(plan)
    assert not outcome.violations, outcome.violations[0]
    return Detection(
        detection_us(outcome.happened),
        outcome.false_alarms,
        DETECTION_NODES * active_us,
        outcome.events,
        outcome.late_alarms,
    )


def detection_numbers(runs: Sequence[Detection]) -> dict[str, Any]:
    """Of all runs together, as JSON. alarms_a_node_month_below: with 95 % confidence.

    late_alarms: of the runs in which they were counted; None if there are none.
    """
    noticed = sorted(us for run in runs for us in run.noticed_us)
    hours = sum(run.node_us for run in runs) / HOUR
    alarms = sum(run.false_alarms for run in runs)
    late = [run.late_alarms for run in runs if run.late_alarms is not None]
    # Above three events the bound is near the count plus two of its standard deviations.
    most = RULE_OF_THREE if alarms == 0 else alarms + 2 * alarms**0.5 + 2
    return {
        "samples": len(noticed),
        "p50_s": noticed[len(noticed) // 2] / SECOND if noticed else None,
        "p99_s": noticed[min(len(noticed) - 1, len(noticed) * 99 // 100)] / SECOND if noticed else None,
        "most_s": noticed[-1] / SECOND if noticed else None,
        "node_hours": round(hours, 2),
        "false_alarms": alarms,
        "late_alarms": sum(late) if late else None,
        "alarms_a_node_month_below": round(most / hours * HOURS_A_MONTH, 2),
        "events": sum(run.events for run in runs),
    }


@dataclass(frozen=True, slots=True)
class Repeats:
    """Of one run. Tasks that were run, those that were wanted, and the energy that nobody needed, as a share."""

    deaths: int
    tasks_run: int
    tasks_wanted: int
    wasted_share: float
    events: int


def repeat(seed: int, *, minutes: float) -> Repeats:
    """A mesh that is kept busy, and loses a tenth of its nodes an hour, at random."""
    plan = long_plan(seed, nodes=CHURN_NODES, hours=minutes / 60, churn=CHURN)
    every_us = 5 * MINUTE
    task_us = 30 * SECOND
    # Work for nine tenths of what the machines can do until the next job.
    tasks = every_us * CHURN_NODES * plan.slots * 9 // 10 // task_us
    jobs = tuple(JobPlan(at_us, tasks, task_us) for at_us in range(0, plan.active_us, every_us))
    outcome = play(replace(plan, jobs=jobs, heat_step_us=10 * SECOND, bound_us=20 * MINUTE))
    assert not outcome.violations, outcome.violations[0]
    wasted = outcome.wasted_uj / outcome.energy_uj if outcome.energy_uj else 0.0
    return Repeats(len(outcome.happened), outcome.tasks_run, outcome.tasks_accepted, wasted, outcome.events)


def repeat_numbers(runs: Sequence[Repeats]) -> dict[str, Any]:
    """Of all runs together, as JSON."""
    wanted = sum(run.tasks_wanted for run in runs)
    again = sum(run.tasks_run for run in runs) - wanted
    return {
        "deaths": sum(run.deaths for run in runs),
        "tasks": wanted,
        "run_again": again,
        "run_again_share": round(again / wanted, 5) if wanted else 0.0,
        "wasted_energy_share": round(sum(run.wasted_share for run in runs) / max(1, len(runs)), 5),
        "events": sum(run.events for run in runs),
    }


@dataclass(frozen=True, slots=True)
class Meeting:
    """How three replicas of a job met again, one of which was cut off.

    records: of the job, in the end.  missing: that one side had and the other had not, when they could talk again.
    rounds: of reconciliation until all had the same.  bytes: of all that is said to reconcile, until then.
    """

    records: int
    missing: int
    rounds: float
    bytes: int

    def as_json(self) -> dict[str, Any]:
        return {"records": self.records, "missing": self.missing, "rounds": round(self.rounds, 2), "bytes": self.bytes}


def meet(seed: int, *, tasks: int, share: float) -> Meeting:
    """share: of the tasks that have results when one replica is cut off; the rest ends without it."""
    plan = Plan(
        seed=seed,
        nodes=3,
        jobs=(JobPlan(tasks=tasks, task_us=200 * MS),),
        # Beyond the end: nothing breaks but what is broken here, and the checkers know that something does.
        faults=(Fault(FaultKind.CLOCK, 10 * HOUR, SECOND),),
        preset="lan",
    )
    with World.opened(plan) as world:
        engine, network, lonely = world.engine, world.network, world.nodes[2]
        (order,) = world.customers[0].orders
        _until(world, lambda: len(order.taken) >= share * tasks)
        cut = Cut(frozenset((lonely.index,)))
        network.cut(cut)
        _until(world, lambda: len(order.taken) == tasks)
        engine.run(engine.now_us + 15 * SECOND)
        network.heal(cut)
        assert lonely.life is not None
        life = lonely.life
        _until(world, lambda: any(other.index in life.links for other in world.nodes[:2]))
        kept = [m.life.mesh.replica.jobs[order.job_id] for m in world.nodes if m.life is not None]
        ids = [dict.fromkeys(each.state.ids.ids(b"", b"")) for each in kept]
        missing = len(ids[0].keys() ^ ids[2].keys())
        began_us, began_bytes = engine.now_us, _reconciling_bytes(world)
        _until(world, lambda: not difference(world, order.job_id))
        rounds = (engine.now_us - began_us) / world.config.reconcile_interval_us
        records = len(kept[0].state.ids.ids(b"", b""))
        return Meeting(records, missing, rounds, _reconciling_bytes(world) - began_bytes)


def _until(world: World, done: Callable[[], bool]) -> None:
    """Raises AssertionError if it is not so within PATIENCE_US."""
    assert world.engine.run(world.engine.now_us + PATIENCE_US, done, check_every=8), "it never came to that"


def _reconciling_bytes(world: World) -> int:
    by_kind = world.network.traffic.by_kind
    return sum(by_kind[kind][1] for kind in RECONCILING if kind in by_kind)
