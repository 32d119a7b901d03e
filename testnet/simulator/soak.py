"""Random scenarios until the time is over, over several cores; each seed is logged, and each failure shrunk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from .plan import draw_plan
from .run import play
from .shrink import shrink


@dataclass(slots=True)
class Played:
    """One seed of a soak. command: what replays the least failing run; empty if nothing failed."""

    seed: int
    events: int
    faults: int
    duplicates: int
    tasks: int
    checker: str = ""
    text: str = ""
    command: str = ""


@dataclass(slots=True)
class SoakTotals:
    runs: int = 0
    events: int = 0
    faults: int = 0
    elapsed_s: float = 0.0
    failures: list[Played] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "events": self.events,
            "faults": self.faults,
            "elapsed_s": round(self.elapsed_s, 1),
            "failures": [
                {"seed": each.seed, "checker": each.checker, "text": each.text, "command": each.command}
                for each in self.failures
            ],
        }


def play_seed(seed: int, nodes: int | None, faults: int | None) -> Played:
    """For a process of the pool: draw, play, and shrink if it fails."""
    plan = draw_plan(seed, nodes=nodes, faults=faults)
    outcome = play(plan)
    played = Played(seed, outcome.events, len(outcome.happened), outcome.duplicates, outcome.tasks_submitted)
    if outcome.violations:
        first = outcome.violations[0]
        reduction, _ = shrink(plan, first.checker)
        played.checker, played.text = first.checker, first.text
        played.command = replay_command(seed, nodes, faults) + reduction.options()
    return played


def replay_command(seed: int, nodes: int | None = None, faults: int | None = None) -> str:
    command = f"hearth sim replay {seed} --trace"
    command += "" if nodes is None else f" --draw-nodes {nodes}"
    return command + ("" if faults is None else f" --draw-faults {faults}")


def soak(
    first_seed: int, seconds: float, *, runs: int | None = None, nodes: int | None = None, faults: int | None = None
) -> Iterator[Played]:
    """Seeds from the first one on, as they end; no new one begins after the time, or after so many runs."""
    workers = len(os.sched_getaffinity(0))
    deadline = time.monotonic() + seconds
    seeds = iter(range(first_seed, first_seed + runs) if runs is not None else range(first_seed, 1 << 62))
    with ProcessPoolExecutor(workers) as pool:
        running: set[Future[Played]] = set()
        exhausted = False
        while True:
            while not exhausted and len(running) < 2 * workers and time.monotonic() < deadline:
                seed = next(seeds, None)
                exhausted = seed is None
                if seed is not None:
                    running.add(pool.submit(play_seed, seed, nodes, faults))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=lambda played: played.seed)
