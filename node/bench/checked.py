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
    before = await _runs(mesh)
    outputs = await client.map(module_path(HASH), inputs, verification=POLICY)
    if outputs != [hashlib.sha256(payload).digest() for payload in inputs]:
        raise UserError("the mesh computed a wrong hash; report it", code=1)
    return (await _runs(mesh) - before) / tasks


async def _runs(mesh: BenchMesh) -> int:
    """All that were ever begun and ended, copies as well."""
    found = [await node.status() for node in mesh.nodes.values()]
    return sum(status["tasks_done"] for status in found if status is not None)
