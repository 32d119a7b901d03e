"""Random scenarios until the time is over, over several cores; each seed is logged, and each failure shrunk."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..line_log import LineLog
from . import compiled
from .cores import cores, pool
from .plan import draw_plan
from .run import play
from .shrink import shrink

_SOURCES = "; sources "


@dataclass(slots=True)
class Played:
    """One seed of a soak. command: what replays the least failing run; empty if nothing failed.

    sources: a digest of what was played; empty in lines that are older than that.
    """

    seed: int
    nodes: int
    events: int
    faults: int
    duplicates: int
    tasks: int
    cpu_s: float
    checker: str = ""
    text: str = ""
    command: str = ""
    sources: str = ""


@dataclass(slots=True)
class SoakTotals:
    """elapsed_s: of this call; all else with what the log holds of earlier ones.

    by_sources: the runs and failures of each digest of sources, in the order in which they came.
    """

    runs: int = 0
    events: int = 0
    faults: int = 0
    tasks: int = 0
    duplicates: int = 0
    cpu_s: float = 0.0
    elapsed_s: float = 0.0
    failures: list[Played] = field(default_factory=list)
    by_sources: dict[str, list[int]] = field(default_factory=dict)

    def add(self, played: Played) -> None:
        self.runs += 1
        of_these = self.by_sources.setdefault(played.sources, [0, 0])
        of_these[0] += 1
        of_these[1] += bool(played.checker)
        self.events += played.events
        self.faults += played.faults
        self.tasks += played.tasks
        self.duplicates += played.duplicates
        self.cpu_s += played.cpu_s
        if played.checker:
            self.failures.append(played)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "events": self.events,
            "faults": self.faults,
            "tasks": self.tasks,
            "duplicates": self.duplicates,
            "cpu_s": round(self.cpu_s, 1),
            "events_per_cpu_s": round(self.events / self.cpu_s) if self.cpu_s else 0,
            "compiled": compiled.in_use(),
            "elapsed_s": round(self.elapsed_s, 1),
            "sources": compiled.digest_of_sources(),
            "by_sources": [
                {"sources": sources, "runs": runs, "failed": failed}
                for sources, (runs, failed) in self.by_sources.items()
            ],
            "failures": [
                {"seed": each.seed, "checker": each.checker, "text": each.text, "command": each.command}
                for each in self.failures
            ],
        }


class Log:
    """A line for each seed; what it holds of the same draw need not be played again.

    seed outcome nodes faults events tasks duplicates cpu-seconds [what was found] | [command; ]draw N/F; sources digest
    """

    def __init__(self, path: Path, nodes: int | None, faults: int | None) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)
        self._draw = (nodes, faults)

    def played(self) -> dict[int, Played]:
        """By seed. Lines that are not whole, as a process leaves them that was killed, are left out."""
        found: dict[int, Played] = {}
        for line in self._lines.whole():
            head, _, tail = line.decode(errors="replace").partition(" | ")
            fields = head.split(" ", 8)
            try:
                seed, nodes, faults, events, tasks, duplicates = (int(fields[at]) for at in (0, 2, 3, 4, 5, 6))
                cpu_s = float(fields[7])
            except (IndexError, ValueError):
                continue
            text, draw = fields[8] if len(fields) > 8 else "", f"{self._draw[0]}/{self._draw[1]}"
            tail, _, sources = tail.partition(_SOURCES)
            if tail.endswith(f"draw {draw}"):
                checker = "" if fields[1] == "ok" else fields[1]
                command = tail.partition("; ")[0] if checker else ""
                counts = (nodes, events, faults, duplicates, tasks, cpu_s)
                found[seed] = Played(seed, *counts, checker, text, command, sources)
        return found

    def append(self, played: Played) -> None:
        numbers = (played.nodes, played.faults, played.events, played.tasks, played.duplicates, f"{played.cpu_s:.3f}")
        text = " ".join(played.text.split()).replace(" | ", " / ")
        head = " ".join(map(str, (played.seed, played.checker or "ok", *numbers, text))).rstrip()
        command = f"{played.command}; " if played.command else ""
        draw = f"draw {self._draw[0]}/{self._draw[1]}{_SOURCES}{played.sources}"
        self._lines.append(f"{head} | {command}{draw}".encode())


def play_seed(seed: int, nodes: int | None, faults: int | None) -> Played:
    """For a process of the pool: draw, play, and shrink if it fails."""
    plan = draw_plan(seed, nodes=nodes, faults=faults)
    outcome = play(plan)
    counts = (outcome.events, len(outcome.happened), outcome.duplicates, outcome.tasks_submitted)
    played = Played(seed, plan.nodes, *counts, round(outcome.cpu_s, 3), sources=_own_sources())
    if outcome.violations:
        first = outcome.violations[0]
        reduction, _ = shrink(plan, first.checker)
        played.checker, played.text = first.checker, first.text
        played.command = replay_command(seed, nodes, faults) + reduction.options()
    return played


@lru_cache(maxsize=1)
def _own_sources() -> str:
    """Once a process: as they were when it began, or so."""
    return compiled.digest_of_sources()


def replay_command(seed: int, nodes: int | None = None, faults: int | None = None) -> str:
    command = f"hearth sim replay {seed} --trace"
    command += "" if nodes is None else f" --draw-nodes {nodes}"
    return command + ("" if faults is None else f" --draw-faults {faults}")


def soak(
    first_seed: int,
    seconds: float,
    *,
    runs: int | None = None,
    nodes: int | None = None,
    faults: int | None = None,
    leave_out: Collection[int] = (),
) -> Iterator[Played]:
    """Seeds from the first one on, as they end; no new one begins after the time, or after so many runs.

    leave_out: seeds that were played before; they count among the runs.
    """
    workers = cores()
    deadline = time.monotonic() + seconds
    wanted = range(first_seed, first_seed + runs) if runs is not None else range(first_seed, 1 << 62)
    seeds = (seed for seed in wanted if seed not in leave_out)
    with pool(workers) as processes:
        running: set[Future[Played]] = set()
        exhausted = False
        while True:
            while not exhausted and len(running) < 2 * workers and time.monotonic() < deadline:
                seed = next(seeds, None)
                exhausted = seed is None
                if seed is not None:
                    running.add(processes.submit(play_seed, seed, nodes, faults))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from sorted((future.result() for future in done), key=lambda played: played.seed)
