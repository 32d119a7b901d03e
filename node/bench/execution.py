"""What the wasm executor costs a task: the time between a node's `run` and its outcome, for tiny tasks."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..execution.outcome import BatchRequest, Limits
from ..execution.pool import WasmPool
from ..execution.wasm_child import ChildConfig

# FNV-1a of the input, 64 bits (tests/wasm/hash.wat, assembled).
HASH_MODULE = base64.b64decode(
    "AGFzbQEAAAABDQJgAX8Bf2ADfn9/AX4DAwIAAQUDAQACBycDBm1lbW9yeQIADGhlYXJ0aF9hbGxvYwAAC2hlYXJ0aF90YXNrAAEKUwIG"
    "AEGAgAQLSgIBfgF/QqXGiKHInKf5SyEDIAEgAmohBAJAA0AgASAETw0BIAMgATEAAIVCs4OAgIAgfiEDIAFBAWohAQwACwtBACADNwMA"
    "QggLADcEbmFtZQIhAQEFAAVpbmRleAECYXQCBmxlbmd0aAMEaGFzaAQDZW5kAw0BAQIABGRvbmUBAm9u"
)
INPUT_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class ExecutionCost:
    """Microseconds a task, medians over the rounds; the worker's share is its CPU time, guest code included."""

    batch_tasks: int
    wall_us: float
    parent_cpu_us: float
    worker_cpu_us: float
    first_batch_ms: float
    worker_rss_mb: float


async def measure_execution(folder: Path, batch_tasks: int = 64, rounds: int = 9, batches: int = 20) -> ExecutionCost:
    """Hash INPUT_BYTES in each task. `folder` holds the module and the cache of compiled code."""
    path, digest = folder / "hash.wasm", hashlib.sha256(HASH_MODULE).digest()
    path.write_bytes(HASH_MODULE)
    inputs = [os.urandom(INPUT_BYTES) for _ in range(batch_tasks)]
    request = BatchRequest(
        job_id=digest,
        runtime="wasm",
        abi="function",
        program=path,
        program_digest=digest,
        first=0,
        count=batch_tasks,
        seed=digest,
        inputs=inputs,
        limits=Limits(memory_bytes=16 << 20),
    )
    pool = WasmPool(ChildConfig(folder / "cache"), 1)
    try:
        began = time.perf_counter()
        outcome = await pool.run(request)
        first_batch_ms = (time.perf_counter() - began) * 1e3
        if outcome.outputs != [fnv1a(payload) for payload in inputs]:
            raise RuntimeError("the tasks' results are wrong")
        wall, parent, worker = [], [], []
        for _ in range(rounds):
            began, cpu_began, spent_us = time.perf_counter(), time.process_time(), 0
            for _ in range(batches):
                spent_us += sum((await pool.run(request)).cpu_us)
            tasks = batches * batch_tasks
            wall.append((time.perf_counter() - began) / tasks * 1e6)
            parent.append((time.process_time() - cpu_began) / tasks * 1e6)
            worker.append(spent_us / tasks)
        resident_mb = pool.resident_bytes() / 1e6
    finally:
        await pool.aclose()
    return ExecutionCost(
        batch_tasks=batch_tasks,
        wall_us=round(median(wall), 2),
        parent_cpu_us=round(median(parent), 2),
        worker_cpu_us=round(median(worker), 2),
        first_batch_ms=round(first_batch_ms, 1),
        worker_rss_mb=round(resident_mb, 1),
    )


def fnv1a(payload: bytes) -> bytes:
    """What the module computes, in Python."""
    digest = 0xCBF29CE484222325
    for byte in payload:
        digest = (digest ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return digest.to_bytes(8, "little")
