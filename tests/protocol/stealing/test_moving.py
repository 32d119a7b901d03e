"""To whom a full sink hands on, and when what runs is moved."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.stealing.matching import Work, transfer_us
from hearthmesh.protocol.stealing.moving import Heir, heirs_for, is_late, lively, worth_moving
from hearthmesh.protocol.stealing.urgency import Ask

SECOND_US = 1_000_000
WORK = Work(b"job", 10, 60 * SECOND_US)


def heir(name: bytes, urgency: int, room_us: int = 1, **about: int) -> Heir:
    return Heir(Ask(name, urgency, room_us, 1, **about), room_us)


def test_the_coldest_that_can_take_it_comes_first() -> None:
    warm, cold, full, brief = heir(b"w", 10), heir(b"c", 300), heir(b"f", 900, 0), heir(b"b", 900, longest_us=1)
    assert heirs_for(WORK, [warm, brief, full, cold]) == [cold, warm]


def test_a_long_way_counts_as_cold_time() -> None:
    # 200 MB take 200 s to who has not got them.
    far, near = heir(b"f", 300), heir(b"n", 150)
    near = replace(near, ask=replace(near.ask, has=frozenset((b"job",))))
    assert heirs_for(WORK, [far, near]) == [far, near]
    assert heirs_for(replace(WORK, blob_bytes=200_000_000), [far, near]) == [near, far]
    # Its own input comes also to who has run others of the job, but not to a replica.
    fed = replace(WORK, input_bytes=200_000_000)
    assert heirs_for(fed, [far, near]) == [far, near]
    keeper = replace(near, ask=replace(near.ask, keeps=frozenset((b"job",))))
    assert heirs_for(fed, [far, keeper]) == [keeper, far]
    # A checkpoint comes along to all.
    assert heirs_for(WORK, [far, near], size_bytes=200_000_000) == [far, near]


def test_of_equally_cold_ones_who_can_end_it_comes_first_then_the_nearest() -> None:
    saved = replace(WORK, checkpoint_us=SECOND_US)
    brief, far, near = heir(b"a", 9, longest_us=2 * SECOND_US), heir(b"b", 9), heir(b"c", 9)
    far, near = replace(far, rtt_us=90_000), replace(near, rtt_us=2_000)
    assert heirs_for(saved, [brief, far, near]) == [near, far, brief]


def test_what_may_miss_its_deadline_goes_where_it_can_end_before_where_it_is_colder() -> None:
    saved = replace(WORK, checkpoint_us=SECOND_US)
    cold, steady = heir(b"c", 300, longest_us=2 * SECOND_US), heir(b"s", 10)
    assert heirs_for(saved, [cold, steady]) == [cold, steady]
    assert heirs_for(replace(saved, at_risk=True), [cold, steady]) == [steady, cold]


@pytest.mark.parametrize(
    ("left_s", "duty", "time_s", "late"),
    [(60, 1.0, 60, False), (60, 1.0, 59, True), (60, 0.1, 600, False), (60, 0.1, 599, True), (60, 1.0, 1, True)],
)
def test_a_task_is_late_if_it_does_not_end_in_time_at_its_duty(
    left_s: int, duty: float, time_s: int, late: bool
) -> None:
    assert is_late(left_s * SECOND_US, duty, time_s * SECOND_US) is late


def test_a_task_whose_deadline_is_over_hurries_nowhere() -> None:
    assert not is_late(60 * SECOND_US, 0.1, 0) and not is_late(60 * SECOND_US, 1.0, -SECOND_US)


def test_a_slow_sink_hands_a_task_only_to_who_wants_what_is_left_of_it() -> None:
    idle, busy = heir(b"i", 9, 60 * SECOND_US), heir(b"b", 9, 450 * SECOND_US)
    assert lively([idle, busy], 3600 * SECOND_US) == [busy]
    assert lively([idle, busy], 60 * SECOND_US) == [idle, busy]


def test_what_runs_is_moved_if_it_ends_sooner_there() -> None:
    assert worth_moving(60 * SECOND_US, 0.1, 1_000_000)
    assert not worth_moving(60 * SECOND_US, 1.0, 1_000_000)
    assert not worth_moving(60 * SECOND_US, 0.1, 600_000_000)
    assert not worth_moving(60 * SECOND_US, 0.1, 0, lost_us=541 * SECOND_US)
    assert worth_moving(60 * SECOND_US, 0.0, 0)


@given(st.integers(0, 10**12), st.floats(0.05, 1.0), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_longer_way_never_makes_a_move_better(left_us: int, duty: float, size: int, more: int) -> None:
    assert worth_moving(left_us, duty, size) or not worth_moving(left_us, duty, size + more)
    assert transfer_us(size + more) >= transfer_us(size) >= 0
