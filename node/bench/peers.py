"""The same work on Dask and Ray, side by side: interleaved rounds, one system up at a time, ratios round by round."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import trio

from .machine import describe_machine, describe_versions
from .peer_process import PeerFailed, PeerProcess, running_peer
from .processes import machine_cpu_us
from .statistics import Rounds, quantile
from .street import running
from .suite import Progress, rounded
from .workloads import LONG_TASK_US, PARTS, others_cores, run_long, run_single, run_tiny, warm_up

SYSTEMS = {"dask": "distributed", "ray": "ray"}
OURS = "hearthmesh"
PACK = 100
INSTALL_TIMEOUT_S = 900.0
# The first rounds of a fresh cluster pay for imports and connections; every system gets this many unmeasured tasks.
WARM_TASKS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    rounds: int
    tiny_tasks: int
    singles: int
    long_tasks: int


FULL = ComparisonPlan(rounds=3, tiny_tasks=20_000, singles=100, long_tasks=200)
QUICK = ComparisonPlan(rounds=1, tiny_tasks=5_000, singles=50, long_tasks=100)


@dataclass(frozen=True, slots=True)
class SystemRound:
    """packed_per_s: with PACK tasks a call by hand, 0 where the system does that itself."""

    tiny_per_s: float
    packed_per_s: float
    cpu_us_per_task: float
    single_ms: Sequence[float]
    efficiency: float
    others_cores: float


@dataclass(slots=True)
class Comparison:
    """rounds: of each system that ran.  skipped: why another did not."""

    rounds: dict[str, list[SystemRound]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def row(self, system: str) -> dict[str, float]:
        rounds = self.rounds[system]
        singles_ms = [took_ms for one in rounds for took_ms in one.single_ms]
        row = {
            "tiny_tasks_per_s": median(one.tiny_per_s for one in rounds),
            "cpu_us_per_task": median(one.cpu_us_per_task for one in rounds),
            "single_ms_p50": quantile(singles_ms, 0.50),
            "single_ms_p99": quantile(singles_ms, 0.99),
            "efficiency_50ms": median(one.efficiency for one in rounds),
            "others_cores": median(one.others_cores for one in rounds),
        }
        if system != OURS:
            row[f"packed_{PACK}_tasks_per_s"] = median(one.packed_per_s for one in rounds)
        return {name: rounded(value) for name, value in row.items()}

    def ratios(self, system: str) -> dict[str, dict[str, float]]:
        """How many times better we are, the median and the spread of the rounds; below 1 the other is."""
        pairs = list(zip(self.rounds[OURS], self.rounds[system], strict=False))
        found = {
            "tiny": [ours.tiny_per_s / other.tiny_per_s for ours, other in pairs],
            f"tiny_against_packed_{PACK}": [ours.tiny_per_s / other.packed_per_s for ours, other in pairs],
            "single_p50": [median(other.single_ms) / median(ours.single_ms) for ours, other in pairs],
            "efficiency": [ours.efficiency / other.efficiency for ours, other in pairs],
        }
        ratios = {}
        for name, values in found.items():
            rounds = Rounds(tuple(values))
            spread = {key: rounded(bound) for key, bound in rounds.spread().items()}
            ratios[name] = {"median": rounded(rounds.median), **spread}
        return ratios

    def as_json(self) -> dict[str, Any]:
        return {
            "systems": {system: self.row(system) for system in self.rounds},
            "ratios": {system: self.ratios(system) for system in self.rounds if system != OURS},
            "rounds": len(self.rounds[OURS]),
            "versions": self.versions,
            "skipped": self.skipped,
        }


async def compare(plan: ComparisonPlan, folder: Path, environment: Path, progress: Progress) -> dict[str, Any]:
    """The comparison as JSON. environment: where the peer systems' packages are, or go at the first use.

    Raises UserError, ClientError for our own part; a peer that fails is skipped, with its reason.
    """
    machine = describe_machine(folder)
    comparison = Comparison({OURS: []}, {OURS: describe_versions().get("hearthmesh", "")})
    python, comparison.skipped = await prepare(environment, progress)
    for number in range(plan.rounds):
        of = f"{number + 1} of {plan.rounds}"
        ours = await _our_round(plan, folder)
        comparison.rounds[OURS].append(ours)
        progress(f"round {of}: {OURS}: {ours.tiny_per_s:,.0f} tasks/s")
        for system in SYSTEMS:
            if system in comparison.skipped:
                continue
            try:
                theirs, version = await _peer_round(plan, system, python, folder)
            except (PeerFailed, OSError) as error:
                comparison.skipped[system] = str(error)
                comparison.rounds.pop(system, None)
                progress(f"round {of}: {system}: {error}")
                continue
            comparison.versions[system] = version
            comparison.rounds.setdefault(system, []).append(theirs)
            progress(
                f"round {of}: {system}: {theirs.tiny_per_s:,.0f} tasks/s, packed by hand {theirs.packed_per_s:,.0f}"
            )
    return {**comparison.as_json(), "machine": machine}


async def prepare(environment: Path, progress: Progress) -> tuple[Path, dict[str, str]]:
    """(its Python, why which systems cannot be used there), after installing what lacks."""
    python = environment.absolute() / "bin" / "python"
    if not python.exists():
        try:
            await _run([sys.executable, "-m", "venv", str(environment)])
        except PeerFailed as error:
            return python, dict.fromkeys(SYSTEMS, f"no environment: {error}")
    skipped = {}
    for system, package in SYSTEMS.items():
        if await _has(python, package):
            continue
        progress(f"installing {package} into {environment} (once)")
        try:
            await _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", package])
        except PeerFailed as error:
            skipped[system] = f"cannot be installed: {error}"
            progress(f"{system} is skipped: {skipped[system]}")
    return python, skipped


async def _has(python: Path, package: str) -> bool:
    try:
        await _run([str(python), "-I", "-c", f"import {package}"])
    except PeerFailed:
        return False
    return True


async def _run(command: Sequence[str]) -> None:
    """To its end, killed with us. Raises PeerFailed with its last line."""
    try:
        with trio.fail_after(INSTALL_TIMEOUT_S):
            done = await trio.run_process(
                command, stdout=subprocess.DEVNULL, capture_stderr=True, check=False, start_new_session=True
            )
    except OSError as error:
        raise PeerFailed(f"{command[0]}: {error.strerror}") from error
    except trio.TooSlowError:
        raise PeerFailed(f"not done within {INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        raise PeerFailed(lines[-1].strip()[:200] if lines else f"exit code {done.returncode}")


async def _our_round(plan: ComparisonPlan, folder: Path) -> SystemRound:
    async with running(folder, PARTS) as mesh, mesh.client() as client:
        await warm_up(client)
        await run_tiny(mesh, client, WARM_TASKS)
        tiny = await run_tiny(mesh, client, plan.tiny_tasks)
        singles_ms = [await run_single(client) for _ in range(plan.singles)]
        long = await run_long(mesh, client, folder, plan.long_tasks)
    cpu_us = sum(tiny.cpu_us.values())
    return SystemRound(tiny.tasks_per_s, 0.0, cpu_us, singles_ms, long.efficiency, tiny.others_cores)


async def _peer_round(plan: ComparisonPlan, system: str, python: Path, folder: Path) -> tuple[SystemRound, str]:
    async with running_peer(system, python, folder) as peer:
        await peer.ask({"do": "tiny", "tasks": WARM_TASKS, "pack": 1})
        before, machine_us, began_s = peer.usage(), machine_cpu_us(), trio.current_time()
        tiny_per_s = await _tiny_per_s(peer, plan.tiny_tasks, 1)
        seconds, machine_us = trio.current_time() - began_s, machine_cpu_us() - machine_us
        after = peer.usage()
        others = others_cores(before, after, machine_us, seconds)
        packed_per_s = await _tiny_per_s(peer, plan.tiny_tasks, PACK)
        singles_ms = (await peer.ask({"do": "single", "count": plan.singles}))["ms"]
        long = await peer.ask({"do": "long", "tasks": plan.long_tasks, "cpu_us": LONG_TASK_US})
        efficiency = plan.long_tasks * long["spent_us"] / 1e6 / (long["cores"] * long["seconds"])
        cpu_us = sum(after.cpu_since(before)) / plan.tiny_tasks
        return SystemRound(tiny_per_s, packed_per_s, cpu_us, singles_ms, efficiency, others), peer.version


async def _tiny_per_s(peer: PeerProcess, tasks: int, pack: int) -> float:
    answer = await peer.ask({"do": "tiny", "tasks": tasks, "pack": pack})
    return float(tasks / answer["seconds"])
