"""A replica's ledger: what is free and what is leased, whatever comes first; and the path of replica sets."""

from __future__ import annotations

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.granting import LEASE_US_MAX, Ledger
from hearthmesh.protocol.job_parts import RejectedRecord
from hearthmesh.protocol.jobs import REPLICA_SETS_MAX, JobState
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    Grant,
    Record,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from tests.protocol.machines import JOB, ME, PEERS, REPLICA_SET, SPEC, SUBMITTER, A, B, C, D, batch_header

SWEEP_US, LEASE_US = 100, 1_000


def ledger() -> Ledger:
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    found = Ledger(state, SWEEP_US)
    found.rebuild(0, LEASE_US)
    return found


def grant(lo: int, hi: int, epoch: int = 1, *, to: Identity = ME, by: Identity = A, lease_us: int = LEASE_US) -> Record:
    return sign_record(by, RecordKind.GRANT, Grant(JOB, lo, hi, epoch, to.node_id, lease_us))


def told(found: Ledger, record: Record, now_us: int = 0) -> None:
    if found.state.merge(record):
        found.apply(record, now_us)


def acceptance(lo: int, hi: int) -> Record:
    return sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(JOB, (AcceptedBatch(bytes(32), lo, hi),)))


def test_accepted_tasks_are_not_granted_although_their_result_has_not_come() -> None:
    found = ledger()
    told(found, acceptance(0, 40))
    assert found.pick([(0, 100)], 5, 8) == [(40, 45)]
    told(found, grant(30, 50))
    assert [(lo, hi) for lo, hi, _ in found.live] == [(40, 50)]
    found.expire(10 * LEASE_US)
    assert list(found.free) == [(40, 100)]
    found.rebuild(0, LEASE_US)
    assert list(found.free) == [(50, 100)] and [(lo, hi) for lo, hi, _ in found.live] == [(40, 50)]


def test_renewing_what_is_done_or_accepted_tells_that_it_is_gone() -> None:
    found = ledger()
    told(found, grant(0, 10))
    told(found, batch_header(2, 2))
    told(found, acceptance(6, 8))
    assert found.renew(ME.node_id, 0, 10, 1, 5_000) == [(2, 4, 1), (6, 8, 1)]
    assert [(lo, hi) for lo, hi, _ in found.live] == [(0, 2), (4, 6), (8, 10)]


def test_renewal_under_an_old_epoch_loses_and_names_the_new_one() -> None:
    found = ledger()
    told(found, grant(0, 10, 1))
    told(found, grant(4, 6, 3, to=B))
    assert found.renew(ME.node_id, 0, 10, 1, 5_000) == [(4, 6, 3)]


def test_renewal_by_another_than_the_holder_changes_nothing() -> None:
    found = ledger()
    told(found, grant(0, 10))
    before = list(found.live)
    assert found.renew(B.node_id, 0, 10, 1, 9_000_000) == [(0, 10, 1)]
    assert list(found.live) == before


def test_lapsed_lease_that_went_to_nobody_lives_again() -> None:
    found = ledger()
    told(found, grant(0, 10))
    assert found.expire(2 * LEASE_US) == [(0, 10, ME.node_id)]
    assert found.renew(ME.node_id, 0, 10, 1, 5_000) == []
    assert list(found.free) == [(10, 100)]


def test_what_is_left_is_told_in_equal_parts_for_those_who_hold_some() -> None:
    found = ledger()
    assert found.left_for_each() == 100 and not found.holds(B.node_id)
    told(found, grant(0, 40))
    assert found.left_for_each() == 60
    told(found, grant(40, 90, to=B))
    assert found.left_for_each() == 5 and found.holds(B.node_id)


@pytest.mark.parametrize("lease_us", [1 << 62, (1 << 63) - 1])
def test_no_holder_keeps_a_task_for_ever(lease_us: int) -> None:
    found = ledger()
    told(found, grant(0, 10, lease_us=lease_us))
    assert found.expire(LEASE_US_MAX + SWEEP_US) == [(0, 10, ME.node_id)]


# -- the path of replica sets -------------------------------------------------------------------------------


def replica_set(epoch: int, members: tuple[bytes, ...], by: Identity, former: tuple[bytes, ...] = ()) -> Record:
    return sign_record(by, RecordKind.REPLICA_SET, ReplicaSet(JOB, epoch, members, former))


FIRST = replica_set(1, (A.node_id, B.node_id, D.node_id), A, (C.node_id,))
SECOND = replica_set(2, (A.node_id, ME.node_id, D.node_id), D, (C.node_id, B.node_id))


def test_newcomer_believes_a_set_by_its_path_alone() -> None:
    state = JobState(SPEC)
    for raw in (REPLICA_SET, FIRST, SECOND):
        assert state.merge(raw)
    assert state.replicas == SECOND.body.members
    assert state.context() == (SPEC.raw, REPLICA_SET.raw, FIRST.raw, SECOND.raw)
    newcomer = JobState(SPEC)
    for record in state.replica_path():
        newcomer.merge(record)
    assert newcomer.replicas == state.replicas


@pytest.mark.parametrize("missing", [REPLICA_SET, FIRST])
def test_set_without_its_path_waits_and_is_nobodys_fault(missing: Record) -> None:
    state = JobState(SPEC)
    for record in (REPLICA_SET, FIRST, SECOND):
        if record is missing:
            continue
        try:
            state.merge(record)
        except RejectedRecord as error:
            assert not error.fault
    assert state.replicas != SECOND.body.members


def test_path_leaves_out_what_led_nowhere() -> None:
    state = JobState(SPEC)
    by_submitter = replica_set(5, PEERS, SUBMITTER)
    for record in (REPLICA_SET, FIRST, by_submitter):
        state.merge(record)
    assert state.replica_path() == (by_submitter,)
    assert state.former_replicas == (D.node_id,)


def test_outsider_cannot_vouch_for_itself() -> None:
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    with pytest.raises(RejectedRecord):
        state.merge(replica_set(9, (ME.node_id, A.node_id), ME))
    assert state.replicas == PEERS


def test_sets_of_a_job_are_bounded() -> None:
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    for epoch in range(1, REPLICA_SETS_MAX):
        state.merge(replica_set(epoch, PEERS, A))
    with pytest.raises(RejectedRecord) as refused:
        state.merge(replica_set(REPLICA_SETS_MAX, PEERS, A))
    assert refused.value.reason == "too-many"
