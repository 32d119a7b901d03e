"""A client's side of a job: what it took is accepted, whatever it does next."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import FollowJob, ListJobs, Received, Settle, SubmitJob, UnfollowJob
from hearthmesh.protocol.intervals import IntervalMap
from hearthmesh.protocol.messages import Delivery, Message, Records, Submit, Submitted
from hearthmesh.protocol.records import BatchHeader, RecordKind, sign_record
from hearthmesh.protocol.submission import SUBMIT_ATTEMPTS_MAX
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode


def submitted(cluster: Cluster, client: SimNode, tasks: int) -> bytes:
    cluster.feed(client, SubmitJob(cluster.spec(tasks)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    job_id: bytes = client.noted("job.submitted")[0]["job_id"]
    return job_id


def village(workers: int, **changes: Any) -> tuple[Cluster, SimNode]:
    """Workers and a client that know each other."""
    cluster = Cluster(**changes)
    cluster.workers(workers)
    client = cluster.client()
    cluster.run(2 * SECOND)
    return cluster, client


def find_again(cluster: Cluster, client: SimNode, job_id: bytes) -> None:
    """In the client's next life, with the certificate that it had."""
    certificate = client.mesh.ctx.certificate
    cluster.restart(client)
    client.mesh.ctx.certificate = certificate
    cluster.feed(client, ListJobs(b""))
    cluster.run_until(lambda: job_id in client.mesh.submitter.jobs)


def accepted_by(cluster: Cluster, job_id: bytes) -> set[int]:
    return {
        node.mesh.replica.jobs[job_id].state.accepted_tasks.total
        for node in cluster.nodes.values()
        if job_id in node.mesh.replica.jobs
    }


def test_what_was_taken_is_accepted_when_the_client_leaves_early() -> None:
    cluster, client = village(4)
    job_id = submitted(cluster, client, 100)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) >= 20)
    cluster.run(1)
    taken = client.mesh.submitter.jobs[job_id].verified.total
    cluster.feed(client, UnfollowJob(job_id))
    cluster.run(SECOND)
    assert taken >= 20
    assert accepted_by(cluster, job_id) == {taken}


def test_submitting_again_is_answered_at_once() -> None:
    cluster, client = village(3)
    job_id = submitted(cluster, client, 5)
    cluster.feed(client, SubmitJob(cluster.spec(5)))
    assert [note["job_id"] for note in client.noted("job.submitted")] == [job_id, job_id]


def test_what_an_earlier_life_submitted_is_submitted_anew_where_one_disk_has_it() -> None:
    cluster, client = village(6)
    job_id = submitted(cluster, client, 5)
    _, *others = [cluster.nodes[node] for node in client.mesh.submitter.jobs[job_id].state.replicas]
    for other in others:
        cluster.kill(other)
        other.rows.clear()
    find_again(cluster, client, job_id)
    cluster.run(2 * SECOND)
    client.notes.clear()
    cluster.feed(client, SubmitJob(cluster.spec(5)))
    assert client.noted("job.signed") and not client.noted("job.submitted")
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    stored_by = client.noted("job.submitted")[0]["stored_by"]
    assert len(stored_by) >= LOCAL.durable_replicas
    assert all(job_id in cluster.nodes[node].mesh.replica.jobs for node in stored_by)


def test_what_was_found_and_is_refused_at_its_second_submission_is_still_to_be_followed() -> None:
    cluster, client = village(1)
    job_id = submitted(cluster, client, 5)
    find_again(cluster, client, job_id)
    client.notes.clear()
    (keeper,) = [node for node in cluster.nodes.values() if job_id in node.mesh.replica.jobs]
    keeper.mesh.replica.storage_failed = True
    for number in range(2 * SUBMIT_ATTEMPTS_MAX):
        cluster.feed(client, SubmitJob(cluster.spec(5)))
        cluster.run_until(lambda before=number: len(client.noted("job.rejected")) > before)
    assert {note["reason"] for note in client.noted("job.rejected")} == {"the node's disk takes no more"}
    keeper.mesh.replica.storage_failed = False
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == 5)


