"""Results are compared before they count: what honest workers, liars and their accomplices come to."""

from __future__ import annotations

from typing import Any

import pytest

from hearthmesh.protocol.events import FollowJob, SubmitJob, UnfollowJob
from tests.protocol.cluster import SECOND, Cluster, SimNode, output_of


def accepted(cluster: Cluster, client: SimNode) -> bool:
    return bool(client.noted("job.accepted"))


def run_job(cluster: Cluster, client: SimNode, tasks: int, policy: str, **changes: Any) -> bytes:
    """Submit, follow, and wait until all is accepted."""
    before = len(client.noted("job.accepted"))
    cluster.feed(client, SubmitJob(cluster.spec(tasks, verification=policy, **changes)))
    cluster.run_until(
        lambda: any(note["job_id"] in client.mesh.submitter.jobs for note in client.noted("job.submitted"))
    )
    job_id: bytes = client.noted("job.submitted")[-1]["job_id"]
    client.results.clear()
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.noted("job.accepted")) > before)
    cluster.feed(client, UnfollowJob(job_id))
    return job_id


def village(count: int = 6) -> tuple[Cluster, list[SimNode], SimNode]:
    cluster = Cluster()
    workers = cluster.workers(count)
    client = cluster.client()
    cluster.run(3 * SECOND)
    return cluster, workers, client


def runs(workers: list[SimNode]) -> int:
    return sum(len(worker.executed) for worker in workers)


def right(results: dict[int, bytes]) -> bool:
    return all(output == output_of(index) for index, output in results.items())


def test_a_quorum_runs_every_task_on_as_many_nodes() -> None:
    cluster, workers, client = village()
    job_id = run_job(cluster, client, 30, "quorum(3)")
    assert runs(workers) == 90 and len(client.results) == 30 and right(client.results)
    who = [{worker.name for worker in workers if index in worker.executed} for index in range(30)]
    assert all(len(nodes) == 3 for nodes in who)
    cluster.run(10 * SECOND)
    states = [node.mesh.replica.jobs[job_id].state for node in workers if job_id in node.mesh.replica.jobs]
    assert [state.duplicates for state in states] == [0, 0, 0]
    assert all(state.accepted == states[0].accepted and state.canonical == states[0].canonical for state in states)


def test_no_policy_runs_every_task_once() -> None:
    cluster, workers, client = village()
    run_job(cluster, client, 60, "none")
    assert runs(workers) == 60


@pytest.mark.parametrize("policy", ["quorum(2)", "adaptive"])
def test_a_liar_is_outvoted_and_its_other_results_are_run_again(policy: str) -> None:
    cluster, workers, client = village()
    workers[0].lies = True
    run_job(cluster, client, 120, policy)
    assert len(client.results) == 120 and right(client.results)


def test_who_was_right_ten_times_is_checked_seldom_in_the_next_job() -> None:
    cluster, workers, client = village()
    run_job(cluster, client, 300, "adaptive", nonce=b"first")
    first = runs(workers)
    assert 300 + 10 * len(workers) / 2 <= first <= 300 * 1.5
    run_job(cluster, client, 600, "adaptive", nonce=b"second")
    assert runs(workers) - first <= 600 * 1.1


def test_alone_in_the_mesh_nobody_is_waited_for() -> None:
    cluster, workers, client = village(1)
    run_job(cluster, client, 20, "adaptive")
    assert runs(workers) == 20


def test_a_quorum_waits_for_the_second_node() -> None:
    cluster, workers, client = village(1)
    cluster.feed(client, SubmitJob(cluster.spec(4, verification="quorum(2)")))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    cluster.feed(client, FollowJob(client.noted("job.submitted")[0]["job_id"], (), True))
    cluster.run(60 * SECOND)
    assert not client.results
    workers += [cluster.add("late", heat=workers[0].mesh.heat.reading)]
    cluster.run_until(lambda: len(client.results) == 4)
    assert runs(workers) == 8


def test_a_policy_that_nobody_knows_is_refused() -> None:
    cluster, _, client = village(2)
    cluster.feed(client, SubmitJob(cluster.spec(4, verification="quorum(99)")))
    (note,) = client.noted("job.rejected")
    assert note["reason"].startswith('verification "quorum(99)": expected')
