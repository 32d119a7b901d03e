"""What a mesh is asked to do while it is measured; the same three that the peer systems are asked."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import trio

from ...crypto.certificates import Role
from ..cli.errors import UserError
from ..client import Client, JobRequest
from ..execution.outcome import BatchRequest
from ..execution.pool import WasmPool
from ..execution.wasm_child import ChildConfig
from .modules import HASH, SPIN, module_digest, module_path
from .processes import Usage, machine_cpu_us, read_usage
from .street import BenchMesh

REPLICAS = ("r0", "r1", "r2")
WORKERS = ("w0", "w1")
# Workers are one core each and keep nothing; replicas run nothing.
PARTS: Mapping[str, Role] = {**dict.fromkeys(REPLICAS, Role.REPLICA), **dict.fromkeys(WORKERS, Role.WORKER)}
CLIENT = "client"
# Measured is one run a task, as the peers do it; what checking adds is `hearth sim liars`'s to say.
POLICY = "none"
INPUT_BYTES = 1_000
TINY_TASKS = 20_000
LONG_TASKS = 200
LONG_TASK_US = 50_000
# The job's tasks take their time from nobody: a pause in which a finished job's acceptance and acknowledgements end.
PAUSE_S = 0.02
_CALIBRATION_ROUNDS = 4_000_000
_CALIBRATION_TASKS = 9


@dataclass(frozen=True, slots=True)
class TinyRound:
    """cpu_us: microseconds a task, of each node's process, of the sandboxes it runs ("w0 sandbox"), of the client.

    others_cores: how many cores worked for programs that are not the mesh, meanwhile.
    """

    seconds: float
    submit_s: float
    tasks: int
    cpu_us: Mapping[str, float]
    steals: int
    duplicates: int
    others_cores: float

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds


@dataclass(frozen=True, slots=True)
class LongRound:
    """spent_us: CPU time of a task in this round, the mean.  alone_us: of one while nothing else ran, the median.

    efficiency: the CPU time that the tasks got, of what the cores could have given while the job took.  against_alone:
    what they would have needed alone, of the same; tasks on two cores at once slow each other, without any mesh.
    cpu_s: of each process, by its name, in seconds; empty without a mesh.
    """

    seconds: float
    alone_us: float
    spent_us: float
    tasks: int
    cores: int
    others_cores: float
    cpu_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def efficiency(self) -> float:
        return self.tasks * self.spent_us / 1e6 / (self.cores * self.seconds)

    @property
    def against_alone(self) -> float:
        return self.tasks * self.alone_us / 1e6 / (self.cores * self.seconds)


async def run_tiny(mesh: BenchMesh, client: Client, tasks: int = TINY_TASKS) -> TinyRound:
    """Hash `tasks` random kilobytes, from before the submission until each result was verified here.

    Raises UserError if one is wrong, ClientError.
    """
    inputs = [os.urandom(INPUT_BYTES) for _ in range(tasks)]
    request = JobRequest(program=module_path(HASH), name="bench-tiny", inputs=inputs, verification=POLICY)
    outputs: list[bytes] = [b""] * tasks
    steals = await _steals(mesh)
    before, machine_us = _usages(mesh), machine_cpu_us()
    began_s = time.perf_counter()
    job = await client.submit(request)
    submitted_s = time.perf_counter()
    async for result in job.results():
        outputs[result.index] = result.output
    ended_s = time.perf_counter()
    after, machine_us = _usages(mesh), machine_cpu_us() - machine_us
    if any(hashlib.sha256(payload).digest() != output for payload, output in zip(inputs, outputs, strict=True)):
        raise UserError("the mesh computed a wrong hash; report it", code=1)
    status = await job.status()
    seconds = ended_s - began_s
    return TinyRound(
        seconds=seconds,
        submit_s=submitted_s - began_s,
        tasks=tasks,
        cpu_us=_cpu_us_per_task(before, after, tasks),
        steals=await _steals(mesh) - steals,
        duplicates=status.duplicates,
        others_cores=others_cores(before[CLIENT], after[CLIENT], machine_us, seconds),
    )


async def run_single(client: Client) -> float:
    """One task on the mesh at rest: milliseconds from before its submission until its verified result."""
    payload = os.urandom(INPUT_BYTES)
    began_s = time.perf_counter()
    outputs = await client.map(module_path(HASH), [payload], verification=POLICY)
    took_ms = (time.perf_counter() - began_s) * 1e3
    if outputs != [hashlib.sha256(payload).digest()]:
        raise UserError("the mesh computed a wrong hash; report it", code=1)
    await trio.sleep(PAUSE_S)
    return took_ms


async def run_long(mesh: BenchMesh, client: Client, folder: Path, tasks: int = LONG_TASKS) -> LongRound:
    """`tasks` of 50 ms, whose length alone is measured just before and just after. Raises UserError, ClientError."""
    rounds = await rounds_for(LONG_TASK_US, folder)
    before_us = await alone_us(rounds, folder)
    payload = rounds.to_bytes(4, "little")
    request = JobRequest(
        program=module_path(SPIN),
        name="bench-long",
        inputs=[payload] * tasks,
        nonce=os.urandom(8),
        verification=POLICY,
    )
    spent_us, done = 0, 0
    before, machine_us = _usages(mesh), machine_cpu_us()
    began_s = time.perf_counter()
    job = await client.submit(request)
    async for result in job.results():
        spent_us += result.cpu_us
        done += result.ok
    seconds = time.perf_counter() - began_s
    after, machine_us = _usages(mesh), machine_cpu_us() - machine_us
    if done != tasks:
        raise UserError(f"{tasks - done} of {tasks} long tasks failed; report it", code=1)
    after_us = await alone_us(rounds, folder)
    return LongRound(
        seconds=seconds,
        alone_us=(before_us + after_us) / 2,
        spent_us=spent_us / tasks,
        tasks=tasks,
        cores=len(WORKERS),
        others_cores=others_cores(before[CLIENT], after[CLIENT], machine_us, seconds),
        cpu_s=_cpu_s(before, after),
    )


async def rounds_for(cpu_us: int, folder: Path) -> int:
    """How many rounds of the spin module take that much CPU time here and now."""
    return round(_CALIBRATION_ROUNDS * cpu_us / await alone_us(_CALIBRATION_ROUNDS, folder))


async def run_bare(folder: Path, tasks: int = LONG_TASKS) -> LongRound:
    """The same tasks in two sandboxes of one core at once, without any mesh: the most that a mesh could reach here."""
    rounds = await rounds_for(LONG_TASK_US, folder)
    before_us = await alone_us(rounds, folder)
    pools = [WasmPool(ChildConfig(folder / "cache"), 1) for _ in WORKERS]
    spent_us: list[int] = []

    async def spin(pool: WasmPool, count: int) -> None:
        spent_us.extend((await pool.run(_spinning(rounds, count))).cpu_us)

    try:
        for pool in pools:
            await pool.run(_spinning(1, 1))
        before, machine_us = read_usage(os.getpid()), machine_cpu_us()
        began_s = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for pool in pools:
                nursery.start_soon(spin, pool, tasks // len(pools))
        seconds = time.perf_counter() - began_s
        after, machine_us = read_usage(os.getpid()), machine_cpu_us() - machine_us
    finally:
        for pool in pools:
            await pool.aclose()
    after_us = await alone_us(rounds, folder)
    return LongRound(
        seconds=seconds,
        alone_us=(before_us + after_us) / 2,
        spent_us=mean(spent_us),
        tasks=len(spent_us),
        cores=len(pools),
        others_cores=others_cores(before, after, machine_us, seconds),
    )


async def alone_us(rounds: int, folder: Path, tasks: int = _CALIBRATION_TASKS) -> float:
    """CPU time of one such task in a sandbox of its own while nothing else runs; the median of some."""
    pool = WasmPool(ChildConfig(folder / "cache"), 1)
    try:
        outcome = await pool.run(_spinning(rounds, tasks))
    finally:
        await pool.aclose()
    return median(outcome.cpu_us)


def _spinning(rounds: int, tasks: int) -> BatchRequest:
    return BatchRequest(
        job_id=module_digest(SPIN),
        runtime="wasm",
        abi="function",
        program=module_path(SPIN),
        program_digest=module_digest(SPIN),
        first=0,
        count=tasks,
        seed=module_digest(SPIN),
        inputs=[rounds.to_bytes(4, "little")] * tasks,
    )


async def warm_up(client: Client) -> None:
    """Modules compiled, links and tables settled."""
    for module, payload in ((HASH, b"warm"), (SPIN, (100_000).to_bytes(4, "little"))):
        # As many as both workers share, so that each has compiled it.
        request = JobRequest(
            program=module_path(module), inputs=[payload] * 64, nonce=os.urandom(8), verification=POLICY
        )
        async for _ in (await client.submit(request)).results():
            pass


def _usages(mesh: BenchMesh) -> dict[str, Usage]:
    return {**mesh.usages(), CLIENT: read_usage(os.getpid())}


def _cpu_us_per_task(before: Mapping[str, Usage], after: Mapping[str, Usage], tasks: int) -> dict[str, float]:
    return {name: spent_s * 1e6 / tasks for name, spent_s in _cpu_s(before, after).items()}


def _cpu_s(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, float]:
    spent_s: dict[str, float] = {}
    for name, usage in after.items():
        own_us, children_us = usage.cpu_since(before[name])
        spent_s[name] = own_us / 1e6
        if name in WORKERS:
            spent_s[f"{name} sandbox"] = children_us / 1e6
    return spent_s


def others_cores(before: Usage, after: Usage, machine_us: int, seconds: float) -> float:
    """Cores that worked for somebody else. before, after: of this process, whose descendants the nodes are.

    Never negative: ticks are coarse.
    """
    return max(0.0, (machine_us - sum(after.cpu_since(before))) / 1e6 / seconds)


async def _steals(mesh: BenchMesh) -> int:
    statuses = [await mesh.nodes[name].status() for name in WORKERS]
    return sum(status["steals"] for status in statuses if status is not None)
