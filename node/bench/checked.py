"""How often a task runs where results are compared: honest nodes, first unknown to the client, then known."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ...crypto.certificates import Role
from ..cli.errors import UserError
from ..client import Client
from .modules import HASH, module_path
from .street import BenchMesh, running

CHECKED_PARTS = {f"r{number}": Role.REPLICA for number in range(3)} | {f"w{number}": Role.WORKER for number in range(4)}
POLICY = "adaptive"
INPUT_BYTES = 64


@dataclass(frozen=True, slots=True)
class Checked:
    """Runs of each task, in the job in which nodes earn their names, and in the one after it."""

    warm_up: float
    after: float


async def measure_checked(folder: Path, tasks: int) -> Checked:
    """Raises UserError, ClientError."""
    async with running(folder, CHECKED_PARTS) as mesh, mesh.client() as client:
        return Checked(await _runs_a_task(mesh, client, tasks // 2), await _runs_a_task(mesh, client, tasks))


async def _runs_a_task(mesh: BenchMesh, client: Client, tasks: int) -> float:
    inputs = [os.urandom(INPUT_BYTES) for _ in range(tasks)]
    before = await runs_of(mesh)
    outputs = await client.map(module_path(HASH), inputs, verification=POLICY)
    if outputs != [hashlib.sha256(payload).digest() for payload in inputs]:
        raise UserError("the mesh computed a wrong hash; report it", code=1)
    return (await runs_of(mesh) - before) / tasks


async def runs_of(mesh: BenchMesh) -> int:
    """All that were ever begun and ended, copies as well. Raises UserError: who does not answer has not run nothing."""
    found = {name: await node.status() for name, node in mesh.nodes.items()}
    silent = [name for name, status in found.items() if status is None]
    if silent:
        raise UserError(f"the benchmark's nodes do not say what they ran: {', '.join(silent)}", code=1)
    return sum(status["tasks_done"] for status in found.values() if status is not None)
