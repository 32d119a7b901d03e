"""What a client took and no disk has: it is given back, and signed for only then; and what happens if it is lost."""

from dataclasses import replace

import pytest

from hearthmesh.crypto.certificates import Certificate, Role
from hearthmesh.crypto.revocations import revoke
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.custody import Custody
from hearthmesh.protocol.events import FollowJob, GiveBack, ListJobs, Received, StorageFailed, SubmitJob
from hearthmesh.protocol.messages import Consumed, Delivery, Message, Records, Revocations, Stored, Taken, Want
from hearthmesh.protocol.records import Acceptance, AcceptedBatch, RecordKind, sign_record
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold, output_of

BATCH = bytes([7]) * 32


def street(**changes: object) -> tuple[Cluster, list[SimNode], SimNode]:
    """Three who only keep, and a client."""
    cluster = Cluster(config=replace(LOCAL, **changes))  # type: ignore[arg-type]
    keepers = [cluster.add(f"k{number}", Role.REPLICA) for number in range(3)]
    client = cluster.add("client", Role.SUBMITTER)
    return cluster, keepers, client


def one_task(cluster: Cluster, client: SimNode, worker: SimNode, **changes: str) -> bytes:
    """A job of one task whose result the client has, and who made it and who handed it on are gone for good."""
    cluster.feed(client, SubmitJob(cluster.spec(1, **changes)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id: bytes = client.noted("job.submitted")[0]["job_id"]
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == 1)
    source = client.mesh.submitter.jobs[job_id].source
    assert source is not None
    cluster.kill(worker)
    cluster.kill(cluster.nodes[source])
    return job_id


def test_keeper_whose_disk_was_full_when_it_was_killed_is_declared_dead() -> None:
    """It had a seat, and its clients and successors wait for its end, though it said that it served nobody."""
    cluster, keepers, client = street()
    cluster.run(2 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(1)))
    cluster.run_until(lambda: all(keeper.mesh.replica.jobs for keeper in keepers))
    cluster.feed(client, FollowJob(client.noted("job.submitted")[0]["job_id"], (), True))
    cluster.feed(keepers[0], StorageFailed("disk full"))
    cluster.run(2 * SECOND)
    cluster.kill(keepers[0])
    others = [*keepers[1:], client]
    cluster.run_until(lambda: all(node.mesh.members.is_gone(keepers[0].id) for node in others))


def living(cluster: Cluster, job_id: bytes) -> list[SimNode]:
    return [node for node in cluster.nodes.values() if node.alive and job_id in node.mesh.replica.jobs]


def accepted(cluster: Cluster, job_id: bytes) -> list[list[bytes]]:
    """By each that keeps it: which batches are accepted, and all of them are there."""
    found = []
    for node in living(cluster, job_id):
        state = node.mesh.replica.jobs[job_id].state
        found.append([batch_id for _, _, batch_id in state.accepted])
        assert all((job_id, int(RecordKind.BATCH), batch_id) in node.rows for batch_id in found[-1])
    return found


def lose_batches(cluster: Cluster, job_id: bytes) -> None:
    """Everybody who keeps the job is killed, and starts again without the results; who was dead, too."""
    for node in living(cluster, job_id):
        cluster.kill(node)
        for key in [key for key in node.rows if key[1] == RecordKind.BATCH]:
            del node.rows[key]
    for node in list(cluster.nodes.values()):
        if not node.alive:
            cluster.restart(node)


def come_back(cluster: Cluster, client: SimNode, job_id: bytes) -> None:
    cluster.restart(client)
    cluster.run(SECOND)
    cluster.feed(client, ListJobs(b""))
    cluster.run_until(lambda: job_id in client.mesh.submitter.jobs)


def test_a_result_that_the_client_alone_has_is_given_back_and_then_accepted() -> None:
    cluster, _, client = street()
    cluster.run(2 * SECOND)
    worker = cluster.add("worker", Role.WORKER, cold())
    job_id = one_task(cluster, client, worker)
    ((_, _, batch_id),) = client.signed
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(SECOND)
    assert accepted(cluster, job_id) == 2 * [[batch_id]]
    assert not len(client.mesh.submitter.jobs[job_id].custody)
    assert not any(node.penalties for node in cluster.nodes.values())


def test_a_client_that_comes_back_with_its_state_gives_back_what_it_kept() -> None:
    cluster, _, client = street()
    cluster.run(2 * SECOND)
    job_id = one_task(cluster, client, cluster.add("worker", Role.WORKER, cold()))
    cluster.kill(client)
    kept = tuple(client.signed)
    # Nobody has it, so it is run again; the client signs for the one that it has.
    cluster.add("other", Role.WORKER, cold())
    cluster.run_until(lambda: all(n.mesh.replica.jobs[job_id].state.complete for n in living(cluster, job_id)))
    come_back(cluster, client, job_id)
    cluster.feed(client, FollowJob(job_id, ((0, 1),), True, kept))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(5 * SECOND)
    assert client.noted("job.wanted")
    assert accepted(cluster, job_id) == len(living(cluster, job_id)) * [[kept[0][2]]]


