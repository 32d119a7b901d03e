"""Whose word counts: the order of wishes, window, presence, schedule, and the bounds that hold whatever is wished."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.schedule import WeekSchedule
from hearthmesh.node.heating.control.setpoint import Chosen, Reason, SetpointChooser, SetpointPlan, Wish

HOUR_S = 3600.0
SCHEDULE = WeekSchedule(["daily 06:00 20", "daily 22:00 16"])


def plan(schedule: WeekSchedule = SCHEDULE) -> SetpointPlan:
    return SetpointPlan(
        plain_c=20.0,
        schedule=schedule,
        eco_c=17.0,
        away_c=15.0,
        boost_c=22.0,
        boost_s=1800.0,
        frost_c=7.0,
        low_c=5.0,
        high_c=25.0,
        away_after_s=900.0,
    )


def test_schedule_holds_when_nobody_says_otherwise() -> None:
    chooser = SetpointChooser(plan())
    night = chooser.target(0, 3 * HOUR_S)
    assert (night.setpoint_c, night.reason) == (16.0, Reason.SCHEDULE)
    assert (night.rise_in_s, night.rise_to_c) == (3 * HOUR_S, 20.0)
    day = chooser.target(0, 12 * HOUR_S)
    assert (day.setpoint_c, day.rise_in_s) == (20.0, None)


def test_plain_setpoint_needs_no_schedule() -> None:
    target = SetpointChooser(plan(WeekSchedule([]))).target(0, 0)
    assert (target.setpoint_c, target.reason, target.rise_in_s) == (20.0, Reason.PLAIN, None)


def test_boost_ends_by_itself() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.BOOST, now_s=100)
    assert chooser.target(1899, 0).reason is Reason.BOOST
    assert chooser.target(1900, 0).reason is Reason.SCHEDULE


@pytest.mark.parametrize("before", [Wish.AUTO, Wish.COMFORT, Wish.ECO, Wish.AWAY, Wish.OFF])
def test_after_a_boost_what_was_chosen_before_holds_again(before: Wish) -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(before, now_s=0)
    wanted = chooser.target(50, 0)
    chooser.choose(Wish.BOOST, now_s=100)
    # Again, which makes it last.
    chooser.choose(Wish.BOOST, now_s=1000)
    assert (chooser.wish, chooser.target(2799, 0).reason) == (Wish.BOOST, Reason.BOOST)
    assert chooser.target(2800, 0) == wanted
    assert chooser.wish is before


def test_setpoint_set_by_hand_outlives_a_boost_but_not_the_schedules_change_meanwhile() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.MANUAL, 0, setpoint_c=18.5, local_s=21 * HOUR_S)
    chooser.choose(Wish.BOOST, 60)
    assert chooser.target(1860, 21 * HOUR_S + 1860).setpoint_c == 18.5
    chooser.choose(Wish.BOOST, 3000)
    assert chooser.target(3700, 22 * HOUR_S + 100).reason is Reason.BOOST
    assert chooser.target(4800, 22 * HOUR_S + 1200).reason is Reason.SCHEDULE


def test_whatever_is_chosen_ends_a_boost() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.OFF, 0)
    chooser.choose(Wish.BOOST, 1)
    chooser.choose(Wish.AUTO, 2)
    assert chooser.target(3, 0).reason is Reason.SCHEDULE
    assert chooser.target(90_000, 0).reason is Reason.SCHEDULE


@pytest.mark.parametrize("put_s", [-HOUR_S, HOUR_S])
def test_setpoint_set_by_hand_ends_with_the_clock_on_the_wall_where_that_is_put_at_night(put_s: float) -> None:
    """As daylight saving does: set at 23:00, it ends at 6:00, seven hours later by neither clock."""
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.MANUAL, 0, setpoint_c=18.5, local_s=23 * HOUR_S)
    assert chooser.target(3 * HOUR_S, 26 * HOUR_S).reason is Reason.MANUAL
    six_s = 30 * HOUR_S
    for before_s, reason in ((60.0, Reason.MANUAL), (0.0, Reason.SCHEDULE)):
        now_s = 7 * HOUR_S - put_s - before_s
        assert chooser.target(now_s, six_s - before_s).reason is reason


def test_clock_that_is_put_back_by_years_makes_no_setpoint_last_for_years() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.MANUAL, 0, setpoint_c=18.5, local_s=1e9)
    assert chooser.target(1, 23 * HOUR_S).reason is Reason.MANUAL
    assert chooser.target(1 + 7 * HOUR_S, 30 * HOUR_S).reason is Reason.SCHEDULE


def test_setpoint_set_by_hand_ends_as_told_though_a_clock_that_was_behind_knew_of_a_sooner_change() -> None:
    chooser, told = SetpointChooser(plan()), Chosen(Wish.MANUAL, 12.0, 1030 * HOUR_S)
    chooser.recall(told, None, 0, 2 * HOUR_S)
    assert chooser.target(1, 2 * HOUR_S + 1).reason is Reason.MANUAL
    for before_s, reason in ((12 * HOUR_S, Reason.MANUAL), (1.0, Reason.MANUAL), (0.0, Reason.SCHEDULE)):
        assert chooser.target(1 + 12 * HOUR_S - before_s, 1030 * HOUR_S - before_s).reason is reason
        assert (chooser.chosen == told) is (reason is Reason.MANUAL)


def test_setpoint_set_by_hand_that_is_over_is_not_recalled() -> None:
    chooser = SetpointChooser(plan())
    chooser.recall(Chosen(Wish.MANUAL, 12.0, 22 * HOUR_S), None, 0, 22 * HOUR_S)
    assert chooser.wish is Wish.AUTO


def test_warming_up_early_ends_with_the_clock_on_the_wall() -> None:
    """In March: the rise at 6:00 is past an hour sooner, and the next one is none to warm up for yet."""
    chooser = SetpointChooser(plan(WeekSchedule(["daily 06:00 18", "daily 12:00 20", "daily 22:00 16"])))
    assert chooser.target(0, 1 * HOUR_S, lead_s=5 * HOUR_S).reason is Reason.EARLY
    assert chooser.target(4 * HOUR_S, 6 * HOUR_S).reason is Reason.SCHEDULE


def test_setpoint_set_by_hand_holds_until_the_schedule_changes() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.MANUAL, 0, setpoint_c=18.5, local_s=21 * HOUR_S)
    assert chooser.target(3599, 22 * HOUR_S - 1).setpoint_c == 18.5
    assert chooser.target(3600, 22 * HOUR_S).reason is Reason.SCHEDULE


def test_absence_counts_after_its_time_and_never_raises_the_setpoint() -> None:
    chooser = SetpointChooser(plan())
    assert chooser.target(0, 12 * HOUR_S, present=False).reason is Reason.SCHEDULE
    away = chooser.target(900, 12 * HOUR_S, present=False)
    assert (away.setpoint_c, away.reason) == (15.0, Reason.AWAY)
    assert chooser.target(901, 12 * HOUR_S, present=True).reason is Reason.SCHEDULE


def test_open_window_leaves_frost_protection_alone() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.BOOST, 0)
    target = chooser.target(1, 0, window_open=True)
    assert (target.setpoint_c, target.reason) == (7.0, Reason.WINDOW)


def test_lead_time_brings_the_next_rise_forward() -> None:
    chooser = SetpointChooser(plan())
    assert chooser.target(0, 4 * HOUR_S, lead_s=2 * HOUR_S - 1).reason is Reason.SCHEDULE
    early = chooser.target(0, 4 * HOUR_S, lead_s=2 * HOUR_S)
    assert (early.setpoint_c, early.reason) == (20.0, Reason.EARLY)


@pytest.mark.parametrize("broken_c", [None, math.nan, math.inf, -1e9])
def test_setpoint_by_hand_that_is_no_temperature_is_refused(broken_c: float | None) -> None:
    with pytest.raises(ValueError, match="not a temperature"):
        SetpointChooser(plan()).choose(Wish.MANUAL, 0, setpoint_c=broken_c)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Wish),
            st.floats(-500, 500),
            st.integers(0, 40_000),
            st.sampled_from([True, False, None]),
            st.booleans(),
            st.floats(0, 50_000),
        ),
        max_size=12,
    )
)
def test_setpoint_stays_between_frost_and_the_highest_allowed(
    wishes: list[tuple[Wish, float, int, bool | None, bool, float]],
) -> None:
    chooser, now_s = SetpointChooser(plan()), 0
    for wish, setpoint_c, wait_s, present, window_open, lead_s in wishes:
        chooser.choose(wish, now_s, setpoint_c=setpoint_c, local_s=now_s)
        now_s += wait_s
        target = chooser.target(now_s, now_s, present=present, window_open=window_open, lead_s=lead_s)
        assert 7.0 <= target.setpoint_c <= 25.0
