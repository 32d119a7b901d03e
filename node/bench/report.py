"""The report for people: what was measured against what we aim at, where the time goes, and the peers beside us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cli.output import print_table, say
from ..cli.tables import Column, Columns
from .peers import OURS, PACK
from .suite import Report


@dataclass(frozen=True, slots=True)
class Target:
    """What a number should reach: at least the bound, or at most."""

    label: str
    unit: str
    bound: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:,g}"


TARGETS: Mapping[str, Target] = {
    "tiny_tasks_per_s": Target("tiny tasks, 2 workers, 3 replicas", "/s", 10_000, True),
    "single_ms_p50": Target("one task, idle mesh, p50", "ms", 10, False),
    "single_ms_p99": Target("one task, idle mesh, p99", "ms", 40, False),
    "efficiency_50ms": Target("50 ms tasks on 2 cores, efficiency", "", 0.93, True),
    "rss_idle_mb": Target("node at rest, 8 peers, resident", "MB", 130, False),
    "cpu_idle_percent": Target("node at rest, 8 peers, of a core", "%", 1, False),
    "million_task_job_mb": Target("a job of a million tasks, on a replica", "MB", 64, False),
    "blob_mb_per_s": Target("blobs between two nodes", "MB/s", 150, True),
    "budgets_cpu_ratio": Target("accounts of peers: CPU of a tiny task, with by without", "", 1.05, False),
    "runs_a_task_checked": Target("runs of a task where results are compared, honest nodes", "", 1.05, False),
}


MEASURED_COLUMNS: Columns = (
    *(Column("measured", folds=True), ">value", "", Column(">rounds", folds=True, drop=1), ">aim", "met"),
)
PROCESS_COLUMNS: Columns = ("process", ">µs a task", ">share")
PART_COLUMNS: Columns = ("part", Column("measured", folds=True), ">value")
SYSTEM_COLUMNS: Columns = (
    *("system", ">tiny, /s", f">{PACK} by hand, /s", Column(">CPU µs/task", drop=2), ">one p50, ms"),
    *(Column(">p99", drop=1), ">50 ms eff."),
)
RATIO_COLUMNS: Columns = (
    *("ratio", Column(">tiny", folds=True), Column(f">tiny : packed {PACK}", folds=True)),
    *(Column(">one p50", folds=True, drop=2), Column(">50 ms eff.", folds=True, drop=1)),
)
HOT_COLUMNS: Columns = (">own", ">total", ">calls", Column("function", folds=True))

# Other programs' share of the machine above which wall figures say little, cores.
QUIET_CORES = 0.1


def print_report(report: Report) -> None:
    rows = []
    for name, target in TARGETS.items():
        if name in report.numbers:
            value, spread = report.numbers[name], report.spread[name]
            rows.append(
                (
                    target.label,
                    f"{value:,g}",
                    target.unit,
                    f"{spread['min']:,g} … {spread['max']:,g}",
                    target.text(),
                    "yes" if target.met(value) else "no",
                )
            )
    print_table(MEASURED_COLUMNS, rows, empty="nothing was measured")
    _warn_of_others(
        [report.details.get(part, {}).get("others_cores", 0.0) for part in ("tiny", "efficiency", "budgets")]
    )
    _print_tiny(report.details.get("tiny"))
    _print_million(report.details.get("million"))
    _print_budgets(report.details.get("budgets"))
    _print_checked(report.details.get("checked"))
    _print_parts(report.details)
    say("")
    say(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    say(", ".join(f"{name} {value}" for name, value in report.versions.items()))


def _warn_of_others(others_cores: Sequence[float]) -> None:
    if max(others_cores) > QUIET_CORES:
        say("")
        say(
            f"other programs used up to {max(others_cores):.1f} cores meanwhile: rates, times and efficiencies say "
            "little, CPU time a task does; stop them and measure again"
        )


def _print_tiny(tiny: Mapping[str, Any] | None) -> None:
    if tiny is None:
        return
    say("")
    say("where the time of a tiny task goes, CPU-µs by process:")
    total = tiny["cpu_us_per_task_total"]
    rows = [
        (name, f"{used_us:.1f}", f"{used_us / total:.0%}" if total else None)
        for name, used_us in tiny["cpu_us_per_task"].items()
    ]
    print_table(PROCESS_COLUMNS, [*rows, ("together", f"{total:.1f}", None)], empty="")
    say(
        f"{tiny['seconds']:.2f} s for {tiny['tasks']:,} tasks, of which {tiny['submit_s']:.2f} s until the job was kept"
        f"; {tiny['steals']:g} steals, {tiny['duplicates']} tasks ran twice"
    )


def _print_million(million: Mapping[str, Any] | None) -> None:
    if million is not None and million["done_tasks"]:
        grown = max(million["done_mb"].values())
        say("")
        say(f"the job of a million tasks, after {million['done_tasks']:,} were done: {grown:.1f} MB on a replica")


def _print_budgets(budgets: Mapping[str, Any] | None) -> None:
    if budgets is not None:
        cpu_us, rate, message_us = (budgets[key] for key in ("nodes_cpu_us_per_task", "tasks_per_s", "message_us"))
        say("")
        say(
            f"accounts of peers: a tiny task takes the nodes {cpu_us['with']:g} us of CPU with and "
            f"{cpu_us['without']:g} without ({rate['with']:,g} and {rate['without']:,g} tasks/s), "
            f"a message {message_us['with']:g} us and {message_us['without']:g}"
        )


def _print_checked(checked: Mapping[str, Any] | None) -> None:
    if checked is not None:
        say("")
        say(
            f"compared results: by the policy {checked['expected']:.3f} runs a task with the names that workers had, "
            f"± {checked['deviation']:.4f} by the draw; {checked['unasked']} runs were neither a task's first nor a "
            f"check's; {checked['warm_up']:.3f} runs a task in the {checked['warm_up_tasks']:,} tasks before"
        )


def _print_parts(details: Mapping[str, Any]) -> None:
    rows = [
        (part, name, f"{value:,g}")
        for part in ("storage", "execution")
        for name, value in details.get(part, {}).items()
    ]
    if rows:
        say("")
        print_table(PART_COLUMNS, rows, empty="")


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Three workloads, each system in a row; ratios say how many times better we are."""
    say("")
    say(f"the same work on {', '.join(comparison['systems'])}; interleaved rounds: {comparison['rounds']}")
    rows = [_comparison_row(system, row) for system, row in comparison["systems"].items()]
    print_table(SYSTEM_COLUMNS, rows, empty="")
    _warn_of_others([row["others_cores"] for row in comparison["systems"].values()])
    ratios = [
        (
            f"{OURS} : {system}",
            *(f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})" for ratio in row.values()),
        )
        for system, row in comparison["ratios"].items()
    ]
    if ratios:
        say("")
        say("how many times better, median (least–most of the rounds); below 1 the other is:")
        print_table(RATIO_COLUMNS, ratios, empty="")
    for system, reason in comparison["skipped"].items():
        say(f"{system} was skipped: {reason}")


def _comparison_row(system: str, row: Mapping[str, float]) -> tuple[str, ...]:
    packed = row.get(f"packed_{PACK}_tasks_per_s")
    return (
        f"{system}",
        f"{row['tiny_tasks_per_s']:,.0f}",
        "–" if packed is None else f"{packed:,.0f}",
        f"{row['cpu_us_per_task']:,.0f}",
        f"{row['single_ms_p50']:.1f}",
        f"{row['single_ms_p99']:.1f}",
        f"{row['efficiency_50ms']:.3f}",
    )


def print_profile(profile: Mapping[str, Any]) -> None:
    say(
        f"{profile['profile']}: where the time of {profile['tasks']:,} tiny tasks went, CPU-µs a task, "
        "the profiler's own among it"
    )
    rows = [
        (f"{hot['own_us']:.2f}", f"{hot['total_us']:.2f}", f"{hot['calls']:.3f}", hot["function"])
        for hot in profile["functions"]
    ]
    print_table(HOT_COLUMNS, rows, empty="nothing was recorded")
