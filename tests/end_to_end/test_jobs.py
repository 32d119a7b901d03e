"""Jobs on real processes: what a user sees, and what survives when nodes do not."""

import hashlib
import os
from pathlib import Path

import pytest
import trio
from wasmtime import wat2wasm

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.client import Client, ClientError, Job, JobFailed, JobRequest, SyncClient
from hearthmesh.protocol.batches import check_task
from hearthmesh.protocol.records import ResourceLimits, open_record
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.rooms import RoomPlan

MODULES = Path(__file__).parents[1] / "wasm"
HASH, SPIN = MODULES / "hash.wasm", MODULES / "spin.wasm"
# About 30 ms of CPU a task where a core does 240 million rounds a second.
SPIN_ROUNDS = 7_000_000
WITHIN_S = 90


def cold(count: int, **changes: object) -> dict[str, RoomPlan]:
    return {f"h{number}": RoomPlan(start_c=15.0, cores=1, **changes) for number in range(1, count + 1)}  # type: ignore[arg-type]


def spinning(tasks: int) -> JobRequest:
    inputs = [SPIN_ROUNDS.to_bytes(4, "little")] * tasks
    return JobRequest(program=SPIN, inputs=inputs, nonce=os.urandom(8))


async def collect(job: Job, seen: dict[int, bytes], stop_at: int | None = None) -> None:
    """Results by task, each exactly once, until all are here or there are `stop_at`."""
    async for result in job.results(have=[(index, index + 1) for index in sorted(seen)]):
        assert result.ok and result.index not in seen
        seen[result.index] = result.output
        if stop_at is not None and len(seen) >= stop_at:
            return


async def run_disturbed(net: Testnet, client: Client, tasks: int, disturb: object) -> Job:
    """A job that is disturbed when a tenth of its results are here, and finishes all the same."""
    job = await client.submit(spinning(tasks))
    seen: dict[int, bytes] = {}
    with trio.fail_after(WITHIN_S):
        async for result in job.results():
            assert result.index not in seen
            seen[result.index] = result.output
            if len(seen) == tasks // 10:
                await disturb(job)  # type: ignore[operator]
    assert sorted(seen) == list(range(tasks))
    assert len(set(seen.values())) == tasks
    return job


async def replicas_of(net: Testnet, client: Client, job: Job) -> list[str]:
    """Names of the nodes that keep a job."""
    own = client._driver.mesh.submitter.jobs[job.job_id]
    names = {member["peer_id"]: member["name"] for member in client.members()}
    return [names[peer_id_text(node)] for node in own.state.replicas]


async def test_results_are_right_and_each_can_be_proved_alone(testnet: MakeTestnet) -> None:
    inputs = [os.urandom(100) for _ in range(300)]
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        job = await client.submit(JobRequest(program=HASH, inputs=inputs))
        with trio.fail_after(WITHIN_S):
            async for result in job.results():
                assert result.output == hashlib.sha256(inputs[result.index]).digest()
                proof = result.proof()
                assert check_task(open_record(proof.header).body, proof)
        status = await job.status()
        assert (status.state, status.done, status.duplicates) == ("accepted", 300, 0)


async def test_submitting_twice_is_submitting_once(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        first = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"same"))
        second = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"same"))
        other = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"other"))
        assert first.id == second.id != other.id


