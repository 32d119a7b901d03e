"""Traces of a few runs as they were recorded: every interpreter that runs the suite has to come to the same bytes.

`make digests` records them anew after a change of the protocol or of the simulator; `make determinism` plays them under
each Python that is found.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hearthmesh.testnet.simulator.long_plan import long_plan
from hearthmesh.testnet.simulator.plan import Plan, draw_plan
from hearthmesh.testnet.simulator.run import play

RECORDED = Path(__file__).with_name("digests.json")
# Together: every fault that is drawn, rooms that get warm, clocks that drift, liars, results that are compared, NAT.
RUNS: dict[str, Callable[[], Plan]] = {
    "random 7": lambda: draw_plan(7, honest=True),
    "random 8 with noise": lambda: replace(draw_plan(8, honest=True), liars=("noise",)),
    "random 21": lambda: draw_plan(21, honest=True),
    "random 158 with doubts": lambda: draw_plan(158),
    "warm rooms": lambda: replace(draw_plan(5, honest=True), room_speed=30.0, drift_ppm=5_000),
    "behind NAT": lambda: replace(draw_plan(6, honest=True), nat=0.5, access="mixed"),
    "long 3": lambda: long_plan(3, nodes=6, hours=0.004),
}


def played() -> dict[str, str]:
    """The trace's digest of each run, by its name, under this interpreter."""
    return {name: play(plan()).trace_digest for name, plan in RUNS.items()}


def recorded() -> dict[str, str]:
    found: dict[str, str] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def main(arguments: list[str]) -> int:
    """`--write` records; without it, compares and says so."""
    found = played()
    if arguments == ["--write"]:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return 0
    wrong = [name for name, digest in recorded().items() if found.get(name) != digest]
    print(f"Python {platform.python_version()}: {len(found) - len(wrong)} of {len(found)} traces as recorded", *wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
