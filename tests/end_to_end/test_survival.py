"""Jobs on real processes: what survives when nodes do not. More of it is in tests/chaos."""

import os
from pathlib import Path

import trio

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.client import Client, Job, JobRequest
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.network import Testnet
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


async def test_sigterm_leaves_in_order(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(4)) as net, session(net) as client:

        async def stop_one(job: Job) -> None:
            replicas = await replicas_of(net, client, job)
            leaver = net.nodes[next(name for name in net.nodes if name not in replicas)]
            assert await leaver.end(WITHIN_S) == "left"
            assert any("node.left" in line for line in leaver.log_tail(50))

        job = await run_disturbed(net, client, 150, stop_one)
        assert (await job.status()).duplicates == 0
