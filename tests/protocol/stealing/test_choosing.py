"""Whom a thief asks."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.stealing.choosing import Victim, better, by_standing
from hearthmesh.protocol.stealing.matching import Work

SECOND_US = 1_000_000
times = st.integers(0, 10**12)
victims = st.builds(Victim, st.binary(min_size=1, max_size=1), times, times)


def test_what_goes_first_is_asked_for_first_wherever_it_lies() -> None:
    paid, volunteer = Work(b"p", 1, SECOND_US, priority=5), Work(b"v", 900, SECOND_US, priority=0)
    late, later = replace(paid, at_risk=True), Work(b"q", 3, SECOND_US, priority=5)
    groups = by_standing([volunteer, paid, late, later], lambda work: work)
    assert groups == [[late], [paid, later], [volunteer]]
    assert by_standing([], lambda work: work) == []


def test_of_what_may_be_late_what_is_due_first_is_asked_for_first_and_else_it_does_not_matter() -> None:
    soon = Work(b"s", 1, SECOND_US, at_risk=True, deadline_us=5)
    later, calm = replace(soon, job=b"l", free=900, deadline_us=9), replace(soon, job=b"c", at_risk=False)
    calmer = replace(calm, job=b"d", deadline_us=9)
    assert by_standing([calmer, later, calm, soon], lambda work: work) == [[soon], [later], [calmer, calm]]


def test_who_says_of_nothing_due_that_it_may_be_late_has_the_last_that_may_be() -> None:
    due, vague = Work(b"d", 1, SECOND_US, at_risk=True, deadline_us=1 << 60), Work(b"v", 900, SECOND_US, at_risk=True)
    calm = Work(b"c", 1, SECOND_US)
    assert by_standing([calm, vague, due], lambda work: work) == [[due], [vague], [calm]]


def test_where_there_is_enough_the_near_one_is_asked_that_needs_no_blobs() -> None:
    hour_us, hungry_us = 3600 * SECOND_US, 900 * SECOND_US
    big, small = Victim(b"b", 90 * hour_us, 50_000), Victim(b"s", 2 * hour_us, 1_000)
    assert better(big, small, hungry_us) == small == better(small, big, hungry_us)
    # A program of 20 MB that has to come is a reason too.
    assert better(replace(big, way_us=0), replace(small, way_us=20 * SECOND_US), hungry_us).node == b"b"
    # But not for a quarter of what the thief could burn.
    assert better(big, Victim(b"s", hungry_us // 2), hungry_us) == big


@given(victims, victims, times, times)
def test_a_longer_way_or_less_work_never_makes_a_victim_better(
    first: Victim, second: Victim, appetite_us: int, more_us: int
) -> None:
    if better(first, second, appetite_us) == second != first:
        farther = replace(first, way_us=first.way_us + more_us)
        poorer = replace(first, work_us=max(0, first.work_us - more_us))
        assert better(farther, second, appetite_us) == second
        assert better(poorer, second, appetite_us) == second


@given(victims, victims, times)
def test_who_gets_more_and_sooner_is_better_in_either_order(first: Victim, second: Victim, appetite_us: int) -> None:
    found = better(first, second, appetite_us)
    other = second if found == first else first
    assert found in (first, second)
    gains = [min(-(-each.work_us // 2), appetite_us) - each.way_us for each in (found, other)]
    assert gains[0] >= gains[1]