def test_a_client_that_comes_back_without_its_state_gets_each_result_and_accepts_it_once() -> None:
    cluster, _, client = street()
    cluster.run(2 * SECOND)
    job_id = one_task(cluster, client, cluster.add("worker", Role.WORKER, cold()))
    cluster.kill(client)
    cluster.add("other", Role.WORKER, cold())
    client.results.clear()
    client.batches.clear()
    come_back(cluster, client, job_id)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(5 * SECOND)
    assert client.results == {0: output_of(0)}
    assert accepted(cluster, job_id) == len(living(cluster, job_id)) * [[client.signed[-1][2]]]


@pytest.mark.parametrize("damage", ["gone", "damaged", "another"])
def test_a_batch_that_nobody_has_any_more_is_not_waited_for(damage: str) -> None:
    """The client knows that it had it, and lost its file: it signs for what the replicas have, and misleads nobody."""
    cluster, _, client = street()
    cluster.run(2 * SECOND)
    job_id = one_task(cluster, client, cluster.add("worker", Role.WORKER, cold()))
    cluster.kill(client)
    ((_, _, batch_id),) = kept = tuple(client.signed)
    header, columns = client.batches.pop(batch_id)
    cluster.add("other", Role.WORKER, cold())
    cluster.run_until(lambda: all(n.mesh.replica.jobs[job_id].state.complete for n in living(cluster, job_id)))
    if damage == "damaged":
        client.batches[batch_id] = header, columns[:-1] + bytes([columns[-1] ^ 1])
    elif damage == "another":
        keeper = living(cluster, job_id)[0]
        (other,) = keeper.mesh.replica.jobs[job_id].state.batches
        client.batches[batch_id] = keeper.rows[job_id, int(RecordKind.BATCH), other], columns
    come_back(cluster, client, job_id)
    cluster.feed(client, FollowJob(job_id, ((0, 1),), True, kept))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(5 * SECOND)
    assert client.noted("job.batch-lost") == [{"job_id": job_id, "batch_id": batch_id}]
    for found in accepted(cluster, job_id):
        assert len(found) == 1 and found != [batch_id]
    assert not any(node.penalties for node in cluster.nodes.values())


def revoked_while_held(policy: str) -> tuple[Cluster, SimNode, bytes]:
    """The client alone has the result, and its worker is admitted no more: nobody can be given it."""
    cluster, _, client = street()
    cluster.run(2 * SECOND)
    worker = cluster.add("worker", Role.WORKER, cold())
    job_id = one_task(cluster, client, worker, verification=policy)
    serial = Certificate.from_bytes(worker.mesh.ctx.certificate).serial
    revoked = Revocations(revoke(cluster.authority, cluster.mesh_definition, (serial,)).to_bytes())
    for node in list(cluster.nodes.values()):
        if node.alive:
            cluster.feed(node, Received(node.id, revoked))
    cluster.run(20 * SECOND)
    assert client.mesh.submitter.jobs[job_id].waiting == 1
    return cluster, client, job_id


def test_in_the_life_that_took_it_a_lost_batch_makes_room_for_the_rerun() -> None:
    cluster, client, job_id = revoked_while_held("none")
    ((_, _, lost),) = client.signed
    cluster.add("other", Role.WORKER, cold())
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(5 * SECOND)
    assert client.noted("job.batch-lost") == [{"job_id": job_id, "batch_id": lost}]
    found = accepted(cluster, job_id)
    assert len(found) == 2 and found[0] == found[1] != [lost]
    own = client.mesh.submitter.jobs[job_id]
    assert not len(own.custody) and not own.lost and client.results == {0: output_of(0)}
    cluster.log.clear()
    cluster.run(60 * SECOND)
    assert told(cluster, client, Taken) == 0
    assert not any(node.penalties for node in cluster.nodes.values())


def test_a_rerun_of_a_lost_batch_is_signed_for_only_if_the_referee_lets_it_pass() -> None:
    cluster, client, job_id = revoked_while_held("adaptive")
    own = client.mesh.submitter.jobs[job_id]
    liar, *honest = [cluster.add(name, Role.WORKER) for name in ("liar", "one", "two")]
    liar.lies = True
    cluster.run(5 * SECOND)
    for node in (liar, *honest):
        cluster.feed(node, cold())
        cluster.run(SECOND)
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.run(5 * SECOND)
    assert liar.executed
    ((_, _, batch_id),) = own.state.accepted
    assert own.state.batches[batch_id].worker in [node.id for node in honest]
    assert client.results == {0: output_of(0)}


