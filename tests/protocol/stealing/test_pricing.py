"""Who pays for heat that nobody wants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.config import PRESETS
from hearthmesh.protocol.stealing.pricing import NEWS_US, cost_micro, due_us, is_at_risk, is_pressing, pays
from hearthmesh.protocol.thief import IDLE_BACKOFF_MAX

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


def test_a_job_is_late_when_the_rest_at_this_rate_takes_longer_than_there_is() -> None:
    # 30 of 100 tasks in half an hour: the other 70 need 70 minutes, and 87.5 with the margin.
    def late(left_minutes: int) -> bool:
        now_us = 120 * MINUTE_US
        deadline_us = now_us + left_minutes * MINUTE_US
        return is_at_risk(
            now_us=now_us, created_us=0, deadline_us=deadline_us, done=30, tasks=100, begun_us=now_us - 30 * MINUTE_US
        )

    assert [late(minutes) for minutes in (87, 88)] == [True, False]


def test_what_waits_in_the_first_half_of_its_time_is_not_late_however_slow_it_was() -> None:
    def late(now_us: int) -> bool:
        return is_at_risk(now_us=now_us, created_us=0, deadline_us=HOUR_US, done=1, tasks=100, begun_us=1)

    assert [late(30 * MINUTE_US), late(31 * MINUTE_US)] == [False, True]


def test_while_nothing_is_done_half_of_the_time_must_be_left() -> None:
    def late(now_us: int) -> bool:
        return is_at_risk(now_us=now_us, created_us=0, deadline_us=HOUR_US, done=0, tasks=1, begun_us=1)

    assert [late(30 * MINUTE_US), late(31 * MINUTE_US), late(HOUR_US - 1)] == [False, True, True]


def test_what_is_over_its_deadline_is_at_risk_no_more_however_little_is_left_to_do() -> None:
    def risky(now_us: int, done: int, *, paid: bool = False) -> bool:
        return is_at_risk(
            now_us=now_us, created_us=0, deadline_us=HOUR_US, done=done, tasks=50, begun_us=1, free=50 - done, paid=paid
        )

    assert risky(HOUR_US - 1, 0) and risky(HOUR_US - 1, 49, paid=True)
    assert not any(risky(now_us, done) for now_us in (HOUR_US, 9 * HOUR_US) for done in (0, 1, 49))
    assert not risky(HOUR_US, 49, paid=True)


def test_a_deadline_counts_until_it_is_over() -> None:
    assert [due_us(9, now_us) for now_us in (0, 8, 9, 10)] == [9, 9, 0, 0]
    assert due_us(0, 0) == 0


def test_without_a_deadline_or_with_all_done_nothing_is_late() -> None:
    assert not is_at_risk(now_us=9, created_us=0, deadline_us=0, done=0, tasks=5, begun_us=1)
    assert not is_at_risk(now_us=9, created_us=0, deadline_us=1, done=5, tasks=5, begun_us=1)


@given(st.integers(1, 10**13), st.integers(0, 100), st.integers(0, 10**12), st.integers(0, 10**12))
def test_what_is_at_risk_stays_so_until_it_is_late(deadline_us: int, done: int, begun_us: int, later_us: int) -> None:
    def late(now_us: int) -> bool:
        return is_at_risk(now_us=now_us, created_us=0, deadline_us=deadline_us, done=done, tasks=100, begun_us=begun_us)

    now_us = begun_us + 1
    assert not late(now_us) or late(min(now_us + later_us, deadline_us - 1))


def test_what_it_waited_before_it_was_begun_does_not_count_against_its_rate() -> None:
    # Half is done in ten minutes, after 50 of waiting; 70 are left for the other half.
    def late(begun_us: int) -> bool:
        return is_at_risk(
            now_us=70 * MINUTE_US, created_us=0, deadline_us=130 * MINUTE_US, done=50, tasks=100, begun_us=begun_us
        )

    assert late(MINUTE_US) and not late(60 * MINUTE_US)
    assert late(0)


def test_a_job_waits_for_heat_that_is_wanted_until_it_would_be_late_without_any_other_place() -> None:
    # Eight tasks of ten minutes on four slots are two rounds; where its heat is wanted one may take twice as long.
    def presses(left_minutes: int, free: int = 8, slots: int = 4) -> bool:
        return is_pressing(left_us=left_minutes * MINUTE_US, task_us=10 * MINUTE_US, free=free, slots=slots)

    # Two minutes may pass until it is heard of.
    assert [presses(minutes) for minutes in (42, 43)] == [True, False]
    # One that finds a slot at once ends within the twenty.
    assert [presses(minutes, free=1, slots=100) for minutes in (22, 23)] == [True, False]
    # Nobody knows how long it takes, or until when it has time.
    assert presses(0) and is_pressing(left_us=HOUR_US, task_us=0, free=1, slots=1)


def test_a_job_that_goes_on_well_is_at_risk_while_nobody_has_the_last_tasks_of_it() -> None:
    # 90 of 100 in 88 minutes; a task takes ten, in the last place that wants its heat twice that.
    def late(left_minutes: int, free: int) -> bool:
        return is_at_risk(
            now_us=90 * MINUTE_US,
            created_us=0,
            deadline_us=(90 + left_minutes) * MINUTE_US,
            done=90,
            tasks=100,
            begun_us=2 * MINUTE_US,
            task_us=10 * MINUTE_US,
            free=free,
        )

    assert [late(minutes, free=1) for minutes in (32, 33)] == [True, False]
    assert not late(32, free=0)


def test_a_rate_that_was_paid_for_is_no_proof_that_nothing_has_to_be() -> None:
    def late(paid: bool, free: int, now_us: int = 40 * MINUTE_US) -> bool:
        return is_at_risk(
            now_us=now_us,
            created_us=0,
            deadline_us=HOUR_US,
            done=50,
            tasks=100,
            begun_us=35 * MINUTE_US,
            task_us=MINUTE_US // 10,
            free=free,
            paid=paid,
        )

    assert late(paid=True, free=1)
    assert not late(paid=False, free=1) and not late(paid=True, free=0)
    assert not late(paid=True, free=1, now_us=30 * MINUTE_US), "until then it may just wait"


def test_what_goes_before_on_the_same_slots_takes_its_time() -> None:
    # Two tasks of ten minutes on two slots, after those of an hour in all.
    def presses(left_minutes: int, ahead_us: int) -> bool:
        left_us = left_minutes * MINUTE_US
        return is_pressing(left_us=left_us, task_us=10 * MINUTE_US, free=2, slots=2, ahead_us=ahead_us)

    assert [presses(minutes, HOUR_US) for minutes in (62, 63)] == [True, False]
    assert [presses(minutes, 0) for minutes in (32, 33)] == [True, False]


@given(
    st.integers(0, 10**12), st.integers(0, 10**11), st.integers(1, 10**6), st.integers(1, 1000), st.integers(1, 1000)
)
def test_more_work_fewer_slots_or_less_time_never_make_a_job_press_less(
    left_us: int, task_us: int, free: int, slots: int, more: int
) -> None:
    if is_pressing(left_us=left_us, task_us=task_us, free=free, slots=slots):
        assert is_pressing(left_us=max(0, left_us - more), task_us=task_us, free=free, slots=slots)
        assert is_pressing(left_us=left_us, task_us=task_us, free=free + more, slots=slots)
        assert is_pressing(left_us=left_us, task_us=task_us, free=free, slots=max(1, slots - more))
        assert is_pressing(left_us=left_us, task_us=task_us, free=free, slots=slots, ahead_us=more)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 9), st.booleans())
def test_a_price_is_paid_up_to_the_limit_and_in_a_hurry_only(
    price: int, limit: int, priority: int, at_risk: bool
) -> None:
    paid = pays(price_micro=price, limit_micro=limit, priority=priority, at_risk=at_risk)
    assert paid == (price == 0 or (price <= limit and (at_risk or priority >= 8)))


def test_an_hour_costs_its_price_and_a_moment_is_rounded_up() -> None:
    assert cost_micro(HOUR_US, 40_000) == 40_000
    assert cost_micro(1, 40_000) == 1
    assert cost_micro(0, 40_000) == cost_micro(HOUR_US, 0) == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_the_time_until_one_that_is_paid_has_asked_is_as_long_as_every_preset_lets_it_be(preset: str) -> None:
    """Lifelines are kept up at two thirds; then the digest comes, and then the last look around of four."""
    config = PRESETS[preset]
    waits_us = config.lifeline_ttl_us * 2 // 3 + config.heat_refresh_us + IDLE_BACKOFF_MAX * config.steal_idle_us
    assert waits_us <= NEWS_US <= 2 * waits_us
