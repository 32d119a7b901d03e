"""Results are compared before they count: what honest workers, liars and their accomplices come to."""

from __future__ import annotations

from dataclasses import replace as changed_config
from typing import Any

import pytest
from msgspec.structs import replace as changed

from hearthmesh.crypto.certificates import Certificate, Role
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import (
    Event,
    FollowJob,
    HeatReading,
    OutputsCompared,
    Received,
    SubmitJob,
    TaskFinished,
    UnfollowJob,
)
from hearthmesh.protocol.messages import Accused, Delivery, Revocations
from hearthmesh.protocol.records import BatchHeader, Grant, RecordKind, open_record, sign_record
from hearthmesh.protocol.verification.exhibits import Dispute, Exhibit
from hearthmesh.protocol.verification.fraud import accusation_of
from hearthmesh.protocol.verification.lanes import numbers_of
from hearthmesh.protocol.verification.referee import UNPROVEN_A_WORKER
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold, output_of


def accepted(cluster: Cluster, client: SimNode) -> bool:
    return bool(client.noted("job.accepted"))


def run_job(cluster: Cluster, client: SimNode, tasks: int, policy: str, **changes: Any) -> bytes:
    """Submit, follow, and wait until all is accepted."""
    before = len(client.noted("job.accepted"))
    cluster.feed(client, SubmitJob(cluster.spec(tasks, verification=policy, **changes)))
    job_id: bytes = client.noted("job.signed")[-1]["job_id"]
    cluster.run_until(lambda: any(note["job_id"] == job_id for note in client.noted("job.submitted")))
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


def test_copies_count_that_a_replica_gave_which_took_a_dead_ones_seat() -> None:
    """The submitter knows the set that it signed; the successor stands in one that replicas made meanwhile."""
    cluster = Cluster(task_us=SECOND)
    workers = cluster.workers(6)
    client = cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(60, verification="quorum(2)")))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    note = client.noted("job.submitted")[0]
    cluster.feed(client, FollowJob(note["job_id"], (), True))
    cluster.kill(cluster.nodes[note["replicas"][0]])
    cluster.run_until(lambda: accepted(cluster, client))
    assert any(worker.noted("replica.replaced") for worker in workers)
    assert len(client.results) == 60 and right(client.results)


def copy_of(worker: SimNode, job_id: bytes, copy: int, tasks: int, grant: bytes) -> Delivery:
    """A lie about all tasks of a job, as if somebody had asked for it."""
    nothing = (0,) * tasks
    batch = Batch(0, 1, nothing, (b"lie",) * tasks, nothing, nothing, {}, {})
    header = BatchHeader(
        job_id, 0, tasks, 1, batch.root(), 0, 0, 0, 0, 0, False, worker.mesh.ctx.certificate, copy, grant
    )
    return Delivery(sign_record(worker.identity, RecordKind.BATCH, header).raw, encode_columns(batch))


