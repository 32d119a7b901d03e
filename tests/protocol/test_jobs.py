"""A job's state is a join-semilattice: order, repetition and grouping of records do not matter."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.effects import Reason
from hearthmesh.protocol.job_parts import RejectedRecord
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    BatchHeader,
    Cancellation,
    Grant,
    JobSpec,
    Recheck,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
    open_record,
    sign_record,
)

TASKS = 24
SUBMITTER = Identity.from_seed(b"s" * 32)
REPLICAS = [Identity.from_seed(bytes([65 + n]) * 32) for n in range(3)]
WORKERS = [Identity.from_seed(bytes([97 + n]) * 32) for n in range(3)]


def spec_record(tasks: int = TASKS) -> Record:
    body = JobSpec(1, bytes(32), b"", "job", "wasm", "function", bytes(32), 1, "", "hearth_task", (), tasks)
    return sign_record(SUBMITTER, RecordKind.SPEC, body)


SPEC = spec_record()
MEMBERS = tuple(replica.node_id for replica in REPLICAS)
REPLICA_SET = sign_record(SUBMITTER, RecordKind.REPLICA_SET, ReplicaSet(SPEC.id, 0, MEMBERS))


def grant(lo: int, hi: int, epoch: int, holder: Identity, by: Identity, parent: Record | None = None) -> Record:
    body = Grant(SPEC.id, lo, hi, epoch, holder.node_id, 1000, parent.raw if parent else b"")
    return sign_record(by, RecordKind.GRANT, body)


def batch(
    lo: int, hi: int, epoch: int, worker: Identity, root: int = 0, *, copy: int = 0, granted: bytes = b""
) -> Record:
    body = BatchHeader(SPEC.id, lo, hi - lo, epoch, bytes([root]) * 32, 0, 10, 0, 5, 5, False, b"", copy, granted)
    return sign_record(worker, RecordKind.BATCH, body)


def copied(lo: int, hi: int, copy: int, worker: Identity, by: Identity) -> Record:
    """A later copy's results, with the grant of another."""
    granted = grant(copy * TASKS + lo, copy * TASKS + hi, 1, worker, by)
    return batch(lo, hi, 1, worker, copy=copy, granted=granted.raw)


def recheck(lo: int, hi: int, copy: int, salt: int = 0, avoid: tuple[Identity, ...] = ()) -> Record:
    barred = tuple(node.node_id for node in avoid)
    return sign_record(SUBMITTER, RecordKind.RECHECK, Recheck(SPEC.id, lo, hi, copy, bytes([salt]) * 16, barred))


def fresh() -> JobState:
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    return state


def view(state: JobState) -> Any:
    """All that two equal states must share."""
    return (
        list(state.leases),
        list(state.canonical),
        list(state.accepted),
        list(state.done),
        state.cancellation.id if state.cancellation else None,
        state.replica_record.id if state.replica_record else None,
        state.ids.ids(b"", b""),
        sorted(record.id for record in state.records()),
        state.candidate_tasks,
        list(state.reruns.run),
        list(state.reruns.done),
        list(state.to_recheck),
    )


def merge_all(state: JobState, records: list[Record]) -> JobState:
    for record in records:
        state.merge(record)
    return state


ranges = st.integers(0, TASKS - 1).flatmap(lambda lo: st.tuples(st.just(lo), st.integers(lo + 1, TASKS)))


