"""What a replica and the nodes around it do after restarts and losses, and with jobs that claim nonsense."""

from __future__ import annotations

from dataclasses import replace

from hearthmesh.crypto.certificates import Role, revoke
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import CancelJob, FollowJob, Received, StorageFailed, StorageRecovered, SubmitJob
from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.job_parts import BatchInfo
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.messages import (
    Delivery,
    Message,
    Reconcile,
    Records,
    Rejected,
    Renew,
    Revocations,
    Steal,
    Submit,
)
from hearthmesh.protocol.record_parts import in_messages
from hearthmesh.protocol.records import UINT_MAX, Acceptance, AcceptedBatch, RecordKind, sign_record
from hearthmesh.protocol.subscriptions import job_status
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold
from tests.protocol.machines import JOB, REPLICA_SET, SPEC, SUBMITTER, C, D, batch_header


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


def submit_again(cluster: Cluster, client: SimNode, keeper: SimNode, *, by: SimNode) -> KeptJob:
    """The client's own submission, to a keeper; as another keeps it."""
    (kept,) = by.mesh.replica.jobs.values()
    replica_set = kept.state.replica_path()[0]
    cluster.feed(keeper, Received(client.id, Submit(99, kept.state.spec_record.raw, replica_set.raw)))
    cluster.run(100 * MS)
    return keeper.mesh.replica.jobs[kept.state.job_id]


def without_submission_to(name: str) -> tuple[Cluster, SimNode, list[SimNode]]:
    """A job that two of its three keepers have; the third heard of it from one of those."""
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    late = next(keeper for keeper in keepers if keeper.name == name)
    cluster.blocked = lambda _from, to, message: to is late and isinstance(message, Submit | Reconcile)
    client = cluster.client()
    job_id = submitted(cluster, client, 50)
    first = next(keeper for keeper in keepers if keeper is not late)
    cluster.feed(late, Received(first.id, Records(job_id, first.mesh.replica.jobs[job_id].state.context())))
    cluster.run(100 * MS)
    return cluster, client, [late, first]


def test_who_hears_of_a_job_from_another_before_its_submitter_grants_as_soon_as_that_one_comes() -> None:
    """Else its section would wait for a round of comparison."""
    cluster, client, (late, first) = without_submission_to("r2")
    (heard,) = late.mesh.replica.jobs.values()
    assert not heard.level
    assert submit_again(cluster, client, late, by=first) is heard
    assert heard.level


def test_a_submission_that_comes_again_makes_nobody_grant_who_may_have_forgotten() -> None:
    cluster, client, (late, first) = without_submission_to("r2")
    cluster.restart(late)
    cluster.run(100 * MS)
    assert not submit_again(cluster, client, late, by=first).level


def test_a_submission_that_comes_again_makes_no_successor_grant_before_it_knows_what_went_on() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    client = cluster.client()
    job_id = submitted(cluster, client, 50)
    late = cluster.add("late", Role.REPLICA)
    cluster.blocked = lambda _from, to, message: to is late and isinstance(message, Reconcile)
    cluster.kill(keepers[0])
    cluster.run_until(lambda: job_id in late.mesh.replica.jobs)
    assert not submit_again(cluster, client, late, by=keepers[1]).level


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


def test_a_replica_may_count_tasks_as_accepted_before_it_has_their_results() -> None:
    """After a partition: acceptances come from the client at once, what is behind them by comparison, later."""
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    batch = batch_header(0, 4, by=C)
    state.merge(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(JOB, (AcceptedBatch(batch.id, 0, 4),))))
    early = job_status(state, Ledger(state, SECOND), 0)
    assert (early.accepted, early.done, early.workers) == (4, 0, ())
    # Another's result of the same tasks is kept, and counts no longer once the accepted one is here.
    state.merge(batch_header(0, 4, by=D))
    assert [
        (share.node, share.done) for share in job_status(state, Ledger(state, SECOND), 0).workers if share.done
    ] == [(D.node_id, 4)]
    state.merge(batch)
    late = job_status(state, Ledger(state, SECOND), 0)
    assert [(share.node, share.done) for share in late.workers if share.done] == [(C.node_id, 4)]
    assert (late.accepted, late.done, late.duplicates) == (4, 4, 4)


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


# -- what is said later, and less of it -----------------------------------------------------------------------


def said(cluster: Cluster, kind: str) -> list[str]:
    """Who said it to whom, in order."""
    return [line.removesuffix(f" {kind}") for line in cluster.log if line.endswith(f" {kind}")]


