"""One story, told in the simulator and by real processes: what is accepted, and kept of it, is the same."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hearthmesh.node.client import JobRequest
from hearthmesh.node.execution.outcome import BatchRequest, Limits
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.storage.journal import Journal
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import RecordKind, reopen_record
from hearthmesh.testnet.chaos.convergence import converge
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.fixture import testnet as _testnet
from hearthmesh.testnet.rooms import RoomPlan
from hearthmesh.testnet.simulator.engine import SECOND
from hearthmesh.testnet.simulator.plan import Fault, FaultKind, JobPlan, Plan
from hearthmesh.testnet.simulator.run import Outcome, play
from hearthmesh.testnet.simulator.world import Work, World
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


def kept_on_disk(journal: Path, job_id: str) -> JobState:
    """What a replica has on its disk of the job, merged anew."""
    with Journal.open(journal) as rows:
        own = [row for row in rows.load(tuple(RecordKind)) if row.job_id == bytes.fromhex(job_id)]
    records = [reopen_record(row.body, row.kind, row.key) for row in own]
    state = JobState(next(record for record in records if record.kind is RecordKind.SPEC))
    for record in records:
        if record.kind is not RecordKind.SPEC:
            state.merge(record)
    return state


def simulate(plan: Plan, work: Work) -> tuple[Outcome, list[JobState]]:
    """What came of it, and what each replica kept of its job."""
    worlds: dict[World, None] = {}
    outcome = play(plan, works=(work,), watch=lambda world: worlds.setdefault(world))
    (world,) = worlds
    jobs = [node.life.mesh.replica.jobs for node in world.nodes if node.life is not None]
    return outcome, [keeper.state for each in jobs for keeper in each.values()]


def facts(state: JobState) -> dict[str, object]:
    """What both stories have to come to at each replica, whoever ran what and when."""
    tasks = range(len(INPUTS))
    chosen = [state.canonical.get(index) for index in tasks]
    ran_by = [state.batches[key.batch_id].worker if key is not None else None for key in chosen]
    return {
        "done": list(state.done),
        "accepted": list(state.accepted_tasks),
        "what is accepted is canonical": [state.accepted.get(index) for index in tasks]
        == [key.batch_id if key is not None else None for key in chosen],
        "done, over all workers": sum(total.done for total in state.totals.values()),
        "done, by each as its total says": all(
            total.done == ran_by.count(worker) for worker, total in state.totals.items()
        ),
        "who checks did not run it": all(
            copy.worker not in ran_by[copy.first : copy.first + copy.count] for copy in state.reruns.batches.values()
        ),
        "failed": state.failed_tasks,
        "not yet checked": list(state.to_recheck),
        "accepted, and not here": list(state.lacking),
    }


def checked(states: Sequence[JobState]) -> int:
    """Tasks that were run once more, to compare; all replicas say the same."""
    (count,) = {state.reruns.done.total for state in states}
    return count


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "a replica is killed"])
async def test_the_simulator_and_real_processes_accept_the_same_results(
    testnet: MakeTestnet, tmp_path: Path, killed: bool
) -> None:
    """Three cold nodes and a warm one, which only keeps the job; it may be killed in the middle, and comes back.

    What a killed replica granted and had not told the others is granted again: only calm runs have no duplicates.
    """
    real: dict[int, bytes] = {}
    copies: list[int] = []
    kept: list[JobState] = []
    async with testnet(rooms={**cold(3), "warm": RoomPlan(start_c=25.0, setpoint_c=20.0, cores=1)}) as net:
        async with session(net) as client:
            request = JobRequest(program=HASH, inputs=INPUTS, nonce=b"alike", verification="adaptive")
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
        alike = await converge(net, [job.id])
        assert not alike.problem
        for name in alike.kept[job.id]:
            # In order, so that what it lingers with is written.
            await net.nodes[name].stop()
            kept.append(kept_on_disk(net.nodes[name].state_folder.journal, job.id))
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
        outcome, simulated = simulate(replace(plan, seed=seed), work)
        assert outcome.violations == []
        assert outcome.tasks_accepted == 200
        assert list(outcome.results.values()) == [real]
        assert len(simulated) == len(kept) == 3
        assert [facts(state) for state in simulated] == [facts(state) for state in kept]
        copies.append(checked(simulated))
        assert killed or outcome.tasks_run == 200 + copies[-1]
    # Chance has a say in how many; that new workers are checked often, and later seldom, is in both.
    assert min(copies) / 2 <= checked(kept) <= 2 * max(copies) < 200
    assert facts(kept[0]) == {
        "done": [(0, 200)],
        "accepted": [(0, 200)],
        "what is accepted is canonical": True,
        "done, over all workers": 200,
        "done, by each as its total says": True,
        "who checks did not run it": True,
        "failed": 0,
        "not yet checked": [],
        "accepted, and not here": [],
    }