@st.composite
def some_records(draw: Any) -> list[Record]:
    made: list[Record] = []
    for _ in range(draw(st.integers(0, 12))):
        lo, hi = draw(ranges)
        kinds = ["grant", "release", "hand-on", "batch", "accept", "cancel", "replicas", "copy", "recheck"]
        kind = draw(st.sampled_from(kinds))
        epoch, worker = draw(st.integers(1, 4)), draw(st.sampled_from(WORKERS))
        granted = grant(lo, hi, epoch, worker, draw(st.sampled_from(REPLICAS)))
        if kind == "grant":
            made.append(granted)
        elif kind == "release":
            made.append(sign_record(worker, RecordKind.RELEASE, Release(SPEC.id, lo, hi, granted.raw)))
        elif kind == "hand-on":
            made.append(grant(lo, hi, epoch + 1, draw(st.sampled_from(WORKERS)), worker, parent=granted))
        elif kind == "batch":
            made.append(batch(lo, hi, epoch, worker, draw(st.integers(0, 2))))
        elif kind == "copy":
            made.append(copied(lo, hi, epoch, worker, draw(st.sampled_from((*REPLICAS, *WORKERS)))))
        elif kind == "recheck":
            avoid = draw(st.lists(st.sampled_from(WORKERS), unique=True, max_size=2))
            made.append(recheck(lo, hi, epoch, avoid=tuple(avoid)))
        elif kind == "accept":
            accepted = AcceptedBatch(bytes([draw(st.integers(0, 3))]) * 32, lo, hi)
            made.append(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(SPEC.id, (accepted,))))
        elif kind == "cancel":
            made.append(sign_record(SUBMITTER, RecordKind.CANCELLATION, Cancellation(SPEC.id)))
        else:
            newcomer = draw(st.sampled_from(WORKERS)).node_id
            body = ReplicaSet(SPEC.id, epoch, (MEMBERS[0], MEMBERS[1], newcomer), (MEMBERS[2],))
            made.append(sign_record(REPLICAS[0], RecordKind.REPLICA_SET, body))
    return made


@settings(max_examples=150)
@given(some_records(), st.randoms(use_true_random=False))
def test_records_in_any_order_and_number_make_the_same_state(records: list[Record], rng: random.Random) -> None:
    shuffled = records + [record for record in records if rng.random() < 0.3]
    rng.shuffle(shuffled)
    assert view(merge_all(fresh(), records)) == view(merge_all(fresh(), shuffled))


@settings(max_examples=100)
@given(some_records(), some_records())
def test_join_commutes_and_is_idempotent(left: list[Record], right: list[Record]) -> None:
    """Batches are told apart from the other records: their bytes live on disk, not in the state."""

    def join(a: list[Record], b: list[Record]) -> Any:
        mine, theirs = merge_all(fresh(), a), merge_all(fresh(), b)
        merge_all(mine, [r for r in b if r.kind is RecordKind.BATCH])
        merge_all(mine, list(theirs.records()))
        return view(merge_all(mine, list(theirs.records())))

    assert join(left, right) == join(right, left)


@settings(max_examples=60)
@given(some_records(), some_records(), some_records())
def test_join_associates(a: list[Record], b: list[Record], c: list[Record]) -> None:
    def merged(*parts: list[Record]) -> JobState:
        state = fresh()
        for part in parts:
            merge_all(state, part)
        return state

    left = merged(a, b)
    merge_all(left, c)
    right = merged(b, c)
    merge_all(right, a)
    assert view(left) == view(right)


@given(some_records())
def test_state_keeps_no_record_that_nothing_needs(records: list[Record]) -> None:
    state = merge_all(fresh(), records)
    marked = {mark.record_id for _, _, mark in state.leases}
    for record in state.records():
        if record.kind in (RecordKind.GRANT, RecordKind.RELEASE):
            assert record.id in marked
    for lo, hi, _ in state.leases:
        assert not state.done.overlap(lo, hi)


def accepts(state: JobState, batch_ids: list[bytes]) -> None:
    """Each for a task of its own, from 0 on."""
    parts = tuple(AcceptedBatch(batch_id, index, index + 1) for index, batch_id in enumerate(batch_ids))
    state.merge(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(SPEC.id, parts)))


def test_all_that_is_lacking_has_its_turn() -> None:
    state, lost = fresh(), [bytes([1 + number]) * 32 for number in range(20)]
    accepts(state, lost)
    assert [state.next_lacking(8) for _ in range(3)] == [
        tuple(lost[:8]),
        tuple(lost[8:16]),
        tuple(lost[16:] + lost[:4]),
    ]
    assert len(state.lacking) == 20
    assert fresh().next_lacking(8) == ()


