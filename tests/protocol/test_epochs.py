"""However high the epochs are that replicas sign: the others grant above them, and agree on what is good."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.events import FollowJob, Received, SubmitJob
from hearthmesh.protocol.job_parts import RejectedRecord
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.ladder import BAND
from hearthmesh.protocol.messages import HeldJob, HeldRange, Records, Renew, Superseded
from hearthmesh.protocol.records import (
    EPOCH_MAX,
    Grant,
    Record,
    RecordError,
    RecordKind,
    ReplicaSet,
    sign_record,
)
from tests.protocol.cluster import MS, SECOND, Cluster
from tests.protocol.machines import JOB, ME, REPLICA_SET, SPEC, A, B, C, D

HOLDERS = (ME, D)


def grant(epoch: int, by: Identity = A, lo: int = 0, hi: int = 10, to: Identity = ME, parent: bytes = b"") -> Record:
    return sign_record(by, RecordKind.GRANT, Grant(JOB, lo, hi, epoch, to.node_id, 1000, parent))


def state_of(records: Iterable[Record] = ()) -> JobState:
    state = JobState(SPEC)
    state.merge(REPLICA_SET)
    told(state, records)
    return state


def told(state: JobState, records: Iterable[Record]) -> int:
    """How many of them changed it."""
    changed = 0
    for record in records:
        try:
            changed += state.merge(record)
        except RejectedRecord as error:
            assert not error.fault
    return changed


def told_all(state: JobState, records: list[Record]) -> JobState:
    """As reconciliation does: again what was refused, until it changes nothing."""
    while told(state, records):
        pass
    return state


def refusal(state: JobState, record: Record) -> tuple[str, bool]:
    with pytest.raises(RejectedRecord) as caught:
        state.merge(record)
    return caught.value.reason, caught.value.fault


@pytest.mark.parametrize("epoch", [3, BAND - 1, BAND, 2 * BAND - 1])
def test_next_grant_of_another_is_good_above_whatever_one_replica_signed(epoch: int) -> None:
    state = state_of([grant(epoch, A)])
    assert state.next_epoch(0, 10) == epoch + 1
    assert state.merge(grant(epoch + 1, B))
    assert state.merge(grant(epoch + 2, B))


def test_one_replica_alone_climbs_no_further_than_one_band() -> None:
    state = state_of([grant(2 * BAND - 1, A)])
    assert refusal(state, grant(2 * BAND, A)) == ("stale-epoch", False)
    assert refusal(state, grant(EPOCH_MAX, A)) == ("stale-epoch", False)
    # What it holds itself, and hands on to itself, is no other's grant.
    own = grant(2 * BAND - 1, A, 20, 30, to=A)
    state.merge(own)
    assert refusal(state, grant(2 * BAND, A, 20, 30, parent=own.raw)) == ("stale-epoch", False)
    assert state.next_epoch(0, 10) == 2 * BAND
    assert state.merge(grant(2 * BAND, B))


def test_each_band_more_takes_another_replicas_grant() -> None:
    state = state_of()
    for band in range(1, 9):
        last = (band + 1) * BAND - 1
        assert state.merge(grant(last, A))
        assert refusal(state, grant(last + 1, A)) == ("stale-epoch", False)
        assert state.merge(grant(last - 1, B, 10, 20))


def test_newcomer_takes_epochs_that_are_high_already() -> None:
    state = state_of()
    for band in range(1, 9):
        assert told(state, [grant((band + 1) * BAND - 1, A), grant((band + 1) * BAND, B)]) == 2
    newcomer = JobState(SPEC)
    for record in state.records():
        newcomer.merge(record)
    assert list(newcomer.leases) == list(state.leases)
    assert newcomer.ids.ids(b"", b"") == state.ids.ids(b"", b"")


def test_who_alone_is_in_the_band_below_grants_above_another_in_its_own() -> None:
    state = state_of([grant(BAND - 1, B), grant(BAND, A)])
    assert refusal(state, grant(2 * BAND + 6, A)) == ("stale-epoch", False)
    assert state.merge(grant(2 * BAND + 5, B))
    assert state.merge(grant(2 * BAND + 6, A))


grants = st.lists(
    st.tuples(
        st.sampled_from([A, B, C]),
        st.integers(0, 5),
        st.sampled_from([0, 1, BAND - 1]),
        st.integers(0, 3),
        st.sampled_from(HOLDERS),
    ),
    max_size=16,
)


@settings(max_examples=150)
@given(grants, st.randoms(use_true_random=False))
def test_grants_of_any_epochs_make_the_same_state_in_any_order(drawn: list[tuple], rng: object) -> None:  # type: ignore[type-arg]
    records = [grant(band * BAND + above, by, lo, lo + 3, to) for by, band, above, lo, to in drawn]
    shuffled = list(records)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = told_all(state_of(), records), told_all(state_of(), shuffled)
    assert list(one.leases) == list(other.leases)
    assert one.ids.ids(b"", b"") == other.ids.ids(b"", b"")
    assert sorted(record.id for record in one.records()) == one.ids.ids(b"", b"")
    # What it hands on is all that another needs, in the order in which it does.
    newcomer = JobState(SPEC)
    for record in one.records():
        newcomer.merge(record)
    assert list(newcomer.leases) == list(one.leases)


@pytest.mark.parametrize(
    "body", [Grant(JOB, 0, 1, EPOCH_MAX + 1, ME.node_id, 1), ReplicaSet(JOB, EPOCH_MAX + 1, (A.node_id,))]
)
def test_nobody_signs_what_nobody_could_read(body: Grant | ReplicaSet) -> None:
    kind = RecordKind.GRANT if isinstance(body, Grant) else RecordKind.REPLICA_SET
    with pytest.raises(RecordError, match="malformed"):
        sign_record(A, kind, body)


def test_highest_epoch_can_be_said_in_every_message() -> None:
    held = (HeldJob(JOB, (HeldRange(0, 1, EPOCH_MAX),)),)
    for message in (Renew(held), Superseded(held)):
        assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize("epoch", [(1 << 31) - 1, BAND - 1, 2 * BAND - 1, EPOCH_MAX])
def test_job_ends_although_one_of_its_replicas_signs_the_last_epochs(epoch: int) -> None:
    cluster = Cluster(seed=1, task_us=200 * MS)
    workers, client = cluster.workers(5), cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(60)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    (job_id,) = client.mesh.submitter.jobs
    members = client.mesh.submitter.jobs[job_id].state.replicas
    liar = cluster.nodes[members[2]]
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run(300 * MS)
    lie = sign_record(liar.identity, RecordKind.GRANT, Grant(job_id, 0, 60, epoch, liar.id, 1))
    for member in members[:2]:
        cluster.feed(cluster.nodes[member], Received(liar.id, Records(job_id, (lie.raw,))))
    cluster.run_until(lambda: len(client.results) == 60, within_us=60 * SECOND)
    honest = [node for node in (*workers, client) if node is not liar]
    assert not [penalty for node in honest for penalty in node.penalties if penalty.peer != liar.id]
