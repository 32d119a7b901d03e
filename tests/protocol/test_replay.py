"""Each kind of signed record, shown again after it was superseded or used: nothing changes, nobody is blamed for it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hearthmesh.crypto.certificates import Role
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.effects import Effect, Execute, Notify, Penalise, Persist, Publish
from hearthmesh.protocol.events import FollowJob, Received, SubmitJob
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.messages import (
    Accused,
    Delivery,
    Granted,
    Message,
    Records,
    Rejected,
    Revocations,
    Submit,
    TableRows,
)
from hearthmesh.protocol.records import (
    Cancellation,
    Grant,
    HeatDigest,
    JobDigest,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
    sign_record,
)
from hearthmesh.protocol.result_keeping import COLUMNS_ROW
from tests.protocol.cluster import ALL_ROLES, SECOND, Cluster, SimNode
from tests.protocol.test_verification import accusation


def finished_job() -> tuple[Cluster, SimNode, SimNode, JobState]:
    """A keeper of a job that is done and accepted, and a member that wrote down all that it heard."""
    cluster = Cluster()
    workers, client = cluster.workers(4), cluster.client()
    member = cluster.add("member", ALL_ROLES)
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(30, verification="quorum(2)")))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id = next(iter(client.mesh.submitter.jobs))
    cluster.feed(client, FollowJob(job_id, (), True))
    keeper = next(worker for worker in workers if job_id in worker.mesh.replica.jobs)
    state = keeper.mesh.replica.jobs[job_id].state
    cluster.run_until(lambda: state.fully_accepted)
    cluster.run(SECOND)
    return cluster, keeper, member, state


def fingerprint(node: SimNode, state: JobState) -> Any:
    ledger = node.mesh.replica.jobs[state.job_id].ledger
    return len(state.ids), state.done.total, state.accepted_tasks.total, list(ledger.live), len(node.mesh.tables)


def told(cluster: Cluster, node: SimNode, peer: bytes, message: Message) -> list[Effect]:
    effects = node.mesh.handle(Received(peer, message), cluster.now_us)
    return [each for each in effects if isinstance(each, Persist | Penalise | Execute | Notify | Publish)]


def stored(keeper: SimNode, job_id: bytes, kind: int) -> list[bytes]:
    return [body for (owner, row, _), body in keeper.rows.items() if owner == job_id and row == kind]


@pytest.mark.parametrize(
    "kind",
    [
        RecordKind.SPEC,
        RecordKind.REPLICA_SET,
        RecordKind.GRANT,
        RecordKind.RELEASE,
        RecordKind.ACCEPTANCE,
        RecordKind.CANCELLATION,
        RecordKind.RECHECK,
    ],
    ids=lambda kind: kind.name.lower(),
)
def test_a_jobs_records_shown_again_change_nothing(kind: RecordKind) -> None:
    cluster, keeper, member, state = finished_job()
    raws = stored(keeper, state.job_id, int(kind))
    if kind is RecordKind.RELEASE:
        granter = next(node for node in cluster.nodes.values() if node.id in state.replicas)
        grant = sign_record(granter.identity, RecordKind.GRANT, Grant(state.job_id, 0, 3, 1, member.id, SECOND))
        raws = [sign_record(member.identity, kind, Release(state.job_id, 0, 3, grant.raw)).raw]
    elif kind is RecordKind.CANCELLATION:
        client = next(node for node in cluster.nodes.values() if node.id == state.submitter)
        raws = [sign_record(client.identity, kind, Cancellation(state.job_id)).raw]
        told(cluster, keeper, client.id, Records(state.job_id, tuple(raws)))
    assert raws
    before = fingerprint(keeper, state)
    for raw in raws:
        assert told(cluster, keeper, member.id, Records(state.job_id, (raw,))) == []
    assert fingerprint(keeper, state) == before


def test_a_batch_shown_again_is_stored_once() -> None:
    cluster, keeper, member, state = finished_job()
    batch_id = next(iter(state.batches))
    header, columns = (keeper.rows[state.job_id, kind, batch_id] for kind in (int(RecordKind.BATCH), COLUMNS_ROW))
    before = fingerprint(keeper, state)
    assert told(cluster, keeper, member.id, Delivery(header, columns)) == []
    assert fingerprint(keeper, state) == before


def test_a_forgotten_job_is_not_begun_anew_by_who_kept_its_records() -> None:
    cluster, keeper, member, state = finished_job()
    kept = keeper.mesh.replica.jobs.pop(state.job_id)
    keeper.mesh.replica._forgotten[state.job_id] = None
    context = kept.state.context()
    assert told(cluster, keeper, member.id, Records(state.job_id, context)) == []
    effects = keeper.mesh.handle(Received(member.id, Submit(1, context[0], context[-1])), cluster.now_us)
    assert state.job_id not in keeper.mesh.replica.jobs
    assert [each.message.reason for each in effects if hasattr(each, "message") and isinstance(each.message, Rejected)]


def test_a_grant_that_was_run_is_not_run_again_and_one_of_an_older_epoch_is_void() -> None:
    cluster = Cluster()
    worker, keeper, client = cluster.add("w", Role.WORKER), cluster.add("k", Role.REPLICA), cluster.client()
    worker.mesh.worker.slots = 1
    spec = cluster.signed_spec(client, 8)
    replicas = sign_record(client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (keeper.id,)))
    grant = sign_record(keeper.identity, RecordKind.GRANT, Grant(spec.id, 0, 1, 1, worker.id, SECOND))
    given = Granted(0, (grant.raw,), (spec.raw, replicas.raw))
    assert [each for each in told(cluster, worker, keeper.id, given) if isinstance(each, Execute)]
    assert not [each for each in told(cluster, worker, keeper.id, given) if isinstance(each, Execute)]
    state = JobState(spec)
    for record in (
        replicas,
        sign_record(keeper.identity, RecordKind.GRANT, Grant(spec.id, 0, 1, 2, client.id, SECOND)),
    ):
        assert state.merge(record)
    assert not state.merge(grant) and state.leases.get(0).holder == client.id  # type: ignore[union-attr]


def rows_of(node: SimNode) -> list[Record]:
    """The node's rows as it told them, by kind."""
    tables = node.mesh.tables
    return [record for kind in (RecordKind.MEMBER, RecordKind.HEAT) for record in tables.rows(kind)]


