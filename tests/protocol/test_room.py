"""One worker that says what it likes takes no room from the others, and replicas agree on what is kept of it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.protocol.batches import Batch, encode_columns
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import CancelJob, FollowJob, Received, SubmitJob
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.limits import has_share
from hearthmesh.protocol.messages import Delivery, Submit, Taken
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    BatchHeader,
    Record,
    RecordKind,
    ReplicaSet,
    open_record,
    sign_record,
)
from hearthmesh.protocol.room import REPEATS_MAX, Room
from tests.protocol.cluster import ALL_ROLES, MS, SECOND, Cluster, SimNode
from tests.protocol.test_jobs import SPEC, SUBMITTER, TASKS, WORKERS, batch, fresh, ranges

FEW = 40


def said(worker: SimNode, job_id: bytes, first: int, epoch: int, *, large: bool = False) -> Delivery:
    """A result of one task, without a lease. large: it is a blob."""
    blobs = {0: (bytes([first]) * 32, 1 << 20)} if large else {}
    made = Batch(first, epoch, (0,), (b"" if large else b"x",), (0,), (1,), blobs, {})
    certificate = worker.mesh.ctx.certificate
    header = BatchHeader(job_id, first, 1, epoch, made.root(), 0, 1, 0, 0, 0, False, certificate)
    return Delivery(sign_record(worker.identity, RecordKind.BATCH, header).raw, encode_columns(made))


@st.composite
def words(draw: st.DrawFn) -> list[Record]:
    """Batches of two workers, many of the same tasks, and acceptances of some."""
    made: list[Record] = []
    for _ in range(draw(st.integers(0, 24))):
        lo, hi = draw(ranges)
        epoch, root = draw(st.integers(0, 9)), draw(st.integers(0, 2))
        made.append(batch(lo, hi, epoch, draw(st.sampled_from(WORKERS[:2])), root))
    for named in draw(st.lists(st.sampled_from(made), max_size=4)) if made else ():
        lo, hi = named.body.first, named.body.first + named.body.count
        body = Acceptance(SPEC.id, (AcceptedBatch(named.id, lo, draw(st.integers(lo + 1, hi))),))
        made.append(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, body))
    return made


def kept_of(records: list[Record]) -> JobState:
    """What a replica keeps of what it hears in this order, and once more: what an acceptance names is asked for."""
    state, room = fresh(), Room()
    for record in records * 2:
        is_batch = record.kind is RecordKind.BATCH
        if record.id in state.ids or (is_batch and room.declines(state, record)):
            continue
        state.merge(record)
        if is_batch:
            room.add(state.batches[record.id], is_copy=False)
        room.drop_repeats(state)
    return state


def look(state: JobState) -> tuple[object, ...]:
    return (
        state.ids.ids(b"", b""),
        sorted(state.batches),
        list(state.canonical),
        list(state.done),
        state.candidate_tasks,
        state.duplicates,
    )


@settings(max_examples=150)
@given(words(), st.randoms(use_true_random=False))
def test_what_is_kept_of_a_worker_does_not_depend_on_the_order(records: list[Record], rng: random.Random) -> None:
    shuffled = list(records)
    rng.shuffle(shuffled)
    assert look(kept_of(records)) == look(kept_of(shuffled))


@settings(max_examples=150)
@given(words())
def test_the_lowest_of_each_task_are_kept_and_what_the_submitter_signed_for(records: list[Record]) -> None:
    batches = {record.id: record for record in records if record.kind is RecordKind.BATCH}
    kept = {part.batch_id for each in records if each.kind is RecordKind.ACCEPTANCE for part in each.body.accepted}
    for worker in WORKERS[:2]:
        for index in range(TASKS):
            own = [
                each
                for each in batches.values()
                if each.author == worker.node_id and each.body.first <= index < each.body.first + each.body.count
            ]
            kept |= {each.id for each in sorted(own, key=lambda each: (each.body.epoch, each.id))[:REPEATS_MAX]}
    state, everything = kept_of(records), fresh()
    for record in records:
        everything.merge(record)
    assert set(state.batches) == kept
    assert (list(state.canonical), list(state.done)) == (list(everything.canonical), list(everything.done))


class House:
    """Replicas that work, a client that follows its job, and one that says what it likes of it."""

    def __init__(self, tasks: int, *, most: int = FEW) -> None:
        config = replace(LOCAL, records_per_job_max=most)
        self.cluster = Cluster(task_us=300 * MS, config=config)
        self.keepers = self.cluster.workers(3)
        self.client, self.liar = self.cluster.client(), self.cluster.add("liar", ALL_ROLES)
        self.cluster.run(3 * SECOND)
        self.job_id = bytes(32)
        for nonce in range(16):
            self.cluster.feed(self.client, SubmitJob(self.cluster.spec(tasks, nonce=bytes([nonce]))))
            self.cluster.run_until(lambda count=nonce: len(self.client.noted("job.submitted")) > count)
            self.job_id = self.client.noted("job.submitted")[-1]["job_id"]
            if self.liar.id not in self.client.noted("job.submitted")[-1]["replicas"]:
                break
            self.cluster.feed(self.client, CancelJob(self.job_id))
            self.cluster.run(SECOND)

    def kept(self) -> list[KeptJob]:
        jobs = [node.mesh.replica.jobs.get(self.job_id) for node in self.keepers]
        return [job for job in jobs if job is not None]

    def say(self, *deliveries: Delivery, to: list[SimNode] | None = None) -> None:
        for delivery in deliveries:
            for keeper in to or self.keepers:
                self.cluster.feed(keeper, Received(self.liar.id, delivery))

    def liars(self) -> list[list[int]]:
        """By replica, the epochs of what it keeps of the liar's."""
        return [
            sorted(info.epoch for info in kept.state.batches.values() if info.worker == self.liar.id)
            for kept in self.kept()
        ]


