"""Placement: the same everywhere, spread over zones, and barely moved by coming and going."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from hashlib import sha256
from math import log

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.placement import Candidate, candidates_from, choose_replicas, replacement, score
from hearthmesh.protocol.records import MemberRecord

JOB = b"j" * 32


def node(number: int) -> bytes:
    return sha256(b"node %d" % number).digest()


def plain(count: int) -> list[Candidate]:
    return [Candidate(node(number), 1.0, "", False) for number in range(count)]


_jobs = st.binary(min_size=32, max_size=32)
_candidates = st.lists(
    st.builds(
        Candidate,
        st.integers(0, 40).map(node),
        st.sampled_from([1.0, 1.5, 2.0, 4.0]),
        st.sampled_from(["", "", "cellar", "attic", "hall"]),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda each: each.node,
)
_counts = st.integers(1, 5)


@given(_jobs, _candidates, _counts, st.randoms())
def test_order_of_the_candidates_does_not_matter(
    job: bytes, candidates: list[Candidate], count: int, random: object
) -> None:
    chosen = choose_replicas(job, candidates, count)
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose_replicas(job, shuffled, count) == chosen
    assert len(chosen) == min(count, len(candidates)) == len(set(chosen))


@given(_jobs, _candidates, _counts)
def test_seats_are_in_different_zones_where_there_are_enough(
    job: bytes, candidates: list[Candidate], count: int
) -> None:
    by_node = {each.node: each for each in candidates}
    zones = Counter(by_node[each].zone or each for each in choose_replicas(job, candidates, count))
    available = {each.zone or each.node for each in candidates}
    year_round = {each.zone or each.node for each in candidates if each.year_round}
    # The seat kept for a year-round sink may repeat a zone, if no other zone has one.
    spare = 1 if year_round and len(year_round) < count else 0
    assert len(zones) >= min(count, len(available)) - spare


@given(_jobs, _candidates, _counts)
def test_one_seat_at_least_is_year_round_where_there_is_one(
    job: bytes, candidates: list[Candidate], count: int
) -> None:
    assume(any(each.year_round for each in candidates))
    by_node = {each.node: each for each in candidates}
    assert any(by_node[each].year_round for each in choose_replicas(job, candidates, count))


@settings(max_examples=300)
@given(_jobs, _candidates, _counts, st.data())
def test_node_without_a_seat_goes_unnoticed(
    job: bytes, candidates: list[Candidate], count: int, data: st.DataObject
) -> None:
    chosen = choose_replicas(job, candidates, count)
    unseated = [each for each in candidates if each.node not in chosen]
    assume(unseated)
    gone = data.draw(st.sampled_from(unseated))
    assert choose_replicas(job, [each for each in candidates if each != gone], count) == chosen
    assert choose_replicas(job, candidates, count, exclude=[gone.node]) == chosen


@settings(max_examples=300)
@given(_jobs, _candidates, _counts, st.booleans(), st.data())
def test_node_with_a_seat_takes_one_other_along_at_most_and_none_where_zones_differ(
    job: bytes, candidates: list[Candidate], count: int, zoned: bool, data: st.DataObject
) -> None:
    if not zoned:
        candidates = [replace(each, zone="") for each in candidates]
    chosen = choose_replicas(job, candidates, count)
    assume(chosen)
    gone = data.draw(st.sampled_from(chosen))
    after = choose_replicas(job, candidates, count, exclude=[gone])
    assert len(set(after) - set(chosen)) <= (2 if zoned else 1)


@given(_jobs, _candidates, _counts, st.data())
def test_replacement_is_new_and_keeps_the_rules(
    job: bytes, candidates: list[Candidate], count: int, data: st.DataObject
) -> None:
    chosen = choose_replicas(job, candidates, count)
    assume(chosen)
    dead = data.draw(st.sampled_from(chosen))
    successor = replacement(job, chosen, dead, candidates)
    if successor is None:
        assert len(candidates) == len(chosen)
        return
    assert successor not in chosen
    by_node = {each.node: each for each in candidates}
    now = [by_node[each] for each in chosen if each != dead] + [by_node[successor]]
    others = [each for each in candidates if each.node not in chosen]
    assert any(each.year_round for each in now) or not any(each.year_round for each in others)


def test_replacement_is_the_same_for_every_survivor_whatever_it_knows_of_the_dead() -> None:
    candidates = plain(20)
    chosen = choose_replicas(JOB, candidates, 3)
    with_dead = replacement(JOB, chosen, chosen[0], candidates)
    without = replacement(JOB, chosen, chosen[0], [each for each in candidates if each.node != chosen[0]])
    assert with_dead == without == choose_replicas(JOB, candidates, 4)[3]


def test_jobs_are_shared_out_by_weight() -> None:
    candidates = [replace(each, weight=3.0 if at < 5 else 1.0) for at, each in enumerate(plain(15))]
    seats = Counter(choose_replicas(node(number), candidates, 1)[0] for number in range(4_000))
    heavy = sum(seats[each.node] for each in candidates[:5])
    # 15 of 25 parts: 2,400; five standard deviations are 155.
    assert abs(heavy - 2_400) < 155
    assert len(seats) == 15


def test_scores_are_frozen() -> None:
    """Whole numbers, that must never change: nodes of different versions choose the same replicas."""
    assert score(JOB, node(1), 1.0) == 118254375332097
    assert score(JOB, node(2), 2.5) == 16445408252160752


@given(_jobs, _jobs, st.sampled_from([0.5, 1.0, 4.0]))
def test_score_is_weight_over_the_negative_logarithm(job: bytes, other: bytes, weight: float) -> None:
    uniform = int.from_bytes(sha256(b"hearthmesh/rendezvous" + job + other).digest()[:8], "big") / 2**64
    assume(0 < uniform < 0.999_999)
    expected = weight * 2**48 / -log(uniform, 2)
    assert abs(score(job, other, weight) / expected - 1) < 1e-3


def test_only_directly_reachable_replicas_are_candidates_and_age_counts() -> None:
    def record(number: int, roles: Role, addresses: bool, relays: bool, since_s: int) -> MemberRecord:
        return MemberRecord(
            node=node(number),
            incarnation=1,
            sequence=1,
            roles=int(roles),
            name="",
            addresses=("/ip4/10.0.0.1/tcp/4001",) if addresses else (),
            relays=(node(99),) if relays else (),
            zone="hall",
            year_round=True,
            since_s=since_s,
            cores=1,
        )

    now_s, day_s = 1_900_000_000, 86_400
    both = Role.REPLICA | Role.WORKER
    members = [
        record(1, both, True, False, now_s),
        record(2, Role.WORKER, True, False, now_s),
        record(3, both, False, False, now_s),
        record(4, both, True, True, now_s),
        record(5, both, True, False, now_s - 100 * day_s),
        record(6, both, True, False, now_s + day_s),
        record(7, both, True, False, 0),
    ]
    found = {each.node: each for each in candidates_from(members, now_s)}
    assert list(found) == [node(1), node(5), node(6), node(7)]
    assert [found[node(number)].weight for number in (1, 5, 6, 7)] == [1.0, 4.0, 1.0, 4.0]
    assert found[node(1)].zone == "hall" and found[node(1)].year_round


@given(_jobs, st.lists(st.sampled_from(["", "ann", "bob", "cleo"]), max_size=12), _counts)
def test_owners_have_one_seat_each_where_there_are_enough(job: bytes, owners: list[str], count: int) -> None:
    candidates = [Candidate(node(n), 1.0, "", True, owner) for n, owner in enumerate(owners)]
    by_node = {each.node: each for each in candidates}
    chosen = Counter(by_node[each].owner or each for each in choose_replicas(job, candidates, count))
    assert len(chosen) >= min(count, len({each.owner or each.node for each in candidates}))
