"""What a replica and the nodes around it do after restarts and losses, and with jobs that claim nonsense."""

from __future__ import annotations

from dataclasses import replace

from hearthmesh.crypto.certificates import Role, revoke
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.events import CancelJob, FollowJob, Received, SubmitJob
from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.jobs import BatchInfo, JobState
from hearthmesh.protocol.messages import Revocations
from hearthmesh.protocol.records import UINT_MAX, RecordKind, sign_record
from hearthmesh.protocol.subscriptions import job_status
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold


def submitted(cluster: Cluster, client: SimNode, tasks: int, **changes: int) -> bytes:
    """The id of a job that enough replicas hold."""
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(tasks, **changes)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id: bytes = client.noted("job.submitted")[-1]["job_id"]
    return job_id


def test_a_cancelled_job_is_not_granted_after_a_restart() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    client = cluster.client()
    job_id = submitted(cluster, client, 50)
    cluster.feed(client, CancelJob(job_id))
    cluster.run(SECOND)
    cluster.restart(keepers[0])
    worker = cluster.add("w", Role.WORKER, heat=cold())
    cluster.run(20 * SECOND)
    assert job_id not in keepers[0].mesh.replica.open_jobs
    assert keepers[0].mesh.replica.free_tasks() == 0
    assert worker.executed == []


def test_a_seat_that_nobody_could_take_is_filled_when_somebody_comes() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    job_id = submitted(cluster, cluster.client(), 50)
    cluster.kill(keepers[0])
    cluster.run(4 * cluster.config.replica_grace_us)
    late = cluster.add("late", Role.REPLICA)
    cluster.run_until(lambda: job_id in late.mesh.replica.jobs)
    replicas = keepers[1].mesh.replica.jobs[job_id].state.replicas
    assert late.id in replicas and keepers[0].id not in replicas


def test_a_job_that_claims_absurd_task_times_hurts_no_worker() -> None:
    cluster = Cluster()
    for number in range(3):
        cluster.add(f"r{number}", Role.REPLICA)
    worker = cluster.add("w", Role.WORKER, heat=cold(slots=8))
    submitted(cluster, cluster.client(), 64, estimate_us=UINT_MAX)
    cluster.run_until(lambda: len(worker.executed) == 64)
    assert not [node for node in cluster.nodes.values() if node.penalties]


def test_who_missed_a_revocation_hears_of_it_from_the_next_peer() -> None:
    cluster = Cluster()
    early, outcast = cluster.add("early"), cluster.add("outcast")
    serial = outcast.mesh.ctx.policy.check(
        outcast.mesh.ctx.certificate, outcast.id, (cluster.now_us + 1_800_000_000_000_000) // 1_000_000
    ).serial
    revocations = revoke(cluster.authority, cluster.mesh_definition, [serial])
    cluster.feed(early, Received(early.id, Revocations(revocations.to_bytes())))
    cluster.run(SECOND)
    late = cluster.add("late")
    cluster.run(SECOND)
    assert late.mesh.ctx.policy.is_revoked(serial)


def test_status_fits_its_message_whatever_workers_claimed() -> None:
    cluster = Cluster()
    spec = sign_record(cluster.client().identity, RecordKind.SPEC, cluster.spec(4))
    state = JobState(spec)
    claims = BatchInfo(bytes(32), bytes(32), 0, 4, 1, 1, UINT_MAX, 1, 1)
    for _ in range(4):
        state._count(claims, 4)
    displaced = BatchInfo(bytes(32), bytes([1]) * 32, 0, 4, 1, 1, 1, 1, 1)
    for share in (4, -1, -1, -1, -1):
        state._count(displaced, share)
    status = job_status(state, Ledger(state, SECOND), 0)
    assert decode_message(encode_message(status)) == status


def test_a_member_that_refuses_a_job_controls_none_of_it() -> None:
    cluster = Cluster()
    nodes = cluster.workers(4)
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(90)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    note = client.noted("job.submitted")[0]
    refusing = cluster.nodes[note["replicas"][1]]
    job_id = note["job_id"]
    del refusing.mesh.replica.jobs[job_id]
    refusing.mesh.replica.open_jobs.pop(job_id, None)
    refusing.rows = {key: row for key, row in refusing.rows.items() if key[0] != job_id}
    refusing.mesh.replica._ctx.config = replace(cluster.config, jobs_max=0)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: bool(client.noted("job.accepted")), within_us=60 * SECOND)
    assert sorted(client.results) == list(range(90))
    assert job_id not in refusing.mesh.replica.jobs
    assert sum(len(node.executed) for node in nodes) >= 90
