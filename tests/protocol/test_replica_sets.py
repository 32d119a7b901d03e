"""What replicas may sign of who keeps a job, and that all who hear of it come to the same."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.events import FollowJob, Received, SubmitJob
from hearthmesh.protocol.job_parts import RejectedRecord
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.messages import Records
from hearthmesh.protocol.records import EPOCH_MAX, Record, RecordKind, ReplicaSet, sign_record
from hearthmesh.protocol.replica_sets import EPOCHS_A_STEP, REPLICA_SETS_MAX
from tests.protocol.arena import identity
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode
from tests.protocol.machines import JOB, PEERS, REPLICA_SET, SPEC, SUBMITTER, A, B, C, D

E, F, G = (identity(number) for number in range(21, 24))


def replica_set(epoch: int, members: tuple[Identity, ...], by: Identity, former: tuple[Identity, ...] = ()) -> Record:
    body = ReplicaSet(JOB, epoch, tuple(each.node_id for each in members), tuple(each.node_id for each in former))
    return sign_record(by, RecordKind.REPLICA_SET, body)


def state_of(*records: Record) -> JobState:
    state = JobState(SPEC)
    for record in (REPLICA_SET, *records):
        state.merge(record)
    return state


def fault(state: JobState, record: Record) -> tuple[str, bool]:
    with pytest.raises(RejectedRecord) as caught:
        state.merge(record)
    return caught.value.reason, caught.value.fault


NEXT = replica_set(1, (A, D, C), A, (B,))


@pytest.mark.parametrize(
    "record",
    [
        replica_set(1, (A,), A, (B, C)),
        replica_set(1, (A, D, E), A, (B, C)),
        replica_set(1, (A, D), A, (B, C)),
        replica_set(1, (A, B, C, D), A),
        replica_set(1, (A, B, C), A),
        replica_set(1, (A, C, B), A),
        replica_set(1, (A, D, C), A),
        replica_set(0, (A, D, C), A, (B,)),
        replica_set(1 + EPOCHS_A_STEP, (A, D, C), A, (B,)),
        replica_set((1 << 31) - 1, (A, D, C), A, (B,)),
        replica_set(EPOCH_MAX, (A, B, D), A, (C,)),
    ],
    ids=[
        "all-seats",
        "two-seats",
        "fewer",
        "more",
        "none",
        "ranks",
        "forgotten",
        "no-later",
        "far-ahead",
        "last-of-31-bits",
        "last",
    ],
)
def test_a_replica_gives_one_other_seat_away_and_does_nothing_else(record: Record) -> None:
    state = state_of()
    assert fault(state, record) == ("wrong-author", False)
    assert state.replicas == PEERS
    assert state.merge(NEXT) and state.replicas == NEXT.body.members


def test_whoever_gives_its_own_seat_away_or_never_had_one_is_at_fault() -> None:
    assert fault(state_of(), replica_set(1, (D, B, C), A, (A,))) == ("wrong-author", True)
    assert fault(state_of(), replica_set(1, (D, B, C), E, (A,))) == ("wrong-author", True)


def test_a_replica_takes_no_second_seat_before_another_has_signed() -> None:
    state = state_of(NEXT)
    assert fault(state, replica_set(2, (A, D, E), A, (B, C))) == ("wrong-author", False)
    assert state.merge(replica_set(2, (A, D, E), D, (B, C)))
    assert state.merge(replica_set(3, (A, F, E), A, (B, C, D)))


def test_a_seat_that_was_given_in_vain_is_given_again_by_who_gave_it() -> None:
    state = state_of(NEXT)
    again = replica_set(2, (A, E, C), A, (B, D))
    assert state.merge(again) and state.replicas == again.body.members
    assert state.replica_path() == (REPLICA_SET, again)
    assert state.may_grant(D.node_id) and state.may_grant(B.node_id)


def test_nobody_loses_the_right_to_what_it_granted_by_the_next_set() -> None:
    state = state_of(NEXT)
    assert fault(state, replica_set(2, (A, D, E), D, (C,))) == ("wrong-author", False)
    assert state.merge(replica_set(2, (A, D, E), D, (C, B)))


def test_submitter_changes_what_it_likes() -> None:
    state = state_of(NEXT)
    assert state.merge(replica_set(2, (E, F), SUBMITTER))
    assert state.replicas == (E.node_id, F.node_id)


def ghosts(count: int, salt: int, by: Identity = C) -> list[Record]:
    """As many sets as one replica can sign, each of which gives the same seat to another ghost."""
    found = []
    for number in range(count):
        ghost = Identity.from_seed(bytes([salt, *divmod(number, 256)]).ljust(32, b"\1"))
        found.append(replica_set(1 + number % EPOCHS_A_STEP, (A, ghost, C), by, (B,)))
    return found


def test_replicas_that_are_told_different_sets_come_to_the_same_newest() -> None:
    one, other = state_of(*ghosts(150, 1)), state_of(*ghosts(150, 2))
    first, second = one.replica_path(), other.replica_path()
    for state, path in ((one, second), (other, first)):
        for record in path:
            state.merge(record)
    assert one.replica_record == other.replica_record is not None
    assert one.ids.ids(b"", b"") == other.ids.ids(b"", b"")
    # And another can sign the next one.
    newest = one.replica_record
    assert newest is not None
    members, former = (A.node_id, E.node_id, C.node_id), (*newest.body.former, newest.body.members[1])
    body = ReplicaSet(JOB, newest.body.epoch + 1, members, former)
    assert one.merge(sign_record(A, RecordKind.REPLICA_SET, body)) and one.replicas == members


def test_sets_of_a_job_are_bounded_and_lead_from_the_submitter_to_the_newest() -> None:
    state = state_of(*ghosts(300, 1))
    assert len(state.former_replicas) <= 2 * REPLICA_SETS_MAX
    newcomer = JobState(SPEC)
    for record in state.replica_path():
        newcomer.merge(record)
    assert newcomer.replica_record == state.replica_record


def test_longest_path_that_a_job_may_have_is_nobodys_fault() -> None:
    state, members, former = state_of(), [A, B, C], list[Identity]()
    for epoch in range(1, REPLICA_SETS_MAX):
        seat = epoch % 2
        former.append(members[seat])
        members[seat] = Identity.from_seed(bytes([epoch]) * 32)
        author = members[1 - seat]
        assert state.merge(replica_set(epoch, tuple(members), author, tuple(former)))
    former.append(members[0])
    last = replica_set(REPLICA_SETS_MAX, (D, members[1], C), C, tuple(former))
    assert fault(state, last) == ("too-many", False)
    assert len(state.replica_path()) == REPLICA_SETS_MAX
    assert state.merge(replica_set(REPLICA_SETS_MAX, (A, B, C), SUBMITTER)) and len(state.replica_path()) == 1


@settings(max_examples=100)
@given(st.lists(st.integers(0, 11), max_size=12), st.randoms(use_true_random=False))
def test_sets_with_their_paths_make_the_same_newest_in_any_order(drawn: list[int], rng: random.Random) -> None:
    second = replica_set(2, (A, D, E), D, (B, C))
    pool = [NEXT, second, replica_set(3, (F, D, E), E, (B, C, A)), replica_set(1, (A, B, F), B, (C,))]
    pool += [replica_set(2, (A, G, C), C, (B, D)), replica_set(2, (E, B, C), C, (A,)), *ghosts(6, 3)]
    records = [pool[number] for number in drawn]

    def heard(order: list[Record]) -> JobState:
        state = state_of()
        for _ in pool:
            for record in order:
                try:
                    state.merge(record)
                except RejectedRecord as error:
                    assert not error.fault
        return state

    shuffled = rng.sample(records, len(records))
    assert heard(records).replica_record == heard(shuffled).replica_record


def street(workers: int, tasks: int = 60) -> tuple[Cluster, SimNode, bytes, list[SimNode]]:
    """A job of which some is done: (cluster, client, job, its replicas)."""
    cluster = Cluster(seed=1, task_us=200 * MS)
    cluster.workers(workers)
    client = cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(tasks)))
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    (job_id,) = client.mesh.submitter.jobs
    cluster.feed(client, FollowJob(job_id, (), True))
    cluster.run(500 * MS)
    members = client.mesh.submitter.jobs[job_id].state.replicas
    return cluster, client, job_id, [cluster.nodes[node] for node in members]


def penalties_of_the_honest(cluster: Cluster, liar: SimNode) -> list[object]:
    honest = [node for node in cluster.nodes.values() if node is not liar]
    return [each for node in honest for each in node.penalties if each.peer != liar.id]


def test_job_ends_although_a_replica_signs_that_it_has_all_seats() -> None:
    cluster, client, job_id, (first, second, liar) = street(6)
    alone = ReplicaSet(job_id, 1, (liar.id,), (first.id, second.id))
    record = sign_record(liar.identity, RecordKind.REPLICA_SET, alone)
    for node in cluster.nodes.values():
        if node is not liar:
            cluster.feed(node, Received(liar.id, Records(job_id, (record.raw,))))
    cluster.run_until(lambda: len(client.results) == 60, within_us=60 * SECOND)
    for node in (first, second):
        assert node.mesh.replica.jobs[job_id].state.replicas == (first.id, second.id, liar.id)
    assert not penalties_of_the_honest(cluster, liar)


def test_replicas_that_a_third_told_different_sets_agree_and_penalise_nobody_else() -> None:
    cluster, _, job_id, (first, second, liar) = street(6)
    for salt, node in enumerate((first, second)):
        for number in range(200):
            ghost = Identity.from_seed(bytes([salt, number]).ljust(32, b"\1")).node_id
            body = ReplicaSet(job_id, 1 + number % EPOCHS_A_STEP, (first.id, ghost, liar.id), (second.id,))
            record = sign_record(liar.identity, RecordKind.REPLICA_SET, body)
            cluster.feed(node, Received(liar.id, Records(job_id, (record.raw,))))
    cluster.run(20 * SECOND)
    states = [node.mesh.replica.jobs[job_id].state for node in (first, second)]
    assert states[0].replica_record == states[1].replica_record
    assert not penalties_of_the_honest(cluster, liar)


def test_seats_of_two_that_die_at_once_are_filled_by_two_signatures() -> None:
    cluster, _, job_id, keepers = street(7, 6_000)
    for dead in keepers[1:]:
        cluster.kill(dead)
    cluster.run(60 * SECOND)
    state = keepers[0].mesh.replica.jobs[job_id].state
    assert not {keepers[1].id, keepers[2].id} & set(state.replicas) and len(state.replicas) == 3
    path = state.replica_path()
    assert len(path) == 3 and path[1].author != path[2].author


def test_seat_that_was_given_to_one_that_died_goes_to_another() -> None:
    cluster, _, job_id, keepers = street(7, 6_000)
    for dead in keepers[1:]:
        cluster.kill(dead)
    state = keepers[0].mesh.replica.jobs[job_id].state
    cluster.run_until(lambda: state.replica_epoch == 1)
    newcomer = next(node for node in state.replicas if node not in {keeper.id for keeper in keepers})
    cluster.kill(cluster.nodes[newcomer])
    cluster.run(90 * SECOND)
    assert not {newcomer, keepers[1].id, keepers[2].id} & set(state.replicas)
