"""Jobs on real processes: what a user sees."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from wasmtime import wat2wasm

from hearthmesh.crypto.identity import node_id_from_text
from hearthmesh.node.client import Client, ClientError, JobFailed, JobRequest, SyncClient
from hearthmesh.node.client.session import CONNECT_TIMEOUT_S
from hearthmesh.node.config import ClientConfig, MeshPaths, load_client_config
from hearthmesh.protocol.batches import check_task
from hearthmesh.protocol.records import ResourceLimits, open_record
from hearthmesh.testnet.fixture import PATIENCE_S, print_logs
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.rooms import RoomPlan
from tests.end_to_end.jobs import HASH, SPIN, WITHIN_S, cold, collect, session, spinning


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    """Three cold rooms and a warm one, for all tests that hurt no node."""
    warm = RoomPlan(start_c=25.0, setpoint_c=20.0, cores=1)
    net = Testnet.create(tmp_path_factory.mktemp("street"), rooms={**cold(3), "warm": warm})
    trio.run(partial(net.start, with_parent=True))
    try:
        yield net
    finally:
        trio.run(partial(net.down, patience_s=PATIENCE_S))


@asynccontextmanager
async def visiting(street: Testnet) -> AsyncIterator[Client]:
    """A session of the street's client. When the test fails, the nodes' logs are shown."""
    try:
        async with session(street) as client:
            yield client
    except BaseException:  # boundary: of the test, whatever it failed with
        print_logs(street)
        raise


async def test_results_are_right_and_each_can_be_proved_alone(street: Testnet) -> None:
    inputs = [os.urandom(100) for _ in range(300)]
    async with visiting(street) as client:
        job = await client.submit(JobRequest(program=HASH, inputs=inputs))
        with trio.fail_after(WITHIN_S):
            async for result in job.results():
                assert result.output == hashlib.sha256(inputs[result.index]).digest()
                proof = result.proof()
                assert check_task(open_record(proof.header).body, proof)
        status = await job.status()
        assert (status.state, status.done, status.duplicates) == ("accepted", 300, 0)


async def test_submitting_twice_is_submitting_once(street: Testnet) -> None:
    async with visiting(street) as client:
        first = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"same"))
        second = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"same"))
        other = await client.submit(JobRequest(program=HASH, inputs=[b"a"], nonce=b"other"))
        assert first.id == second.id != other.id


async def test_a_warm_heater_and_a_task_say_why_they_wait(street: Testnet) -> None:
    async with visiting(street) as client:
        warm = next(node for node in client.members() if node["name"] == "warm")
        sentence = await client.why_idle(node_id_from_text(warm["peer_id"]))
        assert re.fullmatch(r"it wants no work: too warm: 2\d\.\d of 20\.0 °C", sentence)
        job = await client.submit(JobRequest(program=HASH, inputs=[b"why"], nonce=os.urandom(8)))
        with trio.fail_after(WITHIN_S):
            async for _ in job.results():
                pass
        by, sentence = await client.why_waits(job.job_id, 0)
        assert by in {node["name"] for node in client.members()} and sentence.startswith("it does not wait: ")
        _, sentence = await client.why_waits(job.job_id, 5)
        assert sentence == "there is no such task: the job has 1, numbered from 0"


async def test_client_walks_away_and_comes_back_for_the_rest(street: Testnet) -> None:
    seen: dict[int, bytes] = {}
    async with visiting(street) as client:
        job_id = (job := await client.submit(spinning(120))).id
        await collect(job, seen, stop_at=20)
    async with visiting(street) as client:
        job = await client.job(job_id[:12])
        assert job.spec.tasks == 120
        with trio.fail_after(WITHIN_S):
            await collect(job, seen)
        assert (await job.status()).state in ("done", "accepted")
    assert sorted(seen) == list(range(120))


async def test_a_warm_room_takes_no_work(street: Testnet) -> None:
    async with visiting(street) as client:
        await collect(await client.submit(spinning(60)), {})
        status = await street.nodes["warm"].status()
        assert (status["tasks_done"], status["slots"], status["steals"]) == (0, 0, 0)
        assert next(m for m in client.members() if m["name"] == "warm")["deficit_w"] <= 0


async def test_cancelling_stops_the_tasks(street: Testnet) -> None:
    async with visiting(street) as client:
        job = await client.submit(spinning(5_000))
        await collect(job, {}, stop_at=5)
        await job.cancel()
        with trio.fail_after(WITHIN_S):
            while sum([(await node.status())["running"] for node in street.nodes.values()]):
                await trio.sleep(0.05)
        with pytest.raises(JobFailed, match="cancelled"):
            await collect(job, {})


@pytest.mark.parametrize("policy", ["none", "adaptive", "quorum(2)"])
async def test_what_was_made_before_a_cancellation_is_fetched_for_the_first_time_after_it(
    street: Testnet, tmp_path: Path, policy: str
) -> None:
    """And is proved; or it is said that what it was to be compared with is made no more."""
    async with visiting(street) as client:
        job = await client.submit(replace(spinning(5_000), verification=policy))
        with trio.fail_after(WITHIN_S):
            async for status in job.watch():
                if status.done >= 20:
                    break
        await job.cancel()
    folder = tmp_path / "out"
    told = await hearth(street, "results", job.id, "--folder", str(folder))
    assert told.returncode == 1 and "Traceback" not in told.stderr
    found = re.search(r"was cancelled; (\d+) of the (\d+) results that were made before are here(.*)", told.stderr)
    assert found is not None, told.stderr
    here, made = int(found[1]), int(found[2])
    assert 20 <= made < 5_000
    assert here == made if policy == "none" else here == made or "to be compared with" in found[3]
    if policy == "quorum(2)":
        assert here < made
    if here:
        assert f"{here} of 5000 results" in told.stdout
    verified = await hearth(street, "verify", str(folder))
    assert f"the job was cancelled: {here} accepted" in verified.stdout and verified.returncode == 0, verified.stderr


async def hearth(street: Testnet, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    environment = os.environ | {"HEARTH_CLIENT": str(street.client_config)}
    command = [sys.executable, "-P", "-m", "hearthmesh.node", *arguments]
    run = partial(subprocess.run, command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return await trio.to_thread.run_sync(run)


async def test_exit_codes_traps_and_stderr_reach_the_client(street: Testnet) -> None:
    async with visiting(street) as client:
        job = await client.submit(JobRequest(program=SPIN, inputs=[b"", (5).to_bytes(4, "little")]))
        exits = {result.index: result.exit_code async for result in job.results()}
        assert exits == {0: 1, 1: 0}
        with pytest.raises(JobFailed, match="task 0 ended with exit code 1"):
            await client.map(SPIN, [b""])


async def test_large_outputs_come_as_blobs(street: Testnet) -> None:
    module = wat2wasm(
        """(module (memory (export "memory") 4)
             (func (export "hearth_alloc") (param i32) (result i32) i32.const 16)
             (func (export "hearth_task") (param i64 i32 i32) (result i64) i64.const 68719676736))"""
    )
    async with visiting(street) as client:
        outputs = await client.map(bytes(module), [b"first", b"second"])
        assert [len(output) for output in outputs] == [200_000, 200_000]
        assert [output[:6] for output in outputs] == [b"first\0", b"second"]


async def test_a_module_that_is_none_fails_with_the_reason(street: Testnet) -> None:
    no_code = wat2wasm(
        """(module (memory (export "memory") 1)
             (func (export "hearth_alloc") (param i32) (result i32) unreachable)
             (func (export "hearth_task") (param i64 i32 i32) (result i64) unreachable))"""
    )
    assert no_code[-2:] == b"\0\x0b"
    no_code[-2] = 0xFF
    async with visiting(street) as client:
        with pytest.raises(ClientError, match="program: not a valid wasm module: it does not start like"):
            await client.map(b"no module", [b"x"])
        # What its sections say is right; what is in them no node can compile.
        with pytest.raises(JobFailed, match="exit code -8: .*invalid_module"):
            await client.map(bytes(no_code), [b"x"])


async def test_a_job_that_no_node_can_run_is_refused_at_once(street: Testnet) -> None:
    async with visiting(street) as client:
        with pytest.raises(JobFailed, match="no node of 4 gives more than"):
            limits = ResourceLimits(memory_bytes=1 << 40)
            await client.submit(JobRequest(program=HASH, inputs=[b"x"], limits=limits))
        with pytest.raises(JobFailed, match='allows the command "nothing"'):
            await client.submit(JobRequest(program="nothing", runtime="native", abi="command", tasks=1))


async def test_a_stranger_is_told_why_at_once(street: Testnet, tmp_path: Path) -> None:
    elsewhere = Testnet.create(tmp_path / "other mesh", 1)
    member = load_client_config(street.client_config)
    stranger = ClientConfig(
        mesh=MeshPaths(definition=elsewhere.folder / "mesh" / "mesh.toml"),
        client=replace(member.client, state=elsewhere.folder / "client" / "state"),
    )
    with trio.fail_after(CONNECT_TIMEOUT_S - 5), pytest.raises(ClientError, match="refused: another mesh"):
        async with Client.connect(stranger):
            pass


def test_blocking_client_maps_in_order(street: Testnet) -> None:
    inputs = [str(number).encode() for number in range(50)]
    with SyncClient(street.client_config) as client:
        job = client.submit(JobRequest(program=HASH, inputs=[b"again"], nonce=os.urandom(4)))
        assert [result.index for result in job.results()] == [0]
        assert client.job(job.id[:10]).status().done == 1
        outputs = client.map(HASH, inputs)
    assert outputs == [hashlib.sha256(item).digest() for item in inputs]