def test_what_was_found_just_now_is_submitted_to_those_who_keep_it() -> None:
    cluster, client = village(3)
    job_id = submitted(cluster, client, 5)
    find_again(cluster, client, job_id)
    client.notes.clear()
    cluster.feed(client, SubmitJob(cluster.spec(5)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    assert not client.noted("job.rejected")


def test_a_replica_that_lives_and_never_answers_is_replaced() -> None:
    cluster = Cluster()
    cluster.workers(6)
    client, mute = cluster.client(), []
    cluster.run(3 * SECOND)

    def is_lost(sender: SimNode, recipient: SimNode, message: Message) -> bool:
        if isinstance(message, Submit) and not mute:
            mute.append(recipient)
        return isinstance(message, Submitted) and sender in mute

    cluster.blocked = is_lost
    cluster.feed(client, SubmitJob(cluster.secret_spec(client, 10)))
    cluster.run(LOCAL.submit_patience_us - 3 * SECOND)
    assert not client.noted("job.submitted")
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    assert mute[0].id not in client.noted("job.submitted")[0]["replicas"]


def test_a_submission_that_no_replica_answers_is_rejected_in_the_end() -> None:
    cluster, client = village(3)
    cluster.blocked = lambda _sender, _recipient, message: isinstance(message, Submitted)
    cluster.feed(client, SubmitJob(cluster.spec(10)))
    cluster.run_until(lambda: bool(client.noted("job.rejected")))
    assert client.noted("job.rejected")[0]["reason"] == "the replicas did not answer in time"


def test_replicas_that_fetch_much_have_long_to_answer() -> None:
    cluster, client = village(3)
    cluster.blocked = lambda _sender, _recipient, message: isinstance(message, Submitted)
    much = LOCAL.upload_bytes_s_min * 600
    cluster.feed(client, SubmitJob(cluster.spec(10, program_bytes=much)))
    cluster.run(LOCAL.submit_patience_us + 590 * SECOND)
    assert not client.noted("job.rejected")
    cluster.blocked = lambda _sender, _recipient, _message: False
    cluster.run_until(lambda: bool(client.noted("job.submitted")))


def test_only_the_peers_that_are_named_are_asked_for_a_job() -> None:
    cluster = Cluster()
    first, *_ = cluster.workers(3)
    client = cluster.client()
    cluster.run(2 * SECOND)
    cluster.log.clear()
    cluster.feed(client, ListJobs(b"", (first.id,)))
    assert [line for line in cluster.log if "FindJob" in line] == [f"client>{first.name} FindJob"]


def test_asking_for_progress_does_not_end_the_results() -> None:
    cluster, client = village(3)
    job_id = submitted(cluster, client, 60)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: bool(client.noted("job.status")))
    seen = len(client.noted("job.status"))
    cluster.feed(client, FollowJob(job_id, (), False))
    assert len(client.noted("job.status")) == seen + 1
    cluster.feed(client, UnfollowJob(job_id))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    assert len(client.results) == 60


def test_who_grants_the_first_tasks_is_told_of_the_job_first() -> None:
    cluster, client = village(3)
    cluster.log.clear()
    job_id = submitted(cluster, client, 1)
    granter = client.mesh.submitter.jobs[job_id].state.replicas[0]
    first = next(line for line in cluster.log if line.endswith(" Submit"))
    assert first == f"client>{cluster.nodes[granter].name} Submit"


def test_the_window_is_opened_for_several_batches_at_a_time_and_at_the_end() -> None:
    cluster, client = village(
        3, task_us=1 * MS, config=replace(LOCAL, batch_tasks_max=1, batch_floor_us=1, result_window=8)
    )
    job_id = submitted(cluster, client, 101)
    cluster.log.clear()
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == 101)
    cluster.run(SECOND)
    told = sum(line.endswith(" Consumed") for line in cluster.log)
    assert 101 // 8 <= told <= 101 // 2 + 2
    source = next(
        node
        for node in cluster.nodes.values()
        if job_id in node.mesh.replica.jobs and len(node.mesh.replica.jobs[job_id].subscriptions)
    )
    (subscription,) = source.mesh.replica.jobs[job_id].subscriptions._by_peer.values()
    assert not subscription.in_flight and not subscription.waiting


def test_a_job_is_followed_again_where_it_was_followed_before() -> None:
    """Another replica may be behind, and say that less is done than this client holds."""
    cluster, client = village(4)
    job_id = submitted(cluster, client, 10)
    own = client.mesh.submitter.jobs[job_id]
    own.stored_by = dict.fromkeys(own.state.replicas[1:])
    cluster.log.clear()
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.feed(client, UnfollowJob(job_id))
    own.stored_by = dict.fromkeys(own.state.replicas)
    cluster.feed(client, FollowJob(job_id, (), False))
    asked = [line for line in cluster.log if line.endswith(" Subscribe")]
    assert asked == 2 * [f"client>{cluster.nodes[own.state.replicas[1]].name} Subscribe"]


def told_of(cluster: Cluster, what: str) -> list[str]:
    """Who was sent such a message by the client, in order."""
    return [line.split(">")[1].split()[0] for line in cluster.log if line.startswith("client>") and line.endswith(what)]


