"""The measurements in order, each in a mesh of its own, as one report."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import trio

from ..cli.errors import UserError
from .blobs import measure_blob_mb_per_s
from .budgets import measure_budgets, nodes_cpu_us
from .checked import Checked, CheckedRounds, measure_checked
from .execution import measure_execution
from .machine import describe_machine, describe_versions
from .profiled import cpu_profile, hot_spots
from .rest import measure_million, measure_rest
from .statistics import Rounds, quantile
from .storage import bench_storage
from .street import running
from .workloads import CLIENT, PARTS, LongRound, TinyRound, run_bare, run_long, run_single, run_tiny, warm_up

NAMES = ("tiny", "single", "efficiency", "idle", "million", "blobs", "budgets", "checked", "parts")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of each. done_tasks: of the million, after which memory is looked at again; 0 leaves that out."""

    rounds: int
    tiny_tasks: int
    singles: int
    long_tasks: int
    rest_s: float
    done_tasks: int
    blob_bytes: int
    blob_rounds: int
    checked_tasks: int
    checked_warm_up: int
    checked_rounds: int
    parts_scale: float


FULL = Plan(
    rounds=5,
    tiny_tasks=20_000,
    singles=300,
    long_tasks=200,
    rest_s=25.0,
    done_tasks=100_000,
    blob_bytes=256 << 20,
    blob_rounds=3,
    checked_tasks=6_000,
    checked_warm_up=1_200,
    checked_rounds=5,
    parts_scale=1.0,
)
QUICK = Plan(
    rounds=2,
    tiny_tasks=20_000,
    singles=200,
    long_tasks=200,
    rest_s=20.0,
    done_tasks=0,
    blob_bytes=256 << 20,
    blob_rounds=1,
    checked_tasks=6_000,
    checked_warm_up=1_200,
    checked_rounds=2,
    parts_scale=0.1,
)


@dataclass(slots=True)
class Report:
    """numbers: one a target.  spread: smallest and largest of the rounds behind each.  details: what explains them."""

    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    numbers: dict[str, float] = field(default_factory=dict)
    spread: dict[str, dict[str, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, rounds: Rounds, value: float | None = None) -> None:
        """The median of the rounds, or a value made of them otherwise."""
        self.numbers[name] = rounded(rounds.median if value is None else value)
        self.spread[name] = {key: rounded(bound) for key, bound in rounds.spread().items()}

    def as_json(self) -> dict[str, Any]:
        return {
            **self.numbers,
            "spread": self.spread,
            "details": self.details,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
        }


@asynccontextmanager
async def working_folder(parent: Path) -> AsyncIterator[Path]:
    """A folder for one run, removed at its end, and so is its parent if it was made for it. Raises UserError."""
    is_new = not parent.exists()
    folder = parent / f"run-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}; choose another --folder") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # what a comparison installed stays
                parent.rmdir()


async def run_suite(plan: Plan, names: Iterable[str], folder: Path, progress: Progress) -> Report:
    """Measure what `names` lists. Raises UserError, ClientError."""
    wanted = list(names)
    report = Report(describe_machine(folder), describe_versions())
    if {"tiny", "single", "efficiency"} & set(wanted):
        await _measure_tasks(plan, wanted, folder, report, progress)
    if "idle" in wanted:
        await _measure_rest(plan, folder, report, progress)
    if "million" in wanted:
        await _measure_million(plan, folder, report, progress)
    if "blobs" in wanted:
        await _measure_blobs(plan, report, progress)
    if "budgets" in wanted:
        await _measure_budgets(plan, folder, report, progress)
    if "checked" in wanted:
        await _measure_checked(plan, folder, report, progress)
    if "parts" in wanted:
        await _measure_parts(plan, folder, report, progress)
    return report


async def run_profile(plan: Plan, name: str, folder: Path, progress: Progress) -> dict[str, Any]:
    """Where the time of one process goes while tiny tasks run. name: a node's, or "client". Raises UserError."""
    if name != CLIENT and name not in PARTS:
        raise UserError(f'there is no process "{name}" to profile; there are: {", ".join(PARTS)}, {CLIENT}')
    profile = cpu_profile()
    async with running(folder, PARTS, profile=name) as mesh:
        async with mesh.client() as client:
            await warm_up(client)
            tasks = 0
            for number in range(plan.rounds):
                if name == CLIENT:
                    profile.enable()
                try:
                    measured = await run_tiny(mesh, client, plan.tiny_tasks)
                finally:
                    profile.disable()
                tasks += measured.tasks
                progress(f"profile: round {number + 1} of {plan.rounds}")
        await mesh.end()
        node = mesh.nodes.get(name)
        spots = hot_spots(node.profile if node is not None and node.profile is not None else profile, tasks)
    return {"profile": name, "tasks": tasks, "functions": [asdict(hot) for hot in spots]}


