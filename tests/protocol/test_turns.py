"""Thieves that ask at the same time: one alone is answered at once, several by urgency; nobody is last for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol import granter
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Effect, Send, SetTimer
from hearthmesh.protocol.events import Received, SubmitJob, TimerFired
from hearthmesh.protocol.jobs import HAND_ON_DEPTH_MAX
from hearthmesh.protocol.messages import Granted, Refused, Steal, TableRows
from hearthmesh.protocol.records import Grant, HeatDigest, RecordKind, ReplicaSet, open_record, sign_record
from hearthmesh.protocol.turns import Turns
from tests.protocol.arena import context
from tests.protocol.cluster import MS, SECOND, WALL_OFFSET_US, Cluster, SimNode, cold

HUNGER = Steal(1, SECOND, 1, 400, 1 << 40, (), False)
COLD, WARM, WARMER = (bytes([number]) * 32 for number in range(3))
WINDOW_US = context(1, LOCAL).config.steal_window_us


def little() -> int:
    return 1


def equally_near(_thief: bytes) -> int:
    return 0


def much() -> int:
    return 100 * SECOND


def frost(_thief: bytes) -> int:
    """Somebody is very cold."""
    return 5_000


def turns() -> Turns:
    return Turns(context(1, LOCAL))


def test_who_asks_alone_never_waits() -> None:
    alone = turns()
    assert not any(alone.must_wait(WARM, HUNGER, little, frost, now_us) for now_us in range(0, 10 * WINDOW_US, MS))
    late = turns()
    assert not late.must_wait(WARM, HUNGER, little, frost, 0)
    assert not late.must_wait(COLD, HUNGER, little, frost, WINDOW_US)


@pytest.mark.parametrize(("offered", "waits"), [(lambda: 0, False), (little, True), (much, False)])
def test_the_second_waits_only_where_there_is_too_little_for_both(offered, waits) -> None:  # type: ignore[no-untyped-def]
    both = turns()
    assert not both.must_wait(WARM, HUNGER, offered, frost, 0)
    assert both.must_wait(COLD, HUNGER, offered, frost, 1) is waits


def test_nobody_waits_for_one_who_is_hardly_colder() -> None:
    for coldest_mkh, waits in ((0, False), (104, False), (125, False), (126, True)):
        both = turns()
        both.must_wait(WARM, HUNGER, little, frost, 0)
        assert both.must_wait(COLD, replace_steal(100), little, lambda _, mkh=coldest_mkh: mkh, 1) is waits  # type: ignore[misc]


def test_who_waited_is_served_by_urgency_and_once() -> None:
    many = turns()
    many.must_wait(b"first", HUNGER, little, frost, 0)
    for thief, mkh in ((WARMER, 1), (COLD, 300), (WARM, 20)):
        assert many.must_wait(thief, replace_steal(mkh), little, frost, 1)
    assert [thief for thief, _ in many.due(WINDOW_US, equally_near)] == [COLD, WARM, WARMER]
    assert many.due(WINDOW_US, equally_near) == []


def test_of_those_that_are_as_cold_the_nearest_is_served_first() -> None:
    rtt_us = {WARMER: 30_000, COLD: 80_000, WARM: 2_000}
    many = turns()
    many.must_wait(b"first", HUNGER, little, frost, 0)
    for thief in (WARMER, COLD, WARM):
        assert many.must_wait(thief, replace_steal(20), little, frost, 1)
    assert [thief for thief, _ in many.due(WINDOW_US, rtt_us.__getitem__)] == [WARM, WARMER, COLD]


def test_whoever_is_passed_over_overtakes_colder_ones_in_the_end() -> None:
    many = turns()
    warm, cold = replace_steal(0), replace_steal(250)
    many.served(COLD, 0)
    many.refused(WARM, 1)
    assert many.urgency(WARM, warm, 1) < many.urgency(COLD, cold, 1)
    for now_s in range(10, 90, 10):
        many.must_wait(WARM, warm, much, frost, now_s * SECOND)
    assert many.urgency(WARM, warm, 80 * SECOND) > many.urgency(COLD, cold, 80 * SECOND)
    many.served(WARM, 80 * SECOND)
    assert many.urgency(WARM, warm, 80 * SECOND) == 0


def test_who_asks_no_more_is_waiting_no_more() -> None:
    many = turns()
    many.served(COLD, 0)
    many.refused(WARM, 1)
    silent_us = 2 * context(1, LOCAL).config.lifeline_ttl_us
    many.must_wait(WARM, HUNGER, much, frost, silent_us)
    assert many.waited_us(WARM, silent_us) == silent_us - 1, "a renewed lifeline is heard in time"
    back_us = silent_us + 3600 * SECOND
    assert many.waited_us(WARM, back_us) == 0
    many.must_wait(WARM, HUNGER, much, frost, back_us)
    assert many.waited_us(WARM, back_us) == many.waited_us(WARM, back_us + SECOND) == 0


def test_where_nobody_gets_anything_nobody_is_passed_over() -> None:
    idle = turns()
    idle.refused(WARM, 0)
    assert idle.waited_us(WARM, 3600 * SECOND) == 0


def test_who_waits_for_its_turn_is_bounded() -> None:
    many = turns()
    most = context(1, LOCAL).config.members_max
    many.must_wait(b"first", HUNGER, little, frost, 0)
    asked = [many.must_wait(number.to_bytes(32, "big"), HUNGER, little, frost, 1) for number in range(most + 10)]
    assert asked == [True] * most + [False] * 10


def replace_steal(mkh: int) -> Steal:
    return Steal(1, SECOND, 1, 400, 1 << 40, (), False, discomfort_mkh=mkh)


# -- at a replica -------------------------------------------------------------------------------------------


class Counter:
    """One keeper with a job of few tasks, and thieves that ask by hand."""

    def __init__(self, tasks: int, thieves: int, **spec: object) -> None:
        self.cluster = Cluster(config=replace(Cluster().config, replicas=1, durable_replicas=1))
        self.keeper = self.cluster.add("keeper", Role.REPLICA)
        self.thieves = [self.cluster.add(f"t{number}", Role.WORKER) for number in range(thieves)]
        client = self.cluster.client()
        self.cluster.run(3 * SECOND)
        self.cluster.feed(client, SubmitJob(self.cluster.spec(tasks, **spec)))  # type: ignore[arg-type]
        self.cluster.run_until(lambda: bool(self.keeper.mesh.replica.jobs))

    def ask(self, thief: SimNode, **about: int) -> list[Effect]:
        steal = Steal(7, SECOND, 1, 400, 1 << 40, (), False, **about)  # type: ignore[arg-type]
        return self.keeper.mesh.handle(Received(thief.id, steal), self.cluster.now_us)

    def hear(self, thief: SimNode, discomfort_mkh: int) -> None:
        """What it says of its sink."""
        digest = HeatDigest(thief.id, 1, 1, 400, 500, 1, 0, "room", 15_000, discomfort_mkh=discomfort_mkh)
        raw = sign_record(thief.identity, RecordKind.HEAT, digest).raw
        self.keeper.mesh.handle(Received(thief.id, TableRows(0, False, (raw,), (), (), ())), self.cluster.now_us)

    def end_window(self) -> list[Effect]:
        return self.keeper.mesh.handle(TimerFired(("window", b"")), self.cluster.now_us + WINDOW_US)


def answers(effects: list[Effect]) -> list[tuple[bytes, str]]:
    replies = [each for each in effects if isinstance(each, Send) and isinstance(each.message, Granted | Refused)]
    return [(each.peer, type(each.message).__name__) for each in replies]


def test_the_coldest_of_those_who_asked_together_gets_the_last_tasks() -> None:
    counter = Counter(2, 3, estimate_us=600 * MS)
    first, warm, cold = counter.thieves
    counter.hear(cold, discomfort_mkh=200)
    assert answers(counter.ask(first)) == [(first.id, "Granted")]
    waiting = counter.ask(warm, discomfort_mkh=10)
    assert answers(waiting) == [] and [e.key[0] for e in waiting if isinstance(e, SetTimer)] == ["window"]
    assert answers(counter.ask(cold, discomfort_mkh=200)) == []
    assert answers(counter.end_window()) == [(cold.id, "Granted"), (warm.id, "Refused")]


def test_a_room_that_would_overheat_is_told_that_the_tasks_are_too_long() -> None:
    counter = Counter(4, 2, estimate_us=600 * SECOND)
    room, boiler = counter.thieves
    (refused,) = [each.message for each in counter.ask(room, longest_us=60 * SECOND) if isinstance(each, Send)]
    assert isinstance(refused, Refused) and refused.reason.endswith("too long for the sink")
    assert answers(counter.ask(boiler)) == [(boiler.id, "Granted")]


def test_tasks_with_checkpoints_go_to_rooms_too() -> None:
    counter = Counter(4, 1, estimate_us=600 * SECOND, checkpoint_us=30 * SECOND)
    assert answers(counter.ask(counter.thieves[0], longest_us=60 * SECOND)) == [(counter.thieves[0].id, "Granted")]


def test_capacity_that_nobody_wants_the_heat_of_is_for_urgent_jobs_that_pay() -> None:
    for priority, limit, answer in ((5, 50, "Refused"), (8, 50, "Granted"), (8, 30, "Refused")):
        counter = Counter(4, 1, priority=priority, price_limit_micro=limit)
        assert answers(counter.ask(counter.thieves[0], price_micro=40)) == [(counter.thieves[0].id, answer)]


def test_a_job_that_would_miss_its_deadline_pays_too() -> None:
    counter = Counter(4, 1, price_limit_micro=50, deadline_us=Cluster().now_us + 1_800_000_000_000_000 + 60 * SECOND)
    thief = counter.thieves[0]
    assert answers(counter.ask(thief, price_micro=40)) == [(thief.id, "Refused")]
    counter.cluster.run(40 * SECOND)
    assert answers(counter.ask(thief, price_micro=40)) == [(thief.id, "Granted")]


def test_who_waits_is_held_against_what_is_new_and_not_against_all_that_suits_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter, held = Counter(4, 3, estimate_us=600 * SECOND), []
    client = next(node for node in counter.cluster.nodes.values() if node.name == "client")
    keeper, submitted = counter.keeper.mesh.replica, iter(range(100))

    def submit(**spec: int) -> None:
        job = counter.cluster.spec(4, nonce=b"%d" % next(submitted), **spec)
        counter.cluster.feed(client, SubmitJob(job))
        most = len(keeper.jobs) + 1
        counter.cluster.run_until(lambda: len(keeper.jobs) == most)

    for _ in range(20):
        submit(estimate_us=600 * SECOND)
    for thief in counter.thieves:
        waits = Steal(7, SECOND, 1, 400, 1 << 40, (), True, longest_us=60 * SECOND)
        assert answers(counter.keeper.mesh.handle(Received(thief.id, waits), counter.cluster.now_us)) == []
    fit = granter.fit
    monkeypatch.setattr(granter, "fit", lambda work, ask: (held.append(ask.thief), fit(work, ask))[1])
    submit(estimate_us=600 * SECOND)
    assert sorted(held) == sorted(thief.id for thief in counter.thieves)
    held.clear()
    submit(estimate_us=SECOND)
    assert len(held) <= 3 and len(keeper._lifelines) < 3, "what suits is given at once"


def test_who_waits_is_held_against_everything_when_what_a_node_may_give_changed() -> None:
    counter = Counter(4, 1, estimate_us=SECOND)
    keeper, thief = counter.keeper.mesh.replica, counter.thieves[0]
    (kept,) = keeper.jobs.values()
    kept.level = False
    waits = Steal(7, SECOND, 1, 400, 1 << 40, (), True)
    assert answers(counter.keeper.mesh.handle(Received(thief.id, waits), counter.cluster.now_us)) == []
    kept.level = True
    keeper.keepers_changed()
    keeper.serve_lifelines(counter.cluster.now_us)
    assert not len(keeper._lifelines)


def test_a_deadline_that_is_over_is_paid_for_no_more() -> None:
    deadline_us = Cluster().now_us + WALL_OFFSET_US + 60 * SECOND
    for at_s, answer in ((59, "Granted"), (60, "Refused"), (600, "Refused")):
        counter = Counter(4, 1, price_limit_micro=50, deadline_us=deadline_us)
        counter.cluster.run(deadline_us - WALL_OFFSET_US - counter.cluster.now_us + (at_s - 60) * SECOND)
        assert answers(counter.ask(counter.thieves[0], price_micro=40)) == [(counter.thieves[0].id, answer)]
        assert answers(counter.ask(counter.thieves[0])) == [(counter.thieves[0].id, "Granted")], "it is work as any"


@pytest.mark.parametrize(("waited_s", "order"), [(5, [9, 80]), (20, [80, 9])])
def test_what_is_late_comes_after_what_can_still_be_in_time(waited_s: int, order: list[int]) -> None:
    """By its priority: else one that names a deadline of a moment ago would be first everywhere, for ever."""
    now_us = Cluster().now_us + WALL_OFFSET_US + 3 * SECOND
    counter = Counter(1, 1, created_us=now_us, deadline_us=now_us + 9 * SECOND, price_limit_micro=9)
    client = counter.cluster.client()
    counter.cluster.run(SECOND)
    later = counter.cluster.spec(1, nonce=b"later", created_us=now_us, deadline_us=now_us + 80 * SECOND)
    counter.cluster.feed(client, SubmitJob(later))
    counter.cluster.run(waited_s * SECOND)
    due_s: list[int] = []
    for _ in order:
        (granted,) = [each.message for each in counter.ask(counter.thieves[0]) if isinstance(each, Send)]
        assert isinstance(granted, Granted)
        (job_id,) = {open_record(raw).body.job_id for raw in granted.grants}
        spec = counter.keeper.mesh.replica.jobs[job_id].state.spec
        due_s.append((spec.deadline_us - now_us) // SECOND)
    assert due_s == order


def test_a_job_at_risk_pays_only_when_it_can_wait_no_longer_for_heat_that_is_wanted() -> None:
    deadline_us = Cluster().now_us + WALL_OFFSET_US + 600 * SECOND
    counter = Counter(1, 1, price_limit_micro=50, deadline_us=deadline_us, estimate_us=20 * SECOND)
    thief = counter.thieves[0]
    counter.cluster.run(400 * SECOND)
    # Half of its time is over and nothing is done, but three times its length is one minute, until it is heard two.
    assert answers(counter.ask(thief, price_micro=40)) == [(thief.id, "Refused")]
    counter.cluster.run(20 * SECOND)
    assert answers(counter.ask(thief, price_micro=40)) == [(thief.id, "Granted")]


def test_who_waits_at_a_price_hears_when_a_job_can_wait_no_longer() -> None:
    """Nothing happens to the job, nobody follows it, and the lifeline is not renewed."""
    deadline_us = Cluster().now_us + WALL_OFFSET_US + 300 * SECOND
    counter = Counter(1, 1, price_limit_micro=50, deadline_us=deadline_us, estimate_us=4 * SECOND)
    thief = counter.thieves[0]
    counter.cluster.run(100 * SECOND)
    waits = Steal(7, SECOND, 1, 400, 1 << 40, (), True, price_micro=40)
    assert answers(counter.keeper.mesh.handle(Received(thief.id, waits), counter.cluster.now_us)) == []
    keeper = counter.keeper.mesh.replica
    counter.cluster.run(40 * SECOND)
    assert len(keeper._lifelines) == 1
    counter.cluster.run(40 * SECOND)
    assert not len(keeper._lifelines)


def keeper_with_a_queue() -> tuple[Cluster, SimNode, SimNode, SimNode, SimNode, bytes]:
    """A keeper that works too, a thief, a client, another keeper, and the job of four tasks that the first keeps."""
    cluster = Cluster(config=replace(Cluster().config, replicas=1, durable_replicas=1))
    keeper = cluster.add("keeper", Role.REPLICA | Role.WORKER)
    thief = cluster.add("thief", Role.WORKER)
    client = cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(4, priority=5)))
    cluster.run_until(lambda: bool(keeper.mesh.replica.jobs))
    (kept,) = keeper.mesh.replica.jobs
    other = cluster.add("other", Role.REPLICA)
    cluster.run(SECOND)
    return cluster, keeper, thief, client, other, kept


@pytest.mark.parametrize(("queued", "given"), [(7, "queued"), (5, "kept"), (0, "kept")])
def test_a_replica_with_a_queue_gives_of_both_what_goes_first(queued: int, given: str) -> None:
    """It is a worker as well, and has taken tasks of another keeper's job."""
    cluster, keeper, thief, client, other, kept = keeper_with_a_queue()
    spec = cluster.signed_spec(client, 100, estimate_us=100 * MS, priority=queued)
    replicas = sign_record(client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (other.id,)))
    grant = sign_record(other.identity, RecordKind.GRANT, Grant(spec.id, 0, 40, 1, keeper.id, 3 * SECOND))
    took = Received(other.id, Granted(0, (grant.raw,), (spec.raw, replicas.raw)))
    keeper.mesh.handle(cold(), cluster.now_us)
    keeper.mesh.handle(took, cluster.now_us)
    effects = keeper.mesh.handle(Received(thief.id, Steal(7, SECOND, 1, 400, 1 << 40, (), False)), cluster.now_us)
    (granted,) = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, Granted)]
    (job_id,) = {open_record(raw).body.job_id for raw in granted.grants}
    assert job_id == {"queued": spec.id, "kept": kept}[given]


