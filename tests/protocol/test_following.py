"""Who follows a job hears all of it, whichever of its replicas is behind, silent, or cut off from the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL, ProtocolConfig
from hearthmesh.protocol.effects import Send
from hearthmesh.protocol.events import (
    CancelJob,
    Event,
    FollowJob,
    PeerLost,
    PeerUnreachable,
    Received,
    ResultsTaken,
    StorageFailed,
    SubmitJob,
    UnfollowJob,
)
from hearthmesh.protocol.messages import Delivery, FoundJobs, JobStatus, Message, Subscribe, Taken
from hearthmesh.protocol.records import RecordKind, ReplicaSet, open_record, sign_record
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold

PATIENCE_US = 2 * LOCAL.status_heartbeat_us


class Street:
    """Three keepers, two workers, a client that follows a job from its beginning."""

    def __init__(
        self,
        tasks: int = 200,
        *,
        results: bool = True,
        task_us: int = 20_000,
        config: ProtocolConfig = LOCAL,
        verification: str = "none",
    ) -> None:
        self.cluster = Cluster(task_us=task_us, config=config)
        self.keepers = [self.cluster.add(f"k{number}", Role.REPLICA) for number in range(3)]
        for number in range(2):
            self.cluster.add(f"w{number}", Role.WORKER, cold())
        self.client = self.cluster.client()
        self.tasks = tasks
        self.cluster.run(2 * SECOND)
        self.cluster.feed(self.client, SubmitJob(self.cluster.spec(tasks, verification=verification)))
        self.cluster.run_until(lambda: all(keeper.mesh.replica.jobs for keeper in self.keepers))
        (self.job_id,) = self.client.mesh.submitter.jobs
        self.cluster.feed(self.client, FollowJob(self.job_id, (), results))
        self.cluster.run_until(lambda: self.done > tasks // 10)

    @property
    def source(self) -> SimNode:
        source = self.client.mesh.submitter.jobs[self.job_id].source
        assert source is not None
        return self.cluster.nodes[source]

    @property
    def done(self) -> int:
        """As the client was told last."""
        told = [note["status"].done for note in self.client.noted("job.status")]
        return told[-1] if told else 0

    def withholds_copies(self, _sender: SimNode, receiver: SimNode, message: Message) -> bool:
        """As `Cluster.blocked`: none comes to the client."""
        return receiver is self.client and isinstance(message, Delivery) and bool(open_record(message.header).body.copy)

    def asked(self) -> list[str]:
        """Whom the client subscribed with."""
        return [line for line in self.cluster.log if line.startswith("client>") and line.endswith(Subscribe.__name__)]


@pytest.mark.parametrize("results", [True, False])
def test_what_a_source_with_a_full_disk_lacks_comes_from_another(results: bool) -> None:
    street = Street(results=results)
    source = street.source
    street.cluster.feed(source, StorageFailed("no space left on device"))
    street.cluster.run_until(lambda: street.done == street.tasks, within_us=5 * PATIENCE_US)
    if results:
        street.cluster.run_until(lambda: len(street.client.results) == street.tasks, within_us=PATIENCE_US)
    assert street.source is not source


def test_a_source_with_a_full_disk_is_left_as_soon_where_copies_are_awaited() -> None:
    street = Street(verification="quorum(2)")
    source = street.source
    street.cluster.blocked = street.withholds_copies
    street.cluster.feed(source, StorageFailed("no space left on device"))
    street.cluster.run_until(lambda: street.done == street.tasks, within_us=5 * PATIENCE_US)
    assert street.source is not source


def test_a_source_is_not_left_for_copies_by_a_client_whose_consumer_is_slow() -> None:
    street = Street(verification="quorum(2)")
    source, feed = street.source, street.cluster.feed

    def take_nothing(node: SimNode, event: Event) -> None:
        if not isinstance(event, ResultsTaken):
            feed(node, event)

    street.cluster.feed = take_nothing  # type: ignore[method-assign]
    own = street.client.mesh.submitter.jobs[street.job_id]
    street.cluster.run_until(lambda: bool(own.received))
    street.cluster.blocked = street.withholds_copies
    street.cluster.run(PATIENCE_US)
    assert own.referee is not None and own.referee.lacks_votes
    for _ in range(60):
        street.cluster.run(SECOND)
        assert street.source is source


def test_all_comes_from_the_one_replica_that_is_left_beside_a_full_one() -> None:
    street = Street()
    source = street.source
    gone = next(keeper for keeper in street.keepers if keeper is not source)
    street.cluster.feed(source, StorageFailed("no space left on device"))
    street.cluster.kill(gone)
    street.cluster.run_until(lambda: len(street.client.results) == street.tasks, within_us=60 * SECOND)


@pytest.mark.parametrize("results", [True, False])
def test_a_source_that_nobody_else_reaches_is_left_for_one_that_knows_more(results: bool) -> None:
    street = Street(results=results)
    source = street.source
    street.cluster.blocked = lambda a, b, _: source in (a, b) and street.client not in (a, b)
    street.cluster.run_until(lambda: street.done == street.tasks, within_us=10 * PATIENCE_US)
    if results:
        street.cluster.run_until(lambda: len(street.client.results) == street.tasks, within_us=PATIENCE_US)
    assert street.source is not source


def test_progress_never_goes_back_while_others_are_asked() -> None:
    """The source knows all; the others hear nothing of it any more, and know less."""
    street = Street(results=False)
    source, others = street.source, [keeper for keeper in street.keepers if keeper is not street.source]
    worker = next(node for node in street.cluster.nodes.values() if node.name == "w0")
    street.cluster.blocked = lambda a, b, _: (a in others or b in others) and street.client not in (a, b)
    seen = len(street.client.noted("job.status"))
    street.cluster.run(30 * SECOND)
    told = [note["status"].done for note in street.client.noted("job.status")][seen:]
    assert street.asked() and told == sorted(told) and street.source is source and worker.alive
    followed = [keeper.name for keeper in others if len(keeper.mesh.replica.jobs[street.job_id].subscriptions)]
    assert followed == []


def test_a_source_that_never_sends_what_it_has_is_left_for_another() -> None:
    """It has merged results that it cannot read any more, and says that it is alive."""
    street = Street()
    source = street.source
    street.cluster.blocked = lambda a, b, message: a is source and b is street.client and isinstance(message, Delivery)
    street.cluster.run_until(lambda: len(street.client.results) == street.tasks, within_us=10 * PATIENCE_US)


def test_others_are_asked_more_and_more_seldom_while_long_tasks_run() -> None:
    street = Street(20, task_us=2 * SECOND)
    street.cluster.task_us = 3_600 * SECOND
    street.cluster.run_until(
        lambda: street.cluster.now_us > 120 * SECOND and not street.client.mesh.submitter.jobs[street.job_id].received,
        within_us=200 * SECOND,
    )
    street.cluster.log.clear()
    street.cluster.run(900 * SECOND)
    assert 0 < len(street.asked()) <= 2 * 20
    said = sum(line.startswith(f"{street.source.name}>client {JobStatus.__name__}") for line in street.cluster.log)
    assert said > 100, "it was never left for being slow"


def test_when_all_were_doubted_the_one_that_was_doubted_first_is_asked_again() -> None:
    street = Street(results=False)
    silent = {keeper.id for keeper in street.keepers}
    street.cluster.blocked = lambda a, b, message: a.id in silent and isinstance(message, JobStatus)
    street.cluster.log.clear()
    street.cluster.run(10 * PATIENCE_US)
    asked = {line.split(">")[1].split()[0] for line in street.asked()}
    assert asked == {keeper.name for keeper in street.keepers}
    back = next(keeper for keeper in street.keepers if keeper is not street.source)
    silent.discard(back.id)
    street.cluster.run_until(lambda: street.source is back and street.done == street.tasks, within_us=10 * PATIENCE_US)


def test_who_waits_for_disks_asks_who_keeps_the_job_more_and_more_seldom() -> None:
    """Its replicas hear nothing of what it took: they may have lost their seats."""
    street = Street()
    street.cluster.blocked = lambda _a, _b, message: isinstance(message, Taken)
    street.cluster.run_until(lambda: len(street.client.results) == street.tasks)
    sought: list[int] = []
    for second in range(1_800):
        notes = len(street.client.noted("jobs.asked"))
        street.cluster.run(SECOND)
        sought += [second] * (len(street.client.noted("jobs.asked")) - notes)
    gaps = [after - before for before, after in zip(sought, sought[1:], strict=False)]
    assert gaps and gaps == sorted(gaps) and len(sought) < 1_800 // 60
    street.cluster.blocked = lambda _a, _b, _message: False
    street.cluster.run_until(lambda: street.client.mesh.submitter.jobs[street.job_id].state.fully_accepted)


@pytest.mark.parametrize("state", ["done", "accepted", "cancelled"])
@pytest.mark.parametrize("done", [0, 20])
def test_a_replicas_word_alone_ends_nothing(state: str, done: int) -> None:
    """It is asked while long tasks run, lies of how the job stands, sends nothing, and says that it is alive."""
    street = Street(20, task_us=2 * SECOND)
    street.cluster.task_us = 60 * SECOND
    liar = next(keeper for keeper in street.keepers if keeper is not street.source)
    true = street.client.noted("job.status")[-1]["status"]
    said = structs.replace(true, state=state, done=done)
    street.cluster.blocked = lambda a, b, _: a is liar and b is street.client
    seen = len(street.client.noted("job.status"))
    for _ in range(1_200):
        street.cluster.feed(street.client, Received(liar.id, said))
        street.cluster.run(SECOND)
        if len(street.client.results) < 20:
            told = street.client.noted("job.status")[seen:]
            lies = [note for note in told if note["replica"] == liar.id]
            assert "cancelled" not in [note["status"].state for note in lies] and not (lies and done == 0)
    assert len(street.client.results) == 20 > true.done


@pytest.mark.parametrize("speaks", [True, False])
def test_a_source_that_sends_the_same_again_and_again_is_left(speaks: bool) -> None:
    street = Street()
    source, sent = street.source, list[Delivery]()

    def withheld(a: SimNode, b: SimNode, message: Message) -> bool:
        if a is source and b is street.client and isinstance(message, Delivery):
            sent.append(message)
        return a is source and b is street.client and (isinstance(message, Delivery) or not speaks)

    street.cluster.blocked = withheld
    street.cluster.run(SECOND)
    for _ in range(60):
        street.cluster.feed(street.client, Received(source.id, sent[0]))
        street.cluster.run(SECOND)
    assert len(street.client.results) == street.tasks


def test_a_cancellation_is_told_to_who_only_watches() -> None:
    street = Street(20, results=False, task_us=10 * SECOND)
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.client.mesh.submitter.jobs.clear()
    street.cluster.feed(street.client, FollowJob(street.job_id, (), False))
    street.cluster.run(SECOND)
    street.cluster.feed(street.client, FollowJob(street.job_id, (), False))
    street.cluster.run(PATIENCE_US)
    assert street.client.noted("job.status")[-1]["status"].state == "cancelled"


@pytest.mark.parametrize("results", [True, False])
def test_a_cancellation_is_confirmed_by_each_replica_that_has_heard_of_it(results: bool) -> None:
    street = Street(2_000, results=results)
    lost = next(keeper for keeper in street.keepers if keeper is not street.source)
    street.cluster.blocked = lambda a, b, message: b is lost
    street.cluster.feed(street.client, CancelJob(street.job_id))
    assert not street.client.noted("job.cancelled")
    street.cluster.run(PATIENCE_US)
    assert [note["waiting"] for note in street.client.noted("job.cancelled")] == [2, 1]
    others = [keeper for keeper in street.keepers if keeper is not lost]
    assert all(keeper.mesh.replica.jobs[street.job_id].state.cancellation is not None for keeper in others)
    street.cluster.blocked = lambda a, b, message: False
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.cluster.run(PATIENCE_US)
    assert street.client.noted("job.cancelled")[-1]["waiting"] == 0


@pytest.mark.parametrize("why", ["unreachable", "lost", "dead", "replaced"])
def test_nobody_waits_for_a_replica_to_confirm_a_cancellation_that_is_not_there(why: str) -> None:
    street = Street(2_000)
    lost = next(keeper for keeper in street.keepers if keeper is not street.source)
    street.cluster.blocked = lambda a, b, message: b is lost
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.cluster.run(PATIENCE_US)
    match why:
        case "unreachable":
            street.cluster.feed(street.client, PeerUnreachable(lost.id))
        case "lost":
            effects = street.client.mesh.handle(PeerLost(lost.id, reset=True), street.cluster.now_us)
            assert lost.id in [each.peer for each in effects if isinstance(each, Send)], "so that it is dialled"
            street.cluster.feed(street.client, PeerUnreachable(lost.id))
        case "dead":
            street.cluster.kill(lost)
            street.cluster.run(30 * SECOND)
        case "replaced":
            members = tuple(keeper.id for keeper in street.keepers if keeper is not lost)
            state = street.client.mesh.submitter.jobs[street.job_id].state
            body = ReplicaSet(street.job_id, state.replica_epoch + 1, members, (lost.id,))
            record = sign_record(street.source.identity, RecordKind.REPLICA_SET, body)
            street.cluster.feed(street.client, Received(members[0], FoundJobs(1, (record.raw,))))
    notes = street.client.noted("job.cancelled")
    assert [note["waiting"] for note in notes] == [2, 1, 0]
    assert [note["replica"] is None for note in notes] == [False, False, True]


def test_who_could_not_be_reached_confirms_a_cancellation_once_it_can() -> None:
    street = Street(2_000)
    lost = next(keeper for keeper in street.keepers if keeper is not street.source)
    street.cluster.disconnect(lost)
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.cluster.feed(street.client, PeerUnreachable(lost.id))
    street.cluster.run(PATIENCE_US)
    street.cluster.cut_off.clear()
    street.cluster.connect(street.client, lost)
    street.cluster.run(PATIENCE_US)
    assert street.client.noted("job.cancelled")[-1]["replica"] == lost.id


@pytest.mark.parametrize("results", [True, False])
def test_a_source_that_is_left_confirms_a_cancellation_all_the_same(results: bool) -> None:
    street = Street(2_000, results=results)
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.cluster.feed(street.client, UnfollowJob(street.job_id))
    street.cluster.run(PATIENCE_US)
    assert street.client.noted("job.cancelled")[-1]["waiting"] == 0
    assert not any(len(keeper.mesh.replica.jobs[street.job_id].subscriptions) for keeper in street.keepers)


def test_a_cancellation_of_which_nobody_heard_is_confirmed_by_nobody() -> None:
    street = Street(2_000)
    street.cluster.blocked = lambda a, b, message: a is street.client
    street.cluster.feed(street.client, CancelJob(street.job_id))
    street.cluster.run(PATIENCE_US)
    assert not street.client.noted("job.cancelled")


def test_who_holds_as_much_as_it_may_asks_for_no_more() -> None:
    """Two of three keepers have no room, so nothing that it takes is signed for."""
    config = replace(LOCAL, result_window=2, custody_bytes_max=3_000, batch_tasks_max=10, batch_tasks_first=10)
    street = Street(3_000, task_us=5_000, config=config)
    for keeper in street.keepers:
        if keeper is not street.source:
            street.cluster.feed(keeper, StorageFailed("no space left on device"))
    street.cluster.run(30 * SECOND)
    own = street.client.mesh.submitter.jobs[street.job_id]
    held = own.custody.column_bytes
    street.cluster.run(60 * SECOND)
    assert config.custody_bytes_max < own.custody.column_bytes == held < 2 * config.custody_bytes_max
