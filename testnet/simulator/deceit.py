"""What liars achieve against each policy: wrong results accepted, what checking costs, how soon they are found.

A street works off a first job, in which workers earn their names, then a second one that is measured. Honest streets
say what checking costs; streets with liars say what it is good for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ...protocol.verification.choice import FIRST_CHOSEN
from ...protocol.verification.policy import PolicyKind, parse_policy
from ...protocol.verification.sampling import Sampled
from .engine import MS, SECOND
from .plan import JobPlan, Plan
from .run import all_done
from .world import World

NODES = 40
# Of each of the two jobs. A worker that ran 100 of the first has some 30 right results, and one in 30 is checked; the
# floor of one in 50 it reaches after about 600 (n right ones grow by 2/n a task, as it checks others as often).
TASKS = 4_000
TASK_US = 100 * MS
SHARES = (0.05, 0.1, 0.2)
LIES = ("wrong results", "accomplice", "sleeper")
POLICIES = ("none", "spot(0.05)", "adaptive", "quorum(2)", "quorum(3)")
BOUND_US = 600 * SECOND
# The first job is over after so many times what it takes a street of honest workers that checks nothing.
WARM_TIMES = 4
WARM_MIN_US = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Street:
    """One experiment. lie: of the kinds in liars.py, empty for none."""

    policy: str
    lie: str = ""
    share: float = 0.0
    seed: int = 1
    nodes: int = NODES
    tasks: int = TASKS

    @property
    def liars(self) -> int:
        return round(self.share * self.nodes) if self.lie else 0

    def plan(self) -> Plan:
        warm_us = max(WARM_MIN_US, WARM_TIMES * self.tasks * TASK_US // self.nodes)
        warm = JobPlan(tasks=self.tasks, task_us=TASK_US, verification=self.policy)
        measured = JobPlan(at_us=warm_us, tasks=self.tasks, task_us=TASK_US, verification=self.policy)
        return Plan(
            seed=self.seed,
            nodes=self.nodes,
            jobs=(warm, measured),
            liars=(self.lie,) * self.liars,
            active_us=warm_us,
            bound_us=BOUND_US,
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of a street. wrong: accepted results that are wrong, of `accepted`, in both jobs.

    warm_up, executions: runs of each task, in the first job and in the second.  by_policy: what the draw of the second
    comes to on average, with the names that the workers had; doubts come on top.  deviation: of that.  found: liars
    that were caught; found_s: how long after its first wrong result was signed the median of them was.  bound: what
    the formula of docs/verification.md allows as share of wrong results, 1 where it allows all.  complete: both ended.
    """

    street: Street
    accepted: int
    wrong: int
    warm_up: float
    executions: float
    by_policy: float
    deviation: float
    found: int
    found_s: float | None
    bound: float
    complete: bool

    def row(self) -> dict[str, Any]:
        street = self.street
        return {
            "policy": street.policy,
            "lie": street.lie or "none",
            "share": street.share,
            "nodes": street.nodes,
            "liars": street.liars,
            "seed": street.seed,
            "accepted": self.accepted,
            "wrong": self.wrong,
            "wrong_share": round(self.wrong / self.accepted, 6) if self.accepted else None,
            "bound": round(self.bound, 6),
            "executions_warm_up": round(self.warm_up, 4),
            "executions": round(self.executions, 4),
            "executions_by_policy": round(self.by_policy, 4),
            "deviation": round(self.deviation, 4),
            "found": self.found,
            "found_s": None if self.found_s is None else round(self.found_s, 3),
            "complete": self.complete,
        }


def streets(nodes: int, tasks: int, seed: int, policies: Sequence[str], shares: Sequence[float]) -> Iterator[Street]:
    """For each policy an honest one first, then each lie at each share."""
    for policy in policies:
        yield Street(policy, seed=seed, nodes=nodes, tasks=tasks)
        for lie in LIES:
            for share in shares:
                yield Street(policy, lie, share, seed, nodes, tasks)


def wrong_bound(policy: str, lie: str, share: float) -> float:
    """Most that may be accepted of what is wrong, as a share of all results.

    Liars that do not agree never outvote anybody under a quorum. Accomplices that always ask first get a copy of
    another's result with the probability that one of the first two of the order is theirs.
    """
    parsed = parse_policy(policy)
    if not lie:
        return 0.0
    if parsed.kind is not PolicyKind.QUORUM:
        return share
    if lie == "wrong results":
        return 0.0
    chosen = 1 - (1 - share) ** FIRST_CHOSEN
    return float(share * chosen ** (parsed.quorum - 1))


def observe(street: Street) -> Finding:
    """Play a street to its end."""
    with World.opened(street.plan()) as world:
        # Not before the second job was asked for.
        world.engine.run(world.calm_us)
        last = max((each for customer in world.customers for each in customer.orders), key=lambda each: each.plan.at_us)
        # Who confirms what he has begins to judge anew, and forgets what was drawn.
        world.engine.run(world.calm_us + BOUND_US, lambda: last.complete, check_every=1)
        sampled = _sampled(world, last.job_id)
        world.engine.run(world.calm_us + BOUND_US, lambda: all_done(world), check_every=256)
        orders = sorted(world.orders.values(), key=lambda order: order.plan.at_us)
        executions = [_executions(world, order.job_id) / order.spec.tasks for order in orders]
        found_us: dict[bytes, int] = {}
        for order in orders:
            for node, at_us in order.caught.items():
                found_us.setdefault(node, at_us)
        lied_us = {m.id: m.liar.lied_us for m in world.nodes if m.liar is not None and m.liar.lied_us}
        delays_s = [(at_us - lied_us[node]) / SECOND for node, at_us in found_us.items() if node in lied_us]
        return Finding(
            street,
            accepted=sum(len(order.taken) for order in orders),
            wrong=sum(len(order.wrong) for order in orders),
            warm_up=executions[0] if executions else 0.0,
            executions=executions[-1] if executions else 0.0,
            by_policy=1 + sampled.expected / street.tasks,
            deviation=float(sampled.variance**0.5 / street.tasks),
            found=len(delays_s),
            found_s=median(delays_s) if delays_s else None,
            bound=wrong_bound(street.policy, street.lie, street.share),
            complete=len(orders) == 2 and all(order.complete for order in orders),
        )


def _sampled(world: World, job_id: bytes) -> Sampled:
    """What chance was to check of a job, and did."""
    lives = [customer.machine.life for customer in world.customers if customer.machine.life is not None]
    known = [life.mesh.submitter.jobs[job_id].referee for life in lives if job_id in life.mesh.submitter.jobs]
    return next((referee.sampled for referee in known if referee is not None), Sampled())


def _executions(world: World, job_id: bytes) -> int:
    """Results that were delivered for a job, every copy counted."""
    lives = [machine.life for machine in world.nodes if machine.life is not None]
    kept = [life.mesh.replica.jobs[job_id] for life in lives if job_id in life.mesh.replica.jobs]
    return max((each.state.candidate_tasks for each in kept), default=0)
