"""Many cases over all cores: each is played in a process, and told of when all policies of its kind are done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any

from ..simulator.cores import cores, pool
from .case_log import CaseLog
from .metrics import Outcome
from .optimum import cost_of, solve
from .play import Case, Course, play
from .season import town_of
from .sources import OPTIMUM
from .targets import Verdict, judge

SMALL_ROOMS, SMALL_DAYS, SMALL_STEP_S = 6, 1, 300.0
Key = tuple[str, float, str, int]


@dataclass(frozen=True)
class Group:
    """All policies of one season, load and kind of work."""

    outcomes: tuple[Outcome, ...]
    verdicts: tuple[Verdict, ...]

    def rows(self) -> list[dict[str, Any]]:
        """The row of ours has what it reached."""
        targets = [verdict.row() for verdict in self.verdicts]
        return [{**each.row(), **({"targets": targets} if each.policy == "ours" else {})} for each in self.outcomes]


def small(case: Case) -> Case:
    """The case for which the optimum can be found: some rooms of one capacity, a day."""
    step_s = max(SMALL_STEP_S, case.step_s or 0.0)
    return replace(case, rooms=SMALL_ROOMS, days=SMALL_DAYS, step_s=step_s, whole=False)


def played(case: Case) -> Outcome:
    """For a process of the pool. A small case also has its cost, and may be the optimum's."""
    if case.policy == OPTIMUM:
        found = solve(case)
        return Outcome(case.season, case.load, OPTIMUM, case.workload, {"rooms": case.rooms, **found.numbers(case)})
    if case.whole:
        outcome = play(case)
        return replace(outcome, numbers={"rooms": case.rooms, **outcome.numbers})
    course = Course()
    outcome = play(case, course=course)
    cost = cost_of(course, town_of(case.town), case.demand(), case.time.step_s)
    return replace(outcome, numbers={"rooms": case.rooms, **outcome.numbers, "cost": round(cost, 4)})


def compare(cases: Sequence[Case], told: Callable[[Case, int], None], log: CaseLog | None = None) -> Iterator[Group]:
    """Groups in the order of their first cases. told: a case is done, and so many are.

    log: what it holds is not played again, and has no samples; what is played is added. Raises OSError if there is one.
    """
    groups: dict[Key, dict[str, Outcome | None]] = {}
    for case in cases:
        groups.setdefault(_key(case), {})[case.policy] = None
    waiting = list(groups)
    done = 0
    for case, outcome in _logged(cases, log) if log is not None else _unlogged(cases):
        done += 1
        told(case, done)
        groups[_key(case)][case.policy] = outcome
        while waiting and all(groups[waiting[0]].values()):
            outcomes = [each for each in groups.pop(waiting.pop(0)).values() if each is not None]
            verdicts = judge({each.policy: each.row() for each in outcomes})
            yield Group(tuple(outcomes), tuple(verdicts))


def _key(case: Case) -> Key:
    return case.season, case.load, case.workload, case.rooms


def _unlogged(cases: Sequence[Case]) -> Iterator[tuple[Case, Outcome]]:
    return ((case, outcome) for case, outcome, _ in _over_all_cores(cases))


def _logged(cases: Sequence[Case], log: CaseLog) -> Iterator[tuple[Case, Outcome]]:
    """Those of the log first."""
    known = log.played()
    for case in cases:
        if case in known:
            yield case, Outcome(case.season, case.load, case.policy, case.workload, known[case])
    for case, outcome, cpu_s in _over_all_cores([case for case in cases if case not in known]):
        log.append(case, outcome.numbers, cpu_s)
        yield case, outcome


def _timed(case: Case) -> tuple[Outcome, float]:
    """With the processor time that it took."""
    began_s = time.process_time()
    return played(case), time.process_time() - began_s


def _over_all_cores(cases: Sequence[Case]) -> Iterator[tuple[Case, Outcome, float]]:
    """As they end; no more are begun than there are cores for, so memory is bounded by so many."""
    workers = min(cores(), len(cases))
    if workers < 2:
        for case in cases:
            yield case, *_timed(case)
        return
    processes = pool(workers, _ignore_interrupts)
    try:
        running: dict[Future[tuple[Outcome, float]], Case] = {}
        upcoming = iter(cases)
        while True:
            while len(running) < workers and (following := next(upcoming, None)) is not None:
                running[processes.submit(_timed, following)] = following
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), *future.result()
    finally:
        # Also when the reader goes away, or presses Ctrl-C: what runs is ended, not waited for.
        for process in list((processes._processes or {}).values()):
            process.terminate()
        processes.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of the terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
