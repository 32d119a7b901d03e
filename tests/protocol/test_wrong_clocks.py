"""A machine whose clock is wrong takes good certificates for no good ones, and blames nobody for that."""

from __future__ import annotations

import pytest

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.events import FollowJob, SubmitJob
from hearthmesh.protocol.messages import Consumed, Delivery, Subscribe
from tests.protocol.cluster import SECOND, WALL_OFFSET_US, Cluster, cold

YEAR_US = 366 * 86_400 * SECOND


@pytest.mark.parametrize("off_us", [-20 * YEAR_US, 20 * YEAR_US], ids=["behind", "ahead"])
@pytest.mark.parametrize("who", ["k0", "client"])
def test_a_node_whose_clock_is_years_off_penalises_nobody_and_comes_back(off_us: int, who: str) -> None:
    cluster = Cluster()
    nodes = {f"k{number}": cluster.add(f"k{number}", Role.REPLICA) for number in range(3)}
    nodes |= {f"w{number}": cluster.add(f"w{number}", Role.WORKER, cold()) for number in range(2)}
    nodes["client"] = client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(40)))
    cluster.run_until(lambda: all(nodes[f"k{number}"].mesh.replica.jobs for number in range(3)))
    nodes[who].mesh.ctx.wall_offset_us = WALL_OFFSET_US + off_us
    cluster.run(20 * SECOND)
    assert not [node.penalties for node in nodes.values() if node.penalties]
    nodes[who].mesh.ctx.wall_offset_us = WALL_OFFSET_US
    cluster.run(20 * SECOND)
    assert all(
        kept.state.done.total == 40 for number in range(3) for kept in nodes[f"k{number}"].mesh.replica.jobs.values()
    )


def test_a_keeper_whose_clock_is_behind_is_offered_results_again() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"k{number}", Role.REPLICA) for number in range(3)]
    worker = cluster.add("w0", Role.WORKER, cold())
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(8)))
    cluster.run_until(lambda: all(keeper.mesh.replica.jobs for keeper in keepers))
    for keeper in keepers:
        keeper.mesh.ctx.wall_offset_us = WALL_OFFSET_US - 20 * YEAR_US
    cluster.run(5 * SECOND)
    assert not any(kept.state.done for keeper in keepers for kept in keeper.mesh.replica.jobs.values())
    assert len(worker.mesh.worker.outbox) > 0
    for keeper in keepers:
        keeper.mesh.ctx.wall_offset_us = WALL_OFFSET_US
    cluster.run(30 * SECOND)
    assert all(kept.state.done.total == 8 for keeper in keepers for kept in keeper.mesh.replica.jobs.values())


def test_a_client_whose_clock_is_behind_is_sent_the_same_more_and_more_seldom() -> None:
    cluster = Cluster()
    for number in range(3):
        cluster.add(f"k{number}", Role.REPLICA)
    cluster.workers(2)
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(40)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    client.mesh.ctx.wall_offset_us = WALL_OFFSET_US - 20 * YEAR_US
    (job_id,) = client.mesh.submitter.jobs
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.log.clear()
    cluster.run(240 * SECOND)
    assert not client.results and not client.penalties
    words = [line.split()[1] for line in cluster.log if line.startswith("client>")]
    assert 3 < words.count(Subscribe.__name__) < 20 and Consumed.__name__ not in words
    assert any(line.endswith(f">client {Delivery.__name__}") for line in cluster.log)
    client.mesh.ctx.wall_offset_us = WALL_OFFSET_US
    cluster.run_until(lambda: len(client.results) == 40, within_us=300 * SECOND)
