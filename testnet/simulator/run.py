"""A plan played to its end, and what came of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import compiled
from .checkers import Violation
from .checkers.jobs import all_accepted, difference
from .engine import SECOND
from .faults import Happened
from .plan import Plan
from .telling import Story
from .world import Work, World

# After everything is accepted, records still have to meet: some rounds of reconciliation.
QUIET_US = 15 * SECOND
# New objects between two collections of the youngest.
COLLECT_AFTER = 5_000_000
# A name of its own: below, `bytes` is a count.
Output = bytes


@dataclass(slots=True)
class Outcome:
    """What a run came to. `elapsed_s` and `cpu_s` are real time; all others are the simulation's.

    copies_run: later copies of tasks, each once.
    makespan_us: of the job that took longest, of those that ended, from when its submitter first sent it.
    results: by the job's name and the task's index, what the customer was given.
    """

    plan: Plan
    events: int
    elapsed_s: float
    cpu_s: float
    trace_digest: str
    violations: list[Violation]
    tasks_submitted: int
    tasks_accepted: int
    tasks_run: int
    copies_run: int
    wasted_uj: int
    energy_uj: int
    virtual_us: int
    messages: int
    bytes: int
    traffic: dict[str, list[int]]
    happened: list[Happened] = field(default_factory=list)
    false_alarms: int = 0
    late_alarms: int = 0
    finished_us: dict[str, int] = field(default_factory=dict)
    makespan_us: int = 0
    converged_us: int = 0
    results: dict[str, dict[int, Output]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.violations

    @property
    def duplicates(self) -> int:
        """How often a task, or a later copy of one, was run again."""
        return max(0, self.tasks_run - self.copies_run - self.tasks_accepted)

    @property
    def events_per_s(self) -> float:
        return self.events / self.elapsed_s if self.elapsed_s else 0.0

    def summary(self) -> dict[str, Any]:
        """As one JSON object."""
        plan = self.plan
        return {
            "seed": plan.seed,
            "nodes": plan.nodes,
            "virtual_s": round(self.virtual_us / SECOND, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "events": self.events,
            "events_per_s": round(self.events_per_s),
            "events_per_cpu_s": round(self.events / self.cpu_s) if self.cpu_s else 0,
            "compiled": compiled.in_use(),
            "trace_digest": self.trace_digest,
            "violations": [
                {"checker": each.checker, "at_s": round(each.at_us / SECOND, 6), "text": each.text}
                for each in self.violations
            ],
            "tasks_submitted": self.tasks_submitted,
            "tasks_accepted": self.tasks_accepted,
            "tasks_run": self.tasks_run,
            "copies_run": self.copies_run,
            "duplicates": self.duplicates,
            "makespan_s": round(self.makespan_us / SECOND, 3),
            "faults": len(self.happened),
            "false_alarms": self.false_alarms,
            "late_alarms": self.late_alarms,
            "messages": self.messages,
            "bytes": self.bytes,
            "bytes_per_node_per_s": round(self.bytes / plan.nodes / max(1e-9, self.virtual_us / SECOND), 1),
            "wasted_energy_share": round(self.wasted_uj / self.energy_uj, 4) if self.energy_uj else 0.0,
        }


def play(
    plan: Plan,
    story: Story | None = None,
    works: Sequence[Work] = (),
    watch: Callable[[World], None] = lambda _world: None,
) -> Outcome:
    """Run it, stop at the first violation, and check what is to be checked at the end.

    works: what the plan's first jobs are, instead of made-up ones.  watch: is shown the world as it stands, often.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    with rare_collections(), World.opened(plan, story, works) as world:
        converged_us = _play(world, watch)
        spent_s = time.perf_counter() - started, time.process_time() - cpu_started
        return _outcome(world, spent_s, converged_us)


@contextmanager
def play_world(plan: Plan) -> Iterator[World]:
    """The world as it is when the plan is played, for whoever looks closer than an outcome does."""
    with rare_collections(), World.opened(plan, None, ()) as world:
        _play(world)
        yield world


@contextmanager
def rare_collections() -> Iterator[None]:
    """A world lives as long as its run, makes hardly any cycle before: looking for them costs a tenth of it."""
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _play(world: World, watch: Callable[[World], None] = lambda _world: None) -> int:
    """Returns when everything was accepted and alike, 0 if never."""
    engine, violations, plan = world.engine, world.checkers.violations, world.plan

    def broken() -> bool:
        watch(world)
        return bool(violations)

    engine.run(world.calm_us, broken)
    if violations:
        return 0
    deadline_us = world.calm_us + plan.bound_us
    if plan.stops_early:
        # To look whether all is done is to look at each node.
        often = max(64, plan.nodes)
        engine.run(deadline_us, lambda: broken() or all_done(world), check_every=often)
        if not violations and all_done(world):
            quiet_us = engine.now_us + QUIET_US
            engine.run(quiet_us, lambda: broken() or _alike(world), check_every=often)
    else:
        engine.run(deadline_us, broken)
    if plan.settles_us and not violations:
        engine.run(engine.now_us + plan.settles_us, broken)
    converged_us = engine.now_us if all_done(world) and _alike(world) else 0
    if not violations:
        world.checkers.at_rest()
    return converged_us


def all_done(world: World) -> bool:
    """Whether every job that was not cancelled is complete, and accepted at all who keep it."""
    for customer in world.customers:
        for order in customer.orders:
            if not order.cancelled and not (order.complete and all_accepted(world, order.job_id)):
                return False
    return True


def _alike(world: World) -> bool:
    return not any(order.durable_us and difference(world, job_id) for job_id, order in world.orders.items())


def _outcome(world: World, spent_s: tuple[float, float], converged_us: int) -> Outcome:
    orders = list(world.orders.values())
    executors = [machine.executor for machine in world.nodes]
    return Outcome(
        plan=world.plan,
        events=world.trace.events,
        elapsed_s=spent_s[0],
        cpu_s=spent_s[1],
        trace_digest=world.trace.digest,
        violations=world.checkers.violations,
        tasks_submitted=sum(order.spec.tasks for order in orders if order.durable_us),
        tasks_accepted=sum(len(order.taken) for order in orders),
        tasks_run=sum(executor.tasks_run for executor in executors),
        copies_run=sum(copies.total for copies in world.copies_run.values()),
        wasted_uj=sum(executor.lost_uj for executor in executors),
        energy_uj=sum(executor.energy_uj for executor in executors),
        virtual_us=world.engine.now_us,
        messages=world.network.traffic.messages,
        bytes=world.network.traffic.bytes,
        traffic=world.network.traffic.by_kind,
        happened=world.faults.happened,
        false_alarms=world.faults.false_alarms,
        late_alarms=world.faults.late_alarms,
        finished_us={order.spec.name: order.finished_us for order in orders},
        makespan_us=max((each.finished_us - each.submitted_us for each in orders if each.finished_us), default=0),
        converged_us=converged_us,
        results={order.spec.name: order.given for order in orders if order.outputs is not None},
    )