def test_tasks_that_are_done_soon_cost_the_other_replicas_no_grant() -> None:
    cluster = Cluster(task_us=1 * MS)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    worker, client = cluster.add("w", Role.WORKER, heat=cold()), cluster.client()
    cluster.log.clear()
    job_id = submitted(cluster, client, 30)
    cluster.run_until(lambda: len(worker.executed) == 30)
    cluster.run(SECOND)
    assert said(cluster, "Records") == []
    assert {keeper.mesh.replica.jobs[job_id].state.done.total for keeper in keepers} == {30}


def test_grants_of_long_tasks_are_known_to_all_replicas_before_anybody_could_take_over() -> None:
    cluster = Cluster(task_us=2 * SECOND)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    cluster.add("w", Role.WORKER, heat=cold())
    job_id = submitted(cluster, cluster.client(), 3)
    cluster.run(cluster.config.grant_echo_us + 100 * MS)
    held = [sum(keeper.mesh.replica.jobs[job_id].ledger.leased_by().values()) for keeper in keepers]
    assert held[0] == held[1] == held[2] > 0
    assert cluster.config.grant_echo_us < cluster.config.suspicion_min_us


def test_batches_of_one_delay_are_acknowledged_together_and_not_before() -> None:
    cluster = Cluster(task_us=1 * MS, config=replace(LOCAL, batch_tasks_max=2, batch_floor_us=1))
    cluster.add("r", Role.REPLICA)
    worker = cluster.add("w", Role.WORKER, heat=cold())
    submitted(cluster, cluster.client(), 40, estimate_us=1 * MS)
    cluster.log.clear()
    cluster.run_until(lambda: len(worker.executed) == 40)
    cluster.run(cluster.delay_us * 2)
    assert len(said(cluster, "Delivery")) >= 20 and said(cluster, "Stored") == []
    cluster.run(cluster.config.stored_delay_us + 10 * MS)
    assert said(cluster, "Stored") == ["r>w"]
    assert len(worker.mesh.worker.outbox) == 0


def test_a_lifeline_that_is_kept_is_answered_by_work_alone() -> None:
    cluster = Cluster()
    cluster.add("r", Role.REPLICA)
    worker = cluster.add("w", Role.WORKER, heat=cold())
    cluster.run(2 * SECOND)
    assert said(cluster, "Steal") and said(cluster, "Refused") == []
    submitted(cluster, cluster.client(), 4)
    cluster.run_until(lambda: len(worker.executed) == 4)
    assert said(cluster, "Granted")


def test_a_lifeline_for_which_there_is_no_room_is_refused() -> None:
    cluster = Cluster(config=replace(LOCAL, lifelines_held_max=0))
    cluster.add("r", Role.REPLICA)
    cluster.add("w", Role.WORKER, heat=cold())
    cluster.run(2 * SECOND)
    assert said(cluster, "Refused")


def test_the_section_of_a_dead_replica_is_granted_by_another_and_given_back() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    job_id = submitted(cluster, cluster.client(), 30)
    cluster.run(2 * cluster.config.copy_delay_us)
    free = {keeper.name: keeper.mesh.replica.free_tasks for keeper in keepers}
    assert [free[name]() for name in sorted(free)] == [10, 10, 10]
    cluster.disconnect(keepers[0])
    cluster.run(cluster.config.suspicion_max_us)
    assert sum(keeper.mesh.replica.free_tasks() for keeper in keepers[1:]) == 30
    cluster.cut_off.clear()
    for other in (*keepers[1:], *(node for node in cluster.nodes.values() if node.name == "client")):
        cluster.connect(keepers[0], other)
    cluster.run(4 * cluster.config.reconcile_interval_us)
    replicas = {keeper.mesh.replica.jobs[job_id].state.replicas for keeper in keepers}
    assert len(replicas) == 1
    assert sum(keeper.mesh.replica.free_tasks() for keeper in keepers) == 30


def test_records_are_cut_into_messages_that_peers_can_decode() -> None:
    cut = in_messages([bytes(250)] * 600 + [bytes(600_000)] * 2)
    assert [raw for part in cut for raw in part] == [bytes(250)] * 600 + [bytes(600_000)] * 2
    for part in cut:
        message = Records(bytes(32), part)
        assert decode_message(encode_message(message)) == message


def test_sections_follow_who_refuses() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    job_id = submitted(cluster, cluster.client(), 30)
    cluster.run_until(lambda: all(job_id in keeper.mesh.replica.jobs for keeper in keepers))
    replica = keepers[0].mesh.replica
    one, other = [node for node in replica.jobs[job_id].state.replicas if node != keepers[0].id]
    controlled = []
    for refuses in (one, other):
        cluster.feed(keepers[0], Received(refuses, Rejected(0, job_id, "no")))
        controlled.append(replica.free_tasks())
        replica.jobs[job_id].refusing.clear()
    assert sorted(controlled) == [10, 20]
    for refuses in (one, other):
        replica.jobs[job_id].refusing = {refuses: None}
        assert replica._sections(replica.jobs[job_id]) == replica._work_out_sections(replica.jobs[job_id])