def village() -> tuple[Cluster, SimNode, bytes]:
    """Three nodes that work and keep; the client has all six results, and nobody's word that they are on disk."""
    cluster = Cluster()
    cluster.workers(3)
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.blocked = lambda _a, b, message: b is client and isinstance(message, Stored)
    cluster.feed(client, SubmitJob(cluster.spec(6), follow=True))
    (job_id,) = client.mesh.submitter.jobs
    cluster.run_until(lambda: len(client.results) == 6)
    return cluster, client, job_id


def test_nothing_is_signed_for_before_enough_replicas_have_it_on_disk() -> None:
    cluster, client, job_id = village()
    own = client.mesh.submitter.jobs[job_id]
    cluster.run(10 * SECOND)
    assert own.waiting == 6 and not own.state.acceptances
    one = next(node for node in living(cluster, job_id))
    cluster.blocked = lambda a, b, message: b is client and a is not one and isinstance(message, Stored)
    cluster.run(10 * SECOND)
    assert own.waiting == 6 and not own.state.acceptances
    cluster.blocked = lambda _a, _b, _message: False
    cluster.run_until(lambda: own.state.fully_accepted)
    assert not own.waiting


def test_where_one_replica_is_left_its_disk_is_enough_and_the_client_keeps_what_it_took() -> None:
    cluster, client, job_id = village()
    own = client.mesh.submitter.jobs[job_id]
    one, *others = living(cluster, job_id)
    for node in others:
        cluster.kill(node)
    cluster.blocked = lambda _a, _b, _message: False
    cluster.run_until(lambda: own.state.fully_accepted)
    assert len(own.custody) and all(held.disks(own.state.replicas) == 1 for _, held in own.custody)
    for node in others:
        cluster.restart(node)
    cluster.run_until(lambda: not len(own.custody))
    cluster.run(5 * SECOND)
    assert len(accepted(cluster, job_id)) == 3


