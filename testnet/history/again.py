"""Whether tasks that were given, or run, once more had to be: only after the lease before had ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .lines import HARMLESS, Line
from .measure import numbers

# Who is so in the eyes of a granter holds nothing of it any more.
GONE = ("dead", "left")
Report = Callable[..., None]
Task = tuple[str, int]


@dataclass(slots=True)
class Again:
    """Told the lines in order, and at last that there are no more. Tasks are numbered as grants number them."""

    report: Report
    _tasks: dict[str, int] = field(default_factory=dict)
    _grants: dict[Task, list[Line]] = field(default_factory=dict)
    _last: dict[str, dict[Task, Line]] = field(default_factory=dict)
    _left: dict[str, None] = field(default_factory=dict)
    _pairs: dict[tuple[str, str], tuple[Line, Line, list[Task]]] = field(default_factory=dict)
    _ends: dict[str, dict[str, list[Line]]] = field(default_factory=dict)
    _releases: dict[Task, list[Line]] = field(default_factory=dict)
    _results: dict[Task, list[Line]] = field(default_factory=dict)
    _hurt: bool = False

    def take(self, line: Line) -> None:
        match line.event:
            case "submit":
                self._tasks.setdefault(line["job"], line["tasks"])
            case "fault":
                self._hurt = self._hurt or line["kind"] not in HARMLESS
                if line["kind"] == "disk-lost":
                    self._last.pop(line["node"], None)
            case "grant":
                self._grant(line)
            case "lease" if line.node != line["granter"]:
                self._left[line["grant"]] = None
            case "expire" | "overrun":
                self._end(line["holder"], line)
            case "peer" if line["status"] in GONE:
                self._end(line["peer"], line)
            case "release":
                for task in numbers(line, self._tasks):
                    self._releases.setdefault(task, []).append(line)
            case "result":
                for task in numbers(line, self._tasks):
                    self._results.setdefault(task, []).append(line)

    def _end(self, holder: str, line: Line) -> None:
        self._ends.setdefault(holder, {}).setdefault(line.node, []).append(line)

    def _grant(self, line: Line) -> None:
        last = self._last.setdefault(line.node, {})
        for task in numbers(line, self._tasks):
            before = last.get(task)
            if before is not None and before["grant"] == line["grant"]:
                return
            last[task] = line
            self._grants.setdefault(task, []).append(line)
            if before is not None:
                pair = before["grant"], line["grant"]
                self._pairs.setdefault(pair, (before, line, []))[2].append(task)

    def end(self) -> None:
        for before, line, tasks in self._pairs.values():
            if before.who != line.who and before["grant"] not in self._left:
                # Of a granter that was killed before its grant was on disk; nobody ever had it.
                continue
            live = next((task for task in tasks if not self._had_ended(task, before, line)), None)
            if live is not None:
                text = f"task {live[1]} is given once more, and nothing had ended its lease"
                self.report("granted-while-leased", text, before, line)
        for task, results in self._results.items():
            if len(results) > 1 and not self._hurt and not self._was_ended(task):
                text = f"task {task[1]} ran twice; nobody was hurt, and none of its leases had ended"
                self.report("ran-twice", text, *results[:2])

    def _had_ended(self, task: Task, before: Line, line: Line) -> bool:
        """By the granter's own lines between its two grants; whoever held it meanwhile may have handed it on, or back.

        A task is handed on once under one lease; who does it again holds it under another.
        """
        if line["parent"]:
            return bool(before["parent"] != line["parent"])
        holders = {each["holder"]: None for each in self._grants[task] if _is_between(before, each, line)}
        if any(_is_between(before, each, line) for each in self._releases.get(task, ())):
            return True
        since, until = (before.life, before.n), (line.life, line.n)
        ends = (end for holder in holders for end in self._ends.get(holder, {}).get(line.node, ()))
        return any(since < (end.life, end.n) < until and _is_of(end, task) for end in ends)

    def _was_ended(self, task: Task) -> bool:
        """By anybody who may grant, whenever."""
        ends = (end for each in self._grants.get(task, ()) for end in self._all_ends(each["holder"]))
        return any(_is_of(end, task) for end in ends)

    def _all_ends(self, holder: str) -> list[Line]:
        return [end for ends in self._ends.get(holder, {}).values() for end in ends]


def _is_between(before: Line, each: Line, line: Line) -> bool:
    """By epochs."""
    return bool(before["epoch"] <= each["epoch"] < line["epoch"])


def _is_of(end: Line, task: Task) -> bool:
    """What says no range is of all that the holder had; a node's death, of all jobs."""
    if end.event == "peer":
        return True
    return bool(end["job"] == task[0]) and (end.event == "overrun" or end["lo"] <= task[1] < end["hi"])
