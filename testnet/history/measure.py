"""Times, from the lines' own: how soon a killed node is missed, and how soon its tasks run elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .lines import HARMLESS, Line

# Faults that end a process without a word.
KILLS = ("kill",)
# What is promised of a node that is killed while nobody else is hurt: when it is missed, and when its tasks run again.
NOTICED_WITHIN_S = 3.0
ELSEWHERE_WITHIN_S = 10.0
NEVER_US = 1 << 63


@dataclass(frozen=True, slots=True)
class Kill:
    """One SIGKILL, in seconds since.

    is_alone: nobody else was hurt then, nor until its tasks were to run again.  noticed_s: until the first other node
    called it dead; None if none did before it was back.  away_s: until it was; None if it did not come back.
    again_s: of what it held, and had no result of, each task that was started again, by whomever.
    missed: how many of these nobody started, though a job that was not cancelled lacked them to the end.
    """

    name: str
    is_alone: bool
    noticed_s: float | None
    away_s: float | None
    held: int
    again_s: tuple[float, ...]
    missed: int = 0

    @property
    def late(self) -> list[str]:
        """What took longer than is promised, for people."""
        found = []
        if self.noticed_s is None and (self.away_s is None or self.away_s >= NOTICED_WITHIN_S):
            found.append(f"{self.name} was killed, and nobody called it dead")
        elif self.noticed_s is not None and self.noticed_s >= NOTICED_WITHIN_S:
            found.append(f"{self.name} was killed, and called dead after {self.noticed_s:.2f} s")
        last_s = max(self.again_s, default=0.0)
        if last_s >= ELSEWHERE_WITHIN_S:
            found.append(f"{self.name} was killed, and a task that it held started again after {last_s:.2f} s")
        if self.missed:
            found.append(f"{self.name} was killed, and of the tasks that it held {self.missed} never started again")
        return found if self.is_alone else []

    def to_value(self) -> dict[str, Any]:
        return {
            "node": self.name,
            "alone": self.is_alone,
            "noticed_s": None if self.noticed_s is None else round(self.noticed_s, 3),
            "away_s": None if self.away_s is None else round(self.away_s, 3),
            "tasks_held": self.held,
            "tasks_run_again_s": spread(self.again_s),
            "tasks_missed": self.missed,
            "late": self.late,
        }


@dataclass(slots=True)
class Times:
    """Seconds since a SIGKILL, one sample each.

    first: until the first other node called it dead.  each: until any one did.  elsewhere: until a task that the killed
    node held, and had no result of, was started by another.
    """

    kills: list[Kill] = field(default_factory=list)
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
            "kills": [kill.to_value() for kill in self.kills],
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
    spans = _spans(by_time)
    for fault in by_time:
        if fault.event == "fault" and fault["kind"] in KILLS and fault["node"]:
            _measure_kill(fault, by_time, tasks, times, _is_alone(fault, spans))
    return times


def _spans(by_time: Sequence[Line]) -> list[tuple[Line, int]]:
    """Each fault that hurts a node, and until when; one that nobody mends is a moment's."""
    spans: list[tuple[Line, int]] = []
    for at, fault in enumerate(by_time):
        if fault.event == "fault" and fault["kind"] not in HARMLESS:
            key = fault["kind"], fault["node"]
            mends = (line for line in by_time[at:] if line.event == "mend" and (line["kind"], line["node"]) == key)
            mend = next(mends, None)
            spans.append((fault, fault.at_us if mend is None else mend.at_us))
    return spans


def _is_alone(fault: Line, spans: Sequence[tuple[Line, int]]) -> bool:
    end_us = fault.at_us + ELSEWHERE_WITHIN_S * 1e6
    others = [(other, until_us) for other, until_us in spans if other is not fault]
    return not any(other.at_us <= end_us and until_us >= fault.at_us for other, until_us in others)


def _measure_kill(fault: Line, by_time: Sequence[Line], tasks: Mapping[str, int], times: Times, is_alone: bool) -> None:
    """Until the killed node's next life: what it does then is no news."""
    victim = fault["node"]
    back = (
        line.at_us for line in by_time if line.at_us > fault.at_us and line.event == "begin" and line.node == victim
    )
    until_us = next(back, NEVER_US)
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
    elsewhere: dict[tuple[str, int], float] = {}
    again: dict[tuple[str, int], float] = {}
    for line in by_time:
        if line.event == "start" and line.at_us > fault.at_us:
            after_s = (line.at_us - fault.at_us) / 1e6
            for number in numbers(line, tasks):
                if number in held:
                    again.setdefault(number, after_s)
                    if line.node != victim:
                        elsewhere.setdefault(number, after_s)
    times.elsewhere.extend(elsewhere.values())
    name = next((line.name for line in by_time if line.node == victim), victim)
    away_s = None if until_us == NEVER_US else (until_us - fault.at_us) / 1e6
    noticed_s = min(noticed.values(), default=None)
    missed = _missed([number for number in held if number not in again], fault, by_time, tasks)
    times.kills.append(Kill(name, is_alone, noticed_s, away_s, len(held), tuple(again.values()), missed))


def _missed(
    unstarted: Sequence[tuple[str, int]], fault: Line, by_time: Sequence[Line], tasks: Mapping[str, int]
) -> int:
    """Of these how many had no result by anybody, of tasks that were never accepted, though there was time for it."""
    if not unstarted or by_time[-1].at_us - fault.at_us < ELSEWHERE_WITHIN_S * 1e6:
        return 0
    over: dict[str, None] = {}
    ran: dict[tuple[str, int], None] = {}
    accepted: dict[tuple[str, int], None] = {}
    for line in by_time:
        if line.event == "cancel":
            over[line["job"]] = None
        elif line.event == "result":
            ran.update(dict.fromkeys(numbers(line, tasks)))
        elif line.event == "accept":
            accepted.update(((line["job"], task), None) for _, lo, hi in line["parts"] for task in range(lo, hi))
    lacking = [(job, at) for job, at in unstarted if job not in over and (job, at) not in ran]
    return sum((job, at % tasks[job] if job in tasks else at) not in accepted for job, at in lacking)


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
