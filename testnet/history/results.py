"""What came of it: executions, results, and what the submitter accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .again import GONE
from .lines import Line

Report = Callable[..., None]


@dataclass(slots=True)
class JobAudit:
    """accepted: per task the line that accepted it first, and from which batch.
    results: how often each copy of each task ran.  replicas: how many keep it, as its submitter chose them.
    keepers: these, and whoever took the place of one."""

    submitted: Line
    replicas: int = 0
    keepers: dict[str, None] = field(default_factory=dict)
    accepted: dict[int, tuple[str, Line]] = field(default_factory=dict)
    results: dict[tuple[int, int], int] = field(default_factory=dict)
    cancelled: Line | None = None
    finished: Line | None = None
    expected: Line | None = None

    @property
    def tasks(self) -> int:
        tasks: int = self.submitted["tasks"]
        return tasks

    @property
    def copies(self) -> int:
        """Tasks that were run once more to compare, each as often as that."""
        return sum(1 for copy, _ in self.results if copy)

    @property
    def duplicates(self) -> int:
        """Results beyond the first of each task, and of each copy that the submitter asked for."""
        return sum(count - 1 for count in self.results.values())


@dataclass(slots=True)
class Results:
    """Told the lines in order, and at last that there are no more."""

    report: Report
    jobs: dict[str, JobAudit] = field(default_factory=dict)
    batches: dict[str, Line] = field(default_factory=dict)
    kept: dict[str, dict[str, Line]] = field(default_factory=dict)
    _gone: dict[str, dict[str, None]] = field(default_factory=dict)
    _accepts: list[tuple[Line, tuple[str, ...]]] = field(default_factory=list)
    _starts: dict[tuple[str, int, int], Line] = field(default_factory=dict)
    _ends: dict[tuple[str, int, int], Line] = field(default_factory=dict)

    def take(self, line: Line) -> None:
        match line.event:
            case "submit":
                self._submit(line)
            case "start":
                self._start(line)
            case "stop":
                self._end(line)
            case "result":
                self._result(line)
            case "keep":
                self._keep(line)
            case "accept":
                self._accept(line)
            case "peer":
                self._peer(line)
            case "kept" if line["job"] in self.jobs:
                self.jobs[line["job"]].replicas = len(line["replicas"])
                self.jobs[line["job"]].keepers.update(dict.fromkeys(line["replicas"]))
            case "cancel" | "finish" | "expect":
                self._mark(line)

    def _peer(self, line: Line) -> None:
        """Whom a node takes for gone, until it hears otherwise; a new life says nothing of those that it knows as dead
        from the start."""
        gone = self._gone.setdefault(line.node, {})
        if line["status"] in GONE:
            gone[line["peer"]] = None
        else:
            gone.pop(line["peer"], None)

    def _submit(self, line: Line) -> None:
        job = self.jobs.get(line["job"])
        if job is None:
            self.jobs[line["job"]] = JobAudit(line)
        elif (job.submitted.node, job.tasks) != (line.node, line["tasks"]):
            self.report("submitted-twice", "one job is submitted in two ways", job.submitted, line)

    def _start(self, line: Line) -> None:
        key = (*line.who, line["execution"])
        if key in self._starts:
            self.report("started-twice", "one execution starts twice", self._starts[key], line)
        self._starts[key] = line

    def _end(self, line: Line) -> Line | None:
        """The start that the line ends."""
        key = (*line.who, line["execution"])
        start = self._starts.get(key)
        if start is None:
            self.report("result-without-start", "an execution ends that did not start in this life", line)
            return None
        if key in self._ends:
            self.report("result-twice", "one execution ends twice", start, self._ends[key], line)
            return None
        self._ends[key] = line
        return start

    def _result(self, line: Line) -> None:
        start = self._end(line)
        if start is not None:
            same = all(start[key] == line[key] for key in ("job", "lo", "epoch", "copy"))
            if not same or line["hi"] > start["hi"]:
                self.report("result-without-start", "a result of other tasks than were started", start, line)
        if line["batch"] in self.batches:
            self.report("result-twice", "one batch is the result of two executions", self.batches[line["batch"]], line)
            return
        self.batches[line["batch"]] = line
        job = self.jobs.get(line["job"])
        for task in range(line["lo"], line["hi"]) if job is not None else ():
            assert job is not None
            key = (line["copy"], task)
            job.results[key] = job.results.get(key, 0) + 1

    def _keep(self, line: Line) -> None:
        batch = self.batches.get(line["batch"])
        if batch is None:
            self.report("result-without-start", "a batch is kept that nobody made", line)
        elif (batch.node, batch["job"]) != (line["worker"], line["job"]):
            self.report("result-differs", "a batch is kept as another's", batch, line)
        self.kept.setdefault(line["batch"], {}).setdefault(line.node, line)
        if line["job"] in self.jobs:
            self.jobs[line["job"]].keepers[line.node] = None

    def _accept(self, line: Line) -> None:
        job = self.jobs.get(line["job"])
        if job is None:
            self.report("unknown-job", "acceptance of a job that nobody submitted", line)
            return
        if job.submitted.node != line.node:
            self.report("accepted-by-another", "somebody accepts another's job", job.submitted, line)
        if job.cancelled is not None:
            self.report("accepted-after-cancel", "acceptance after the cancellation", job.cancelled, line)
        self._accepts.append((line, tuple(self._gone.get(line.node, {}))))
        for batch_id, lo, hi in line["parts"]:
            batch = self.batches.get(batch_id)
            if batch is None:
                self.report("accepted-without-result", f"batch {batch_id[:16]}… was made by nobody", line)
            elif batch["job"] != line["job"] or lo < batch["lo"] or hi > batch["hi"] or lo >= hi:
                self.report("accepted-without-result", f"tasks {lo} to {hi - 1} are not in the batch", batch, line)
            self._accept_part(job, batch_id, range(lo, hi), line)

    def _accept_part(self, job: JobAudit, batch_id: str, tasks: range, line: Line) -> None:
        for task in tasks:
            first, where = job.accepted.setdefault(task, (batch_id, line))
            if first != batch_id:
                made = [self.batches[each] for each in (first, batch_id) if each in self.batches]
                self.report("accepted-twice", f"task {task} is accepted from two batches", *made, where, line)
                return

    def _mark(self, line: Line) -> None:
        job = self.jobs.get(line["job"])
        if job is None:
            self.report("unknown-job", f"{line.event} of a job that nobody submitted", line)
        elif line.event == "cancel":
            job.cancelled = job.cancelled or line
        elif line.event == "finish":
            job.finished = job.finished or line
        else:
            job.expected = line

    def end(self) -> None:
        """Whatever the client, or who ran the test, calls finished must be accepted whole."""
        for job in self.jobs.values():
            said = job.finished or job.expected
            missing = [task for task in range(job.tasks) if task not in job.accepted]
            if said is not None and missing:
                text = f"{len(missing)} of {job.tasks} tasks were never accepted, task {missing[0]} is the first"
                self.report("not-accepted", text, job.submitted, said)
        for line, gone in self._accepts:
            job_of = self.jobs.get(line["job"])
            if job_of is not None:
                self._check_kept(job_of, line, gone)

    def _check_kept(self, job: JobAudit, line: Line, gone: tuple[str, ...]) -> None:
        """By the lines' times, which are of one machine's clock: an acceptance does not say on which disks it rests.

        gone: whom its signer took for gone then.
        """
        lost = sum(node in job.keepers for node in gone)
        enough = max(1, min(job.replicas // 2 + 1, job.replicas - lost))
        for batch_id in dict.fromkeys(part[0] for part in line["parts"]):
            keeps = list(self.kept.get(batch_id, {}).values())
            before = sum(1 for keep in keeps if keep.at_us <= line.at_us)
            if before < enough and batch_id in self.batches:
                text = f"batch {batch_id[:16]}… is accepted, and {before} of {job.replicas} replicas had kept it"
                self.report("accepted-before-kept", text, self.batches[batch_id], line, *keeps)