def test_who_could_not_keep_a_job_is_asked_again_with_the_next_comparison() -> None:
    """It answers no comparison while it fetches the job's files: as if it had nothing to say, it is left alone then."""
    cluster = Cluster(seed=2)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    compared: list[SimNode] = []

    def note(source: SimNode, target: SimNode, message: Message) -> bool:
        if source is keepers[0] and isinstance(message, Reconcile):
            compared.append(target)
        return isinstance(message, Reconcile)

    cluster.blocked = note
    job_id = submitted(cluster, cluster.client(), 30)
    cluster.run(5 * cluster.config.reconcile_interval_us)
    compared.clear()
    cluster.run(2 * cluster.config.reconcile_interval_us)
    assert not compared
    for other in keepers[1:]:
        cluster.feed(keepers[0], Received(other.id, Rejected(0, job_id, "no source has the blob")))
    cluster.run(cluster.config.reconcile_interval_us)
    assert compared and compared[0] in keepers[1:]


def test_a_granter_that_dies_before_it_told_the_others_leaves_no_second_grant_under_its_epoch() -> None:
    cluster = Cluster(task_us=60 * SECOND)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    worker = cluster.add("w", Role.WORKER)
    job_id = submitted(cluster, cluster.client(), 3, estimate_us=60 * SECOND)
    cluster.run(3 * SECOND)
    cluster.feed(worker, cold(slots=1))
    cluster.run_until(lambda: bool(worker.executions))
    cluster.run(20 * MS)
    (run,) = worker.executions.values()
    granter = next(keeper for keeper in keepers if keeper.mesh.replica.jobs[job_id].ledger.live.get(run.first))
    cluster.kill(granter)
    heir = cluster.add("heir", Role.WORKER, heat=cold(slots=3))
    cluster.run(20 * SECOND)
    taken_over = {
        index for other in heir.executions.values() for index in range(other.first, other.first + other.count)
    }
    assert taken_over and run.first not in taken_over


def test_tasks_of_a_lease_that_ran_out_are_pushed_along_a_lifeline() -> None:
    cluster = Cluster(task_us=2 * SECOND)
    cluster.add("r", Role.REPLICA)
    first = cluster.add("first", Role.WORKER, heat=cold())
    submitted(cluster, cluster.client(), 1)
    cluster.run_until(lambda: bool(first.executions))
    second = cluster.add("second", Role.WORKER, heat=cold())
    cluster.run(500 * MS)
    cluster.blocked = lambda a, _b, message: a is first and isinstance(message, Renew | Delivery | Steal)
    cluster.log.clear()
    cluster.run_until(lambda: bool(second.executions))
    assert "second>r Steal" not in cluster.log[cluster.log.index("r>second Granted") - 3 :]


def test_who_could_keep_nothing_for_a_while_hears_of_it_before_it_grants() -> None:
    """Its leases ran out meanwhile, and the results went to the others: what they have is not run again."""
    cluster = Cluster()
    full, other, _ = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    worker = cluster.add("w", Role.WORKER, heat=cold())
    job_id = submitted(cluster, cluster.client(), 300)
    cluster.run_until(lambda: len(worker.executed) >= 30)
    cluster.feed(full, StorageFailed("full"))
    cluster.run_until(lambda: other.mesh.replica.jobs[job_id].state.complete)
    cluster.run(2 * cluster.config.lease_us)
    late = cluster.add("late", Role.WORKER, heat=cold())
    cluster.run(SECOND)
    cluster.feed(full, StorageRecovered())
    cluster.run(10 * SECOND)
    assert full.mesh.replica.jobs[job_id].state.complete
    assert late.executed == []


def test_who_was_frozen_hears_what_went_on_before_it_grants() -> None:
    """To it all leases have run out at once; of the results it heard nothing, as others gave up its links."""
    cluster = Cluster()
    frozen, other, _ = [cluster.add(f"r{number}", Role.REPLICA | Role.WORKER) for number in range(3)]
    worker = cluster.add("w", Role.WORKER, heat=cold())
    job_id = submitted(cluster, cluster.client(), 300)
    cluster.run_until(lambda: len(worker.executed) >= 30)
    frozen.frozen = True
    cluster.blocked = lambda _a, b, message: b is frozen and isinstance(message, Delivery | Records)
    cluster.run_until(lambda: other.mesh.replica.jobs[job_id].state.complete)
    cluster.run(SECOND)
    cluster.blocked = lambda _a, _b, _message: False
    frozen.frozen = False
    cluster.feed(frozen, cold())
    cluster.thaw(frozen)
    cluster.run(10 * SECOND)
    assert frozen.mesh.replica.jobs[job_id].state.complete
    assert frozen.executed == []