def test_a_row_is_no_news_once_a_newer_one_was_seen_nor_after_its_node_left() -> None:
    cluster = Cluster()
    node, peer, author = cluster.add("n"), cluster.add("p"), cluster.add("a", Role.WORKER)
    cluster.run(SECOND)
    old = [
        sign_record(author.identity, RecordKind.HEAT, HeatDigest(author.id, 9 << 40, at, 1, 1, 1, 0, "room", 0))
        for at in (1, 2)
    ]
    old += [
        sign_record(
            author.identity,
            RecordKind.JOB_DIGEST,
            JobDigest(b"j" * 32, author.id, 9 << 40, at, 5, 1, "wasm", "", 5, False),
        )
        for at in (1, 2)
    ]
    member = node.mesh.tables.get(RecordKind.MEMBER, author.id)
    assert member is not None
    newer = sign_record(author.identity, RecordKind.MEMBER, replace(member.body, sequence=member.body.sequence + 9))
    for raw in (old[1].raw, old[3].raw, newer.raw):
        told(cluster, node, peer.id, TableRows(0, False, (raw,), (), (), ()))
    known = [record.id for record in (*rows_of(node), *node.mesh.tables.rows(RecordKind.JOB_DIGEST))]
    assert {old[1].id, old[3].id, newer.id} <= set(known)
    for raw in (old[0].raw, old[2].raw, member.raw):
        assert told(cluster, node, peer.id, TableRows(0, False, (raw,), (), (), ())) == []
    assert known == [record.id for record in (*rows_of(node), *node.mesh.tables.rows(RecordKind.JOB_DIGEST))]
    node.mesh.tables.forget_node(author.id, cluster.now_us)
    for raw in (newer.raw, old[1].raw, old[3].raw):
        told(cluster, node, peer.id, TableRows(0, False, (raw,), (), (), ()))
    assert not [record for record in rows_of(node) if record.author == author.id]


def test_an_older_revocation_list_brings_nobody_back() -> None:
    cluster = Cluster()
    node, peer = cluster.add("n"), cluster.add("p")
    first = revoke(cluster.authority, cluster.mesh_definition, [b"1" * 16])
    second = revoke(cluster.authority, cluster.mesh_definition, [b"2" * 16], previous=first)
    told(cluster, node, peer.id, Revocations(second.to_bytes()))
    assert told(cluster, node, peer.id, Revocations(first.to_bytes())) == []
    assert node.mesh.ctx.policy.is_revoked(b"2" * 16)


def test_an_accusation_is_tried_once() -> None:
    cluster = Cluster()
    judge, accuser, liar = cluster.add("j"), cluster.add("a"), cluster.add("l")
    raw = accusation(cluster, accuser, named=liar, other=accuser, lie_of=liar)
    told(cluster, judge, accuser.id, Accused(raw))
    trials = len(judge.mesh.court._trials)
    assert told(cluster, judge, accuser.id, Accused(raw)) == [] and len(judge.mesh.court._trials) == trials == 1