@pytest.mark.parametrize("same_task", [True, False])
def test_a_job_ends_whatever_one_worker_says_of_it(same_task: bool) -> None:
    house, tasks = House(60), 60
    house.cluster.feed(house.client, FollowJob(house.job_id, (), True))
    for number in range(4 * FEW):
        house.say(said(house.liar, house.job_id, 0 if same_task else number % 50, number))
    house.cluster.run_until(lambda: bool(house.client.noted("job.accepted")))
    assert len(house.client.results) == tasks
    assert not any(node.penalties for node in house.cluster.nodes.values())


def test_a_job_can_be_cancelled_whatever_one_worker_says_of_it() -> None:
    house = House(60)
    for number in range(4 * FEW):
        house.say(said(house.liar, house.job_id, number % 50, number))
    house.cluster.feed(house.client, CancelJob(house.job_id))
    house.cluster.run(5 * SECOND)
    assert all(kept.state.cancellation is not None for kept in house.kept())
    assert not any(node.penalties for node in house.cluster.nodes.values())


def test_replicas_agree_on_a_workers_repeats_and_drop_the_others_from_their_disks() -> None:
    house = House(60, most=1000)
    words = [said(house.liar, house.job_id, 0, epoch) for epoch in range(100, 112)]
    for keeper, order in zip(house.keepers, (words, words[::-1], words[6:] + words[:6]), strict=True):
        house.say(*order, to=[keeper])
    house.cluster.run(10 * SECOND)
    assert house.liars() == [[100, 101, 102, 103]] * 3
    for keeper in house.keepers:
        on_disk = [key for job_id, kind, key in keeper.rows if job_id == house.job_id and kind == RecordKind.BATCH]
        assert sorted(on_disk) == sorted(keeper.mesh.replica.jobs[house.job_id].state.batches)


def test_who_follows_is_not_held_up_by_what_was_dropped() -> None:
    house = House(60, most=1000)
    house.cluster.feed(house.client, FollowJob(house.job_id, (), True))
    for epoch in range(300, 200, -1):
        house.say(said(house.liar, house.job_id, 59, epoch))
    house.cluster.run_until(lambda: bool(house.client.noted("job.accepted")))


