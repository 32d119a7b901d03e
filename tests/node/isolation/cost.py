"""What a worker's layers cost: its first batch, cold, and tiny tasks a second; without and with them in turn.

`python -m tests.node.isolation.cost [ROUNDS]`. On a machine that does nothing else.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

from hearthmesh.node.execution.outcome import BatchRequest
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.isolation.layers import detect
from hearthmesh.node.isolation.worker_sandbox import Confinement, WorkerFolders

MODULE = Path(__file__).resolve().parents[2] / "wasm" / "hash.wasm"
INPUTS = [bytes([number % 256]) * 1024 for number in range(5_000)]
BATCHES = 8


def request(inputs: list[bytes]) -> BatchRequest:
    digest = hashlib.sha256(MODULE.read_bytes()).digest()
    return BatchRequest(bytes(32), "wasm", "function", MODULE, digest, 0, len(inputs), bytes(32), inputs=inputs)


async def measure(cache: Path, confinement: Confinement) -> tuple[float, float]:
    """(milliseconds to the end of a first batch of one task, tasks a second of the best batch)."""
    pool = WasmPool(ChildConfig(cache, confinement=confinement, folders=WorkerFolders((MODULE.parent,))), 1)
    started = time.perf_counter()
    await pool.run(request(INPUTS[:1]))
    first_ms = (time.perf_counter() - started) * 1e3
    rates = []
    for _ in range(BATCHES):
        started = time.perf_counter()
        await pool.run(request(INPUTS))
        rates.append(len(INPUTS) / (time.perf_counter() - started))
    await pool.aclose()
    return first_ms, max(rates)


async def main(rounds: int) -> None:
    kinds = {"without layers": Confinement(), "with all layers": detect()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, confinement in kinds.items():
                measured = await measure(Path(folder) / "cache", confinement)
                if number:  # the first round compiles the module
                    found[name].append(measured)
    for name, rows in found.items():
        firsts, rates = [first for first, _ in rows], [rate for _, rate in rows]
        print(
            f"{name}: first batch {statistics.median(firsts):.0f} ms (least {min(firsts):.0f}), "
            f"{statistics.median(rates):,.0f} tasks/s (most {max(rates):,.0f})"
        )


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 10)
