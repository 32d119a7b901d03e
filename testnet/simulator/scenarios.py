"""Known ways in which others failed, each as a plan; all of them have to end well here.

That each would fail if the protocol failed so too is shown by scenario_mutants.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .engine import MS, SECOND
from .long_plan import long_plan
from .plan import Fault, FaultKind, JobPlan, Plan
from .run import play


@dataclass(frozen=True, slots=True)
class Scenario:
    """failed: where it went wrong, and what happened.  plan: the same for us.

    known: the entry of docs/bugs-found.md while we fail it too, else empty.
    """

    name: str
    failed: str
    plan: Plan
    known: str = ""


_STREET = Plan(
    seed=1,
    nodes=6,
    slots=1,
    jobs=(JobPlan(tasks=60, task_us=200 * MS),),
    active_us=8 * SECOND,
    bound_us=60 * SECOND,
)


def _each(kind: FaultKind, count: int, *, from_us: int, apart_us: int, lasts_us: int) -> tuple[Fault, ...]:
    return tuple(Fault(kind, from_us + at * apart_us, lasts_us, (at,)) for at in range(count))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "stale-steal-reply",
        "dask/distributed #5370, #8787: a steal's reply that comes late, or twice, deadlocks the scheduler",
        # Many small jobs make many steals: one lost reply for each node at least, of 3 in 100.
        replace(
            _STREET,
            nodes=4,
            jobs=(
                *(JobPlan(at * SECOND, tasks=8, task_us=100 * MS) for at in range(30)),
                JobPlan(30 * SECOND, tasks=40),
            ),
            active_us=31 * SECOND,
            bound_us=30 * SECOND,
            faults=(
                Fault(FaultKind.WEATHER, 0, 30 * SECOND),
                *_each(
                    FaultKind.STARVE,
                    4,
                    from_us=500 * MS,
                    apart_us=300 * MS,
                    lasts_us=5 * SECOND,
                ),
            ),
        ),
    ),
    Scenario(
        "same-address",
        "distributed #6585: a worker dies, another life of it comes at the same address, and both are mixed up",
        replace(
            _STREET,
            faults=tuple(Fault(FaultKind.KILL, 1 * SECOND + 700 * MS * at, 200 * MS, (at % 3,)) for at in range(9)),
            settles_us=30 * SECOND,
        ),
    ),
    Scenario(
        "vanished-holder",
        "yagna #1074: a reservation whose holder vanished stays for ever",
        replace(
            _STREET,
            jobs=(JobPlan(tasks=40, task_us=500 * MS),),
            faults=(
                Fault(FaultKind.POWER_CUT, 1500 * MS, 0, (1,)),
                Fault(FaultKind.FREEZE, 1600 * MS, 0, (2,)),
            ),
        ),
    ),
    Scenario(
        "result-dropped-at-upload",
        "fah-issues #1520, #882: a finished result is dropped when its upload fails",
        replace(
            _STREET,
            seed=2,
            faults=(
                Fault(FaultKind.CUT, 1500 * MS, 6 * SECOND, (0, 1, 2)),
                Fault(FaultKind.FULL_DISK, 2 * SECOND, 5 * SECOND, (3, 4)),
                Fault(FaultKind.KILL, 5500 * MS, SECOND, (0, 1, 4)),
            ),
        ),
    ),
    Scenario(
        "back-off-without-bound",
        "fah-issues #1351: after hours without work the next is found hours later, and rooms stay cold",
        replace(
            _STREET,
            # One node alone would take two minutes for the second.
            jobs=(JobPlan(at_us=0, tasks=6), JobPlan(at_us=240 * SECOND, tasks=60, task_us=2 * SECOND)),
            active_us=245 * SECOND,
            bound_us=30 * SECOND,
        ),
    ),
    Scenario(
        "faulty-host-eats-the-queue",
        "boinc #3061: a host on which every task fails at once draws all the work there is",
        replace(_STREET, broken=(5, 4)),
    ),
    Scenario(
        "faulty-host-fails-every-task",
        "boinc #3061 again: tasks run there, end at once and have failed, so they count as done",
        replace(
            _STREET,
            nodes=7,
            liars=("faulty",),
            jobs=tuple(JobPlan(at * 20 * SECOND, tasks=100, verification="adaptive") for at in range(3)),
            active_us=45 * SECOND,
        ),
    ),
    Scenario(
        "orchestrator-and-worker-disagree",
        "bacalhau #3861: each side believes something else of who runs what, and neither asks",
        # For longer than a lease, with tasks that wait meanwhile.
        replace(
            _STREET,
            seed=2,
            jobs=(JobPlan(tasks=100, task_us=500 * MS),),
            active_us=12 * SECOND,
            faults=(
                Fault(FaultKind.DEAF, 1200 * MS, 5 * SECOND, (1,)),
                Fault(FaultKind.MUTE, 1500 * MS, 5 * SECOND, (2,)),
                Fault(FaultKind.FREEZE, 2 * SECOND, 6 * SECOND, (3,)),
                Fault(FaultKind.FREEZE, 3 * SECOND, 5500 * MS, (4,)),
            ),
        ),
    ),
    Scenario(
        "split-views-at-bootstrap",
        "hivemind #624: two halves that start apart never find each other",
        replace(
            _STREET,
            faults=(Fault(FaultKind.CUT, 0, 7 * SECOND, (0, 1, 2)),),
            early_faults_us=8 * SECOND,
            settles_us=30 * SECOND,
        ),
    ),
    Scenario(
        "partition-outlasts-suspicion",
        "hivemind #624 again: two halves that take each other for dead stay apart when the net is whole again",
        replace(
            _STREET,
            jobs=(JobPlan(tasks=6),),
            # Longer than the longest suspicion, 6 s, and some rumours.
            faults=(Fault(FaultKind.CUT, 1500 * MS, 20 * SECOND, (0, 1, 2)), Fault(FaultKind.CLIENT_LEAVES, SECOND)),
            active_us=22 * SECOND,
            settles_us=60 * SECOND,
        ),
    ),
    Scenario(
        "mesh-beyond-the-member-table",
        "ours: with more nodes than one may remember, replicas that do not know each other take each other for dead",
        replace(_STREET, seed=8, nodes=40, preset="small cell", settles_us=20 * SECOND),
    ),
    Scenario(
        "mesh-beyond-the-tables",
        "ours: with more rows than a table holds, honest nodes send each other too many and are penalised for it",
        replace(_STREET, nodes=24, preset="few rows", join_us=200 * MS, jobs=()),
    ),
    Scenario(
        "more-holders-than-links",
        "ours: who was given tasks by a worker finds no link to any replica, and its leases run out while it works",
        replace(
            long_plan(2, nodes=60, hours=0.002, jobs=1, preset="few links"),
            join_us=500 * MS,
        ),
    ),
    Scenario(
        "result-with-the-client-alone",
        "ours: a node hands a result on and is gone before any disk has it; what its client accepts, nobody can show",
        replace(
            _STREET,
            seed=26,
            nodes=3,
            sync_us=30 * MS,
            faults=tuple(Fault(FaultKind.KILL, SECOND * (1 + at), 500 * MS, (at % 3,)) for at in range(6)),
        ),
    ),
    Scenario(
        "hoarded-leases",
        "ours: who takes tasks, renews them without end and never delivers holds up a job",
        replace(_STREET, liars=("hoarder",), bound_us=30 * SECOND),
    ),
    Scenario(
        "ban-too-broad",
        "clay #3867: one liar's faults get others banned that only share something with it",
        # A ban takes twenty faults within a minute, and lasts one.
        replace(
            _STREET,
            nodes=7,
            liars=("noise", "replayer", "forger"),
            jobs=tuple(JobPlan(at * 10 * SECOND) for at in range(7)),
            active_us=70 * SECOND,
        ),
    ),
    Scenario(
        "expired-tasks-still-run",
        "boinc #3972: tasks whose time is over are run all the same",
        replace(
            _STREET,
            jobs=(JobPlan(tasks=60, task_us=400 * MS),),
            faults=_each(
                FaultKind.FREEZE,
                3,
                from_us=1500 * MS,
                apart_us=400 * MS,
                lasts_us=6 * SECOND,
            ),
        ),
    ),
    Scenario(
        "cancelled-tasks-still-run",
        "boinc #3972 again: a job is cancelled while half of the mesh cannot hear it",
        replace(
            _STREET,
            jobs=(JobPlan(tasks=400, task_us=400 * MS),),
            bound_us=10 * SECOND,
            faults=(
                Fault(FaultKind.CUT, 1500 * MS, 5 * SECOND, (0, 1)),
                Fault(FaultKind.CANCEL, 2 * SECOND),
            ),
        ),
    ),
)


def scenario_named(name: str) -> Scenario:
    """Raises KeyError, with the names that there are."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise KeyError(", ".join(scenario.name for scenario in SCENARIOS))


@dataclass(frozen=True, slots=True)
class PlayedScenario:
    """checker: what failed first; empty if nothing did."""

    checker: str
    events: int
    duplicates: int


def play_number(number: int) -> PlayedScenario:
    """One of SCENARIOS, for a process of a pool."""
    outcome = play(SCENARIOS[number].plan)
    checker = outcome.violations[0].checker if outcome.violations else ""
    return PlayedScenario(checker, outcome.events, outcome.duplicates)
