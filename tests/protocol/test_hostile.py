"""Whatever an admitted member says: nothing raises, nothing is sent without bound, nothing grows without bound."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from hearthmesh.crypto.certificates import Role
from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.effects import Effect, Limited, Penalise, Reason, Send
from hearthmesh.protocol.events import FollowJob, Received, SubmitJob
from hearthmesh.protocol.limits import Limit
from hearthmesh.protocol.messages import FoundJobs, Message, Records, Rejected, Steal, Submit
from hearthmesh.protocol.records import BatchHeader, RecordKind, ReplicaSet, sign_record
from tests.protocol.cluster import ALL_ROLES, MS, SECOND, Cluster, SimNode
from tests.protocol.hostile import Liar
from tests.protocol.wire import BODIES, example_of

MESSAGES = 700


def busy_mesh(seed: int) -> tuple[Cluster, list[SimNode], SimNode, SimNode]:
    """Workers in the middle of a job, its client, and a member that stays silent until it lies.

    It is no replica: what it lies about is others' business.
    """
    for nonce in range(16):
        cluster = Cluster(seed=seed, task_us=200 * MS)
        workers, client = cluster.workers(4), cluster.client()
        liar = cluster.add("liar", ALL_ROLES)
        cluster.run(3 * SECOND)
        cluster.feed(client, SubmitJob(cluster.spec(60, nonce=bytes([nonce]))))
        cluster.run_until(partial(_was_told, client))
        job_id = next(iter(client.mesh.submitter.jobs))
        if liar.id not in client.mesh.submitter.jobs[job_id].state.replicas:
            break
    else:
        raise AssertionError("the liar is a replica of all of 16 jobs")
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) > 8)
    return cluster, workers, client, liar


def _was_told(client: SimNode) -> bool:
    return bool(client.noted("job.submitted"))


def sizes(node: SimNode) -> dict[str, int]:
    """Everything that could grow, by name."""
    mesh = node.mesh
    machines = {
        "replica": mesh.replica,
        "worker": mesh.worker,
        "thief": mesh.thief,
        "submitter": mesh.submitter,
        "tables": mesh.tables,
        "outbox": mesh.worker.outbox,
        "members": mesh.members,
    }
    return {
        f"{name}.{key}": len(value)
        for name, machine in machines.items()
        for key, value in vars(machine).items()
        if isinstance(value, dict | list | set)
    }


@pytest.mark.parametrize("victim", ["worker", "client"])
@pytest.mark.parametrize("seed", range(2))
def test_no_message_of_a_member_raises_or_makes_a_node_talk_without_bound(seed: int, victim: str) -> None:
    cluster, workers, client, member = busy_mesh(seed)
    node = workers[0] if victim == "worker" else client
    liar = Liar(seed, member.identity, [*workers, client], member.mesh.ctx.certificate)
    for _ in range(MESSAGES):
        message = liar.message()
        before = len(cluster.log)
        cluster.feed(node, Received(member.id, message))
        said = [line for line in cluster.log[before:] if line.startswith(f"{node.name}>")]
        assert len(said) <= 64, f"{type(message).__name__} made it say {Counter(said).most_common(3)}"
        cluster.run(MS)
    bounds = {name: size for name, size in sizes(node).items() if size > 600}
    assert not bounds
    assert len(node.executions) <= node.mesh.worker.slots


@pytest.mark.parametrize("seed", range(3))
def test_job_ends_although_a_member_lies_to_everybody(seed: int) -> None:
    """It may waste work and its results are candidates like others', but it stops nothing, and blames nobody else."""
    cluster, workers, client, member = busy_mesh(seed)
    member.frozen = True
    liar = Liar(seed, member.identity, [*workers, client], member.mesh.ctx.certificate)
    for _ in range(400):
        cluster.feed(liar.dice.choice([*workers, client]), Received(member.id, liar.message()))
        cluster.run(MS)
    cluster.run_until(lambda: len(client.results) == 60, within_us=60 * SECOND)
    honest = {node.id for node in (*workers, client)}
    for node in (*workers, client):
        assert not [penalty for penalty in node.penalties if penalty.peer in honest]


