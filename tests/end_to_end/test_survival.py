"""Jobs on real processes: what survives when nodes do not."""

import os
from pathlib import Path

import trio

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.client import Client, Job, JobRequest
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.node import TestnetNode
from tests.end_to_end.jobs import HASH, WITHIN_S, cold, collect, session, spinning


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


async def test_killed_workers_and_replicas_lose_nothing(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(5)) as net, session(net) as client:

        async def kill_two(job: Job) -> None:
            replicas = await replicas_of(net, client, job)
            net.nodes[replicas[0]].kill()
            net.nodes[next(name for name in net.nodes if name not in replicas)].kill()

        await run_disturbed(net, client, 300, kill_two)


async def test_a_frozen_node_is_worked_around(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, session(net) as client:

        async def freeze_one(job: Job) -> None:
            net.nodes[(await replicas_of(net, client, job))[1]].freeze()

        await run_disturbed(net, client, 200, freeze_one)


async def test_all_nodes_killed_and_restarted_keep_the_job(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net:
        seen: dict[int, bytes] = {}
        async with session(net) as client:
            job_id = (job := await client.submit(spinning(150))).id
            await collect(job, seen, stop_at=15)
        for node in net.nodes.values():
            node.kill()
        for node in net.nodes.values():
            await node.wait_gone()
        await net.start(with_parent=True)
        async with session(net) as client:
            job = await client.job(job_id)
            with trio.fail_after(WITHIN_S):
                await collect(job, seen)
        assert sorted(seen) == list(range(150))


async def test_a_damaged_journal_is_set_aside_and_refilled_from_the_replicas(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(3)) as net, session(net) as client:
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


async def _has_no_link_to(node: TestnetNode, peers: set[str]) -> None:
    """Until it has given up its last link to any of them."""
    with trio.fail_after(WITHIN_S):
        while peers & {link["peer"] for link in (await node.status())["links"]}:
            await trio.sleep(0.1)


async def test_a_partition_heals_and_the_job_finishes(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, session(net) as client:

        async def split(job: Job) -> None:
            names = sorted(net.nodes)
            halves = names[:2], names[2:]
            await net.partition(*halves)
            for half, others in (halves, halves[::-1]):
                strangers = {(await net.nodes[name].status())["peer_id"] for name in others}
                for name in half:
                    await _has_no_link_to(net.nodes[name], strangers)
            await net.heal()

        await run_disturbed(net, client, 200, split)


async def test_sigterm_leaves_in_order(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, session(net) as client:

        async def stop_one(job: Job) -> None:
            replicas = await replicas_of(net, client, job)
            leaver = net.nodes[next(name for name in net.nodes if name not in replicas)]
            assert await leaver.end(WITHIN_S) == "left"
            assert any("node.left" in line for line in leaver.log_tail(50))

        job = await run_disturbed(net, client, 150, stop_one)
        assert (await job.status()).duplicates == 0
