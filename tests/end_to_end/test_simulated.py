"""One story, told in the simulator and by real processes: what is accepted is the same."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hearthmesh.node.client import JobRequest
from hearthmesh.node.execution.outcome import BatchRequest, Limits
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.fixture import testnet as _testnet
from hearthmesh.testnet.rooms import RoomPlan
from hearthmesh.testnet.simulator.engine import SECOND
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, JobPlan, Plan
from hearthmesh.testnet.simulator.run import play
from hearthmesh.testnet.simulator.world import Work
from tests.end_to_end.jobs import HASH, WITHIN_S, cold, session

testnet = _testnet
INPUTS = [hashlib.sha256(number.to_bytes(2, "big")).digest() for number in range(200)]
SEEDS = range(1, 6)


async def run_here(folder: Path) -> list[bytes]:
    """What the tasks put out when the node's own executor runs them, without a mesh."""
    limits = Limits(memory_bytes=16 << 20, wall_us=20_000_000, output_bytes=1 << 20, scratch_bytes=4 << 20)
    request = BatchRequest(
        job_id=bytes(32),
        runtime="wasm",
        abi="function",
        program=HASH,
        program_digest=hashlib.sha256(HASH.read_bytes()).digest(),
        first=0,
        count=len(INPUTS),
        seed=bytes(32),
        inputs=INPUTS,
        limits=limits,
    )
    pool = WasmPool(ChildConfig(folder), 1, 60.0)
    try:
        return list((await pool.run(request)).outputs)
    finally:
        await pool.aclose()


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "a replica is killed"])
async def test_the_simulator_and_real_processes_accept_the_same_results(
    testnet: MakeTestnet, tmp_path: Path, killed: bool
) -> None:
    """Three cold nodes and a warm one, which only keeps the job; it may be killed in the middle, and comes back.

    What a killed replica granted and had not told the others is granted again: only calm runs have no duplicates.
    """
    real: dict[int, bytes] = {}
    async with testnet(rooms={**cold(3), "warm": RoomPlan(start_c=25.0, setpoint_c=20.0, cores=1)}) as net:
        async with session(net) as client:
            request = JobRequest(program=HASH, inputs=INPUTS, nonce=b"alike", verification="none")
            job = await client.submit(request)
            with trio.fail_after(WITHIN_S):
                async for result in job.results():
                    assert result.ok and result.index not in real
                    real[result.index] = result.output
                    if killed and len(real) == 20:
                        net.nodes["warm"].kill()
                        await net.nodes["warm"].restart()
                async for status in job.watch():
                    if status.state == "accepted":
                        break
    assert (status.state, status.done, status.accepted) == ("accepted", 200, 200)
    assert killed or status.duplicates == 0

    plan = Plan(
        seed=0,
        nodes=4,
        jobs=(JobPlan(tasks=len(INPUTS), task_us=20_000),),
        faults=(
            Fault(FaultKind.WARM, 0, 60 * SECOND, (3,)),
            *((Fault(FaultKind.KILL, 500_000, SECOND, (3,)),) if killed else ()),
        ),
    )
    work = Work(job.spec, await run_here(tmp_path))
    for seed in SEEDS:
        outcome = play(replace(plan, seed=seed), works=(work,))
        assert outcome.violations == []
        assert outcome.tasks_accepted == 200
        assert killed or outcome.duplicates == 0
        assert list(outcome.results.values()) == [real]