async def _measure_tasks(plan: Plan, names: Sequence[str], folder: Path, report: Report, progress: Progress) -> None:
    bare = [await _bare_round(plan, folder, progress)] if "efficiency" in names else []
    progress(f"starting {len(PARTS)} nodes")
    async with running(folder, PARTS) as mesh, mesh.client() as client:
        await warm_up(client)
        if "single" in names:
            _add_singles(report, [await run_single(client) for _ in range(plan.singles)])
            progress(f"single: {report.numbers['single_ms_p50']:g} ms")
        tiny: list[TinyRound] = []
        long: list[LongRound] = []
        for number in range(plan.rounds):
            of = f"{number + 1} of {plan.rounds}"
            if "tiny" in names:
                tiny.append(await run_tiny(mesh, client, plan.tiny_tasks))
                progress(f"tiny: round {of}: {tiny[-1].tasks_per_s:,.0f} tasks/s")
            if "efficiency" in names:
                long.append(await run_long(mesh, client, folder, plan.long_tasks))
                progress(f"efficiency: round {of}: {long[-1].efficiency:.3f}")
    if tiny:
        _add_tiny(report, tiny)
    if long:
        bare.append(await _bare_round(plan, folder, progress))
        _add_long(report, long, bare)


async def _bare_round(plan: Plan, folder: Path, progress: Progress) -> LongRound:
    measured = await run_bare(folder, plan.long_tasks)
    progress(f"efficiency: {measured.efficiency:.3f} without a mesh")
    return measured


def _add_singles(report: Report, singles_ms: Sequence[float]) -> None:
    rounds = Rounds(tuple(singles_ms))
    report.add("single_ms_p50", rounds, quantile(singles_ms, 0.50))
    report.add("single_ms_p99", rounds, quantile(singles_ms, 0.99))
    report.details["single"] = {"tasks": len(singles_ms), "p90_ms": rounded(quantile(singles_ms, 0.90))}


def _add_tiny(report: Report, rounds: Sequence[TinyRound]) -> None:
    report.add("tiny_tasks_per_s", Rounds(tuple(one.tasks_per_s for one in rounds)))
    cpu_us = {name: median(one.cpu_us[name] for one in rounds) for name in rounds[0].cpu_us}
    report.details["tiny"] = {
        "tasks": rounds[0].tasks,
        "rounds": len(rounds),
        "cpu_us_per_task": {name: rounded(spent_us) for name, spent_us in cpu_us.items()},
        "cpu_us_per_task_total": rounded(median(sum(one.cpu_us.values()) for one in rounds)),
        "submit_s": rounded(median(one.submit_s for one in rounds)),
        "seconds": rounded(median(one.seconds for one in rounds)),
        "steals": median(one.steals for one in rounds),
        "duplicates": sum(one.duplicates for one in rounds),
        "others_cores": rounded(median(one.others_cores for one in rounds)),
    }


def _add_long(report: Report, rounds: Sequence[LongRound], bare: Sequence[LongRound]) -> None:
    """bare: rounds without a mesh."""
    report.add("efficiency_50ms", Rounds(tuple(one.efficiency for one in rounds)))
    report.details["efficiency"] = {
        "tasks": rounds[0].tasks,
        "rounds": len(rounds),
        "seconds": rounded(median(one.seconds for one in rounds)),
        "task_cpu_ms": rounded(median(one.spent_us for one in rounds) / 1e3),
        "task_cpu_ms_alone": rounded(median(one.alone_us for one in rounds) / 1e3),
        "against_alone": rounded(median(one.against_alone for one in rounds)),
        "others_cores": rounded(median(one.others_cores for one in rounds)),
        "cpu_s": {name: rounded(median(one.cpu_s[name] for one in rounds)) for name in rounds[0].cpu_s},
        "without_mesh": {
            "rounds": len(bare),
            "efficiency": rounded(median(one.efficiency for one in bare)),
            "against_alone": rounded(median(one.against_alone for one in bare)),
            "task_cpu_ms": rounded(median(one.spent_us for one in bare) / 1e3),
            "task_cpu_ms_alone": rounded(median(one.alone_us for one in bare) / 1e3),
        },
    }


