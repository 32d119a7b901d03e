"""What one message may cost the node that gets it: no small one makes much work, and honest ones are served whole."""

from __future__ import annotations

import pytest

from hearthmesh.protocol.cost import signatures_in
from hearthmesh.protocol.effects import Effect, Limited, Penalise, Reason, Send, SendBatch
from hearthmesh.protocol.events import BlobsFetched, FollowJob, Received, SubmitJob
from hearthmesh.protocol.granter import RENEWAL_STEPS
from hearthmesh.protocol.job_parts import BatchInfo, RejectedRecord
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.limits import Limit
from hearthmesh.protocol.messages import (
    HeldJob,
    HeldRange,
    JobStatus,
    Message,
    Renew,
    Submit,
    Subscribe,
    Superseded,
    TaskRange,
    Want,
)
from hearthmesh.protocol.records import (
    BATCH_TASKS_MAX,
    Acceptance,
    AcceptedBatch,
    Grant,
    JobSpec,
    Record,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from hearthmesh.protocol.subscriptions import SUBSCRIPTIONS_BURST
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode
from tests.protocol.machines import SUBMITTER
from tests.protocol.steps import steps

TASKS = 100_000


class Keeper:
    """A replica of a job of which nothing is done yet, its client, and another member."""

    def __init__(self, tasks: int = TASKS) -> None:
        self.cluster = Cluster(task_us=200 * MS)
        workers, self.client = self.cluster.workers(3), self.cluster.client()
        self.other = self.cluster.client("other")
        self.cluster.run(3 * SECOND)
        self.cluster.feed(self.client, SubmitJob(self.cluster.spec(tasks)))
        self.cluster.run_until(lambda: bool(self.client.noted("job.submitted")))
        (self.job_id,) = self.client.mesh.submitter.jobs
        replicas = self.client.mesh.submitter.jobs[self.job_id].state.replicas
        self.node = next(node for node in workers if node.id in replicas)

    @property
    def kept(self) -> KeptJob:
        return self.node.mesh.replica.jobs[self.job_id]

    def hears(self, peer: SimNode, message: Message) -> list[Effect]:
        return self.node.mesh.handle(Received(peer.id, message), self.cluster.now_us)

    def fragment(self, pieces: int) -> None:
        """Results of every second task of the last half, none of them accepted."""
        for index in range(TASKS - 2 * pieces, TASKS, 2):
            self.kept.state.done.add(index, index + 1)


def sent(effects: list[Effect], kind: type[Message]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


# -- renewals ----------------------------------------------------------------------------------------------


def test_the_cost_of_a_renewal_does_not_grow_with_what_is_known_of_all_tasks_times_its_ranges() -> None:
    keeper = Keeper()
    keeper.fragment(400)
    whole = HeldRange(0, TASKS, 0)
    once = steps(lambda: keeper.hears(keeper.other, Renew((HeldJob(keeper.job_id, (whole,)),))))
    often = steps(lambda: keeper.hears(keeper.other, Renew((HeldJob(keeper.job_id, (whole,) * 256),))))
    assert often < 20 * once


def test_what_a_renewal_names_beyond_its_bound_is_not_looked_at_and_counted() -> None:
    keeper = Keeper()
    keeper.fragment(RENEWAL_STEPS + 100)
    effects = keeper.hears(keeper.other, Renew((HeldJob(keeper.job_id, (HeldRange(0, TASKS, 0),)),)))
    assert effects == [Limited(Limit.RENEWALS, keeper.other.id)]


def test_a_renewal_that_names_a_job_twice_is_a_broken_rule() -> None:
    keeper = Keeper()
    held = HeldJob(keeper.job_id, (HeldRange(0, 1, 0),))
    assert keeper.hears(keeper.other, Renew((held, held))) == [Penalise(keeper.other.id, Reason.MALFORMED)]


def test_as_many_leases_as_a_message_can_name_are_renewed() -> None:
    keeper = Keeper()
    other, node = keeper.other, keeper.node
    for index in range(1024):
        lo = TASKS // 2 + 3 * index
        grant = Grant(keeper.job_id, lo, lo + 2, 7, other.id, SECOND)
        node.mesh.replica._merge(
            keeper.kept, sign_record(node.identity, RecordKind.GRANT, grant), node.id, keeper.cluster.now_us
        )
    ranges = tuple(HeldRange(lo, lo + 2, 7) for lo in range(TASKS // 2, TASKS // 2 + 3 * 1024, 3))
    before_us = {lease.expires_at_us for _, _, lease in keeper.kept.ledger.live if lease.holder == other.id}
    keeper.cluster.now_us += SECOND
    effects = keeper.hears(other, Renew((HeldJob(keeper.job_id, ranges),)))
    live = [lease.expires_at_us for _, _, lease in keeper.kept.ledger.live if lease.holder == other.id]
    assert len(live) == 1024 and min(live) > max(before_us)
    assert not sent(effects, Superseded) and not [each for each in effects if isinstance(each, Limited)]


# -- subscriptions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_submitter", [False, True])
def test_the_cost_of_a_subscription_does_not_grow_with_all_that_is_accepted_times_its_ranges(
    by_submitter: bool,
) -> None:
    keeper = Keeper()
    for index in range(0, 600, 2):
        keeper.kept.state.accepted_tasks.add(index, index + 1)
    peer = keeper.client if by_submitter else keeper.other
    once, often = (Subscribe(keeper.job_id, (TaskRange(0, TASKS),) * count, True, 1) for count in (1, 256))
    assert steps(lambda: keeper.hears(peer, often)) < 20 * steps(lambda: keeper.hears(peer, once))


def test_who_subscribes_again_and_again_is_not_answered_for_a_while() -> None:
    """Results, that is: who only asks how far a job is may do so as often as it likes."""
    keeper = Keeper()
    request = Subscribe(keeper.job_id, (), True, 1)
    refused = Limited(Limit.SUBSCRIPTIONS, keeper.other.id)
    answers = [keeper.hears(keeper.other, request) for _ in range(SUBSCRIPTIONS_BURST + 1)]
    assert [refused in answer for answer in answers] == [False] * SUBSCRIPTIONS_BURST + [True]
    assert refused not in keeper.hears(keeper.client, request)
    assert sent(keeper.hears(keeper.other, Subscribe(keeper.job_id, (), False, 1)), JobStatus)
    keeper.cluster.now_us += keeper.cluster.config.status_heartbeat_us
    assert refused not in keeper.hears(keeper.other, request)


def test_a_crowd_of_followers_does_not_keep_the_submitter_from_its_results() -> None:
    keeper = Keeper(tasks=60)
    cluster, client, job_id = keeper.cluster, keeper.client, keeper.job_id
    crowd = [cluster.client(f"c{number}") for number in range(cluster.config.subscribers_max)]
    cluster.run(SECOND)
    for node in client.mesh.submitter.jobs[job_id].state.replicas:
        for follower in crowd:
            cluster.feed(cluster.nodes[node], Received(follower.id, Subscribe(job_id, (), True, 1)))
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run(60 * SECOND)
    assert len(client.results) == 60


def test_a_crowd_that_follows_before_a_job_is_kept_does_not_keep_its_submitter_out() -> None:
    cluster = Cluster()
    keeper, client = cluster.add("keeper"), cluster.client()
    crowd = [cluster.client(f"c{number}") for number in range(cluster.config.subscribers_max)]
    cluster.run(SECOND)
    spec = cluster.signed_spec(client, 4)
    replicas = sign_record(client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (keeper.id,)))
    keeper.mesh.handle(Received(client.id, Submit(1, spec.raw, replicas.raw)), cluster.now_us)
    for follower in (*crowd, client):
        keeper.mesh.handle(Received(follower.id, Subscribe(spec.id, (), True, 1)), cluster.now_us)
    keeper.mesh.handle(BlobsFetched(spec.id), cluster.now_us)
    assert keeper.mesh.replica.jobs[spec.id].subscriptions.has(client.id)


def test_copies_go_to_the_submitter_alone() -> None:
    cluster = Cluster(task_us=20 * MS)
    cluster.workers(4)
    client, other = cluster.client(), cluster.client("other")
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(40, verification="quorum(2)")))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    (job_id,) = client.mesh.submitter.jobs
    node = cluster.nodes[client.mesh.submitter.jobs[job_id].state.replicas[0]]
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run_until(lambda: len(client.results) == 40)
    copies = [each for each in node.mesh.replica.jobs[job_id].state.reruns.batches]

    def told(peer: SimNode) -> list[bytes]:
        effects = node.mesh.handle(Received(peer.id, Subscribe(job_id, (), True, 256)), cluster.now_us)
        return [effect.batch_id for effect in effects if isinstance(effect, SendBatch)]

    assert copies and set(copies) <= set(told(client)) and not set(copies) & set(told(other))


def test_a_batch_that_is_wanted_often_in_one_message_is_sent_once() -> None:
    keeper = Keeper(tasks=60)
    keeper.cluster.feed(keeper.client, FollowJob(keeper.job_id, (), True))
    keeper.cluster.run_until(lambda: len(keeper.client.results) == 60)
    batch_id = next(iter(keeper.kept.state.batches))
    peer = next(node for node in keeper.kept.state.replicas if node != keeper.node.id)
    effects = keeper.hears(keeper.cluster.nodes[peer], Want(keeper.job_id, (batch_id,) * 256))
    assert [effect.batch_id for effect in effects if isinstance(effect, SendBatch)] == [batch_id]


# -- acceptances -------------------------------------------------------------------------------------------


def state_with(batches: int) -> JobState:
    """Of a million tasks, with results of single ones."""
    body = JobSpec(1, bytes(32), b"", "job", "wasm", "function", bytes(32), 1, "", "hearth_task", (), 1_000_000)
    state = JobState(sign_record(SUBMITTER, RecordKind.SPEC, body))
    for index in range(batches):
        batch_id = index.to_bytes(32, "big")
        state.batches[batch_id] = BatchInfo(batch_id, bytes(32), index, 1, 1, 0, 1, 1, 1)
    return state


def acceptance(state: JobState, *parts: tuple[bytes, int, int]) -> Record:
    body = Acceptance(state.job_id, tuple(AcceptedBatch(*part) for part in parts))
    return sign_record(SUBMITTER, RecordKind.ACCEPTANCE, body)


def test_the_cost_of_an_acceptance_that_contradicts_another_does_not_grow_with_all_batches() -> None:
    def cost(batches: int) -> int:
        state = state_with(batches)
        for last in (b"\xff", b"\xfe"):
            record = acceptance(state, *((last * 32, index, index + 1) for index in range(50)))
            counted = steps(lambda: state.merge(record))  # noqa: B023 (called at once)
        return counted

    assert cost(2_000) < 2 * cost(60)


def test_an_acceptance_says_one_thing_of_a_task_and_no_more_than_a_batch_has() -> None:
    state = state_with(0)

    def reason(*parts: tuple[bytes, int, int]) -> str:
        with pytest.raises(RejectedRecord) as caught:
            state.merge(acceptance(state, *parts))
        assert caught.value.fault
        return caught.value.reason

    assert reason((b"a" * 32, 0, 5), (b"b" * 32, 4, 6)) == Reason.MALFORMED
    assert reason((b"a" * 32, 4, 6), (b"b" * 32, 0, 5)) == Reason.MALFORMED
    assert reason((b"a" * 32, 0, BATCH_TASKS_MAX + 1)) == Reason.OUT_OF_RANGE
    assert state.merge(acceptance(state, (b"a" * 32, 4, 6), (b"b" * 32, 0, 4)))


# -- what ranges cost their sender -------------------------------------------------------------------------


def test_a_message_with_many_ranges_counts_for_many_signatures() -> None:
    held = HeldJob(bytes(32), (HeldRange(0, 1, 0),) * 1024)
    for many in (Renew((held,)), Superseded((held,)), Subscribe(bytes(32), (TaskRange(0, 1),) * 4096, True, 1)):
        assert signatures_in(many) >= 64
    assert 0 < signatures_in(Renew((HeldJob(bytes(32), (HeldRange(0, 1, 0),)),))) < 32
