"""Who may do what in the mesh: revocations by several authorities, roles, quotas."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from hearthmesh.crypto.certificates import NO_QUOTA, Certificate, MeshDefinition, Quota, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Effect, FetchBlobs, Limited, Penalise, Reason, Send
from hearthmesh.protocol.events import AddressesChanged, BlobsFetched, Received, SubmitJob
from hearthmesh.protocol.limits import Limit
from hearthmesh.protocol.messages import (
    Granted,
    HandOn,
    Message,
    Records,
    Rejected,
    Revocations,
    Steal,
    Submit,
    TableRows,
)
from hearthmesh.protocol.placement import candidates_from
from hearthmesh.protocol.records import FileRef, Grant, HeatDigest, Record, RecordKind, ReplicaSet, sign_record
from tests.protocol.cluster import SECOND, Cluster, SimNode


def board_of_three() -> tuple[Cluster, list[Identity]]:
    """A mesh whose revocations take two of three authorities."""
    cluster = Cluster()
    others = [Identity.from_seed(bytes([n]) * 32) for n in (201, 202)]
    authorities = [cluster.authority, *others]
    keys = tuple(each.node_id for each in authorities)
    cluster.mesh_definition = MeshDefinition("test", keys, revocation_quorum=2)
    return cluster, authorities


def serial_of(node: SimNode) -> bytes:
    return Certificate.from_bytes(node.mesh.ctx.certificate).serial


def test_two_of_three_lists_spread_apart_persist_and_count_together() -> None:
    cluster, (first, second, _) = board_of_three()
    nodes, outcast = [cluster.add(name) for name in ("a", "b", "c")], cluster.add("outcast")
    serial = serial_of(outcast)
    lists = [revoke(each, cluster.mesh_definition, [serial]).to_bytes() for each in (first, second)]
    cluster.feed(nodes[0], Received(nodes[0].id, Revocations(lists[0])))
    cluster.run(SECOND)
    assert not any(node.mesh.ctx.policy.is_revoked(serial) for node in nodes)
    cluster.feed(nodes[1], Received(nodes[1].id, Revocations(lists[1])))
    cluster.run(SECOND)
    assert all(node.mesh.ctx.policy.is_revoked(serial) for node in nodes)
    cluster.restart(nodes[2])
    assert nodes[2].mesh.ctx.policy.is_revoked(serial)


def test_who_sends_a_list_that_no_authority_signed_breaks_a_rule() -> None:
    cluster, (first, _, _) = board_of_three()
    node, peer = cluster.add("a"), cluster.add("b")
    forged = revoke(first, cluster.mesh_definition, [bytes(16)]).to_bytes()[:-1] + b"\0"
    effects = node.mesh.handle(Received(peer.id, Revocations(forged)), cluster.now_us)
    assert effects == [Penalise(peer.id, Reason.BAD_SIGNATURE)]


# -- roles -------------------------------------------------------------------------------------------------


def rejections(effects: list[Effect]) -> list[str]:
    return [each.message.reason for each in effects if isinstance(each, Send) and isinstance(each.message, Rejected)]


def submission(submitter: SimNode, spec: Record, *keepers: SimNode) -> Submit:
    body = ReplicaSet(spec.id, 0, tuple(keeper.id for keeper in keepers))
    return Submit(7, spec.raw, sign_record(submitter.identity, RecordKind.REPLICA_SET, body).raw)


def told(cluster: Cluster, node: SimNode, peer: SimNode, message: Message) -> list[Effect]:
    return node.mesh.handle(Received(peer.id, message), cluster.now_us)


def test_a_job_is_refused_wherever_its_spec_shows_no_submitters_certificate() -> None:
    """Also by invitation and at a worker, that never met the submitter."""
    cluster = Cluster()
    keeper, worker, other = cluster.add("k", Role.REPLICA), cluster.add("w", Role.WORKER), cluster.add("o")
    outsider = cluster.add("x", Role.WORKER)
    cluster.run(SECOND)
    spec = cluster.signed_spec(outsider, 4)
    invitation = submission(outsider, spec, keeper, other)
    effects = told(cluster, keeper, other, Records(spec.id, (invitation.spec, invitation.replica_set)))
    assert Limited(Limit.ROLE, outsider.id) in effects
    assert rejections(effects) == ["the submitter's certificate: lacks a role: SUBMITTER"]
    assert spec.id not in keeper.mesh.replica.jobs
    grant = sign_record(other.identity, RecordKind.GRANT, Grant(spec.id, 0, 4, 1, worker.id, SECOND))
    effects = told(cluster, worker, other, Granted(0, (grant.raw,), (invitation.spec, invitation.replica_set)))
    assert Limited(Limit.ROLE, outsider.id) in effects
    assert worker.mesh.worker.unstarted == 0 and not [each for each in effects if isinstance(each, Penalise)]


def test_a_borrowed_certificate_makes_nobody_a_submitter() -> None:
    cluster = Cluster()
    keeper, client, thief = cluster.add("k"), cluster.client(), cluster.add("t", Role.SUBMITTER)
    spec = sign_record(thief.identity, RecordKind.SPEC, cluster.spec(4, certificate=client.mesh.ctx.certificate))
    (reason,) = rejections(told(cluster, keeper, thief, submission(thief, spec, keeper)))
    assert reason.startswith("the submitter's certificate: of another node")


def test_a_node_without_the_role_keeps_no_job() -> None:
    cluster = Cluster()
    worker, client = cluster.add("w", Role.WORKER), cluster.client()
    effects = told(cluster, worker, client, submission(client, cluster.signed_spec(client, 4), worker))
    assert rejections(effects) == ["this node keeps no jobs: it has no role replica"]


@pytest.mark.parametrize("message", [Granted(0, (), ()), HandOn((), ()), Steal(1, 1, 1, 1, 1, (), False)])
def test_who_only_submits_grants_hands_on_and_steals_nothing(message: Message) -> None:
    cluster = Cluster()
    worker, client = cluster.add("w", Role.WORKER), cluster.client()
    effects = told(cluster, worker, client, message)
    assert effects[:2] == [Limited(Limit.ROLE, client.id), Penalise(client.id, Reason.NOT_ADMITTED)]


def test_nothing_more_of_a_revoked_submitters_job_is_granted() -> None:
    cluster = Cluster(task_us=200_000)
    workers, client = cluster.workers(3), cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(200)))
    cluster.run_until(lambda: any(worker.executed for worker in workers))
    lists = revoke(cluster.authority, cluster.mesh_definition, [serial_of(client)]).to_bytes()
    cluster.feed(workers[0], Received(workers[0].id, Revocations(lists)))
    cluster.run(10 * SECOND)
    ran = sum(len(worker.executed) for worker in workers)
    cluster.run(20 * SECOND)
    assert ran == sum(len(worker.executed) for worker in workers) < 200
    assert all(worker.noted("replica.submitter-judged") for worker in workers if worker.mesh.replica.jobs)


def test_digests_of_who_showed_no_certificate_are_not_taken() -> None:
    """A member could else fill the tables with names that nobody admitted, and honest newcomers would find no room."""
    cluster = Cluster()
    node, peer = cluster.add("n"), cluster.add("p")
    cluster.run(SECOND)
    ghost = Identity.from_seed(b"g" * 32)
    digest = HeatDigest(ghost.node_id, 1, 1, 500, 500, 4, 0, "room", 15_000)
    row = sign_record(ghost, RecordKind.HEAT, digest)
    before = len(node.mesh.tables)
    assert told(cluster, node, peer, TableRows(0, False, (row.raw,), (), (), ())) == []
    assert len(node.mesh.tables) == before


def test_rows_of_a_revoked_node_are_forgotten_at_once() -> None:
    cluster = Cluster()
    node, outcast = cluster.add("n"), cluster.add("o", Role.WORKER)
    cluster.run(SECOND)
    assert node.mesh.tables.get(RecordKind.MEMBER, outcast.id) is not None
    lists = revoke(cluster.authority, cluster.mesh_definition, [serial_of(outcast)]).to_bytes()
    cluster.feed(node, Received(node.id, Revocations(lists)))
    assert node.mesh.tables.get(RecordKind.MEMBER, outcast.id) is None


def issue_anew(cluster: Cluster, node: SimNode, *, lasts_s: int | None = None, quota: Quota = NO_QUOTA) -> None:
    """Give the node its certificate again, with a quota or another end; it shows it from its next word on."""
    known = Certificate.from_bytes(node.mesh.ctx.certificate)
    until_s = known.not_after_s if lasts_s is None else node.mesh.ctx.wall_us(cluster.now_us) // SECOND + lasts_s
    made = issue(
        cluster.authority,
        cluster.mesh_definition,
        node.id,
        known.roles,
        known.not_before_s,
        until_s,
        known.name,
        known.serial,
        quota,
    )
    node.mesh.ctx.certificate = made.to_bytes()


def test_rows_of_those_whose_certificates_ran_out_are_forgotten_one_after_the_other() -> None:
    cluster = Cluster()
    node, lasts = cluster.add("n"), cluster.add("lasts")
    brief = [(cluster.add(f"b{minutes}"), minutes) for minutes in (3, 7)]
    for other, minutes in brief:
        issue_anew(cluster, other, lasts_s=60 * minutes)
        cluster.feed(other, AddressesChanged((f"/memory/{other.name}/again",), ()))
    cluster.run(SECOND)
    for minute in range(1, 12):
        cluster.run(60 * SECOND)
        assert node.mesh.tables.get(RecordKind.MEMBER, lasts.id) is not None
        for other, minutes in brief:
            there = node.mesh.tables.get(RecordKind.MEMBER, other.id) is not None
            # Looked at once a minute, or a little later in a mesh at rest.
            assert there if minute < minutes else not there or minute <= minutes + 2, (other.name, minute)


# -- quotas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quota", "reason"),
    [
        (Quota(tasks=150), "200 tasks in flight with this job, at most 150"),
        (Quota(cpu_s=15), "20 CPU seconds in flight with this job, at most 15"),
        (Quota(bytes=400), "bytes in flight with this job, at most 400"),
    ],
)
def test_a_submitter_over_its_certificates_quota_is_told_so(quota: Quota, reason: str) -> None:
    cluster = Cluster()
    keeper, client = cluster.add("k"), cluster.client()
    if not quota.bytes:
        issue_anew(cluster, client, quota=quota)
        first = cluster.signed_spec(client, 100, estimate_us=100_000, nonce=b"1")
        assert rejections(told(cluster, keeper, client, submission(client, first, keeper))) == []
        keeper.mesh.handle(BlobsFetched(first.id), cluster.now_us)
    issue_anew(cluster, client, quota=quota)
    second = cluster.signed_spec(client, 100, estimate_us=100_000, nonce=b"2")
    effects = told(cluster, keeper, client, submission(client, second, keeper))
    assert Limited(Limit.QUOTA, client.id) in effects
    (said,) = rejections(effects)
    assert said.startswith("over this submitter's quota here: ") and reason in said


def test_the_owners_quota_counts_where_it_is_the_narrower() -> None:
    assert Quota(10, 0, 5).within(Quota(20, 7, 0)) == Quota(10, 7, 5)
    cluster = Cluster(config=replace(LOCAL, submitter_jobs_max=2))
    keeper, client, other = cluster.add("k"), cluster.client(), cluster.client("other")
    specs = [cluster.signed_spec(client, 1, nonce=bytes([n])) for n in range(3)]
    said = [rejections(told(cluster, keeper, client, submission(client, spec, keeper))) for spec in specs]
    assert [len(each) for each in said] == [0, 0, 1]
    assert "3 jobs in flight with this job, at most 2" in said[2][0]
    spec = cluster.signed_spec(other, 1)
    assert rejections(told(cluster, keeper, other, submission(other, spec, keeper))) == []


def test_the_client_prints_why_when_every_replica_refuses() -> None:
    cluster = Cluster()
    cluster.workers(3)
    client = cluster.client()
    issue_anew(cluster, client, quota=Quota(tasks=10))
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(11)))
    cluster.run_until(lambda: bool(client.noted("job.rejected")))
    (rejected,) = client.noted("job.rejected")
    assert rejected["reason"] == "over this submitter's quota here: 11 tasks in flight with this job, at most 10"


def test_no_more_cpu_of_a_submitter_is_leased_at_a_time_than_its_quota() -> None:
    """Tasks whose duration nobody knew at the submission."""
    cluster = Cluster(task_us=SECOND)
    workers, client = cluster.workers(4, slots=8), cluster.client()
    issue_anew(cluster, client, quota=Quota(cpu_s=4))
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(200)))
    cluster.run_until(lambda: sum(len(worker.executed) for worker in workers) >= 100)
    for worker in workers:
        for kept in worker.mesh.replica.jobs.values():
            leased = sum(kept.ledger.leased_by().values())
            # Three replicas hear of each other's grants half a second later, and a grant is a task a slot at least.
            assert leased <= 3 * (4 + 8)


def test_a_worker_gives_back_what_is_over_a_submitters_quota() -> None:
    cluster = Cluster()
    worker, keeper, client = cluster.add("w", Role.WORKER), cluster.add("k", Role.REPLICA), cluster.client()
    issue_anew(cluster, client, quota=Quota(tasks=10))
    spec = cluster.signed_spec(client, 100)
    context = submission(client, spec, keeper)
    effects: list[Effect] = []
    for lo in (0, 8):
        grant = sign_record(keeper.identity, RecordKind.GRANT, Grant(spec.id, lo, lo + 8, 1, worker.id, SECOND))
        worker.mesh.worker.slots = 1
        effects = told(cluster, worker, keeper, Granted(0, (grant.raw,), (context.spec, context.replica_set)))
    assert Limited(Limit.HELD_QUOTA, client.id) in effects
    assert worker.mesh.worker.unstarted + sum(run.count for run in worker.mesh.worker._executions.values()) == 10
    released = [each for each in effects if isinstance(each, Send) and isinstance(each.message, Records)]
    assert len(released) == 1


def test_blobs_larger_than_their_spec_declares_are_not_fetched() -> None:
    cluster = Cluster()
    keeper, client = cluster.add("k"), cluster.client()
    file = FileRef("data", b"f" * 32, 12_345)
    effects = told(cluster, keeper, client, submission(client, cluster.signed_spec(client, 1, files=(file,)), keeper))
    (fetch,) = [each for each in effects if isinstance(each, FetchBlobs)]
    assert dict(zip(fetch.digests, fetch.sizes, strict=True)) == {bytes(32): 1, b"f" * 32: 12_345}


def test_a_node_is_no_older_than_its_admission() -> None:
    """Fresh identities cannot buy seats by saying that they are old."""
    cluster = Cluster()
    node = cluster.add("n")
    cluster.run(SECOND)
    row = node.mesh.tables.get(RecordKind.MEMBER, node.id)
    assert row is not None
    now_s = Certificate.from_bytes(row.body.certificate).not_before_s + 60
    (honest,) = candidates_from([row.body], now_s)
    (boast,) = candidates_from([structs.replace(row.body, since_s=1)], now_s)
    assert boast.weight == honest.weight == 1.0
