"""Times, from the lines' own: how soon a killed node is missed, and how soon its tasks run elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .lines import Line

# Faults that end a process without a word.
KILLS = ("kill",)


@dataclass(slots=True)
class Times:
    """Seconds since a SIGKILL, one sample each.

    first: until the first other node called it dead.  each: until any one did.  elsewhere: until a task that the killed
    node held, and had no result of, was started by another.
    """

    first: list[float] = field(default_factory=list)
    each: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    tasks_held: int = 0

    def to_value(self) -> dict[str, Any]:
        return {
            "noticed_first_s": spread(self.first),
            "noticed_by_each_s": spread(self.each),
            "runs_elsewhere_s": spread(self.elsewhere),
            "tasks_held_by_killed": self.tasks_held,
        }


def spread(samples: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p99 by the nearest rank, and the greatest."""
    ordered = sorted(samples)
    return {
        "p50": _rank(ordered, 50),
        "p99": _rank(ordered, 99),
        "max": _rank(ordered, 100),
        "samples": len(ordered),
    }


def _rank(ordered: Sequence[float], percent: int) -> float | None:
    if not ordered:
        return None
    return round(ordered[max(0, ceil(len(ordered) * percent / 100) - 1)], 3)


def numbers(line: Line, tasks: Mapping[str, int]) -> list[tuple[str, int]]:
    """What a line is about, as grants number it: each copy of a task by itself."""
    shift = line.fields.get("copy", 0) * tasks.get(line["job"], 0)
    return [(line["job"], shift + task) for task in range(line["lo"], line["hi"])]


def measure(lines: Sequence[Line]) -> Times:
    """lines: in any order; all of one machine's monotonic clock."""
    by_time = sorted(lines, key=lambda line: line.at_us)
    times = Times()
    tasks = {line["job"]: line["tasks"] for line in by_time if line.event == "submit"}
    for fault in by_time:
        if fault.event == "fault" and fault["kind"] in KILLS and fault["node"]:
            _measure_kill(fault, by_time, tasks, times)
    return times


def _measure_kill(fault: Line, by_time: Sequence[Line], tasks: Mapping[str, int], times: Times) -> None:
    """Until the killed node's next life: what it does then is no news."""
    victim = fault["node"]
    back = (
        line.at_us for line in by_time if line.at_us > fault.at_us and line.event == "begin" and line.node == victim
    )
    until_us = next(back, 1 << 63)
    after = [line for line in by_time if fault.at_us < line.at_us < until_us and line.node != victim]
    noticed: dict[str, float] = {}
    for line in after:
        if line.event == "peer" and line["peer"] == victim and line["status"] == "dead":
            noticed.setdefault(line.node, (line.at_us - fault.at_us) / 1e6)
    times.each.extend(noticed.values())
    if noticed:
        times.first.append(min(noticed.values()))
    held = _held(victim, fault, by_time, tasks)
    times.tasks_held += len(held)
    for line in by_time:
        if line.event == "start" and line.at_us > fault.at_us and line.node != victim:
            for number in numbers(line, tasks):
                if number in held:
                    del held[number]
                    times.elsewhere.append((line.at_us - fault.at_us) / 1e6)


def _held(victim: str, fault: Line, by_time: Sequence[Line], tasks: Mapping[str, int]) -> dict[tuple[str, int], None]:
    """Tasks that it had a lease of, and neither a result nor given away."""
    held: dict[tuple[str, int], None] = {}
    for line in by_time:
        if line.at_us > fault.at_us:
            break
        if line.node != victim:
            continue
        if line.event == "begin":
            held.clear()
        elif line.event == "lease":
            held.update(dict.fromkeys(numbers(line, tasks)))
        elif line.event in ("result", "release") or (line.event == "grant" and line["parent"]):
            for number in numbers(line, tasks):
                held.pop(number, None)
    return held
