"""How often a task runs where results are compared: honest nodes, first unknown to the client, then known."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ...crypto.certificates import Role
from ...protocol.verification.sampling import Sampled
from ..cli.errors import UserError
from ..client import Client
from ..client.request import JobRequest
from .modules import HASH, module_path
from .street import BenchMesh, running

CHECKED_PARTS = {f"r{number}": Role.REPLICA for number in range(3)} | {f"w{number}": Role.WORKER for number in range(4)}
POLICY = "adaptive"
INPUT_BYTES = 64


@dataclass(frozen=True, slots=True)
class Runs:
    """What a job of so many tasks took. runs: all that ended, copies as well.  sampled: what was left to chance."""

    tasks: int
    runs: int
    sampled: Sampled

    @property
    def a_task(self) -> float:
        return self.runs / self.tasks

    @property
    def unasked(self) -> int:
        """Runs that are neither a task's first nor one that chance asked for."""
        return self.runs - self.tasks - self.sampled.checked


@dataclass(frozen=True, slots=True)
class Checked:
    """The job in which nodes earn their names, and the one after it."""

    warm_up: Runs
    after: Runs


@dataclass(frozen=True, slots=True)
class CheckedRounds:
    """Several rounds as one, so that luck evens out."""

    rounds: tuple[Checked, ...]

    @property
    def tasks(self) -> int:
        return sum(one.after.tasks for one in self.rounds)

    @property
    def a_task(self) -> float:
        return sum(one.after.runs for one in self.rounds) / self.tasks

    @property
    def expected(self) -> float:
        """Runs of a task by the policy's formula, with the names that the workers had."""
        return 1 + sum(one.after.sampled.expected for one in self.rounds) / self.tasks

    @property
    def deviation(self) -> float:
        """Standard deviation of `a_task` by the draw alone."""
        return float(sum(one.after.sampled.variance for one in self.rounds) ** 0.5 / self.tasks)


async def measure_checked(folder: Path, tasks: int, warm_up_tasks: int) -> Checked:
    """Raises UserError, ClientError."""
    async with running(folder, CHECKED_PARTS) as mesh, mesh.client() as client:
        warm_up = await _run(mesh, client, warm_up_tasks)
        return Checked(warm_up, await _run(mesh, client, tasks))


async def _run(mesh: BenchMesh, client: Client, tasks: int) -> Runs:
    inputs = [os.urandom(INPUT_BYTES) for _ in range(tasks)]
    before = await runs_of(mesh)
    job = await client.submit(JobRequest(program=module_path(HASH), inputs=inputs, verification=POLICY))
    async for result in job.results():
        if result.output != hashlib.sha256(inputs[result.index]).digest():
            raise UserError("the mesh computed a wrong hash; report it", code=1)
    return Runs(tasks, await runs_of(mesh) - before, client.sampled(job.job_id))


async def runs_of(mesh: BenchMesh) -> int:
    """All that were ever begun and ended, copies as well. Raises UserError: who does not answer has not run nothing."""
    found = {name: await node.status() for name, node in mesh.nodes.items()}
    silent = [name for name, status in found.items() if status is None]
    if silent:
        raise UserError(f"the benchmark's nodes do not say what they ran: {', '.join(silent)}", code=1)
    return sum(status["tasks_done"] for status in found.values() if status is not None)
