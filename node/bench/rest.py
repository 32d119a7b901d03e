"""What a node costs while nothing happens, and what a huge job costs those who keep it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import trio

from ..cli.errors import UserError
from ..client import JobRequest
from ..client.job import VerifiedBatch
from .modules import HASH, module_path
from .processes import Usage
from .street import EVERY_ROLE, BenchMesh, running
from .workloads import PARTS, POLICY, REPLICAS, WORKERS

PEERS = 8
REST_S = 25.0
SETTLE_S = 5.0
MILLION = 1_000_000
DONE_TASKS = 100_000
MB = 1e6


@dataclass(frozen=True, slots=True)
class Rest:
    """Each node's resident memory and share of a core, of its descendants too, while it has all links and no work."""

    seconds: float
    rss_mb: Mapping[str, float]
    cpu_percent: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Million:
    """Growth of the replicas' resident memory: the job kept and untouched, and after some of its tasks were done."""

    untouched_mb: Mapping[str, float]
    done_tasks: int
    done_mb: Mapping[str, float]


async def measure_rest(folder: Path, rest_s: float = REST_S, peers: int = PEERS) -> Rest:
    """`peers` + 1 nodes that may do everything, as they come from `hearth mesh invite`, in the LAN preset."""
    parts = {f"h{number}": EVERY_ROLE for number in range(peers + 1)}
    async with running(folder, parts) as mesh:
        await trio.sleep(SETTLE_S)
        before, began_s = mesh.usages(), trio.current_time()
        await trio.sleep(rest_s)
        seconds = trio.current_time() - began_s
        after = mesh.usages()
    cpu_us = {name: sum(usage.cpu_since(before[name])) for name, usage in after.items()}
    return Rest(
        seconds=seconds,
        rss_mb={name: usage.rss_bytes / MB for name, usage in after.items()},
        cpu_percent={name: used_us / seconds / 1e4 for name, used_us in cpu_us.items()},
    )


async def measure_million(folder: Path, tasks: int = MILLION, done_tasks: int = DONE_TASKS) -> Million:
    """A job of `tasks` without inputs on replicas that no worker knows yet; then workers do `done_tasks` of it."""
    replicas = {name: PARTS[name] for name in REPLICAS}
    workers = {name: PARTS[name] for name in WORKERS}
    async with running(folder, replicas) as mesh, mesh.client() as client:
        await client.submit(JobRequest(program=module_path(HASH), tasks=1, nonce=os.urandom(8), verification=POLICY))
        await trio.sleep(SETTLE_S)
        before = mesh.usages()
        job = await client.submit(
            JobRequest(program=module_path(HASH), tasks=tasks, nonce=os.urandom(8), verification=POLICY)
        )
        await trio.sleep(SETTLE_S)
        await _check_kept(mesh, jobs=2)
        untouched_mb = _growth_mb(before, mesh.usages())
        if not done_tasks:
            return Million(untouched_mb, 0, {})
        await mesh.start(workers)
        done = 0
        with closing(job.batches()) as batches:
            async for item in batches:
                if isinstance(item, VerifiedBatch):
                    done += sum(hi - lo for lo, hi in item.parts)
                    if done >= done_tasks:
                        break
        done_mb = _growth_mb(before, mesh.usages())
        await job.cancel()
    return Million(untouched_mb, done, done_mb)


async def _check_kept(mesh: BenchMesh, jobs: int) -> None:
    """What is measured is there: a replica without the job would have cost nothing. Raises UserError."""
    for name in REPLICAS:
        status = await mesh.nodes[name].status()
        if status is None or status["jobs_kept"] != jobs:
            raise UserError(f"{name} does not keep the job of a million tasks; report it", code=1)


def _growth_mb(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    return {name: (after[name].rss_bytes - before[name].rss_bytes) / MB for name in REPLICAS}
