"""Whether the books balance: receipts against the workers' meters, and against what the replicas say of the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .lines import Line
from .results import Results

# A meter counts a process's CPU in ticks of 10 ms, tasks count theirs in microseconds.
METER_SHARE = 0.05
METER_SLACK_MJ = 50_000
# What a process for tasks takes to start, and to compile the program, is on the meter and on no receipt: some 0.2 to
# 0.4 s were seen, with other programs on the same cores. One that was idle for a minute ends.
START_CPU_US = 750_000
IDLE_US = 60_000_000
# A part of a batch counts as a share of it, rounded to the unit each time that another candidate takes some of it.
ROUNDING = 8


@dataclass(slots=True)
class Receipts:
    """Of one life. open: executions that began and did not end.  processes: that may have been started for them.

    cut: one of them ended without a result.
    """

    energy_mj: int = 0
    useful_mj: int = 0
    cpu_us: int = 0
    open: int = 0
    cut: bool = False
    processes: int = 1
    seen_us: int = 0

    def start_mj(self, metered_mj: int) -> float:
        """What its processes may have taken before their first tasks, of all that was metered: not by the receipts'
        joules, which may be too few."""
        start_us = self.processes * START_CPU_US
        return metered_mj * start_us / (start_us + self.cpu_us)

    def take(self, line: Line) -> None:
        if self.seen_us and line.at_us - self.seen_us >= IDLE_US:
            self.processes += 1
        self.seen_us = line.at_us
        self.open += 1 if line.event == "start" else -1
        if line.event == "result":
            self.energy_mj += line["energy_mj"]
            self.useful_mj += line["useful_mj"]
            self.cpu_us += line["cpu_us"]
        else:
            self.cut = self.cut or line.event == "stop"


@dataclass(slots=True)
class Books:
    """Told the lines in order, and at last that there are no more. *_mj: sums over all lives."""

    report: Callable[..., None]
    receipts_mj: int = 0
    metered_mj: int = 0
    _receipts: dict[tuple[str, int], Receipts] = field(default_factory=dict)
    _killed: dict[str, None] = field(default_factory=dict)
    _is_known: bool = False
    _meters: dict[tuple[str, int], Line] = field(default_factory=dict)
    _told: dict[tuple[str, str], Line] = field(default_factory=dict)

    def take(self, line: Line) -> None:
        match line.event:
            case "start" | "stop" | "result":
                self._receipts.setdefault(line.who, Receipts()).take(line)
                if line.event == "result" and line["useful_mj"] > line["energy_mj"]:
                    self.report("books", "a receipt says that more heat was of use than there was", line)
            case "meter":
                self._meter(line)
            case "fault" if line["kind"] == "kill":
                self._killed[line["node"]] = None
            case "expect":
                self._is_known = True
            case "books":
                self._told[line["job"], line["replica"]] = line

    def _meter(self, line: Line) -> None:
        """All results so far were worked before the meter was read."""
        before = self._meters.get(line.who)
        if before is not None and before["work_uj"] > line["work_uj"]:
            self.report("books", "a meter ran backwards", before, line)
        self._meters[line.who] = line
        energy_mj = self._receipts.get(line.who, Receipts()).energy_mj
        metered_mj = line["work_uj"] // 1000
        if energy_mj > metered_mj * (1 + METER_SHARE) + METER_SLACK_MJ:
            text = f"receipts of {energy_mj / 1000:.1f} J, and {metered_mj / 1000:.1f} J on the meter"
            self.report("books", text, line)

    def end(self, results: Results) -> None:
        self.receipts_mj = sum(each.energy_mj for each in self._receipts.values())
        self.metered_mj = sum(line["work_uj"] // 1000 for line in self._meters.values())
        for who, line in self._meters.items():
            self._check_whole(self._receipts.get(who, Receipts()), line)
        first: dict[str, Line] = {}
        for (job_id, _), line in self._told.items():
            self._compare(job_id, line, results)
            if line["fingerprint"] != first.setdefault(job_id, line)["fingerprint"]:
                self.report("replicas-differ", "two replicas have not the same records", first[job_id], line)

    def _check_whole(self, receipts: Receipts, line: Line) -> None:
        """What a meter counted is on receipts, of a life whose executions all ended in results.

        Where somebody says what is to be expected: elsewhere programs may take any time to compile.
        """
        if not self._is_known or line.node in self._killed or receipts.open or receipts.cut:
            return
        slack_mj = METER_SLACK_MJ + receipts.start_mj(line["work_uj"] // 1000)
        for paid_mj, key, what in (
            (receipts.energy_mj, "work_uj", "J"),
            (receipts.useful_mj, "useful_uj", "J of use"),
        ):
            metered_mj = line[key] // 1000
            if metered_mj > paid_mj * (1 + METER_SHARE) + slack_mj:
                text = f"{metered_mj / 1000:.1f} {what} on the meter, and receipts of {paid_mj / 1000:.1f} {what} alone"
                self.report("books", text, line)

    def _compare(self, job_id: str, line: Line, results: Results) -> None:
        """What a replica says of each worker, against the receipts of what was accepted."""
        job = results.jobs.get(job_id)
        if job is None:
            self.report("unknown-job", "books of a job that nobody submitted", line)
            return
        sums: dict[str, list[float]] = {}
        rounding: dict[str, int] = {}
        counts: dict[str, int] = {}
        for batch_id, _ in job.accepted.values():
            counts[batch_id] = counts.get(batch_id, 0) + 1
        for batch_id, count in counts.items():
            batch = results.batches.get(batch_id)
            if batch is None:
                continue
            share = count / (batch["hi"] - batch["lo"])
            row = sums.setdefault(batch.node, [0, 0.0, 0.0, 0.0])
            rounding[batch.node] = rounding.get(batch.node, 0) + ROUNDING
            row[0] += count
            for at, key in enumerate(("cpu_us", "energy_mj", "useful_mj"), start=1):
                row[at] += batch[key] * share
        if sum(row[0] for row in line["workers"].values()) != len(job.accepted):
            self.report("books", f"{len(job.accepted)} tasks are accepted, and the replica counts others", line)
        for node in dict.fromkeys((*sums, *line["workers"])):
            ours, theirs = sums.get(node, [0, 0.0, 0.0, 0.0]), line["workers"].get(node, [0, 0, 0, 0])
            slack = rounding.get(node, 0)
            differs = any(abs(a - b) > slack for a, b in zip(ours[1:], theirs[1:], strict=True))
            if ours[0] != theirs[0] or differs:
                text = f"worker {node[:16]}…: receipts of {_row(ours)}; the replica says {_row(theirs)}"
                self.report("books", text, line)


def _row(row: list[float]) -> str:
    return f"{row[0]:.0f} tasks, {row[1] / 1e6:.3f} s of CPU, {row[2] / 1000:.3f} J ({row[3] / 1000:.3f} J of use)"