@pytest.mark.parametrize("custody_bytes_max", [LOCAL.custody_bytes_max, 0])
def test_the_word_of_a_replica_that_died_is_not_signed_for(custody_bytes_max: int) -> None:
    """The source's disk alone has it, and dies; a second dies too, and the last was never given the batch."""
    cluster, keepers, client = street(custody_bytes_max=custody_bytes_max)
    cluster.run(2 * SECOND)
    cluster.add("worker", Role.WORKER, cold())
    cluster.feed(client, SubmitJob(cluster.spec(1)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    (job_id,) = client.mesh.submitter.jobs
    cluster.feed(client, FollowJob(job_id, (), True))
    own = client.mesh.submitter.jobs[job_id]
    source, second, last = sorted(keepers, key=lambda node: node.id != own.source)
    cluster.blocked = lambda _a, b, message: isinstance(message, Delivery) and b in (second, last)
    cluster.run_until(lambda: len(own.custody) == 1)
    ((batch_id, held),) = own.custody
    cluster.run_until(lambda: len(held.on_disk) == 1)
    cluster.kill(source)
    cluster.kill(second)
    cluster.run(30 * SECOND)
    assert client.mesh.members.is_gone(source.id) and client.mesh.members.is_gone(second.id)
    assert not own.state.acceptances and own.custody.get(batch_id) is held
    cluster.kill(last)
    cluster.run(30 * SECOND)
    assert not own.state.acceptances and own.custody.get(batch_id) is held
    cluster.blocked = lambda _a, _b, _message: False
    cluster.restart(last)
    cluster.run_until(lambda: own.state.fully_accepted)
    cluster.run(SECOND)
    assert accepted(cluster, job_id) == [[batch_id]]


def test_a_replica_that_lost_what_was_accepted_has_it_from_the_submitter() -> None:
    """Both disks that had it are lost later; it was signed for, and whoever signed still has it in its folder."""
    cluster, client, job_id = village()
    cluster.blocked = lambda _a, _b, _message: False
    own = client.mesh.submitter.jobs[job_id]
    cluster.run_until(lambda: own.state.fully_accepted)
    cluster.run(SECOND)
    lose_batches(cluster, job_id)
    cluster.run(10 * SECOND)
    assert len(accepted(cluster, job_id)) == 3
    assert all(not node.mesh.replica.jobs[job_id].state.lacking for node in living(cluster, job_id))


def test_batches_that_nobody_can_give_do_not_hide_one_that_the_submitter_has() -> None:
    """More of them than are given back for one question, though no task is accepted from them any more."""
    cluster, client, job_id = village()
    cluster.blocked = lambda _a, _b, _message: False
    own = client.mesh.submitter.jobs[job_id]
    cluster.run_until(lambda: own.state.fully_accepted)
    for number in range(8):  # before the good one is there
        never = [bytes([255, 255, number, other]) + bytes(28) for other in range(40)]
        bodies = [Acceptance(job_id, (AcceptedBatch(batch_id, 0, 1),)) for batch_id in never]
        raws = tuple(sign_record(client.identity, RecordKind.ACCEPTANCE, body).raw for body in bodies)
        for node in living(cluster, job_id):
            cluster.feed(node, Received(client.id, Records(job_id, raws)))
            assert never[0] in node.mesh.replica.jobs[job_id].state.lacking
    cluster.run(SECOND)
    lose_batches(cluster, job_id)
    cluster.run(60 * SECOND)
    assert len(accepted(cluster, job_id)) == 3


def told(cluster: Cluster, client: SimNode, kind: type[Message]) -> int:
    return sum(line.startswith(f"{client.name}>") and line.endswith(f" {kind.__name__}") for line in cluster.log)


def test_nobody_but_a_replica_is_given_what_the_client_took() -> None:
    cluster, client, job_id = village()
    stranger = cluster.add("stranger", Role.WORKER)
    ((batch_id, _), *_) = client.mesh.submitter.jobs[job_id].custody
    before = told(cluster, client, Delivery)
    cluster.feed(client, Received(stranger.id, Want(job_id, (batch_id,))))
    cluster.feed(client, GiveBack(bytes(32), batch_id, stranger.id, b"", b""))
    assert told(cluster, client, Delivery) == before
    replica = client.mesh.submitter.jobs[job_id].state.replicas[0]
    cluster.feed(client, Received(replica, Want(job_id, (batch_id, BATCH))))
    assert told(cluster, client, Delivery) == before + 1
    assert not client.noted("job.wanted")


def test_whoever_is_not_the_submitter_learns_nothing_by_asking() -> None:
    cluster, client, job_id = village()
    replica = living(cluster, job_id)[0]
    stranger = cluster.add("stranger", Role.SUBMITTER)
    cluster.log.clear()
    cluster.feed(replica, Received(stranger.id, Taken(job_id, (BATCH,))))
    cluster.run(SECOND)
    assert not [line for line in cluster.log if line.startswith(f"{replica.name}>{stranger.name} Want")]
    assert not [line for line in cluster.log if line.startswith(f"{replica.name}>{stranger.name} Stored")]


def test_while_too_much_is_on_no_disk_the_window_stays_shut() -> None:
    cluster = Cluster(config=replace(LOCAL, result_window=8, custody_bytes_max=1, batch_tasks_max=1), task_us=MS)
    cluster.workers(3)
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.blocked = lambda _a, b, message: b is client and isinstance(message, Stored)
    cluster.feed(client, SubmitJob(cluster.spec(60), follow=True))
    (job_id,) = client.mesh.submitter.jobs
    cluster.run(5 * SECOND)
    assert told(cluster, client, Consumed) == 0 and len(client.results) < 60
    cluster.blocked = lambda _a, _b, _message: False
    cluster.run_until(lambda: len(client.results) == 60)
    cluster.run_until(lambda: client.mesh.submitter.jobs[job_id].state.fully_accepted)


def test_an_acceptance_of_a_batch_that_is_not_here_is_remembered_until_it_comes() -> None:
    cluster, client, job_id = village()
    replica = living(cluster, job_id)[0]
    state = replica.mesh.replica.jobs[job_id].state
    body = Acceptance(job_id, (AcceptedBatch(BATCH, 0, 1), AcceptedBatch(next(iter(state.batches)), 1, 2)))
    record = sign_record(client.identity, RecordKind.ACCEPTANCE, body)
    cluster.feed(replica, Received(client.id, Records(job_id, (record.raw,))))
    assert list(state.lacking) == [BATCH]


def test_what_is_held_counts_its_bytes_once() -> None:
    custody = Custody()
    delivery = Delivery(b"header", b"columns")
    custody.hold(BATCH, 0, 1, None)
    custody.hold(BATCH, 1, 3, delivery)
    custody.hold(BATCH, 1, 3, delivery)
    assert (len(custody), custody.column_bytes) == (1, 7)
    held = custody.get(BATCH)
    assert held is not None and list(held.tasks) == [(0, 3)]
    held.on_disk[b"a"] = None
    assert custody.lacked_by(b"a", [BATCH]) == [] and custody.lacked_by(b"b", custody.keys()) == [BATCH]
    custody.let_go(BATCH)
    assert (len(custody), custody.column_bytes) == (0, 0)


def test_replicas_are_asked_at_once_for_what_is_new_and_now_and_then_for_the_rest() -> None:
    custody = Custody()
    custody.hold(BATCH, 0, 1, None)
    assert custody.to_ask(10, 0) == [BATCH]
    assert custody.to_ask(11, 0) == []
    assert custody.to_ask(14, 5) == [] and custody.to_ask(15, 5) == [BATCH]
    assert custody.to_ask(16, 5) == []
