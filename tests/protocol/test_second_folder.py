"""Results of an accepted job, for a client that comes back without what it had: in another folder, another life."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.events import CancelJob, FollowJob, Received, SubmitJob
from hearthmesh.protocol.kept_job import ELAPSED_MAX_US, KeptJob
from hearthmesh.protocol.messages import Message, Records
from hearthmesh.protocol.records import Cancellation, RecordKind, open_record, sign_record
from tests.protocol.cluster import SECOND, Cluster, SimNode
from tests.protocol.test_verification import right, run_job, village


def forget(client: SimNode) -> None:
    """Its folder and what it remembers are gone; its key is not."""
    client.results.clear()
    client.signed.clear()
    client.notes.clear()
    client.rows.clear()


def witnessed(client: SimNode) -> set[int]:
    """Tasks whose result came with another batch that has them too, to show to others."""
    found: set[int] = set()
    for note in client.noted("job.results"):
        spans = [range(raw.body.first, raw.body.first + raw.body.count) for raw, _ in note["evidence"]]
        found.update(index for lo, hi in note["parts"] for index in range(lo, hi) if any(index in s for s in spans))
    return found


def asks_rechecks(cluster: Cluster, client: SimNode) -> list[Message]:
    """From now on: what the client sends to have tasks run again."""
    asked: list[Message] = []

    def watch(sender: SimNode, _: SimNode, message: Message) -> bool:
        if sender is client and isinstance(message, Records):
            kinds = [open_record(raw).kind for raw in message.records]
            asked.extend(message for kind in kinds if kind is RecordKind.RECHECK)
        return False

    cluster.blocked = watch
    return asked


def come_back(cluster: Cluster, client: SimNode, job_id: bytes) -> None:
    """A new life that knows nothing of the job, and follows it."""
    cluster.restart(client)
    cluster.run(SECOND)
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: job_id in client.mesh.submitter.jobs)
    cluster.run(SECOND)
    cluster.feed(client, FollowJob(job_id, (), True))


@pytest.mark.parametrize("policy", ["adaptive", "quorum(2)", "none"])
def test_accepted_results_come_again_and_are_not_judged_again(policy: str) -> None:
    cluster, workers, client = village()
    job_id = run_job(cluster, client, 240, policy)
    cluster.run(10 * SECOND)
    cluster.kill(client)
    forget(client)
    ran = sum(len(worker.executed) for worker in workers)
    asked = asks_rechecks(cluster, client)
    come_back(cluster, client, job_id)
    cluster.run_until(lambda: len(client.results) == 240, within_us=30 * SECOND)
    cluster.run(10 * SECOND)
    assert right(client.results) and not asked
    if policy == "quorum(2)":
        assert witnessed(client) == set(range(240))
    assert sum(len(worker.executed) for worker in workers) == ran
    assert client.noted("job.status")[-1]["status"].accepted == 240


def test_a_copy_that_won_against_a_liar_comes_again() -> None:
    cluster, workers, client = village()
    workers[0].lies = True
    job_id = run_job(cluster, client, 240, "quorum(2)")
    cluster.run(10 * SECOND)
    cluster.kill(client)
    forget(client)
    asked = asks_rechecks(cluster, client)
    come_back(cluster, client, job_id)
    cluster.run_until(lambda: len(client.results) == 240, within_us=30 * SECOND)
    assert right(client.results) and not asked and witnessed(client) == set(range(240))


def test_results_that_come_before_the_word_that_they_are_accepted_are_let_go_by_it() -> None:
    cluster, _, client = village()
    job_id = run_job(cluster, client, 240, "adaptive")
    cluster.run(10 * SECOND)
    cluster.kill(client)
    forget(client)
    held: list[tuple[SimNode, Message]] = []

    def late(sender: SimNode, receiver: SimNode, message: Message) -> bool:
        """The replicas' words of acceptance are kept back."""
        if receiver is client and isinstance(message, Records):
            held.append((sender, message))
            return True
        return False

    cluster.blocked = late
    come_back(cluster, client, job_id)
    cluster.run_until(lambda: any(own.referee and own.referee.held for own in client.mesh.submitter.jobs.values()))
    cluster.blocked = lambda *_: False
    assert len(client.results) < 240
    for sender, message in held:
        cluster.feed(client, Received(sender.id, message))
    cluster.run_until(lambda: len(client.results) == 240, within_us=30 * SECOND)
    assert right(client.results)


def test_a_client_that_comes_back_learns_that_another_process_of_it_cancelled() -> None:
    cluster, _, client = village()
    cluster.feed(client, SubmitJob(cluster.spec(2400)))
    cluster.run(SECOND)
    job_id = next(iter(client.mesh.submitter.jobs))
    cluster.feed(client, CancelJob(job_id))
    cluster.run(SECOND)
    cluster.kill(client)
    forget(client)
    come_back(cluster, client, job_id)
    cluster.run(SECOND)
    assert client.mesh.submitter.jobs[job_id].state.cancellation is not None


def test_a_client_that_follows_learns_that_another_process_of_it_cancelled_and_its_clock_stops() -> None:
    cluster, _, client = village()
    cluster.feed(client, SubmitJob(cluster.spec(2400)))
    cluster.run(SECOND)
    job_id = next(iter(client.mesh.submitter.jobs))
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run(SECOND)
    word = Records(job_id, (sign_record(client.identity, RecordKind.CANCELLATION, Cancellation(job_id)).raw,))
    keepers = [node for node in cluster.nodes.values() if job_id in node.mesh.replica.jobs]
    for keeper in keepers:
        cluster.feed(keeper, Received(client.id, word))
    cluster.run(SECOND)
    assert client.mesh.submitter.jobs[job_id].state.cancellation is not None
    kept = [keeper.mesh.replica.jobs[job_id] for keeper in keepers]
    elapsed_us = [each.elapsed_us(cluster.now_us) for each in kept]
    cluster.run(20 * SECOND)
    assert {each.elapsed_us(cluster.now_us) for each in kept} == {max(elapsed_us)} and min(elapsed_us) > 0


@pytest.mark.parametrize("ended", [False, True])
def test_a_keeper_that_comes_back_counts_from_the_submission_as_the_others_do(ended: bool) -> None:
    cluster, _, client = village()
    cluster.feed(client, SubmitJob(cluster.spec(100 if ended else 100_000)))
    cluster.run(20 * SECOND)
    job_id = next(iter(client.mesh.submitter.jobs))
    keepers = [node for node in cluster.nodes.values() if job_id in node.mesh.replica.jobs]
    cluster.kill(keepers[0])
    cluster.restart(keepers[0])
    cluster.run(30 * SECOND)
    kept = [keeper.mesh.replica.jobs[job_id] for keeper in keepers]
    assert all((each.completed_us is not None) == ended for each in kept)
    elapsed_us = [each.elapsed_us(cluster.now_us) for each in kept]
    assert max(elapsed_us) - min(elapsed_us) < SECOND // 10
    assert max(elapsed_us) <= (20 if ended else 50) * SECOND


@given(st.lists(st.integers(0, 1 << 63)), st.integers(0, 1 << 40))
def test_the_longest_memory_counts_and_is_bounded(told_us: list[int], now_us: int) -> None:
    nothing: Any = None
    kept = KeptJob(nothing, nothing, nothing, since_us=0, adopted_us=0, pace=nothing)
    for each in told_us:
        kept.learn_elapsed(each, now_us)
    assert kept.elapsed_us(now_us) == max([now_us, *(min(each, ELAPSED_MAX_US) for each in told_us)])
