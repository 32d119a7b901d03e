"""One order of all lines that agrees with each node's own, and in which nothing comes before what it rests on.

Clocks are not asked: a node's lines are in its order, and a line that names a record comes after the one that made it
(Lamport, Time, Clocks, and the Ordering of Events, 1978). Where that leaves a choice, the times decide, so that the
order is near what an onlooker saw.
"""

from __future__ import annotations

from heapq import heappop, heappush

from .lines import History, Line, Violation

CYCLE_LINES_MAX = 8


def made_by(line: Line) -> tuple[str, str] | None:
    """What the line brings into the world, as (kind, id)."""
    match line.event:
        case "submit":
            return "job", line["job"]
        case "grant":
            return "grant", line["grant"]
        case "result":
            return "batch", line["batch"]
    return None


def rests_on(line: Line) -> list[tuple[str, str]]:
    """What must be there before the line."""
    match line.event:
        case "grant":
            parent = [("grant", line["parent"])] if line["parent"] else []
            return [("job", line["job"]), *parent]
        case "lease" | "release":
            return [("grant", line["grant"])]
        case "keep" | "take":
            return [("batch", line["batch"])]
        case "accept":
            return [("batch", batch) for batch in dict.fromkeys(part[0] for part in line["parts"])]
        case "kept" | "finish" | "cancel" | "start" | "recheck":
            return [("job", line["job"])]
    return []


def linearise(history: History) -> list[Line]:
    """The lines in that order; those on a circle are left out, and the circle is a violation of `causality`."""
    lines = history.lines
    makers: dict[tuple[str, str], int] = {}
    for at, line in enumerate(lines):
        made = made_by(line)
        if made is not None:
            makers.setdefault(made, at)
    after: list[list[int]] = [[] for _ in lines]
    waits = [0] * len(lines)
    last: dict[str, int] = {}
    for at, line in enumerate(lines):
        before = {last[line.file]} if line.file in last else set()
        before |= {makers[need] for need in rests_on(line) if makers.get(need, at) != at}
        last[line.file] = at
        waits[at] = len(before)
        for other in sorted(before):
            after[other].append(at)
    ready = [(lines[at].at_us, at) for at in range(len(lines)) if not waits[at]]
    ready.sort()
    order: list[Line] = []
    while ready:
        _, at = heappop(ready)
        order.append(lines[at])
        for later in after[at]:
            waits[later] -= 1
            if not waits[later]:
                heappush(ready, (lines[later].at_us, later))
    if len(order) < len(lines):
        history.violations.append(_circle(lines, after, waits))
    return order


def _circle(lines: list[Line], after: list[list[int]], waits: list[int]) -> Violation:
    """A shortest way to say that something came before what it rests on."""
    stuck = {at for at, count in enumerate(waits) if count}
    before: dict[int, list[int]] = {at: [] for at in sorted(stuck)}
    for at in sorted(stuck):
        for later in after[at]:
            if later in stuck:
                before[later].append(at)
    path = [next(at for at in before if before[at])]
    while path[-1] not in path[:-1]:
        path.append(next(at for at in before[path[-1]]))
    circle = path[path.index(path[-1]) + 1 :]
    shown = tuple(lines[at].shown() for at in sorted(circle)[:CYCLE_LINES_MAX])
    return Violation("causality", f"{len(circle)} lines, each of which rests on the one before, go in a circle", shown)
