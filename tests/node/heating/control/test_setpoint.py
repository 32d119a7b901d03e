"""Whose word counts: the order of wishes, window, presence, schedule, and the bounds that hold whatever is wished."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.schedule import WeekSchedule
from hearthmesh.node.heating.control.setpoint import Reason, SetpointChooser, SetpointPlan, Wish

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


def test_setpoint_set_by_hand_holds_until_the_schedule_changes() -> None:
    chooser = SetpointChooser(plan())
    chooser.choose(Wish.MANUAL, 0, setpoint_c=18.5, week_s=21 * HOUR_S)
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
        chooser.choose(wish, now_s, setpoint_c=setpoint_c, week_s=now_s % 604_800)
        now_s += wait_s
        target = chooser.target(now_s, now_s % 604_800, present=present, window_open=window_open, lead_s=lead_s)
        assert 7.0 <= target.setpoint_c <= 25.0