@pytest.mark.parametrize("policy", ["quorum(2)", "adaptive"])
@pytest.mark.parametrize("who_grants", ["nobody", "its worker", "a replica, to another", "a replica"])
def test_copies_that_nobody_asked_for_stall_nothing(policy: str, who_grants: str) -> None:
    cluster, workers, client = village()
    cluster.feed(client, SubmitJob(cluster.spec(60, verification=policy)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id = client.noted("job.submitted")[0]["job_id"]
    cluster.feed(client, FollowJob(job_id, (), True))
    members = client.mesh.submitter.jobs[job_id].state.replicas
    keepers = [worker for worker in workers if worker.id in members]
    liar, other = [worker for worker in workers if worker.id not in members][:2]
    granter = liar if who_grants == "its worker" else keepers[0]
    holder = other if who_grants == "a replica, to another" else liar
    for copy in range(1, 16):
        lo, hi = numbers_of(0, 60, copy, 60)
        signed = sign_record(granter.identity, RecordKind.GRANT, Grant(job_id, lo, hi, 1, holder.id, SECOND))
        grant = b"" if who_grants == "nobody" else signed.raw
        for keeper in keepers:
            cluster.feed(keeper, Received(liar.id, copy_of(liar, job_id, copy, 60, grant)))
    cluster.run_until(lambda: accepted(cluster, client))
    assert len(client.results) == 60 and right(client.results)
    cluster.run(10 * SECOND)
    states = [keeper.mesh.replica.jobs[job_id].state for keeper in keepers]
    assert all(state.ids.ids(b"", b"") == states[0].ids.ids(b"", b"") for state in states)
    assert all(list(state.reruns.done) == list(states[0].reruns.done) for state in states)


def test_copies_that_nobody_gave_leave_room_for_those_of_a_successor() -> None:
    cluster, workers, client = village()
    cluster.feed(client, SubmitJob(cluster.spec(60, verification="quorum(2)")))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id = client.noted("job.submitted")[0]["job_id"]
    cluster.feed(client, FollowJob(job_id, (), True))

    def deliver(worker: SimNode, number: int) -> None:
        """A copy of task 0 that the worker granted to itself."""
        batch = Batch(0, 1, (0,), (b"%d" % number,), (0,), (0,), {}, {})
        lo, hi = numbers_of(0, 1, 1, 60)
        grant = sign_record(worker.identity, RecordKind.GRANT, Grant(job_id, lo, hi, 1, worker.id, SECOND))
        header = BatchHeader(
            job_id, 0, 1, 1, batch.root(), 0, 0, 0, 0, 0, False, worker.mesh.ctx.certificate, 1, grant.raw
        )
        record = sign_record(worker.identity, RecordKind.BATCH, header)
        client.mesh.handle(Received(worker.id, Delivery(record.raw, encode_columns(batch))), cluster.now_us)

    members = client.mesh.submitter.jobs[job_id].state.replicas
    liar, other = [worker for worker in workers if worker.id not in members][:2]
    for number in range(100):
        deliver(liar, number)
    deliver(other, 100)
    referee = client.mesh.submitter.jobs[job_id].referee
    assert referee is not None
    authors = [exhibit.header.author for exhibit in referee.unproven.values()]
    assert authors == [liar.id] * UNPROVEN_A_WORKER + [other.id]


def kept_back(cluster: Cluster, client: SimNode, claimed_us: int | None = None) -> None:
    """The replica that is followed first sends no copies, whoever else is followed later.

    claimed_us: what workers say that each task cost them.
    """
    liars: list[bytes] = []
    feed = cluster.feed

    def keep_back(node: SimNode, event: Event) -> None:
        if node is client and isinstance(event, Received) and isinstance(event.message, Delivery):
            liars.append(event.peer)
            if event.peer == liars[0] and open_record(event.message.header).body.copy:
                return
        if isinstance(event, TaskFinished) and claimed_us is not None:
            event = changed(event, cpu_us=(claimed_us,) * len(event.cpu_us))
        feed(node, event)

    cluster.feed = keep_back  # type: ignore[method-assign]


@pytest.mark.parametrize("held_bytes_max", [0, LOCAL.held_bytes_max])
def test_a_replica_that_keeps_copies_back_is_followed_no_more(held_bytes_max: int) -> None:
    cluster = Cluster(config=changed_config(LOCAL, held_bytes_max=held_bytes_max))
    cluster.workers(6)
    client = cluster.client()
    cluster.run(3 * SECOND)
    kept_back(cluster, client)
    run_job(cluster, client, 60, "quorum(2)")
    assert len(client.results) == 60 and right(client.results)
    assert cluster.now_us < 120 * SECOND


def test_it_is_left_within_minutes_also_where_workers_claim_that_their_tasks_take_long() -> None:
    cluster, _, client = village()
    kept_back(cluster, client, claimed_us=4_000 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(12, verification="quorum(2)"), follow=True))
    cluster.run_until(lambda: accepted(cluster, client), within_us=600 * SECOND)
    assert right(client.results)


def test_a_policy_that_nobody_knows_is_refused() -> None:
    cluster, _, client = village(2)
    cluster.feed(client, SubmitJob(cluster.spec(4, verification="quorum(99)")))
    (note,) = client.noted("job.rejected")
    assert note["reason"].startswith('verification "quorum(99)": expected')


# -- fraud ---------------------------------------------------------------------------------------------------------


def convicted_at(workers: list[SimNode]) -> list[set[bytes]]:
    return [set(worker.mesh.ctx.convicted) for worker in workers]


def test_a_liar_is_convicted_by_every_node_for_itself_and_gets_nothing_any_more() -> None:
    cluster, workers, client = village()
    liar = workers[0]
    liar.lies = True
    run_job(cluster, client, 60, "quorum(2)", nonce=b"first")
    honest = workers[1:]
    cluster.run_until(lambda: convicted_at(honest) == [{liar.id}] * len(honest))
    assert not client.mesh.ctx.convicted, "who runs nothing convicts nobody"
    ran = len(liar.executed)
    run_job(cluster, client, 60, "quorum(2)", nonce=b"second")
    assert len(liar.executed) == ran and right(client.results)


def test_nobody_hands_work_on_to_a_convicted_node() -> None:
    _, workers, _ = village(3)
    heat = workers[0].mesh.heat
    assert [digest.node for digest in heat.coldest()] == sorted(worker.id for worker in workers[1:])
    workers[0].mesh.ctx.convicted[workers[1].id] = b""
    assert [digest.node for digest in heat.coldest()] == [workers[2].id]


def test_a_conviction_survives_a_restart_and_is_told_to_whoever_comes() -> None:
    cluster, workers, client = village()
    workers[0].lies = True
    run_job(cluster, client, 60, "quorum(2)")
    cluster.run_until(lambda: workers[0].id in workers[1].mesh.ctx.convicted)
    cluster.kill(workers[1])
    cluster.restart(workers[1])
    assert set(workers[1].mesh.ctx.convicted) == {workers[0].id}
    newcomer = cluster.add("newcomer", heat=workers[2].mesh.heat.reading)
    cluster.run_until(lambda: set(newcomer.mesh.ctx.convicted) == {workers[0].id})


def test_the_section_of_a_convicted_replica_falls_to_the_next() -> None:
    """It says that what it ran is done, and nobody takes that from it."""
    cluster, workers, client = village(5)
    for number in range(8):
        nonce = bytes([number])
        cluster.feed(client, SubmitJob(cluster.spec(20, nonce=nonce, verification="quorum(2)")))
        cluster.run_until(lambda count=number + 1: len(client.noted("job.submitted")) == count)  # type: ignore[misc]
    job_ids = [note["job_id"] for note in client.noted("job.submitted")]
    kept = next(job_id for job_id in job_ids if workers[0].id in client.mesh.submitter.jobs[job_id].state.replicas)
    for worker in workers[1:]:
        worker.mesh.ctx.convicted[workers[0].id] = b""
        worker.mesh.replica.on_member(cluster.now_us)
    client.results.clear()
    cluster.feed(client, FollowJob(kept, (), True))
    cluster.run_until(lambda: len(client.results) == 20)
    assert right(client.results)


def accusation(
    cluster: Cluster,
    accuser: SimNode,
    named: SimNode,
    other: SimNode,
    lie_of: SimNode,
    begun_by: SimNode | None = None,
    lie_exit: int = 0,
    **changes: Any,
) -> bytes:
    """As a submitter would sign it, of a job of the accuser's. begun_by: who handed the task on to the liar.  lie_exit:
    how the task ended, as the liar says; b"" if it is nothing to accuse somebody of."""
    spec = cluster.signed_spec(accuser, 3, **{"nonce": named.id[:16] + other.id[:16], **changes})

    def exhibit(worker: SimNode) -> Exhibit:
        outputs = tuple(output_of(i) if worker is not lie_of else b"lie" for i in range(3))
        exits = (lie_exit if worker is lie_of else 0,) * 3
        batch = Batch(0, 1, exits, outputs, (1,) * 3, (1,) * 3, {}, {})
        body = BatchHeader(spec.id, 0, 3, 1, batch.root(), 0, 3, 3, 0, 0, False, worker.mesh.ctx.certificate)
        if begun_by is not None and worker is lie_of:
            handed = Grant(spec.id, 1, 2, 2, worker.id, 1, b"a parent", bytes(32))
            body = changed(body, grant=sign_record(begun_by.identity, RecordKind.GRANT, handed).raw)
        return Exhibit(sign_record(worker.identity, RecordKind.BATCH, body), batch, b"", b"")

    body = accusation_of(Dispute(1, exhibit(other), exhibit(named)), spec)
    return b"" if body is None else sign_record(accuser.identity, RecordKind.ACCUSATION, body).raw


def test_a_false_accusation_costs_the_accuser() -> None:
    cluster, workers, _ = village()
    judge, accuser, honest, liar = workers[:4]
    raw = accusation(cluster, accuser, named=honest, other=liar, lie_of=liar)
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run_until(lambda: bool(judge.mesh.ctx.convicted))
    assert set(judge.mesh.ctx.convicted) == {liar.id}, "the one who lied, whoever was named"
    assert [penalty.peer for penalty in judge.penalties] == [accuser.id]
    for other in (workers[4], workers[5]):
        raw = accusation(cluster, accuser, named=honest, other=other, lie_of=other)
        cluster.feed(judge, Received(accuser.id, Accused(raw)))
        cluster.run(20 * SECOND)
    assert len(judge.penalties) == 3
    again = accusation(cluster, accuser, named=honest, other=workers[4], lie_of=honest)
    cluster.feed(judge, Received(accuser.id, Accused(again)))
    cluster.run(5 * SECOND)
    assert honest.id not in judge.mesh.ctx.convicted, "it is not heard any more"


def test_what_proves_nothing_is_not_tried() -> None:
    cluster, workers, client = village()
    judge, accuser, one, two = workers[:4]
    same = accusation(cluster, accuser, named=one, other=two, lie_of=judge)
    cluster.feed(judge, Received(accuser.id, Accused(same)))
    stranger = accusation(cluster, accuser, named=one, other=client, lie_of=one)
    cluster.feed(judge, Received(accuser.id, Accused(stranger)))
    damaged = bytearray(same)
    damaged[100] ^= 1
    cluster.feed(judge, Received(accuser.id, Accused(bytes(damaged))))
    cluster.run(5 * SECOND)
    assert not judge.mesh.ctx.convicted and len(judge.penalties) == 3
    assert [note["reason"] for note in judge.noted("fraud.unproven")] == [
        "the two results do not differ, or are of one worker",
        "somebody who is no worker here",
    ]


def test_who_is_no_submitter_here_accuses_nobody() -> None:
    """It has nothing to lose: not a run is given for its word, under however many names it comes."""
    cluster, workers, client = village()
    judge, liar, honest = workers[:3]
    replica = cluster.add("keeper", Role.REPLICA)
    stranger = Cluster(seed=2).client("stranger")
    stranger.mesh.ctx.certificate = client.mesh.ctx.certificate  # another's, as everybody can read it in a spec
    for accuser in (stranger, replica):
        raw = accusation(cluster, accuser, named=liar, other=honest, lie_of=liar)
        cluster.feed(judge, Received(client.id, Accused(raw)))
    borrowed = open_record(accusation(cluster, client, named=liar, other=honest, lie_of=liar)).body
    raw = sign_record(workers[3].identity, RecordKind.ACCUSATION, borrowed).raw
    cluster.feed(judge, Received(client.id, Accused(raw)))
    cluster.run(5 * SECOND)
    assert not judge.mesh.ctx.convicted and not judge.mesh.court._trials
    assert [note["reason"] for note in judge.noted("fraud.unproven")] == [
        "somebody who is no submitter here",
        "somebody who is no submitter here",
        "an accuser whose job it is not",
    ]
    assert len(judge.penalties) == 3


def test_who_tells_of_a_liar_that_was_revoked_since_is_not_to_blame() -> None:
    cluster, workers, client = village()
    judge, neighbour, liar, honest = workers[:4]
    raw = accusation(cluster, client, named=liar, other=honest, lie_of=liar)
    serial = Certificate.from_bytes(liar.mesh.ctx.certificate).serial
    listed = revoke(cluster.authority, cluster.mesh_definition, [serial])
    cluster.feed(judge, Received(neighbour.id, Revocations(listed.to_bytes())))
    cluster.feed(judge, Received(neighbour.id, Accused(raw)))
    assert [note["reason"] for note in judge.noted("fraud.unproven")] == ["somebody who is no worker here"]
    assert not judge.penalties


def test_a_submitter_that_was_revoked_floods_no_court() -> None:
    """Its accusations push out nothing that is remembered; it pays for those that it tells itself, and nobody else."""
    cluster, workers, client = village()
    judge, neighbour, liar, honest = workers[:4]
    known = accusation(cluster, neighbour, named=liar, other=honest, lie_of=judge)
    cluster.feed(judge, Received(neighbour.id, Accused(known)))
    assert [penalty.peer for penalty in judge.penalties] == [neighbour.id], "the results do not differ"
    serial = Certificate.from_bytes(client.mesh.ctx.certificate).serial
    listed = revoke(cluster.authority, cluster.mesh_definition, [serial])
    cluster.feed(judge, Received(neighbour.id, Revocations(listed.to_bytes())))
    body = open_record(accusation(cluster, client, named=liar, other=honest, lie_of=liar)).body
    remembered = list(judge.mesh.court._heard)
    for index, teller in enumerate([neighbour] * 6 + [client] * 2):
        raw = sign_record(client.identity, RecordKind.ACCUSATION, changed(body, index=index)).raw
        cluster.feed(judge, Received(teller.id, Accused(raw)))
    assert {note["reason"] for note in judge.noted("fraud.unproven")[1:]} == {"somebody who is no submitter here"}
    assert list(judge.mesh.court._heard) == remembered
    assert [penalty.peer for penalty in judge.penalties[1:]] == [client.id] * 2


def test_who_went_on_from_anothers_checkpoint_is_not_convicted_for_it() -> None:
    cluster, workers, _ = village()
    judge, accuser, honest, heir = workers[:4]
    raw = accusation(cluster, accuser, named=heir, other=honest, lie_of=heir, begun_by=workers[4])
    cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run(5 * SECOND)
    assert not judge.mesh.ctx.convicted
    assert [note["reason"] for note in judge.noted("fraud.unproven")] == [
        "a result that goes on from another node's checkpoint"
    ]
    itself = accusation(cluster, accuser, named=heir, other=honest, lie_of=heir, begun_by=heir)
    cluster.feed(judge, Received(accuser.id, Accused(itself)))
    cluster.run_until(lambda: set(judge.mesh.ctx.convicted) == {heir.id})


def test_one_accuser_can_make_a_node_run_few_tasks_at_a_time() -> None:
    cluster, workers, _ = village()
    judge, accuser = workers[:2]
    cluster.feed(judge, HeatReading(0.0, 500.0, 0, 0.0, 50.0, False, "room", 23.0))
    cluster.run(SECOND)
    for liar in workers[2:]:
        for other in workers[2:]:
            if liar is not other:
                raw = accusation(cluster, accuser, named=liar, other=other, lie_of=liar)
                cluster.feed(judge, Received(accuser.id, Accused(raw)))
    cluster.run(SECOND)
    assert len(judge.mesh.court._trials) == 4 and not judge.executions


def test_native_results_are_compared_within_a_class_of_machines_only() -> None:
    cluster = Cluster()
    kinds = {name: name[0] for name in ("a1", "a2", "a3", "b1", "b2", "b3")}
    workers = [cluster.add(name, heat=cold(), machine=kind) for name, kind in kinds.items()]
    client = cluster.client()
    cluster.run(3 * SECOND)
    run_job(cluster, client, 40, "quorum(2)", runtime="native", abi="command", command="tool")
    assert right(client.results) and {worker.name[0] for worker in workers if worker.executed} == {"a", "b"}
    for index in range(40):
        ran = {worker.name for worker in workers if index in worker.executed}
        assert len({kinds[name] for name in ran}) == 1 and len(ran) == 2


def test_a_class_of_one_is_not_checked_where_checks_are_not_strict() -> None:
    cluster = Cluster()
    workers = [cluster.add(name, heat=cold(), machine=name) for name in ("one", "two", "three")]
    client = cluster.client()
    cluster.run(3 * SECOND)
    run_job(cluster, client, 12, "adaptive", runtime="native", abi="command", command="tool")
    assert right(client.results) and runs(workers) == 12


def test_a_vote_of_another_class_is_none() -> None:
    """A replica that grants a copy to whomever it likes makes an honest node of another class differ."""
    cluster = Cluster()
    for name in ("a1", "a2", "a3"):
        cluster.add(name, heat=cold(), machine="a")
    odd = cluster.add("b1", machine="b", heat=cold())
    odd.lies = True
    for node in cluster.nodes.values():
        node.mesh.replica._copies._work_out_ranks = lambda _kept, _body: {  # type: ignore[method-assign]
            other.id: 0 for other in cluster.nodes.values()
        }
    client = cluster.client()
    cluster.run(3 * SECOND)
    run_job(cluster, client, 30, "spot(1.0)", runtime="native", abi="command", command="tool")
    assert right(client.results) and odd.executed
    assert not client.noted("result.disputed")


@pytest.mark.parametrize("policy", ["spot(1.0)", "adaptive"])
def test_a_class_that_a_liar_invents_does_not_keep_it_from_being_checked(policy: str) -> None:
    cluster = Cluster()
    for name in ("a1", "a2", "a3"):
        cluster.add(name, heat=cold(), machine="a")
    odd = cluster.add("b1", machine="invented", heat=cold())
    odd.lies = True
    client = cluster.client()
    cluster.run(3 * SECOND)
    run_job(cluster, client, 60, policy, runtime="native", abi="command", command="tool")
    assert right(client.results) and odd.executed
    # A machine of its own kind may honestly come to other bytes.
    assert not client.noted("result.disputed") and client.mesh.trust.standing(odd.id, "native tool") is None


def test_an_honest_machine_of_its_own_kind_is_believed_as_soon_as_others_come_to_the_same() -> None:
    cluster = Cluster()
    workers = [cluster.add(name, heat=cold(), machine=name[0]) for name in ("a1", "a2", "a3", "b1")]
    client = cluster.client()
    cluster.run(3 * SECOND)
    run_job(cluster, client, 300, "adaptive", runtime="native", abi="command", command="tool")
    assert right(client.results) and runs(workers) <= 300 + 10 * len(workers) + 300 // 10


MODULE = f"wasm({'ab' * 32})"


def varying(count: int) -> tuple[Cluster, list[SimNode], SimNode]:
    """Honest nodes whose outputs differ in the last byte, as a program's may that notes when it ran."""
    cluster, workers, client = village(count)
    for worker in workers:
        worker.varies = True
    return cluster, workers, client


def test_a_module_of_the_submitters_says_which_outputs_are_the_same() -> None:
    cluster, workers, client = varying(4)
    run_job(cluster, client, 30, "quorum(2)", comparator=MODULE)
    assert all(output[:-1] == output_of(index) for index, output in client.results.items())
    assert runs(workers) == 60 and cluster.compared and not client.noted("result.disputed")


def test_who_a_module_finds_wrong_is_caught_and_each_pair_is_asked_once() -> None:
    cluster, workers, client = varying(5)
    workers[0].lies = True
    run_job(cluster, client, 30, "quorum(2)", comparator=MODULE)
    assert all(output[:-1] == output_of(index) for index, output in client.results.items())
    wrong = {note["wrong"] for note in client.noted("result.disputed")}
    assert wrong <= {workers[0].id} and workers[0].executed
    assert client.mesh.trust.standing(workers[0].id, "wasm").wrong  # type: ignore[union-attr]


def test_a_slow_module_is_not_asked_again_while_it_compares() -> None:
    cluster, _, client = varying(4)
    cluster.compare_us = 20 * SECOND
    run_job(cluster, client, 30, "quorum(2)", comparator=MODULE)
    assert len(client.results) == 30 and cluster.compared <= 40


def test_a_module_that_cannot_be_run_decides_nothing_and_is_tried_again() -> None:
    cluster, _, client = varying(4)
    answer = OutputsCompared

    def unavailable(node: SimNode, event: Event) -> None:
        if isinstance(event, answer) and cluster.now_us < 20 * SECOND:
            event = answer(event.job_id, (), "no worker process")
        feed(node, event)

    feed, cluster.feed = cluster.feed, unavailable  # type: ignore[method-assign]
    run_job(cluster, client, 6, "quorum(2)", comparator=MODULE)
    assert cluster.now_us > 20 * SECOND and client.noted("comparator.failed")
    assert len(client.results) == 6 and not client.noted("result.disputed")
