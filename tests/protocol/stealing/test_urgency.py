"""The coldest first, and nobody for ever last."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.stealing.urgency import (
    AGEING_US_PER_KH,
    DISCOMFORT_MAX_MKH,
    Ask,
    by_urgency,
    discomfort_mkh,
    urgency_mkh,
)

MINUTE_US = 60_000_000
numbers = st.integers(-(10**9), 10**9)


def test_a_kelvin_counts_most_where_people_feel_it() -> None:
    # One kelvin too cold for a quarter of an hour.
    assert [discomfort_mkh(0.25, sink) for sink in ("room", "loop", "tank", "pool", "none", "stove")] == [
        250,
        125,
        75,
        25,
        0,
        250,
    ]


def test_a_claim_is_bounded_and_no_number_claims_nothing() -> None:
    assert discomfort_mkh(1e12, "room") == DISCOMFORT_MAX_MKH
    assert discomfort_mkh(math.inf, "room") == discomfort_mkh(math.nan, "room") == 0
    assert discomfort_mkh(-3.0, "room") == 0


def test_five_minutes_passed_over_weigh_like_a_kelvin_hour() -> None:
    assert urgency_mkh(0, AGEING_US_PER_KH) == urgency_mkh(1000, 0) == 1000


@given(numbers, numbers)
def test_who_was_passed_over_for_fifty_minutes_goes_before_all_that_come_then(own: int, claimed: int) -> None:
    assert urgency_mkh(own, 50 * MINUTE_US) >= urgency_mkh(claimed, 0)


@given(numbers, numbers, st.integers(0, 10**12))
def test_of_those_who_waited_alike_the_colder_goes_first(one: int, other: int, waited_us: int) -> None:
    colder, warmer = max(one, other), min(one, other)
    assert urgency_mkh(colder, waited_us) >= urgency_mkh(warmer, waited_us)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.integers(0, 5)), unique_by=lambda each: each[0]))
def test_the_order_does_not_depend_on_who_asked_first(asked: list[tuple[bytes, int]]) -> None:
    asks = [Ask(thief, urgency, 1, 1) for thief, urgency in asked]
    assert by_urgency(asks) == by_urgency(asks[::-1])
    urgencies = [ask.urgency_mkh for ask in by_urgency(asks)]
    assert urgencies == sorted(urgencies, reverse=True)
