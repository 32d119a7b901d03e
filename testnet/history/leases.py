"""Who may run what: grants, leases taken, and starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .lines import COPIES_MAX, HARMLESS, Line

# Why a run ended that may go on from its checkpoint.
SAVED = "saved"
Report = Callable[..., None]
Task = tuple[str, int]


@dataclass(slots=True)
class Leases:
    """Told the lines in order. collisions: pairs of grants of one task and epoch by granters that could not talk.

    A line is written when a grant is made, and the grant leaves when it is on disk: who is killed in between has given
    nothing, and its next life gives the same again. So what a later life contradicts counts if another node took it.
    """

    report: Report
    collisions: int = 0
    _jobs: dict[str, Line] = field(default_factory=dict)
    _grants: dict[str, Line] = field(default_factory=dict)
    _granted: dict[str, dict[Task, Line]] = field(default_factory=dict)
    _holders: dict[tuple[str, int, int], Line] = field(default_factory=dict)
    _taken: dict[tuple[str, int], dict[str, Line]] = field(default_factory=dict)
    _held: dict[tuple[str, int], dict[tuple[str, int, int], list[Line]]] = field(default_factory=dict)
    _given: dict[tuple[str, int], dict[Task, tuple[int, Line]]] = field(default_factory=dict)
    _started: dict[tuple[str, int], dict[tuple[str, int, int], list[Line]]] = field(default_factory=dict)
    _runs: dict[tuple[tuple[str, int], int], Line] = field(default_factory=dict)
    _left: dict[str, None] = field(default_factory=dict)
    _doubtful: dict[tuple[str, str, str], tuple[str, Line, Line]] = field(default_factory=dict)
    _hurt: bool = False
    _copies: list[Line] = field(default_factory=list)
    _rechecks: dict[str, list[Line]] = field(default_factory=dict)

    def take(self, line: Line) -> None:
        match line.event:
            case "submit":
                self._jobs.setdefault(line["job"], line)
            case "fault":
                self._hurt = self._hurt or line["kind"] not in HARMLESS
                if line["kind"] == "disk-lost":
                    # It cannot know what it granted; that others do is what its comparison with them is for.
                    self._granted.pop(line["node"], None)
            case "grant":
                self._grant(line)
            case "lease":
                self._lease(line)
            case "release":
                self._release(line)
            case "recheck":
                self._rechecks.setdefault(line["job"], []).append(line)
            case "start":
                self._start(line)
            case "stop" if line["reason"] == SAVED:
                self._saved(line)

    def _grant(self, line: Line) -> None:
        known = self._grants.get(line["grant"])
        if known is not None:
            if _terms(known) != _terms(line) or known["holder"] != line["holder"]:
                self.report("grant-differs", "one grant is told in two ways", known, line)
            return
        self._grants[line["grant"]] = line
        job = self._jobs.get(line["job"])
        if job is None:
            self.report("unknown-job", "a grant of a job that nobody submitted", line)
        elif line["hi"] > job["tasks"] * COPIES_MAX:
            self.report("unknown-job", f"a grant of tasks beyond the job's {job['tasks']}", line, job)
        elif line["hi"] > job["tasks"]:
            self._copies.append(line)
        if line["parent"]:
            self._hand_on(line)
        granted = self._granted.setdefault(line.node, {})
        for task in range(line["lo"], line["hi"]):
            before = granted.get((line["job"], task))
            granted[line["job"], task] = line
            if before is not None and before["epoch"] >= line["epoch"]:
                text = f"task {task} is granted under epoch {line['epoch']}, after {before['epoch']} by the same node"
                self._contradict("epoch-back", text, before, line)
        self._check_holders(line)

    def _contradict(self, check: str, text: str, before: Line, line: Line) -> None:
        """Two grants say it once, of their first task."""
        self._doubtful.setdefault((check, before["grant"], line["grant"]), (text, before, line))

    def end(self) -> None:
        """Whether a grant had left, and what copies were asked for, no order of lines says before."""
        for (check, _, _), (text, before, line) in self._doubtful.items():
            is_later_life = before.node == line.node and before.who != line.who
            if before["grant"] in self._left or not is_later_life:
                self.report(check, text, before, line)
        self._check_copies()

    def _check_copies(self) -> None:
        """They are run for the submitter alone."""
        for grant in self._copies:
            tasks = self._jobs[grant["job"]]["tasks"]
            wanted: set[int] = set()
            for recheck in self._rechecks.get(grant["job"], ()):
                shift = recheck["copy"] * tasks
                wanted.update(range(shift + recheck["lo"], shift + recheck["hi"]))
            if not wanted.issuperset(range(grant["lo"], grant["hi"])):
                self.report("copy-unasked", "tasks are run once more, and their submitter did not ask for it", grant)

    def _check_holders(self, line: Line) -> None:
        for task in range(line["lo"], line["hi"]):
            key = (line["job"], task, line["epoch"])
            other = self._holders.get(key, line)
            self._holders[key] = line
            if other["holder"] == line["holder"]:
                continue
            if other.node != line.node and self._hurt:
                self.collisions += 1
                return
            text = f"task {task} has two leases under epoch {line['epoch']}, of different nodes"
            self._contradict("two-leases", text, other, line)

    def _hand_on(self, line: Line) -> None:
        """Who hands on held it, in this life; and from now on may not start it."""
        parent = self._taken.get(line.who, {}).get(line["parent"])
        if parent is None:
            self.report("grant-without-right", "a task is handed on by a node that did not hold it", line)
            return
        if not (parent["lo"] <= line["lo"] and line["hi"] <= parent["hi"] and parent["job"] == line["job"]):
            self.report("grant-without-right", "more is handed on than was held", parent, line)
        if line["epoch"] <= parent["epoch"]:
            self.report("epoch-back", "a task is handed on under an epoch that is not higher", parent, line)
        self._give(line, parent["epoch"])

    def _give(self, line: Line, epoch: int) -> None:
        given = self._given.setdefault(line.who, {})
        for task in range(line["lo"], line["hi"]):
            before = given.get((line["job"], task))
            if before is None or before[0] < epoch:
                given[line["job"], task] = epoch, line

    def _lease(self, line: Line) -> None:
        grant = self._grants.get(line["grant"])
        if grant is None:
            self.report("lease-without-grant", "a lease is taken that nobody gave", line)
        elif _terms(grant) != _terms(line) or grant["holder"] != line.node or grant.node != line["granter"]:
            self.report("grant-differs", "a lease is taken on other terms than it was given", grant, line)
        if line.node != line["granter"]:
            self._left[line["grant"]] = None
        taken = self._taken.setdefault(line.who, {})
        if line["grant"] in taken:
            self.report("lease-twice", "one grant is taken twice in a life", taken[line["grant"]], line)
        taken[line["grant"]] = line
        held = self._held.setdefault(line.who, {})
        for task in range(line["lo"], line["hi"]):
            held.setdefault((line["job"], task, line["epoch"]), []).append(line)

    def _release(self, line: Line) -> None:
        taken = self._taken.get(line.who, {}).get(line["grant"])
        if taken is None:
            self.report("lease-without-grant", "a lease is given back by a node that did not hold it", line)
        self._give(line, line["epoch"])

    def _start(self, line: Line) -> None:
        held = self._held.get(line.who, {})
        given = self._given.get(line.who, {})
        started = self._started.setdefault(line.who, {})
        self._runs[line.who, line["execution"]] = line
        job = self._jobs.get(line["job"])
        shift = line["copy"] * job["tasks"] if job is not None else 0
        for task in range(shift + line["lo"], shift + line["hi"]):
            key = (line["job"], task, line["epoch"])
            leases = held.get(key)
            if leases is None:
                self.report("start-without-lease", f"task {task} starts under no lease", line)
                return
            gone = given.get((line["job"], task))
            if gone is not None and gone[0] >= line["epoch"]:
                self.report("start-after-giving", f"task {task} starts where it was given away", gone[1], line)
                return
            starts = started.setdefault(key, [])
            starts.append(line)
            # Granters that could not talk may have used one epoch: then each start is under a lease of its own.
            if len(starts) > len(leases):
                self.report("started-twice", f"task {task} starts twice under one lease", *leases, *starts)
                return

    def _saved(self, line: Line) -> None:
        """A task that was stopped at its checkpoint may go on under the lease that it has."""
        run = self._runs.get((line.who, line["execution"]))
        if run is not None and run["hi"] - run["lo"] == 1 and not run["copy"]:
            starts = self._started[line.who].get((run["job"], run["lo"], run["epoch"]))
            if starts:
                starts.pop()


def _terms(line: Line) -> tuple[str, int, int, int]:
    return line["job"], line["lo"], line["hi"], line["epoch"]
