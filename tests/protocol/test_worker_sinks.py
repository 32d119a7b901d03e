"""A worker takes what its sink can, and hands on what it cannot end."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hearthmesh.protocol.effects import (
    CancelExecution,
    DropCheckpoint,
    Effect,
    Execute,
    SaveExecution,
    Send,
    SetTimer,
)
from hearthmesh.protocol.events import (
    Drain,
    ExecutionSaved,
    HeatReading,
    TaskFinished,
    TimerFired,
)
from hearthmesh.protocol.messages import (
    Delivery,
    Granted,
    HandOn,
    Renew,
    TableRows,
)
from hearthmesh.protocol.moving import LEAVING_US, STILL_GOES_BACK_US, STILL_MOVES_US
from hearthmesh.protocol.records import (
    HeatDigest,
    JobDigest,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from tests.protocol.cluster import SECOND, WARM, cold
from tests.protocol.shop import Shop, records_told, released, runs, steals

# -- what the sink takes ------------------------------------------------------------------------------------


def nearly_full(longest_s: float, slots: int = 1) -> HeatReading:
    """A room that takes tasks of at most so many seconds, and wants some heat still."""
    return replace(cold(slots), buffer_wh=50.0 * slots * longest_s / 3600, hold_w=0.0)


def test_nothing_starts_that_cannot_end_before_the_sink_is_full() -> None:
    shop = Shop(slots=0, estimate_us=10 * SECOND)
    shop.tell(nearly_full(9))
    assert runs(shop.give(shop.grant(0, 10))) == [] and shop.held == 10
    assert runs(shop.tell(nearly_full(11))) == [(0, 1)]


def test_what_no_longer_fits_goes_back_and_what_fits_stays() -> None:
    shop = Shop(slots=0, estimate_us=10 * SECOND)
    brief = shop.cluster.signed_spec(shop.client, 100, estimate_us=SECOND)
    members = tuple(keeper.id for keeper in shop.keepers)
    replicas = sign_record(shop.client.identity, RecordKind.REPLICA_SET, ReplicaSet(brief.id, 0, members))
    shop.tell(nearly_full(60))
    given = shop.grant(0, 10, job_id=brief.id)
    shop.say(shop.keepers[0], Granted(0, (given.raw,), (brief.raw, replicas.raw)))
    shop.give(shop.grant(0, 10))
    effects = shop.tell(nearly_full(5))
    released = {record.body.job_id for _, record in records_told(effects, RecordKind.RELEASE)}
    assert released == {shop.spec.id}
    assert {lease.body.job_id for lease in shop.worker.mesh.worker._leases} == {brief.id}


def tasks_at_a_keeper(shop: Shop, job_id: bytes, task_us: int) -> TableRows:
    """It says that it has some, and how long they take."""
    digest = JobDigest(job_id, shop.keepers[0].id, 1, 1, 50, task_us, "wasm", "", 5, False)
    record = sign_record(shop.keepers[0].identity, RecordKind.JOB_DIGEST, digest)
    return TableRows(0, False, (record.raw,), (), (), ())


def test_what_others_measured_counts_for_more_than_the_submitters_estimate() -> None:
    shop = Shop(slots=0, estimate_us=600 * SECOND)
    shop.tell(nearly_full(9))
    shop.say(shop.keepers[0], tasks_at_a_keeper(shop, shop.spec.id, SECOND))
    assert runs(shop.give(shop.grant(0, 10))) == [(0, 1)]


def test_of_a_job_that_went_back_as_too_long_none_is_asked_for_until_the_sink_can_take_it() -> None:
    shop = Shop(slots=0, estimate_us=SECOND)
    shop.tell(nearly_full(60))
    (run,) = [effect for effect in shop.give(shop.grant(0, 1)) if isinstance(effect, Execute)]
    # It takes so much longer here than the keepers can know that they see no reason not to grant.
    shop.tell(TaskFinished(run.execution_id, (0,), (b"",), {}, {}, (0,), (30 * SECOND,), 0, 0, False))
    shop.tell(nearly_full(20))
    assert runs(shop.give(shop.grant(1, 4))) == []
    assert released(shop.tell(nearly_full(20))) == {(1, 4): 3}
    (asked,) = steals(shop.say(shop.keepers[0], tasks_at_a_keeper(shop, bytes(32), SECOND)))
    assert asked.excluded == (shop.spec.id,)
    shop.tell(TimerFired(("steal", b"")))
    shop.cluster.now_us += SECOND
    assert [steal.excluded for steal in steals(shop.tell(nearly_full(40)))] == [()]


def test_a_job_with_checkpoints_starts_where_it_could_not_end() -> None:
    shop = Shop(slots=0)
    spec = shop.cluster.signed_spec(shop.client, 100, estimate_us=600 * SECOND, checkpoint_us=5 * SECOND)
    members = tuple(keeper.id for keeper in shop.keepers)
    replicas = sign_record(shop.client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, members))
    shop.tell(nearly_full(9))
    given = shop.grant(0, 10, job_id=spec.id)
    assert runs(shop.say(shop.keepers[0], Granted(0, (given.raw,), (spec.raw, replicas.raw)))) == [(0, 1)]


def test_a_task_that_came_with_a_checkpoint_goes_on_here_from_the_one_that_it_made_here() -> None:
    shop = Shop(slots=0)
    spec = shop.cluster.signed_spec(shop.client, 100, estimate_us=600 * SECOND, checkpoint_us=5 * SECOND)
    members = tuple(keeper.id for keeper in shop.keepers)
    replicas = sign_record(shop.client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, members))
    parent = shop.grant(0, 1, job_id=spec.id, holder=shop.peer.id)
    came, made = bytes([1]) * 32, bytes([2]) * 32
    handed = shop.grant(0, 1, 2, by=shop.peer, job_id=spec.id, parent=parent.raw, checkpoint=came)
    shop.tell(cold())
    effects = shop.say(shop.peer, HandOn((handed.raw,), (spec.raw, replicas.raw)))
    (first,) = [effect for effect in effects if isinstance(effect, Execute)]
    shop.tell(WARM)
    shop.tell(ExecutionSaved(first.execution_id, made, 1_000, b"pin"))
    (second,) = [effect for effect in shop.tell(cold()) if isinstance(effect, Execute)]
    assert (first.checkpoint, second.checkpoint) == (came, made)


def test_what_a_task_left_that_went_elsewhere_is_dropped_here_and_what_waits_here_is_kept() -> None:
    shop = Shop(slots=0)
    spec = shop.cluster.signed_spec(shop.client, 100, estimate_us=600 * SECOND, checkpoint_us=5 * SECOND)
    members = tuple(keeper.id for keeper in shop.keepers)
    replicas = sign_record(shop.client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, members))
    shop.tell(cold())
    given = Granted(0, (shop.grant(0, 1, job_id=spec.id).raw,), (spec.raw, replicas.raw))
    (first,) = [effect for effect in shop.say(shop.keepers[0], given) if isinstance(effect, Execute)]
    shop.tell(WARM)
    drop = DropCheckpoint(spec.id, 0)
    assert drop not in shop.tell(ExecutionSaved(first.execution_id, bytes(32), 1_000, b"pin"))
    digest = HeatDigest(shop.peer.id, 1, 1, 400, 500, 1, 0, "room", 15_000, appetite_us=1 << 40)
    raw = sign_record(shop.peer.identity, RecordKind.HEAT, digest).raw
    shop.say(shop.peer, TableRows(0, False, (raw,), (), (), ()))
    assert drop in shop.tell(WARM), "it went on to the peer"
    assert drop not in shop.tell(WARM)


def test_a_task_that_was_to_move_stays_in_a_room_that_is_cold_again() -> None:
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved()
    assert SaveExecution(first.execution_id) in shop.tell(WARM)
    shop.tell(cold())
    assert runs(shop.tell(ExecutionSaved(first.execution_id, bytes(32), 1_000, b"pin"))) == [(0, 1)]
    assert shop.worker.mesh.worker.moved == 0


STOPPED = replace(WARM, stopped=True)


def saved_by(effects: list[Effect]) -> list[SaveExecution]:
    return [effect for effect in effects if isinstance(effect, SaveExecution)]


def renewed(shop: Shop) -> list[tuple[int, int]]:
    """By the message to one of the replicas."""
    told = [each.message for each in shop.tell(TimerFired(("renew", b""))) if isinstance(each, Send)]
    messages = [message for message in told if isinstance(message, Renew)]
    return [(part.lo, part.hi) for job in messages[0].jobs for part in job.ranges] if messages else []


def test_a_task_that_stands_still_for_long_is_moved_with_the_last_checkpoint_that_it_made() -> None:
    """It makes no other, and goes on nowhere sooner than elsewhere, however little is left of it."""
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved()
    assert SaveExecution(first.execution_id) in shop.tell(WARM)
    assert saved_by(shop.tell(STOPPED)) == [], "a glitch makes nobody leave"
    shop.cluster.now_us += STILL_MOVES_US
    assert SaveExecution(first.execution_id, LEAVING_US) in shop.tell(STOPPED)
    assert saved_by(shop.tell(STOPPED)) == [] and saved_by(shop.tell(WARM)) == []
    shop.tell(ExecutionSaved(first.execution_id, bytes(32), 1_000, b"pin"))
    assert shop.worker.mesh.worker.moved == 1


def test_a_task_that_stands_still_keeps_its_lease_and_goes_on() -> None:
    shop = Shop(slots=1)
    ((first, count),) = runs(shop.give(shop.grant(0, 1)))
    stopped = shop.tell(STOPPED)
    shop.cluster.now_us += STILL_GOES_BACK_US - 1
    stopped += shop.tell(STOPPED)
    assert [each for each in stopped if isinstance(each, SaveExecution | CancelExecution)] == []
    assert released(stopped) == {} and renewed(shop) == [(first, first + count)]
    # Each pause counts for itself.
    shop.tell(cold(1))
    shop.cluster.now_us += SECOND
    assert released(shop.tell(STOPPED)) == {} == released(shop.tell(cold(1)))
    assert shop.worker.mesh.worker.running == 1


def test_a_task_that_stands_still_for_too_long_goes_back_and_has_a_late_result() -> None:
    shop = Shop(slots=1)
    (run,) = [effect for effect in shop.give(shop.grant(0, 1)) if isinstance(effect, Execute)]
    shop.tell(STOPPED)
    shop.cluster.now_us += STILL_GOES_BACK_US
    assert released(shop.tell(STOPPED)) == {(0, 1): len(shop.keepers)}
    assert released(shop.tell(STOPPED)) == {}, "once"
    assert renewed(shop) == [] and shop.worker.mesh.worker.running == 1
    shop.tell(cold(1))
    ended = shop.tell(TaskFinished(run.execution_id, (0,), (b"late",), {}, {}, (0,), (1,), 1, 1, False))
    assert [each for each in ended if isinstance(each, Send) and isinstance(each.message, Delivery)]


def test_what_was_begun_and_waits_in_a_full_sink_goes_to_who_wants_heat_though_it_is_busy() -> None:
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved()
    assert SaveExecution(first.execution_id) in shop.tell(WARM)

    def hear(sequence: int, deficit_w: int) -> None:
        digest = HeatDigest(shop.peer.id, 1, sequence, deficit_w, 500, 0, 0, "room", 15_000)
        raw = sign_record(shop.peer.identity, RecordKind.HEAT, digest).raw
        shop.say(shop.peer, TableRows(0, False, (raw,), (), (), ()))

    hear(2, -100)
    kept = shop.tell(ExecutionSaved(first.execution_id, bytes(32), 1_000, b"pin")) + shop.tell(WARM)
    assert not [each for each in kept if isinstance(each, Send) and isinstance(each.message, HandOn)]
    hear(3, 400)
    given = [each for each in shop.tell(WARM) if isinstance(each, Send) and isinstance(each.message, HandOn)]
    assert [each.peer for each in given] == [shop.peer.id]


def slow(deficit_w: float) -> HeatReading:
    """A room with a slot of 50 W that is nearly where it should be."""
    return replace(cold(), deficit_w=deficit_w, horizon_wh=deficit_w / 4)


@pytest.mark.parametrize(
    ("here_w", "appetite_us", "moves"),
    [(14.0, 600 * SECOND, True), (16.0, 600 * SECOND, False), (14.0, 100 * SECOND, False)],
)
def test_a_slow_room_lets_what_can_be_saved_go_to_one_that_wants_it(
    here_w: float, appetite_us: int, moves: bool
) -> None:
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved(appetite_us=appetite_us)
    assert (SaveExecution(first.execution_id) in shop.tell(slow(here_w))) is moves
    if moves:
        effects = shop.tell(ExecutionSaved(first.execution_id, bytes([1]) * 32, 1_000, b"pin"))
        assert [
            effect.peer for effect in effects if isinstance(effect, Send) and isinstance(effect.message, HandOn)
        ] == [shop.peer.id]


@pytest.mark.parametrize(("due_us", "heir"), [(0, "peer"), (700 * SECOND, "keeper"), (9_000 * SECOND, "peer")])
def test_what_would_be_late_in_a_slow_room_goes_where_it_can_end_and_not_to_the_coldest(due_us: int, heir: str) -> None:
    """The peer is colder, but would have to save it again; a task of 600 s has a fifth of its core here."""
    shop = Shop(slots=0)
    wall_us = shop.worker.mesh.ctx.wall_us(shop.cluster.now_us)
    first = shop.begin_what_can_be_saved(
        appetite_us=600 * SECOND, longest_us=60 * SECOND, deadline_us=wall_us + due_us if due_us else 0
    )
    steady = shop.keepers[0]
    digest = HeatDigest(steady.id, 1, 2, 100, 500, 1, 0, "tank", 58_000, appetite_us=600 * SECOND)
    shop.say(steady, TableRows(0, False, (sign_record(steady.identity, RecordKind.HEAT, digest).raw,), (), (), ()))
    assert SaveExecution(first.execution_id) in shop.tell(slow(10.0))
    effects = shop.tell(ExecutionSaved(first.execution_id, bytes([1]) * 32, 1_000, b"pin"))
    (handed,) = [each for each in effects if isinstance(each, Send) and isinstance(each.message, HandOn)]
    assert handed.peer == {"peer": shop.peer.id, "keeper": steady.id}[heir]


def test_who_leaves_hands_on_what_can_be_saved_and_stays_until_the_heir_has_had_time_to_fetch_it() -> None:
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved()
    assert SaveExecution(first.execution_id, LEAVING_US) in shop.tell(Drain())
    assert not shop.worker.mesh.worker.drained
    effects = shop.tell(ExecutionSaved(first.execution_id, bytes([1]) * 32, 1_000_000, b"pin"))
    (handed,) = [each for each in effects if isinstance(each, Send) and isinstance(each.message, HandOn)]
    assert handed.peer == shop.peer.id
    (until,) = [each for each in effects if isinstance(each, SetTimer) and each.key == ("heirs", b"")]
    # A megabyte takes a second there and as long again, and the heir looks around first.
    assert until.at_us - shop.cluster.now_us == 4 * SECOND
    assert not shop.worker.mesh.worker.drained
    shop.tell(TimerFired(until.key))
    assert shop.worker.mesh.worker.drained