@pytest.mark.parametrize("sealed", ["copies", "too often handed on"])
def test_what_a_queue_cannot_give_hides_nothing_that_lies_free(sealed: str) -> None:
    """It may give none of its urgent leases, it may of volunteers' work; and ordinary tasks of its own job lie free."""
    cluster, keeper, thief, client, other, kept = keeper_with_a_queue()
    keeper.mesh.handle(cold(), cluster.now_us)

    def take(priority: int, lo: int, links: int) -> None:
        verification = "quorum(2)" if lo else "none"
        spec = cluster.signed_spec(
            client, 100, nonce=b"%d" % priority, estimate_us=100 * MS, priority=priority, verification=verification
        )
        replicas = sign_record(client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, (other.id,)))
        raw = b""
        for link in range(links + 1):
            to = keeper.id if link == links else other.id
            body = Grant(spec.id, lo, lo + 40, 1 + link, to, 3 * SECOND, raw)
            raw = sign_record(other.identity, RecordKind.GRANT, body).raw
        keeper.mesh.handle(Received(other.id, Granted(0, (raw,), (spec.raw, replicas.raw))), cluster.now_us)

    take(9, lo=100 if sealed == "copies" else 0, links=0 if sealed == "copies" else HAND_ON_DEPTH_MAX)
    take(0, lo=0, links=0)
    assert sum(lease.body.epoch > 1 or lease.body.lo >= 100 for lease in keeper.mesh.worker._leases)
    effects = keeper.mesh.handle(Received(thief.id, Steal(7, SECOND, 1, 400, 1 << 40, (), False)), cluster.now_us)
    (granted,) = [each.message for each in effects if isinstance(each, Send) and isinstance(each.message, Granted)]
    assert {open_record(raw).body.job_id for raw in granted.grants} == {kept}
