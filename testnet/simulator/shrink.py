"""From a run that fails to a smaller one that fails alike: fewer faults, liars, jobs, tasks and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .plan import Plan
from .run import Outcome, play

ATTEMPTS_MAX = 80


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left of a plan; None leaves it as it is. faults, jobs, liars: positions in the plan that the seed
    drew; a liar that is left out is honest, and the others stay where they are."""

    nodes: int | None = None
    faults: tuple[int, ...] | None = None
    jobs: tuple[int, ...] | None = None
    tasks: int | None = None
    liars: tuple[int, ...] | None = None

    def of(self, plan: Plan) -> Plan:
        """The reduced plan. Raises ValueError for a position that the plan has not, or that is named twice."""
        for what, kept, count in (
            ("fault", self.faults, len(plan.faults)),
            ("job", self.jobs, len(plan.jobs)),
            ("liar", self.liars, len(plan.liars)),
        ):
            wrong = [at for at in kept or () if not 0 <= at < count]
            if wrong:
                raise ValueError(f"there is no {what} {wrong[0]}: seed {plan.seed} draws {count}")
            twice = [at for at in kept or () if (kept or ()).count(at) > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]} is named twice: each can be kept once")
        jobs = plan.jobs if self.jobs is None else tuple(plan.jobs[at] for at in self.jobs)
        if self.tasks is not None:
            jobs = tuple(replace(job, tasks=min(job.tasks, self.tasks)) for job in jobs)
        liars = plan.liars
        if self.liars is not None:
            liars = tuple(lie if at in self.liars else "" for at, lie in enumerate(liars)) if self.liars else ()
        return replace(
            plan,
            nodes=plan.nodes if self.nodes is None else self.nodes,
            jobs=jobs,
            faults=plan.faults if self.faults is None else tuple(plan.faults[at] for at in self.faults),
            liars=liars,
        )

    def options(self) -> str:
        """As `hearth sim replay` takes them, with a space before each."""
        text = "" if self.nodes is None else f" --keep-nodes {self.nodes}"
        text += "" if self.faults is None else f" --keep-faults {_positions(self.faults)}"
        text += "" if self.jobs is None else f" --keep-jobs {_positions(self.jobs)}"
        text += "" if self.liars is None else f" --keep-liars {_positions(self.liars)}"
        return text + ("" if self.tasks is None else f" --keep-tasks {self.tasks}")


def _positions(kept: tuple[int, ...]) -> str:
    return ",".join(map(str, kept)) or "none"


def shrink(plan: Plan, checker: str, *, attempt: Callable[[Plan], Outcome] = play) -> tuple[Reduction, int]:
    """The least reduction found under which the same checker fails, and how many runs that took.

    Greedy: what can be left out is left out, until nothing can, or after ATTEMPTS_MAX runs.
    """
    reduction, attempts = Reduction(), 0
    shrunk = True
    while shrunk and attempts < ATTEMPTS_MAX:
        shrunk = False
        for smaller in _smaller(plan, reduction):
            attempts += 1
            if any(violation.checker == checker for violation in attempt(smaller.of(plan)).violations):
                reduction, shrunk = smaller, True
                break
            if attempts >= ATTEMPTS_MAX:
                break
    return reduction, attempts


def _smaller(plan: Plan, now: Reduction) -> Iterator[Reduction]:
    """Reductions that leave out a little more, the boldest first."""
    faults = tuple(range(len(plan.faults))) if now.faults is None else now.faults
    if len(faults) > 2:
        yield replace(now, faults=faults[: len(faults) // 2])
        yield replace(now, faults=faults[len(faults) // 2 :])
    for at in faults:
        yield replace(now, faults=tuple(other for other in faults if other != at))
    liars = tuple(range(len(plan.liars))) if now.liars is None else now.liars
    for at in liars:
        yield replace(now, liars=tuple(other for other in liars if other != at))
    jobs = tuple(range(len(plan.jobs))) if now.jobs is None else now.jobs
    for at in jobs if len(jobs) > 1 else ():
        yield replace(now, jobs=tuple(other for other in jobs if other != at))
    tasks = max((plan.jobs[at].tasks for at in jobs), default=1) if now.tasks is None else now.tasks
    if tasks > 4:
        yield replace(now, tasks=tasks // 2)
    nodes = plan.nodes if now.nodes is None else now.nodes
    if nodes > now.of(plan).nodes_least:
        yield replace(now, nodes=nodes - 1)