def told(cluster: Cluster, node: SimNode, peer: bytes, message: Message) -> list[Effect]:
    return node.mesh.handle(Received(peer, message), cluster.now_us)


def test_stranger_who_has_no_link_gets_no_work_and_no_answer() -> None:
    cluster, workers, _, _ = busy_mesh(1)
    stranger = Identity.from_seed(b"stranger".ljust(32, b"\0")).node_id
    for worker in workers:
        assert told(cluster, worker, stranger, Steal(1, 10**9, 4, 100, 1 << 40, (), False)) == []


def test_client_has_no_right_to_steal() -> None:
    cluster, workers, client, _ = busy_mesh(1)
    effects = told(cluster, workers[0], client.id, Steal(1, 10**9, 4, 100, 1 << 40, (), False))
    assert effects == [Limited(Limit.ROLE, client.id), Penalise(client.id, Reason.NOT_ADMITTED)]


def test_worker_has_no_right_to_submit() -> None:
    cluster = Cluster()
    keeper, worker = cluster.add("keeper", Role.REPLICA), cluster.add("worker", Role.WORKER)
    spec = cluster.signed_spec(worker, 4)
    replicas = sign_record(worker.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (keeper.id,)))
    *first, second = told(cluster, keeper, worker.id, Submit(7, spec.raw, replicas.raw))
    assert first == [Limited(Limit.ROLE, worker.id), Penalise(worker.id, Reason.NOT_ADMITTED)]
    assert isinstance(second, Send) and isinstance(second.message, Rejected) and second.message.request == 7


def test_header_of_a_batch_without_its_columns_makes_nothing_done() -> None:
    cluster, workers, client, member = busy_mesh(1)
    job_id = next(iter(client.mesh.submitter.jobs))
    keeper = next(worker for worker in workers if job_id in worker.mesh.replica.jobs)
    header = BatchHeader(job_id, 59, 1, 1, bytes(32), 0, 1, 0, 0, 0, False, member.mesh.ctx.certificate)
    record = sign_record(member.identity, RecordKind.BATCH, header)
    before = keeper.mesh.replica.jobs[job_id].state.done.total
    effects = told(cluster, keeper, member.id, Records(job_id, (record.raw,)))
    assert effects == [Penalise(member.id, Reason.MALFORMED)]
    assert keeper.mesh.replica.jobs[job_id].state.done.total == before


@pytest.mark.parametrize("kind", [RecordKind.MEMBER, RecordKind.HEAT, RecordKind.JOB_DIGEST])
def test_record_that_is_no_jobs_is_refused_among_a_jobs(kind: RecordKind) -> None:
    cluster, workers, client, member = busy_mesh(1)
    job_id = next(iter(client.mesh.submitter.jobs))
    keeper = next(worker for worker in workers if job_id in worker.mesh.replica.jobs)
    record = sign_record(member.identity, kind, example_of(BODIES[kind]))
    effects = told(cluster, keeper, member.id, Records(job_id, (record.raw,)))
    assert effects == [Penalise(member.id, Reason.MALFORMED)]


def test_clients_list_only_jobs_that_they_signed() -> None:
    cluster, _, client, member = busy_mesh(1)
    spec = cluster.signed_spec(member, 4)
    before = list(client.mesh.submitter.jobs)
    told(cluster, client, member.id, FoundJobs(1, (spec.raw,)))
    assert list(client.mesh.submitter.jobs) == before


def test_replica_set_of_a_node_that_never_was_one_changes_nothing() -> None:
    cluster, workers, client, member = busy_mesh(1)
    job_id = next(iter(client.mesh.submitter.jobs))
    keeper = next(worker for worker in workers if job_id in worker.mesh.replica.jobs)
    taken_over = ReplicaSet(job_id, 1 << 30, (member.id, keeper.id))
    record = sign_record(member.identity, RecordKind.REPLICA_SET, taken_over)
    before = keeper.mesh.replica.jobs[job_id].state.replicas
    assert told(cluster, keeper, member.id, Records(job_id, (record.raw,))) == []
    assert keeper.mesh.replica.jobs[job_id].state.replicas == before