@pytest.mark.parametrize(("follow", "awaited"), [(False, 2), (True, 1)])
def test_replicas_that_nobody_waits_for_hear_of_the_job_a_little_later(follow: bool, awaited: int) -> None:
    cluster, client = village(3)
    cluster.log.clear()
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=follow))
    (own,) = client.mesh.submitter.jobs.values()
    names = [cluster.nodes[node].name for node in own.state.replicas]
    cluster.run(cluster.config.copy_delay_us - 1)
    assert told_of(cluster, " Submit") == names[:awaited]
    cluster.run(cluster.config.copy_delay_us)
    assert told_of(cluster, " Submit") == names


def test_who_goes_at_once_leaves_nothing_untold() -> None:
    cluster, client = village(3, task_us=1)
    cluster.log.clear()
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=True))
    (own,) = client.mesh.submitter.jobs.values()
    cluster.run_until(lambda: own.verified.total == 1)
    cluster.feed(client, Settle())
    assert len(told_of(cluster, " Submit")) == 3
    assert len(told_of(cluster, " Taken")) == 3
    assert not told_of(cluster, " Records")
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    assert len(told_of(cluster, " Records")) == 3


def test_who_asks_after_the_end_hears_that_all_is_accepted() -> None:
    cluster, client = village(3, task_us=1)
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=True))
    ((job_id, own),) = client.mesh.submitter.jobs.items()
    cluster.run_until(lambda: own.verified.total == 1)
    cluster.feed(client, UnfollowJob(job_id))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    before = len(client.noted("job.status"))
    cluster.feed(client, FollowJob(job_id, (), False))
    cluster.run_until(lambda: len(client.noted("job.status")) > before)
    assert client.noted("job.status")[-1]["status"].state == "accepted"


def test_progress_that_left_before_the_acceptance_came_does_not_deny_it() -> None:
    cluster, client = village(3, task_us=1)
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=True))
    ((job_id, own),) = client.mesh.submitter.jobs.items()
    cluster.run_until(lambda: own.status is not None and own.status.state == "done")
    late, source = own.status, own.last_source
    cluster.run_until(lambda: own.state.fully_accepted)
    assert late is not None and source is not None
    cluster.feed(client, Received(source, late))
    note = client.noted("job.status")[-1]
    assert (note["status"].state, note["status"].accepted, note["heard"]) == ("accepted", 1, 0)


def test_results_that_are_asked_for_while_the_replica_fetches_blobs_come_when_it_has_them() -> None:
    cluster, client = village(3)
    cluster.log.clear()
    cluster.feed(client, SubmitJob(cluster.spec(4), follow=True))
    cluster.run_until(lambda: len(client.results) == 4)
    assert len(told_of(cluster, " Subscribe")) == 1


def _rival(worker: SimNode, job_id: bytes, index: int) -> tuple[bytes, Delivery]:
    """Another result of a task, which beats any other: of the lowest epoch."""
    batch = Batch(index, 0, (0,), (b"rival",), (1,), (1,), {}, {})
    body = BatchHeader(job_id, index, 1, 0, batch.root(), 0, 1, 1, 0, 0, False, worker.mesh.ctx.certificate)
    header = sign_record(worker.identity, RecordKind.BATCH, body)
    return header.id, Delivery(header.raw, encode_columns(batch))


def _lost_acceptance(tasks: int) -> tuple[Cluster, SimNode, bytes, tuple[tuple[int, int, bytes], ...]]:
    """A client has kept all results, and no replica heard that it accepts them; a rival of the first beats it now."""
    cluster = Cluster()
    workers, client = cluster.workers(3), cluster.client()
    cluster.run(2 * SECOND)
    job_id = submitted(cluster, client, tasks)
    cluster.blocked = lambda a, _b, message: a is client and isinstance(message, Records)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == tasks)
    cluster.run(SECOND)
    kept = tuple(client.signed)
    rival, delivery = _rival(workers[0], job_id, 0)
    for worker in workers:
        cluster.feed(worker, Received(workers[0].id, delivery))
        state = worker.mesh.replica.jobs[job_id].state
        assert not state.accepted_tasks.total and state.canonical.get(0) == (1, 0, rival)
    cluster.kill(client)
    cluster.blocked = lambda _a, _b, _m: False
    cluster.restart(client)
    cluster.run(SECOND)
    cluster.feed(client, ListJobs(b""))
    cluster.run_until(lambda: job_id in client.mesh.submitter.jobs)
    return cluster, client, job_id, kept


def _accepted_batches(cluster: Cluster, job_id: bytes) -> list[list[tuple[int, int, bytes]]]:
    return [
        list(n.mesh.replica.jobs[job_id].state.accepted)
        for n in cluster.nodes.values()
        if n.mesh.profile.cores
        if job_id in n.mesh.replica.jobs
    ]


