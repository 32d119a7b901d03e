"""Reconciliation: any two sets become one, for bytes that follow the difference and not the sets."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.config import LAN
from hearthmesh.protocol.messages import RangeDigest, Reconcile, ReconcileIds
from hearthmesh.protocol.reconcile import (
    ANSWER_IDS_MAX,
    RANGES_PER_MESSAGE,
    IdIndex,
    answers,
    opening,
    respond,
    respond_ids,
)

JOB = b"j" * 32
_ids = st.binary(min_size=32, max_size=32)
# Ids that share long prefixes, beside ordinary ones.
_close_ids = st.one_of(_ids, st.integers(0, 1 << 12).map(lambda number: bytes(29) + number.to_bytes(3, "big")))
_bounds = st.one_of(st.just(b""), st.binary(max_size=32))


@dataclass
class Cost:
    messages: int = 0
    sent_bytes: int = 0
    rounds: int = 0


def one_round(here: IdIndex, there: IdIndex, ranges_max: int = RANGES_PER_MESSAGE) -> Cost:
    """`here` opens; both answer until there is silence. Records that turn out to be missing are handed
    over."""
    cost = Cost()
    waiting: list[Reconcile | ReconcileIds] = [Reconcile(JOB, opening(here))]
    receiver, sender = there, here
    while waiting:
        cost.rounds += 1
        replies: list[Reconcile | ReconcileIds] = []
        for message in waiting:
            raw = encode_message(message)
            cost.messages += 1
            cost.sent_bytes += len(raw)
            received = decode_message(raw)
            if isinstance(received, Reconcile):
                parts, claims = respond(receiver, received.ranges, LAN, ranges_max=ranges_max)
                replies += answers(JOB, parts, claims)
            else:
                assert isinstance(received, ReconcileIds)
                missing_here, missing_there = respond_ids(receiver, received.lo, received.hi, received.ids)
                for record_id in missing_here:
                    receiver.add(record_id)
                for record_id in missing_there:
                    sender.add(record_id)
        waiting, receiver, sender = replies, sender, receiver
        assert cost.rounds < 100
    return cost


def all_ids(index: IdIndex) -> list[bytes]:
    return index.ids(b"", b"")


def random_ids(count: int, seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(32) for _ in range(count)]


# -- convergence --------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(_close_ids, max_size=300), st.lists(_close_ids, max_size=60), st.lists(_close_ids, max_size=60))
def test_any_two_sets_become_their_union(both: list[bytes], left: list[bytes], right: list[bytes]) -> None:
    here, there = IdIndex(both + left), IdIndex(both + right)
    union = sorted(set(both + left + right))
    cost = one_round(here, there)
    assert all_ids(here) == all_ids(there) == union
    assert cost.rounds <= 2 + len(union).bit_length()


def test_equal_sets_cost_one_message_of_few_bytes() -> None:
    ids = random_ids(5_000)
    cost = one_round(IdIndex(ids), IdIndex(reversed(ids)))
    assert cost.messages == 1 and cost.sent_bytes < 100


@pytest.mark.parametrize("difference", [1, 10, 50])
def test_bytes_follow_the_difference_and_not_the_sets(difference: int) -> None:
    for size in (1_000, 30_000):
        ids = random_ids(size)
        here, there = IdIndex(ids[difference // 2 :]), IdIndex(ids[: size - difference + difference // 2])
        cost = one_round(here, there)
        assert all_ids(here) == all_ids(there) == sorted(ids)
        # A level is a factor of 8: at most 5 of them, of 8 ranges of 45 bytes, and a claim of 32 ids.
        assert cost.sent_bytes <= difference * (5 * 8 * 45 + 33 * 35) + 200
        assert cost.rounds <= 8


@pytest.mark.parametrize(("mine", "theirs"), [(0, 20_000), (20_000, 0), (5_000, 20_000)])
def test_large_differences_end_after_a_few_rounds(mine: int, theirs: int) -> None:
    ids = random_ids(20_000)
    here, there = IdIndex(ids[:mine]), IdIndex(ids[:theirs])
    rounds = 0
    while all_ids(here) != all_ids(there):
        before = here.count + there.count
        one_round(here, there)
        rounds += 1
        assert here.count + there.count > before, "a round without progress"
    assert rounds <= 40


def test_one_round_is_enough_where_answers_may_span_several_messages() -> None:
    ids = random_ids(20_000)
    here, there = IdIndex(ids), IdIndex(ids[3_000:])
    cost = one_round(here, there, ranges_max=1024)
    assert all_ids(here) == all_ids(there)
    assert cost.rounds <= 12 and cost.sent_bytes < 3_000 * 1_000


# -- answers ------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(_close_ids, max_size=200),
    st.lists(st.builds(RangeDigest, _bounds, _bounds, st.integers(0, 1 << 40), _ids), max_size=256),
)
def test_answer_to_anything_is_bounded_and_within_what_was_asked(ids: list[bytes], ranges: list[RangeDigest]) -> None:
    index = IdIndex(ids)
    parts, claims = respond(index, tuple(ranges), LAN)
    assert len(parts) <= RANGES_PER_MESSAGE and len(claims) <= len(ranges)
    for lo, hi, claimed in claims:
        assert len(claimed) <= LAN.reconcile_ids_max and claimed == index.ids(lo, hi)
    for message in answers(JOB, parts, claims):
        assert decode_message(encode_message(message)) == message


def test_range_counted_twice_is_answered_once() -> None:
    index = IdIndex(random_ids(100))
    theirs = RangeDigest(b"", b"", 0, bytes(32))
    once = respond(index, (theirs,), LAN)
    assert respond(index, (theirs,) * 256, LAN) == once


@given(st.lists(_close_ids, max_size=100), st.lists(_close_ids, max_size=100), _bounds, _bounds)
def test_claim_is_answered_with_both_differences(own: list[bytes], claimed: list[bytes], lo: bytes, hi: bytes) -> None:
    def within(record_id: bytes) -> bool:
        return lo <= record_id and (not hi or record_id < hi)

    here, there = respond_ids(IdIndex(own), lo, hi, claimed)
    assert here == sorted({each for each in claimed if within(each)} - set(own))
    assert there == sorted({each for each in own if within(each)} - set(claimed))


def test_answer_to_a_claim_of_nothing_is_bounded() -> None:
    index = IdIndex(random_ids(3_000))
    missing_here, missing_there = respond_ids(index, b"", b"", [])
    assert missing_here == [] and missing_there == all_ids(index)[:ANSWER_IDS_MAX]


# -- index --------------------------------------------------------------------------------------------------


@given(st.lists(_close_ids, max_size=200), _bounds, _bounds, st.integers(2, 16))
def test_cuts_divide_a_range_evenly(ids: list[bytes], lo: bytes, hi: bytes, parts: int) -> None:
    index = IdIndex(ids)
    edges = [lo, *index.cuts(lo, hi, parts), hi]
    inner = edges[1:-1]
    assert inner == sorted(set(inner)) and len(inner) < parts
    sizes = [len(index.ids(a, b)) for a, b in zip(edges, edges[1:], strict=False)]
    if not hi or lo < hi:
        assert sum(sizes) == len(index.ids(lo, hi))
        assert max(sizes) <= sum(sizes) // parts + 2


class IndexAgainstAList(RuleBasedStateMachine):
    """The index is a sorted list, whatever is done to it; blocks split and vanish along the way."""

    def __init__(self) -> None:
        super().__init__()
        self.index = IdIndex()
        self.model: list[bytes] = []

    @rule(record_id=_close_ids)
    def add(self, record_id: bytes) -> None:
        at = bisect_left(self.model, record_id)
        new = self.model[at : at + 1] != [record_id]
        assert self.index.add(record_id) is new
        if new:
            self.model.insert(at, record_id)

    @rule(seed=st.integers(0, 1_000), count=st.integers(500, 1_500))
    def add_many(self, seed: int, count: int) -> None:
        for record_id in random_ids(count, seed):
            self.index.add(record_id)
        self.model = sorted({*self.model, *random_ids(count, seed)})

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        if self.model:
            record_id = data.draw(st.sampled_from(self.model))
            assert self.index.discard(record_id)
            self.model.remove(record_id)
            assert not self.index.discard(record_id)

    @rule(lo=_bounds, hi=_bounds)
    def discard_range(self, lo: bytes, hi: bytes) -> None:
        for record_id in self.index.ids(lo, hi):
            self.index.discard(record_id)
            self.model.remove(record_id)

    @rule(lo=_bounds, hi=_bounds, limit=st.integers(1, 50))
    def look(self, lo: bytes, hi: bytes, limit: int) -> None:
        within = [each for each in self.model if lo <= each and (not hi or each < hi)]
        assert self.index.ids(lo, hi) == within
        assert self.index.ids(lo, hi, limit) == within[:limit]
        total = sum(int.from_bytes(each, "big") for each in within) % (1 << 256)
        assert self.index.fingerprint(lo, hi) == (len(within), total.to_bytes(32, "big"))

    @invariant()
    def same(self) -> None:
        assert self.index.count == len(self.index) == len(self.model)
        assert all(each in self.index for each in self.model[:20])


TestIndexAgainstAList = IndexAgainstAList.TestCase
TestIndexAgainstAList.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
