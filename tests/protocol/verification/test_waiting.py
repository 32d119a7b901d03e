"""Results that wait for a copy: others come meanwhile, within a bound."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import FollowJob, SubmitJob
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold, output_of

WINDOW = 2
TASKS = 20


def waiting_for_a_second_worker(held_bytes_max: int) -> tuple[Cluster, SimNode, bytes]:
    """All of a job's first results are made, each in a batch of its own; nobody is there to run a copy."""
    config = replace(
        LOCAL,
        result_window=WINDOW,
        batch_tasks_max=1,
        batch_tasks_first=1,
        batch_floor_us=1,
        held_bytes_max=held_bytes_max,
    )
    cluster = Cluster(config=config)
    for name in ("k0", "k1", "k2"):
        cluster.add(name, Role.REPLICA)
    cluster.add("w0", Role.WORKER, cold())
    client = cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(TASKS, verification="quorum(2)")))
    job_id: bytes = client.noted("job.signed")[-1]["job_id"]
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run(20 * SECOND)
    return cluster, client, job_id


def test_what_waits_for_a_copy_keeps_no_other_result_from_coming() -> None:
    _, client, job_id = waiting_for_a_second_worker(LOCAL.held_bytes_max)
    own = client.mesh.submitter.jobs[job_id]
    assert own.referee is not None and len(own.referee.held) == TASKS
    assert 0 < own.aside_bytes == sum(own.aside.values())


@pytest.mark.parametrize("room", [0, 1])
def test_beyond_its_room_a_submitter_holds_back_what_the_window_lets_through(room: int) -> None:
    """Room for one batch, and one byte less than for two."""
    _, client, job_id = waiting_for_a_second_worker(LOCAL.held_bytes_max)
    size = max(client.mesh.submitter.jobs[job_id].aside.values())
    _, client, job_id = waiting_for_a_second_worker(size * room + room)
    own = client.mesh.submitter.jobs[job_id]
    assert len(own.aside) == room and own.aside_bytes <= size * room + room
    assert own.referee is not None and len(own.referee.held) < TASKS // 2


def test_what_waits_does_not_fill_the_window_of_another_source() -> None:
    cluster, client, job_id = waiting_for_a_second_worker(LOCAL.held_bytes_max)
    own = client.mesh.submitter.jobs[job_id]
    assert own.source is not None
    cluster.kill(cluster.nodes[own.source])
    cluster.run(10 * SECOND)
    assert own.source is not None and cluster.nodes[own.source].alive
    subscriptions = cluster.nodes[own.source].mesh.replica.jobs[job_id].subscriptions
    assert not subscriptions._by_peer[client.id].in_flight
    assert not subscriptions._by_peer[client.id].waiting


@pytest.mark.parametrize("held_bytes_max", [0, LOCAL.held_bytes_max])
def test_all_is_accepted_once_somebody_can_run_the_copies_and_no_room_is_taken_any_more(held_bytes_max: int) -> None:
    cluster, client, job_id = waiting_for_a_second_worker(held_bytes_max)
    cluster.add("w1", Role.WORKER, cold())
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    assert client.results == {index: output_of(index) for index in range(TASKS)}
    own = client.mesh.submitter.jobs[job_id]
    assert not own.aside and own.aside_bytes == 0