def test_a_client_that_comes_back_signs_for_what_it_kept_and_for_nothing_else() -> None:
    cluster, client, job_id, kept = _lost_acceptance(6)
    client.results.clear()
    cluster.feed(client, FollowJob(job_id, tuple((lo, hi) for lo, hi, _ in kept), True, kept))
    cluster.run_until(lambda: accepted_by(cluster, job_id) == {6})
    expected = IntervalMap[bytes]()
    for lo, hi, batch_id in kept:
        expected.assign(lo, hi, batch_id)
    for accepted in _accepted_batches(cluster, job_id):
        assert accepted == list(expected)
    assert client.results == {}


def test_a_result_that_is_asked_for_again_is_signed_for_as_before() -> None:
    """Its file was damaged: another batch will do for the output, but its signature stands."""
    cluster, client, job_id, kept = _lost_acceptance(1)
    client.results.clear()
    cluster.feed(client, FollowJob(job_id, (), True, kept))
    cluster.run_until(lambda: accepted_by(cluster, job_id) == {1})
    assert client.results == {0: b"rival"}
    for accepted in _accepted_batches(cluster, job_id):
        assert accepted == list(kept)


def test_following_again_in_one_life_never_signs_twice() -> None:
    cluster = Cluster()
    workers, client = cluster.workers(3), cluster.client()
    cluster.run(2 * SECOND)
    job_id = submitted(cluster, client, 4)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: accepted_by(cluster, job_id) == {4})
    before = _accepted_batches(cluster, job_id)
    _, delivery = _rival(workers[0], job_id, 0)
    for worker in workers:
        cluster.feed(worker, Received(workers[0].id, delivery))
    client.results.clear()
    cluster.feed(client, UnfollowJob(job_id))
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == 4)
    cluster.run(2 * SECOND)
    assert _accepted_batches(cluster, job_id) == before


def test_results_that_are_not_wanted_are_not_accepted() -> None:
    """Looking at one task takes nothing: what nobody keeps can still be had."""
    cluster, client = village(3)
    job_id = submitted(cluster, client, 6)
    cluster.run(3 * SECOND)
    cluster.feed(client, FollowJob(job_id, ((0, 5),), True))
    cluster.run_until(lambda: bool(client.results))
    cluster.run(10 * SECOND)
    assert list(client.results) == [5] and accepted_by(cluster, job_id) == {1}


def test_status_that_a_replica_sent_before_it_heard_of_the_acceptance_says_accepted() -> None:
    cluster, client = village(3, task_us=1)
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=True))
    ((job_id, own),) = client.mesh.submitter.jobs.items()
    cluster.run_until(lambda: own.verified.total == 1)
    cluster.feed(client, Settle())
    done = client.noted("job.status")[-1]["status"]
    cluster.run_until(lambda: own.state.fully_accepted)
    assert (done.state, done.accepted) == ("done", 0)
    assert own.source is not None
    cluster.feed(client, Received(own.source, done))
    told = client.noted("job.status")[-1]["status"]
    assert told == structs.replace(done, state="accepted", accepted=1)


def test_who_asks_for_progress_right_after_the_last_result_hears_that_it_is_accepted() -> None:
    """It was taken, and will be signed for as soon as it is on disk; and that is not put off by the question."""
    cluster, client = village(3, task_us=1)
    cluster.feed(client, SubmitJob(cluster.spec(1), follow=True))
    ((job_id, own),) = client.mesh.submitter.jobs.items()
    cluster.run_until(lambda: own.verified.total == 1)
    cluster.feed(client, UnfollowJob(job_id))
    before = len(client.noted("job.status"))
    cluster.feed(client, FollowJob(job_id, (), False))
    cluster.run_until(lambda: len(client.noted("job.status")) > before)
    assert not own.state.fully_accepted
    assert client.noted("job.status")[before]["status"].state == "accepted"
    cluster.run(100 * MS)
    assert own.state.fully_accepted


def test_acceptances_that_died_with_the_replicas_are_told_again() -> None:
    """All nodes are killed while the last acceptance is on its way; the client has all, and follows no more."""
    cluster = Cluster()
    workers = cluster.workers(4)
    client = cluster.client()
    cluster.run(2 * SECOND)
    job_id = submitted(cluster, client, 60)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    for node in workers:
        cluster.kill(node)
    cluster.feed(client, UnfollowJob(job_id))
    cluster.run(SECOND)
    assert accepted_by(cluster, job_id) != {60}
    for node in workers:
        cluster.restart(node)
    cluster.run(10 * SECOND)
    assert accepted_by(cluster, job_id) == {60}


def test_asking_for_progress_again_and_again_keeps_nothing_from_being_told_again() -> None:
    cluster, client = village(3)
    job_id = submitted(cluster, client, 20)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    told_us = client.mesh.submitter.jobs[job_id].told_us
    cluster.run(SECOND)
    cluster.feed(client, UnfollowJob(job_id))
    assert client.mesh.submitter.jobs[job_id].told_us == told_us
