"""Looking at a job's module before anything is sent: the node that would refuse it is far away."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from ..execution.outcome import ExecutionError
from ..execution.pool import WasmPool
from ..execution.wasm_abi import misfit
from ..execution.wasm_child import ChildConfig
from ..jobfile import JobFile

MB = 1024 * 1024


async def check_program(job: JobFile, cache: Path) -> None:
    """Compile it as a node would and hold it against the job's ABI and limits. Raises ConfigError."""
    module = job.module
    if module is None:
        return
    try:
        with module.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").digest()
    except OSError as error:
        raise job.error(("program",), f"{module} cannot be read: {error.strerror}") from error
    pool = WasmPool(ChildConfig(cache), 1, math.inf)
    try:
        report = await pool.check_module(module, digest)
    except ExecutionError as error:
        if error.is_ours:
            return  # this machine cannot check it now; nodes do, before they run it
        raise job.error(("program",), f"{job.program}: {error.detail}") from error
    finally:
        await pool.aclose()
    problem = misfit(report.exports, job.abi, job.entry)
    if problem is not None:
        offered = f"; it fits abi = {' or '.join(report.abis)!r}" if report.abis and job.abi not in report.abis else ""
        raise job.error(("program",), f"{job.program}: {problem}{offered}")
    if report.memory_bytes > job.limits.memory_mb * MB:
        needed = math.ceil(report.memory_bytes / MB)
        problem = f"{job.limits.memory_mb}, but {job.program} starts with {needed} MiB"
        raise job.error(("limits", "memory_mb"), problem, "give at least that")