def test_what_no_task_is_accepted_from_any_more_is_lacking_no_more() -> None:
    state = fresh()
    higher, lower = ([bytes([first + number]) * 32 for number in range(3)] for first in (10, 1))
    accepts(state, higher)
    accepts(state, lower[:2])
    assert state.next_lacking(8) == (higher[2], *lower[:2]) and len(state.lacking) == 3
    accepts(state, higher[1:])
    assert state.next_lacking(8) == (higher[2], *lower[:2])


@given(st.lists(st.tuples(ranges, st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=8), ranges, st.data())
def test_who_forgets_a_batch_is_as_if_it_had_never_come(parts: list[Any], taken: tuple[int, int], data: Any) -> None:
    batches = [batch(lo, hi, epoch, WORKERS[epoch - 1], root) for (lo, hi), epoch, root in parts]
    lost, other = (data.draw(st.sampled_from(batches)) for _ in range(2))
    acceptance = Acceptance(SPEC.id, (AcceptedBatch(other.id, *taken),))
    records = [sign_record(SUBMITTER, RecordKind.ACCEPTANCE, acceptance), *batches]
    state, without = merge_all(fresh(), records), fresh()
    merge_all(without, [record for record in records if record.id != lost.id])
    state.forget(lost.id)
    state.forget(lost.id)

    def done(each: JobState) -> dict[bytes, int]:
        return {worker: total.done for worker, total in each.totals.items() if total.done}

    assert view(state) == view(without) and done(state) == done(without)
    state.merge(lost)
    assert view(state) == view(merge_all(without, [lost]))


@given(
    st.lists(st.tuples(ranges, st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=6),
    st.lists(st.tuples(ranges, st.integers(0, 6)), max_size=5),
    st.data(),
)
def test_what_counts_does_not_depend_on_when_contradicting_acceptances_come(
    parts: list[Any], accepted: list[Any], data: Any
) -> None:
    """They may name tasks that the batch has no results of, and batches that never come."""
    batches = [batch(lo, hi, epoch, WORKERS[epoch - 1], root) for (lo, hi), epoch, root in parts]
    named = [*(each.id for each in batches), *(bytes([last]) * 32 for last in (0, 1, 254, 255))]
    bodies = [Acceptance(SPEC.id, (AcceptedBatch(named[at % len(named)], *part),)) for part, at in accepted]
    records = [*batches, *(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, body) for body in bodies)]
    state = merge_all(fresh(), records)
    assert view(state) == view(merge_all(fresh(), data.draw(st.permutations(records))))
    for index in range(TASKS):
        candidates = [each for each in batches if each.body.first <= index < each.body.first + each.body.count]
        chosen = state.accepted.get(index)
        expected = min(candidates, key=lambda each: (each.id != chosen, each.body.epoch, each.id), default=None)
        key = state.canonical.get(index)
        assert (key.batch_id if key else None) == (expected.id if expected else None)


def rejection(state: JobState, record: Record) -> str:
    with pytest.raises(RejectedRecord) as caught:
        state.merge(record)
    return caught.value.reason


def test_only_a_replica_or_the_holder_grants() -> None:
    state, (w0, w1, w2) = fresh(), WORKERS
    assert rejection(state, grant(0, 4, 1, w0, w1)) == "not-a-replica"
    held = grant(0, 8, 1, w0, REPLICAS[0])
    assert state.merge(grant(4, 8, 2, w1, w0, parent=held))
    assert rejection(state, grant(4, 8, 2, w1, w2, parent=held)) == "wrong-author"
    assert rejection(state, grant(4, 8, 3, w1, w0, parent=held)) == "wrong-author"
    assert rejection(state, grant(4, 9, 2, w1, w0, parent=held)) == "out-of-range"


def test_a_grant_is_handed_on_at_most_four_times() -> None:
    state, at = fresh(), grant(0, 8, 1, WORKERS[0], REPLICAS[0])
    for step in range(4):
        at = grant(0, 8, 2 + step, WORKERS[(step + 1) % 3], WORKERS[step % 3], parent=at)
        assert state.merge(at)
    too_far = grant(0, 8, 6, WORKERS[2], WORKERS[1], parent=at)
    assert rejection(state, too_far) == "too-many"


def test_a_checkpoint_is_of_one_task_that_is_handed_on() -> None:
    state, (w0, w1, _) = fresh(), WORKERS
    held = grant(0, 8, 1, w0, REPLICAS[0])

    def begun(hi: int, checkpoint: bytes, parent: bytes = held.raw, by: Identity = w0) -> Record:
        body = Grant(SPEC.id, 0, hi, 2, w1.node_id, 1000, parent, checkpoint)
        return sign_record(by, RecordKind.GRANT, body)

    assert rejection(state, begun(2, bytes(32))) == "malformed"
    assert rejection(state, begun(1, b"short")) == "malformed"
    assert rejection(state, begun(1, bytes(32), b"", REPLICAS[0])) == "malformed"
    assert state.merge(begun(1, bytes(32)))


def test_only_the_holder_releases() -> None:
    held = grant(0, 8, 1, WORKERS[0], REPLICAS[0])
    stolen = sign_record(WORKERS[1], RecordKind.RELEASE, Release(SPEC.id, 0, 8, held.raw))
    assert rejection(fresh(), stolen) == "wrong-author"


def test_only_the_submitter_accepts_and_cancels() -> None:
    part = AcceptedBatch(bytes(32), 0, 1)
    forged = sign_record(WORKERS[0], RecordKind.ACCEPTANCE, Acceptance(SPEC.id, (part,)))
    assert rejection(fresh(), forged) == "wrong-author"
    assert (
        rejection(fresh(), sign_record(REPLICAS[0], RecordKind.CANCELLATION, Cancellation(SPEC.id))) == "wrong-author"
    )


def test_records_outside_the_job_are_rejected() -> None:
    state = fresh()
    assert rejection(state, grant(20, TASKS + 1, 1, WORKERS[0], REPLICAS[0])) == "out-of-range"
    assert rejection(state, batch(20, TASKS + 1, 1, WORKERS[0])) == "out-of-range"
    other = sign_record(SUBMITTER, RecordKind.CANCELLATION, Cancellation(bytes(32)))
    assert rejection(state, other) == "unknown-job"


def test_a_late_result_of_an_older_epoch_is_a_candidate() -> None:
    state = fresh()
    state.merge(batch(0, 4, 3, WORKERS[1]))
    assert state.merge(batch(0, 4, 1, WORKERS[0]))
    assert len(state.batches) == 2 and state.duplicates == 4


def test_a_copy_that_nobody_granted_is_refused_whoever_brings_it() -> None:
    state, (w0, w1, _) = fresh(), WORKERS
    own, others = grant(TASKS, TASKS + 4, 1, w0, REPLICAS[0]), grant(TASKS, TASKS + 4, 1, w1, REPLICAS[0])
    first, held = grant(0, 4, 1, w0, REPLICAS[0]), grant(0, 4, 1, w1, REPLICAS[0])
    for granted, reason in (
        (b"", "malformed"),
        (others.raw, "wrong-author"),
        (first.raw, "out-of-range"),
        (grant(TASKS, TASKS + 4, 2, w0, w1, parent=held).raw, "wrong-author"),
    ):
        assert rejection(state, batch(0, 4, 1, w0, copy=1, granted=granted)) == reason
    assert rejection(state, batch(0, 5, 1, w0, copy=1, granted=own.raw)) == "out-of-range"
    assert rejection(state, batch(0, 4, 1, w0, copy=2, granted=own.raw)) == "out-of-range"
    assert state.merge(batch(0, 4, 1, w0, copy=1, granted=own.raw))


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_copy_counts_once_it_is_asked_for(asked_first: bool) -> None:
    state = fresh()
    records = [recheck(0, 4, 1), copied(2, 8, 1, WORKERS[0], REPLICAS[0])]
    merge_all(state, records if asked_first else records[::-1])
    assert list(state.to_recheck) == [(TASKS, TASKS + 2)] and list(state.reruns.done) == [(TASKS + 2, TASKS + 4)]
    assert state.delivered == 2 and state.duplicates == 0


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_copy_by_one_of_whom_it_was_not_asked_does_not_count(asked_first: bool) -> None:
    state, (w0, w1, _) = fresh(), WORKERS
    records = [recheck(0, 4, 1, avoid=(w0, w1)), copied(0, 4, 1, w0, REPLICAS[0])]
    merge_all(state, records if asked_first else records[::-1])
    assert list(state.to_recheck) == [(TASKS, TASKS + 4)] and not state.reruns.done
    # Another life of the submitter's had it asked of that one.
    merge_all(state, [recheck(0, 2, 1, salt=1, avoid=(w1,)), copied(3, 4, 1, WORKERS[2], REPLICAS[0])])
    assert list(state.to_recheck) == [(TASKS + 2, TASKS + 3)]
    assert list(state.reruns.done) == [(TASKS, TASKS + 2), (TASKS + 3, TASKS + 4)]


def test_those_of_whom_a_copy_was_not_asked_leave_room_for_who_ran_it_after_them() -> None:
    state, liars = fresh(), [Identity.generate() for _ in range(16)]
    merge_all(state, [recheck(0, 4, 1, avoid=tuple(liars))])
    for liar in liars:
        merge_all(state, [copied(0, 4, 1, liar, REPLICAS[0])] * 2)
    assert not state.reruns.done
    merge_all(state, [copied(0, 4, 1, WORKERS[0], REPLICAS[0])])
    assert list(state.reruns.done) == [(TASKS, TASKS + 4)]


def test_a_copy_counts_once_who_granted_it_is_known_to_be_a_replica() -> None:
    state, newcomer = fresh(), WORKERS[0]
    merge_all(state, [recheck(0, 4, 1), copied(0, 4, 1, WORKERS[1], newcomer)])
    assert list(state.to_recheck) == [(TASKS, TASKS + 4)] and not state.delivered and not state.duplicates
    members = (MEMBERS[0], MEMBERS[1], newcomer.node_id)
    state.merge(sign_record(REPLICAS[0], RecordKind.REPLICA_SET, ReplicaSet(SPEC.id, 1, members, (MEMBERS[2],))))
    assert not state.to_recheck and state.delivered == 4
    # Of another line of sets, which this one never was in.
    state.merge(sign_record(REPLICAS[1], RecordKind.REPLICA_SET, ReplicaSet(SPEC.id, 2, MEMBERS)))
    assert list(state.to_recheck) == [(TASKS, TASKS + 4)] and not state.delivered


def test_a_stale_grant_changes_nothing() -> None:
    state = fresh()
    state.merge(grant(0, 8, 2, WORKERS[1], REPLICAS[1]))
    assert not state.merge(grant(0, 8, 1, WORKERS[0], REPLICAS[0]))
    assert [(lo, hi, mark.holder) for lo, hi, mark in state.leases] == [(0, 8, WORKERS[1].node_id)]


def test_a_finished_million_is_small_again() -> None:
    spec = spec_record(1_000_000)
    state = JobState(spec)
    state.merge(sign_record(SUBMITTER, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, MEMBERS)))
    for first in range(0, 1_000_000, 50_000):
        body = BatchHeader(spec.id, first, 50_000, 1, bytes(32), 0, 1, 0, 0, 0, False, b"")
        state.merge(sign_record(WORKERS[0], RecordKind.BATCH, body))
    assert state.complete and len(state.leases) == 0 and len(state.done) == 1


def test_record_survives_its_wire_form_and_notices_a_changed_byte() -> None:
    record = grant(0, 4, 1, WORKERS[0], REPLICAS[0])
    assert open_record(record.raw) == record
    damaged = bytearray(record.raw)
    damaged[-1] ^= 1
    with pytest.raises(Exception, match="bad-signature"):
        open_record(bytes(damaged))


def test_an_embedded_record_of_an_unknown_kind_is_the_peers_fault_by_a_known_name() -> None:
    unknown = msgspec.msgpack.encode((99, WORKERS[0].node_id, b"", bytes(64)))
    release = sign_record(WORKERS[0], RecordKind.RELEASE, Release(SPEC.id, 0, 1, unknown))
    with pytest.raises(RejectedRecord) as rejected:
        fresh().merge(release)
    assert rejected.value.fault
    assert Reason(rejected.value.reason) is Reason.MALFORMED