def test_what_the_submitter_has_taken_stays() -> None:
    house = House(60, most=1000)
    first, *lower = (said(house.liar, house.job_id, 0, epoch) for epoch in range(120, 100, -1))
    house.say(first)
    taken = house.kept()[0].state.canonical.get(0)
    assert taken is not None
    keeper = house.keepers[0]
    house.cluster.feed(keeper, Received(house.client.id, Taken(house.job_id, (taken.batch_id,))))
    house.say(*lower, to=[keeper])
    assert house.liars()[0] == [101, 102, 103, 104, 120]


def test_what_the_submitter_brings_is_kept() -> None:
    house = House(60, most=1000)
    house.say(*(said(house.liar, house.job_id, 0, epoch) for epoch in range(100, 104)))
    late = said(house.liar, house.job_id, 0, 110)
    house.say(late)
    assert house.liars()[0] == [100, 101, 102, 103]
    house.cluster.feed(house.keepers[0], Received(house.client.id, late))
    assert house.liars()[0] == [100, 101, 102, 103, 110]


def test_a_restarted_replica_keeps_what_it_kept() -> None:
    house = House(60, most=1000)
    house.say(*(said(house.liar, house.job_id, 0, epoch) for epoch in range(111, 99, -1)))
    keeper = house.keepers[0]
    house.cluster.kill(keeper)
    house.cluster.restart(keeper)
    assert house.liars()[0] == [100, 101, 102, 103]
    house.say(said(house.liar, house.job_id, 0, 99), to=[keeper])
    assert house.liars()[0] == [99, 100, 101, 102]


def test_one_worker_does_not_take_all_places_for_large_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearthmesh.protocol.result_keeping.FETCHING_MAX", 4)
    house, keeper = House(60, most=1000), 0
    house.cluster.log.clear()
    for first in range(40, 46):
        house.say(said(house.liar, house.job_id, first, 100, large=True), to=[house.keepers[keeper]])
    honest = said(house.keepers[1], house.job_id, 50, 100, large=True)
    house.cluster.feed(house.keepers[keeper], Received(house.keepers[1].id, honest))
    assert [line for line in house.cluster.log if line.endswith("Declined")] == ["w0>liar Declined"] * 2


def test_one_submitter_does_not_take_all_places_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hearthmesh.protocol.replica.PENDING_MAX", 4)
    cluster = Cluster()
    keeper, greedy, other = cluster.add("keeper"), cluster.client("greedy"), cluster.client("other")
    cluster.run(SECOND)
    cluster.log.clear()
    for client, jobs in ((greedy, 6), (other, 2)):
        for nonce in range(jobs):
            spec = cluster.signed_spec(client, 4, nonce=bytes([nonce]))
            replicas = sign_record(client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (keeper.id,)))
            cluster.feed(keeper, Received(client.id, Submit(1, spec.raw, replicas.raw)))
    assert [line for line in cluster.log if line.endswith("Rejected")] == ["keeper>greedy Rejected"] * 2


def test_what_the_submitter_has_taken_stays_when_its_replica_comes_back() -> None:
    house = House(60, most=1000)
    keeper = house.keepers[0]
    taken = said(house.liar, house.job_id, 59, 9)
    house.say(taken, to=[keeper])
    house.cluster.feed(keeper, Received(house.client.id, Taken(house.job_id, (open_record(taken.header).id,))))
    house.say(*(said(house.liar, house.job_id, 59, epoch) for epoch in (1, 2, 3, 4)), to=[keeper])
    house.cluster.kill(keeper)
    house.cluster.restart(keeper)
    assert open_record(taken.header).id in keeper.mesh.replica.jobs[house.job_id].state.batches


def test_an_even_share_has_an_end() -> None:
    """However many there are to share with."""
    holders: list[bytes] = []
    for number in range(100):
        party = number.to_bytes(4, "big")
        if has_share(party, holders, 8):
            holders.append(party)
    assert len(holders) == 16
