"""`hearth`, run under a profiler from the moment that everything is imported: `profiled.py OUTPUT ARGUMENT…`."""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_Row = tuple[int, int, float, float, object]


@dataclass(frozen=True, slots=True)
class Hot:
    """One function's share of a task; own_us: without what it called."""

    function: str
    calls: float
    own_us: float
    total_us: float


def cpu_profile() -> cProfile.Profile:
    """A profiler by the CPU time of its thread: waiting, and other programs on the machine, cost nothing in it."""
    return cProfile.Profile(time.thread_time_ns, 1e-9)


def hot_spots(profile: Path | cProfile.Profile, tasks: int, most: int = 30) -> list[Hot]:
    """Those with the most time of their own, first. The profiler itself about doubles the time of small calls."""
    stats = pstats.Stats(str(profile) if isinstance(profile, Path) else profile)
    rows: Mapping[tuple[str, int, str], _Row] = stats.stats  # type: ignore[attr-defined]  # typeshed leaves it out
    found = [
        Hot(_place(*where), row[1] / tasks, row[2] / tasks * 1e6, row[3] / tasks * 1e6) for where, row in rows.items()
    ]
    return sorted(found, key=lambda hot: (-hot.own_us, hot.function))[:most]


def _place(file: str, line: int, name: str) -> str:
    """The last two parts of the path are enough to find it."""
    if file == "~":
        return name
    return f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"


def main() -> None:
    from ..__main__ import main as hearth
    from ..service import run_node

    assert run_node is not None, "imported so that the profile begins after it"
    output, *arguments = sys.argv[1:]
    sys.argv = ["hearth", *arguments]
    profile = cpu_profile()
    try:
        profile.runcall(hearth)
    finally:
        profile.dump_stats(output)


if __name__ == "__main__":
    main()