async def _measure_rest(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    progress(f"idle: nodes at rest, {plan.rest_s:g} s")
    rest = await measure_rest(folder, plan.rest_s)
    for name, values in (("rss_idle_mb", rest.rss_mb), ("cpu_idle_percent", rest.cpu_percent)):
        report.add(name, Rounds(tuple(values.values())))
    report.details["idle"] = {
        "seconds": rounded(rest.seconds),
        "nodes": len(rest.rss_mb),
        "rss_mb": {name: rounded(value) for name, value in rest.rss_mb.items()},
        "cpu_percent": {name: rounded(value) for name, value in rest.cpu_percent.items()},
    }


async def _measure_million(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    progress("million: a job of a million tasks")
    million = await measure_million(folder, done_tasks=plan.done_tasks)
    growth = Rounds(tuple(million.untouched_mb.values()))
    report.add("million_task_job_mb", growth, max(growth.values))
    report.details["million"] = {
        "untouched_mb": {name: rounded(value) for name, value in million.untouched_mb.items()},
        "done_tasks": million.done_tasks,
        "done_mb": {name: rounded(value) for name, value in million.done_mb.items()},
    }


async def _measure_blobs(plan: Plan, report: Report, progress: Progress) -> None:
    rates = []
    for number in range(plan.blob_rounds):
        rates.append(await measure_blob_mb_per_s(plan.blob_bytes, 2))
        progress(f"blobs: round {number + 1} of {plan.blob_rounds}: {rates[-1]:.0f} MB/s")
    report.add("blob_mb_per_s", Rounds(tuple(rates)))
    report.details["blobs"] = {"blob_bytes": plan.blob_bytes, "transfers": 2 * plan.blob_rounds}


async def _measure_budgets(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    budgets = await measure_budgets(folder, plan.rounds, plan.tiny_tasks, progress)
    report.add("budgets_cpu_ratio", Rounds(budgets.ratios()))
    report.details["budgets"] = {
        "tasks": plan.tiny_tasks,
        "rounds": plan.rounds,
        "nodes_cpu_us_per_task": {
            "with": rounded(median(map(nodes_cpu_us, budgets.with_))),
            "without": rounded(median(map(nodes_cpu_us, budgets.without))),
        },
        "tasks_per_s": {
            "with": rounded(median(one.tasks_per_s for one in budgets.with_)),
            "without": rounded(median(one.tasks_per_s for one in budgets.without)),
        },
        "message_us": dict(zip(("with", "without"), map(rounded, budgets.message_us), strict=True)),
        "others_cores": rounded(median(one.others_cores for one in (*budgets.with_, *budgets.without))),
    }


async def _measure_checked(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    rounds: list[Checked] = []
    for number in range(plan.checked_rounds):
        rounds.append(await measure_checked(folder, plan.checked_tasks, plan.checked_warm_up))
        progress(f"checked: round {number + 1} of {plan.checked_rounds}: {rounds[-1].after.a_task:.3f} runs a task")
    together = CheckedRounds(tuple(rounds))
    report.add("runs_a_task_checked", Rounds(tuple(one.after.a_task for one in rounds)), together.a_task)
    report.details["checked"] = {
        "tasks": plan.checked_tasks,
        "warm_up_tasks": plan.checked_warm_up,
        "rounds": len(rounds),
        "warm_up": rounded(median(one.warm_up.a_task for one in rounds)),
        "expected": rounded(together.expected),
        "deviation": rounded(together.deviation),
        "unasked": sum(one.after.unasked for one in rounds),
    }


async def _measure_parts(plan: Plan, folder: Path, report: Report, progress: Progress) -> None:
    progress("parts: journal, blob store, sandbox")
    storage = await trio.to_thread.run_sync(bench_storage, folder, plan.parts_scale)
    place = folder / "execution"
    place.mkdir()
    execution = await measure_execution(place, rounds=max(3, round(9 * plan.parts_scale)))
    report.details["storage"] = {name: rounded(value) for name, value in storage.items()}
    report.details["execution"] = asdict(execution)


def rounded(value: float) -> float:
    """Four significant digits: more would only be noise."""
    return float(f"{value:.4g}")
