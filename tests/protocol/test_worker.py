"""A worker takes grants that are good, once; starts what its room allows; gives away at most half."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import (
    CancelExecution,
    DropCheckpoint,
    Execute,
    Penalise,
    Reason,
    Send,
)
from hearthmesh.protocol.events import (
    Drain,
    ExecutionFailed,
    StorageFailed,
    TimerFired,
)
from hearthmesh.protocol.messages import (
    Granted,
    HandOn,
    HeldJob,
    HeldRange,
    Records,
    Renew,
    Steal,
    Superseded,
    TableRows,
)
from hearthmesh.protocol.records import (
    Cancellation,
    JobDigest,
    RecordKind,
    ReplicaSet,
    open_record,
    sign_record,
)
from tests.protocol.cluster import MS, SECOND, WARM, cold
from tests.protocol.shop import Shop, penalties, records_told, released, runs, steals
from tests.protocol.steps import steps

# -- grants -------------------------------------------------------------------------------------------------


def test_granted_tasks_start_at_once_in_a_cold_room() -> None:
    shop = Shop(slots=2)
    effects = shop.give(shop.grant(0, 20))
    assert [lo for lo, _ in runs(effects)] == [0, runs(effects)[0][1]]
    assert not penalties(effects) and shop.held == 20 - sum(hi - lo for lo, hi in runs(effects))


def test_paid_work_starts_before_volunteer_work_that_came_first() -> None:
    shop = Shop(slots=0)
    volunteer = shop.cluster.signed_spec(shop.client, 100, priority=0)
    members = tuple(keeper.id for keeper in shop.keepers)
    replicas = sign_record(shop.client.identity, RecordKind.REPLICA_SET, ReplicaSet(volunteer.id, 0, members))
    shop.tell(cold(2))
    given = shop.grant(0, 20, job_id=volunteer.id)
    first = shop.say(shop.keepers[0], Granted(0, (given.raw,), (volunteer.raw, replicas.raw)))
    second = shop.give(shop.grant(0, 20))
    started = [effect for effect in (*first, *second) if isinstance(effect, Execute)]
    assert [run.job_id for run in started[:2]] == [volunteer.id, volunteer.id]
    after = shop.finish(started[0], started[0].count)
    assert [effect.job_id for effect in after if isinstance(effect, Execute)] == [shop.spec.id]


def test_grant_that_comes_twice_is_taken_once_even_when_it_was_run() -> None:
    shop = Shop()
    grant = shop.grant(0, 1)
    (run,) = [effect for effect in shop.give(grant) if isinstance(effect, Execute)]
    shop.finish(run, 1)
    again = shop.give(grant)
    assert runs(again) == [] and shop.held == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"holder": bytes(32)}, Reason.MALFORMED),
        ({"hi": 101}, Reason.OUT_OF_RANGE),
        ({"lo": 5, "hi": 5}, Reason.OUT_OF_RANGE),
        ({"lo": 9, "hi": 5}, Reason.OUT_OF_RANGE),
        ({"parent": b"nonsense"}, Reason.MALFORMED),
    ],
)
def test_grant_that_cannot_be_good_is_penalised_and_not_taken(changes: dict[str, Any], reason: Reason) -> None:
    shop = Shop()
    fields = {"lo": 0, "hi": 5} | changes
    effects = shop.give(shop.grant(fields.pop("lo"), fields.pop("hi"), **fields))
    assert penalties(effects) == [Penalise(shop.keepers[0].id, reason)]
    assert runs(effects) == [] and shop.held == 0


def test_grant_by_a_node_that_is_no_replica_is_not_taken() -> None:
    shop = Shop()
    effects = shop.give(shop.grant(0, 5, by=shop.peer), by=shop.peer)
    assert runs(effects) == [] and shop.held == 0


def test_forged_grant_is_penalised() -> None:
    shop = Shop()
    raw = bytearray(shop.grant(0, 5).raw)
    raw[-1] ^= 1
    effects = shop.say(shop.peer, Granted(0, (bytes(raw),), (shop.spec.raw, shop.replicas.raw)))
    assert penalties(effects) == [Penalise(shop.peer.id, Reason.BAD_SIGNATURE)] and shop.held == 0


def test_grant_of_a_former_replica_is_good() -> None:
    shop = Shop()
    members = (shop.keepers[0].id, shop.keepers[1].id, shop.peer.id)
    changed = ReplicaSet(shop.spec.id, 1, members, (shop.keepers[2].id,))
    record = sign_record(shop.keepers[0].identity, RecordKind.REPLICA_SET, changed)
    grant = shop.grant(0, 1, by=shop.keepers[2])
    effects = shop.say(shop.keepers[0], Granted(0, (grant.raw,), (shop.spec.raw, shop.replicas.raw, record.raw)))
    assert runs(effects) == [(0, 1)]


def test_specs_of_another_mesh_are_refused() -> None:
    shop = Shop()
    foreign = shop.cluster.signed_spec(shop.client, 4, mesh_id=bytes(32))
    effects = shop.say(shop.peer, Granted(0, (), (foreign.raw,)))
    assert penalties(effects) == [Penalise(shop.peer.id, Reason.NOT_ADMITTED)]


def test_handed_on_grant_is_told_to_the_replicas() -> None:
    shop = Shop()
    parent = shop.grant(0, 10, holder=shop.peer.id)
    child = shop.grant(4, 5, 2, by=shop.peer, parent=parent.raw)
    effects = shop.say(shop.peer, HandOn((child.raw,), (shop.spec.raw, shop.replicas.raw)))
    assert runs(effects) == [(4, 5)]
    assert [(peer, record.id) for peer, record in records_told(effects, RecordKind.GRANT)] == [
        (keeper.id, child.id) for keeper in shop.keepers
    ]


@pytest.mark.parametrize("field", [{"epoch": 1}, {"epoch": 3}, {"lo": 9, "hi": 11}])
def test_hand_on_that_says_more_than_its_parent_is_penalised(field: dict[str, int]) -> None:
    shop = Shop()
    parent = shop.grant(0, 10, holder=shop.peer.id)
    fields = {"lo": 4, "hi": 5, "epoch": 2} | field
    child = shop.grant(fields["lo"], fields["hi"], fields["epoch"], by=shop.peer, parent=parent.raw)
    effects = shop.say(shop.peer, HandOn((child.raw,), (shop.spec.raw, shop.replicas.raw)))
    assert len(penalties(effects)) == 1 and shop.held == 0 and runs(effects) == []


# -- giving back --------------------------------------------------------------------------------------------


def test_warm_room_lets_the_running_finish_and_gives_the_rest_back() -> None:
    shop = Shop()
    ((_, started),) = runs(shop.give(shop.grant(0, 20)))
    effects = shop.tell(WARM)
    assert released(effects) == {(started, 20): 3}
    assert not [effect for effect in effects if isinstance(effect, CancelExecution)] and shop.held == 0


def test_grant_that_arrives_in_a_warm_room_goes_back_at_once() -> None:
    shop = Shop(slots=0)
    effects = shop.give(shop.grant(0, 20))
    assert runs(effects) == [] and released(effects) == {(0, 20): 3}


def test_full_disk_gives_back_and_starts_nothing() -> None:
    shop = Shop()
    ((_, started),) = runs(shop.give(shop.grant(0, 20)))
    effects = shop.tell(StorageFailed("full"))
    assert released(effects) == {(started, 20): 3}
    assert runs(shop.give(shop.grant(30, 40))) == []


def test_executor_that_stopped_early_gives_the_rest_back() -> None:
    shop = Shop(estimate_us=10 * MS)
    (run,) = [effect for effect in shop.give(shop.grant(0, 40)) if isinstance(effect, Execute)]
    effects = shop.finish(run, 1)
    assert (run.first + 1, run.first + run.count) in released(effects)


def test_job_that_this_node_cannot_run_goes_back_whole_and_is_not_taken_again() -> None:
    shop = Shop()
    (run,) = [effect for effect in shop.give(shop.grant(0, 20)) if isinstance(effect, Execute)]
    effects = shop.tell(ExecutionFailed(run.execution_id, "no such runtime", False, 0))
    assert sum(hi - lo for lo, hi in released(effects)) == 20
    later = shop.give(shop.grant(20, 30))
    assert runs(later) == [] and released(later) == {(20, 30): 3}


# -- supersession, cancellation -----------------------------------------------------------------------------


def superseded(shop: Shop, lo: int, hi: int, epoch: int) -> Superseded:
    return Superseded((HeldJob(shop.spec.id, (HeldRange(lo, hi, epoch),)),))


def test_superseded_tasks_do_not_start_and_the_others_do() -> None:
    shop = Shop()
    ((_, started),) = runs(shop.give(shop.grant(0, 20)))
    assert started < 15
    shop.say(shop.keepers[1], superseded(shop, started, 15, 2))
    assert shop.held == 5


def test_superseded_parts_take_what_is_of_their_epoch_or_a_lower_one() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 9), shop.grant(40, 50, 1), shop.grant(50, 60, 3), shop.grant(60, 70, 2))
    ranges = (HeldRange(42, 54, 1), HeldRange(52, 62, 2), HeldRange(65, 66, 2), HeldRange(58, 59, 3))
    shop.say(shop.keepers[0], Superseded((HeldJob(shop.spec.id, ranges),)))
    effects = shop.tell(TimerFired(("renew", b"")))
    renewal = next(e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Renew))
    held = [(part.lo, part.hi) for part in renewal.jobs[0].ranges if part.lo >= 40]
    assert held == [(40, 42), (50, 58), (59, 60), (62, 65), (66, 70)]


def test_what_superseded_leases_cost_does_not_grow_with_leases_times_ranges() -> None:
    shop = Shop()
    shop.give(*(shop.grant(lo, lo + 1) for lo in range(60)))
    one, many = (Superseded((HeldJob(shop.spec.id, (HeldRange(99, 100, 9),) * count),)) for count in (1, 500))
    once, often = (steps(lambda: shop.say(shop.keepers[0], message)) for message in (one, many))  # noqa: B023
    assert often < once + 500 * 60


def test_superseded_by_a_node_that_is_no_replica_changes_nothing() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 20))
    before = shop.held
    shop.say(shop.peer, superseded(shop, 0, 100, 9))
    assert shop.held == before


def test_superseded_under_an_older_epoch_changes_nothing() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 20, 5))
    before = shop.held
    shop.say(shop.keepers[0], superseded(shop, 0, 100, 4))
    assert shop.held == before


def test_cancelled_job_stops_and_only_its_submitter_can_cancel_it() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 20))
    for author, stops in ((shop.peer, False), (shop.client, True)):
        record = sign_record(author.identity, RecordKind.CANCELLATION, Cancellation(shop.spec.id))
        effects = shop.say(shop.keepers[0], Records(shop.spec.id, (record.raw,)))
        assert bool([effect for effect in effects if isinstance(effect, CancelExecution)]) is stops
    assert shop.held == 0 and runs(shop.give(shop.grant(40, 50))) == []


def test_what_a_cancelled_task_left_is_dropped_and_what_a_leaving_node_s_left_is_kept() -> None:
    shop = Shop(slots=0)
    first = shop.begin_what_can_be_saved()
    record = sign_record(shop.client.identity, RecordKind.CANCELLATION, Cancellation(first.job_id))
    stopped, dropped = CancelExecution(first.execution_id), DropCheckpoint(first.job_id, 0)
    told = shop.say(shop.keepers[0], Records(first.job_id, (record.raw,)))
    assert [each for each in told if isinstance(each, CancelExecution | DropCheckpoint)] == [stopped, dropped]
    shop = Shop(slots=0)
    shop.begin_what_can_be_saved()
    told = [*shop.tell(Drain()), *shop.tell(Drain())]
    assert [each for each in told if isinstance(each, CancelExecution | DropCheckpoint)] == [stopped]


# -- what it asks for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [0, 40])
def test_who_asks_a_price_says_what_its_other_slots_are_busy_with(price: int) -> None:
    shop = Shop(slots=0, estimate_us=600 * SECOND)
    shop.tell(replace(cold(4), price_micro=price))
    assert len(runs(shop.give(shop.grant(0, 1), shop.grant(5, 6)))) == 2
    shop.cluster.now_us += 100 * SECOND
    digest = JobDigest(
        shop.spec.id, shop.keepers[0].id, 1, 1, 50, 0, "wasm", "", 5, False, price_limit_micro=50, at_risk=True
    )
    record = sign_record(shop.keepers[0].identity, RecordKind.JOB_DIGEST, digest)
    (steal,) = steals(shop.say(shop.keepers[0], TableRows(0, False, (record.raw,), (), (), ())))
    assert steal.slots == 2
    assert (steal.places, steal.busy_us) == ((4, 1000 * SECOND) if price else (0, 0))


# -- robbed -------------------------------------------------------------------------------------------------


def test_robbed_worker_gives_at_most_half_from_the_far_end_under_the_next_epoch() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 41))
    before = shop.held
    effects = shop.say(shop.peer, Steal(9, 1 << 40, 4, 400, 1 << 40, (), False))
    (granted,) = [effect.message for effect in effects if isinstance(effect, Send) and effect.peer == shop.peer.id]
    assert isinstance(granted, Granted) and granted.request == 9
    (given,) = [open_record(raw).body for raw in granted.grants]
    assert given.hi == 41 and given.epoch == 2 and given.holder == shop.peer.id
    assert given.hi - given.lo == before // 2 and shop.held == before - before // 2


def test_worker_with_little_left_gives_nothing() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 2))
    effects = shop.say(shop.peer, Steal(9, 1 << 40, 4, 400, 1 << 40, (), False))
    assert not [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Granted)]


# -- renewal ------------------------------------------------------------------------------------------------


def test_all_that_is_held_is_renewed_in_one_message_to_each_replica() -> None:
    shop = Shop()
    shop.give(shop.grant(0, 20), shop.grant(40, 60, 3))
    effects = shop.tell(TimerFired(("renew", b"")))
    renewals = [(effect.peer, effect.message) for effect in effects if isinstance(effect, Send)]
    renewals = [(peer, message) for peer, message in renewals if isinstance(message, Renew)]
    assert [peer for peer, _ in renewals] == [keeper.id for keeper in shop.keepers]
    for _, message in renewals:
        assert isinstance(message, Renew)
        ranges = [(part.lo, part.hi, part.epoch) for job in message.jobs for part in job.ranges]
        covered = sorted(index for lo, hi, _ in ranges for index in range(lo, hi))
        assert covered == [*range(0, 20), *range(40, 60)]


# -- how much -------------------------------------------------------------------------------------------------


def test_batches_stay_whole_while_the_granter_has_more_and_shrink_to_the_end_of_several_slots() -> None:
    shop = Shop(slots=2, estimate_us=50 * MS)
    full = shop.cluster.config.batch_target_us // (50 * MS)
    more = runs(
        shop.say(shop.keepers[0], Granted(0, (shop.grant(0, full).raw,), (shop.spec.raw, shop.replicas.raw), 50))
    )
    assert more == [(0, full)]
    shop = Shop(slots=2, estimate_us=50 * MS)
    ends = runs(shop.give(shop.grant(0, full)))
    assert ends[0] == (0, -(-full // 4)) and len(ends) == 2


def test_one_slot_alone_has_nobody_to_end_together_with() -> None:
    shop = Shop(estimate_us=50 * MS)
    full = shop.cluster.config.batch_target_us // (50 * MS)
    assert runs(shop.give(shop.grant(0, full))) == [(0, full)]


@given(st.integers(1, 100), st.integers(1, 100))
def test_batches_of_a_lease_are_of_equal_length(tasks: int, task_ms: int) -> None:
    shop = Shop(estimate_us=task_ms * MS)
    full = max(1, shop.cluster.config.batch_target_us // (task_ms * MS))
    grant = shop.grant(0, tasks)
    ((_, count),) = runs(
        shop.say(shop.keepers[0], Granted(0, (grant.raw,), (shop.spec.raw, shop.replicas.raw), 100_000))
    )
    parts = -(-tasks // full)
    assert count == -(-tasks // parts)


def test_a_worker_steals_when_its_queue_is_low_and_not_before() -> None:
    shop = Shop(estimate_us=50 * MS)
    low = shop.cluster.config.queue_low_us // (50 * MS)
    shop.give(shop.grant(0, 40))
    assert shop.held > low
    digest = JobDigest(shop.spec.id, shop.keepers[0].id, 1, 1, 50, 50 * MS, "wasm", "", 5, False)
    record = sign_record(shop.keepers[0].identity, RecordKind.JOB_DIGEST, digest)
    assert steals(shop.say(shop.keepers[0], TableRows(0, False, (record.raw,), (), (), ()))) == []
    shop.say(shop.keepers[0], Superseded((HeldJob(shop.spec.id, (HeldRange(0, 40, 1),)),)))
    assert shop.held == 0
    later = digest.__class__(shop.spec.id, shop.keepers[0].id, 1, 2, 50, 50 * MS, "wasm", "", 5, False)
    again = sign_record(shop.keepers[0].identity, RecordKind.JOB_DIGEST, later)
    hunger = steals(shop.say(shop.keepers[0], TableRows(0, False, (again.raw,), (), (), ())))
    assert [steal.appetite_us for steal in hunger] in ([], [shop.cluster.config.queue_target_us])
    assert shop.worker.mesh.thief.steals == 1


def asked_for(shares: list[int]) -> int:
    """What a worker asks for whose executions got these shares of a core, in percent."""
    shop = Shop(estimate_us=50 * MS)
    digest = JobDigest(shop.spec.id, shop.keepers[0].id, 1, 1, 50, 50 * MS, "wasm", "", 5, False)
    (run,) = [effect for effect in shop.give(shop.grant(0, 4)) if isinstance(effect, Execute)]
    for number, share in enumerate(shares):
        shop.cluster.now_us += shop.cluster.config.batch_floor_us + 4 * 50 * MS * 100 // share
        effects = shop.finish(run, 4, cpu_us=50 * MS)
        if number + 1 < len(shares):
            (run,) = [e for e in shop.give(shop.grant(4 * number + 4, 4 * number + 8)) if isinstance(e, Execute)]
    record = sign_record(shop.keepers[0].identity, RecordKind.JOB_DIGEST, digest)
    effects += shop.say(shop.keepers[0], TableRows(0, False, (record.raw,), (), (), ()))
    (hunger,) = steals(effects)
    return hunger.appetite_us


def test_a_slot_that_gets_a_quarter_of_a_core_asks_for_a_quarter() -> None:
    target_us = LOCAL.queue_target_us
    assert asked_for([100]) == target_us
    assert asked_for([25]) == target_us  # that was the module's compilation, maybe
    assert asked_for([25, 25]) == target_us // 4
    assert asked_for([25, 50]) == target_us // 2
    assert asked_for([100, 10, 10]) == target_us // 10


def test_a_slot_that_gets_next_to_nothing_of_a_core_has_enough_and_says_so() -> None:
    shop = Shop(estimate_us=50 * MS)
    held_us = 20 * (shop.cluster.config.batch_floor_us + 4 * 50 * MS)
    (run,) = [effect for effect in shop.give(shop.grant(0, 4)) if isinstance(effect, Execute)]
    for first in (4, 8):
        shop.cluster.now_us += held_us
        shop.finish(run, 4, cpu_us=held_us // 400)
        (run,) = [e for e in shop.give(shop.grant(first, first + 4)) if isinstance(e, Execute)]
    shop.give(shop.grant(20, 28))
    why = shop.worker.mesh.ctx.reasons.seeking.what
    assert why == "it has enough queued for what its tasks get of a core"
    shop.tell(replace(cold(), horizon_wh=0.0))
    why = shop.worker.mesh.ctx.reasons.seeking.what
    assert why == "its sink wants no more heat within the next 15 minutes"