async def test_client_walks_away_and_comes_back_for_the_rest(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net:
        seen: dict[int, bytes] = {}
        async with Client.connect(net.client_config) as client:
            job_id = (job := await client.submit(spinning(120))).id
            await collect(job, seen, stop_at=20)
        async with Client.connect(net.client_config) as client:
            job = await client.job(job_id[:12])
            assert job.spec.tasks == 120
            with trio.fail_after(WITHIN_S):
                await collect(job, seen)
            assert (await job.status()).state in ("done", "accepted")
        assert sorted(seen) == list(range(120))


async def test_killed_workers_and_replicas_lose_nothing(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(5)) as net, Client.connect(net.client_config) as client:

        async def kill_two(job: Job) -> None:
            replicas = await replicas_of(net, client, job)
            net.nodes[replicas[0]].kill()
            net.nodes[next(name for name in net.nodes if name not in replicas)].kill()

        await run_disturbed(net, client, 300, kill_two)


async def test_a_frozen_node_is_worked_around(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, Client.connect(net.client_config) as client:

        async def freeze_one(job: Job) -> None:
            net.nodes[(await replicas_of(net, client, job))[1]].freeze()

        await run_disturbed(net, client, 200, freeze_one)


async def test_all_nodes_killed_and_restarted_keep_the_job(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net:
        seen: dict[int, bytes] = {}
        async with Client.connect(net.client_config) as client:
            job_id = (job := await client.submit(spinning(150))).id
            await collect(job, seen, stop_at=15)
        for node in net.nodes.values():
            node.kill()
        for node in net.nodes.values():
            await node.wait_gone()
        await net.start(with_parent=True)
        async with Client.connect(net.client_config) as client:
            job = await client.job(job_id)
            with trio.fail_after(WITHIN_S):
                await collect(job, seen)
        assert sorted(seen) == list(range(150))


async def test_a_damaged_journal_is_set_aside_and_refilled_from_the_replicas(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        job = await client.submit(JobRequest(program=HASH, inputs=[b"x"] * 200, nonce=os.urandom(8)))
        await collect(job, {})
        victim = net.nodes[(await replicas_of(net, client, job))[0]]
        victim.kill()
        await victim.wait_gone()
        journal = next(Path(net.folder).rglob(f"{victim.name}/**/journal.db"))
        journal.write_bytes(b"not a database" * 1000)
        for suffix in ("-wal", "-shm"):
            Path(f"{journal}{suffix}").unlink(missing_ok=True)
        await victim.restart()
        with trio.fail_after(WITHIN_S):
            while (await victim.status())["jobs_kept"] == 0:
                await trio.sleep(0.1)
        assert list(journal.parent.glob("journal.db.damaged-*"))
        assert any("damaged" in line for line in victim.log_tail(200))


async def test_a_partition_heals_and_the_job_finishes(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, Client.connect(net.client_config) as client:

        async def split(job: Job) -> None:
            names = sorted(net.nodes)
            await net.partition(names[:2], names[2:])
            await trio.sleep(4)
            await net.heal()

        await run_disturbed(net, client, 200, split)


async def test_a_warm_room_takes_no_work(testnet: MakeTestnet) -> None:
    rooms = cold(3)
    rooms["warm"] = RoomPlan(start_c=25.0, setpoint_c=20.0, cores=1)
    async with testnet(rooms=rooms) as net, Client.connect(net.client_config) as client:
        await collect(await client.submit(spinning(60)), {})
        status = await net.nodes["warm"].status()
        assert (status["tasks_done"], status["slots"], status["steals"]) == (0, 0, 0)
        assert next(m for m in client.members() if m["name"] == "warm")["deficit_w"] <= 0


async def test_cancelling_stops_the_tasks(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        job = await client.submit(spinning(5_000))
        await collect(job, {}, stop_at=5)
        await job.cancel()
        with trio.fail_after(WITHIN_S):
            while sum([(await node.status())["running"] for node in net.nodes.values()]):
                await trio.sleep(0.05)
        with pytest.raises(JobFailed, match="cancelled"):
            await collect(job, {})


async def test_exit_codes_traps_and_stderr_reach_the_client(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        job = await client.submit(JobRequest(program=SPIN, inputs=[b"", (5).to_bytes(4, "little")]))
        exits = {result.index: result.exit_code async for result in job.results()}
        assert exits == {0: 1, 1: 0}
        with pytest.raises(JobFailed, match="task 0 ended with exit code 1"):
            await client.map(SPIN, [b""])


async def test_large_outputs_come_as_blobs(testnet: MakeTestnet) -> None:
    module = wat2wasm(
        """(module (memory (export "memory") 4)
             (func (export "hearth_alloc") (param i32) (result i32) i32.const 16)
             (func (export "hearth_task") (param i64 i32 i32) (result i64) i64.const 68719676736))"""
    )
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        outputs = await client.map(bytes(module), [b"first", b"second"])
        assert [len(output) for output in outputs] == [200_000, 200_000]
        assert [output[:6] for output in outputs] == [b"first\0", b"second"]


async def test_a_module_that_is_none_fails_with_the_reason(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        with pytest.raises(JobFailed, match="exit code -8: .*invalid_module"):
            await client.map(b"no module", [b"x"])


async def test_a_job_that_no_node_can_run_is_refused_at_once(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, Client.connect(net.client_config) as client:
        with pytest.raises(JobFailed, match="no node of 3 gives more than"):
            limits = ResourceLimits(memory_bytes=1 << 40)
            await client.submit(JobRequest(program=HASH, inputs=[b"x"], limits=limits))
        with pytest.raises(JobFailed, match='allows the command "nothing"'):
            await client.submit(JobRequest(program="nothing", runtime="native", abi="command", tasks=1))


async def test_a_stranger_is_told_why(testnet: MakeTestnet, tmp_path: Path) -> None:
    async with testnet(rooms=cold(2)) as net, testnet(rooms=cold(2), folder=tmp_path / "other mesh") as other:
        text = net.client_config.read_text()
        bootstrap = next(line for line in text.splitlines() if line.strip().startswith("bootstrap"))
        stranger = other.client_config.with_name("stranger.toml")
        lines = other.client_config.read_text().splitlines()
        stranger.write_text("\n".join(bootstrap if line.strip().startswith("bootstrap") else line for line in lines))
        with pytest.raises(ClientError, match="other mesh|another mesh|mesh"):
            async with Client.connect(stranger):
                pass


async def test_blocking_client_maps_in_order(testnet: MakeTestnet) -> None:
    inputs = [str(number).encode() for number in range(50)]
    async with testnet(rooms=cold(3)) as net:

        def use() -> list[bytes]:
            with SyncClient(net.client_config) as client:
                job = client.submit(JobRequest(program=HASH, inputs=[b"again"], nonce=os.urandom(4)))
                assert [result.index for result in job.results()] == [0]
                assert client.job(job.id[:10]).status().done == 1
                return client.map(HASH, inputs)

        outputs = await trio.to_thread.run_sync(use)
        assert outputs == [hashlib.sha256(item).digest() for item in inputs]


async def test_sigterm_leaves_in_order(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, Client.connect(net.client_config) as client:

        async def stop_one(job: Job) -> None:
            replicas = await replicas_of(net, client, job)
            leaver = net.nodes[next(name for name in net.nodes if name not in replicas)]
            assert await leaver.end() == "left"
            assert any("node.left" in line for line in leaver.log_tail(50))

        job = await run_disturbed(net, client, 150, stop_one)
        assert (await job.status()).duplicates == 0
