"""The week's plan: entries as people write them, the time around the week's end, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.schedule import DAY_S, WEEK_S, Change, WeekSchedule, parse_changes

OFFICE = WeekSchedule(["mon-fri 06:30 20.5", "mon-fri 18:00 17", "weekend 08:00 19"])
MONDAY_NOON_S, SUNDAY_NOON_S = 12 * 3600, 6 * DAY_S + 12 * 3600


def test_entry_means_each_of_its_days() -> None:
    assert parse_changes("sat-mon 00:30 18.25") == tuple(Change(day * DAY_S + 1800, 18.25) for day in (5, 6, 0))
    assert len(parse_changes("daily 23:59 -5")) == 7
    assert parse_changes("tue,thu 10:00 20") == (Change(DAY_S + 36_000, 20.0), Change(3 * DAY_S + 36_000, 20.0))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "DAYS HH:MM"),
        ("mon 24:00 20", "DAYS HH:MM"),
        ("mon 06:30", "DAYS HH:MM"),
        ("mon 06:30 nan", "DAYS HH:MM"),
        ("mon 06:30 20\n", "DAYS HH:MM"),
        ("mon-xyz 06:30 20", "mon-xyz is none"),
        ("mon, 06:30 20", "expected days"),
        ("mon 06:30 500", "from -30 to 120"),
    ],
)
def test_entry_that_cannot_be_read_is_refused_with_its_problem(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        WeekSchedule([text])


def test_week_begins_with_the_last_change_of_the_week_before() -> None:
    assert OFFICE.current(0).setpoint_c == 19
    assert OFFICE.current(MONDAY_NOON_S).setpoint_c == 20.5
    assert OFFICE.upcoming(SUNDAY_NOON_S) == (12 * 3600 + 6.5 * 3600, Change(23_400, 20.5))


def test_later_entry_wins_at_the_same_time() -> None:
    assert WeekSchedule(["daily 07:00 18", "sun 07:00 21"]).current(6 * DAY_S + 7 * 3600).setpoint_c == 21


def test_single_change_holds_all_week_and_comes_again_after_one() -> None:
    plan = WeekSchedule(["wed 00:00 20"])
    assert plan.current(0).setpoint_c == 20
    assert plan.upcoming(2 * DAY_S) == (WEEK_S, Change(2 * DAY_S, 20.0))


def test_empty_schedule_is_false_and_says_nothing() -> None:
    with pytest.raises(ValueError, match="empty"):
        WeekSchedule([]).current(0)
    assert not WeekSchedule([])


@given(st.floats(0, WEEK_S, exclude_max=True))
def test_current_change_holds_until_the_upcoming_one(week_s: float) -> None:
    in_s, following = OFFICE.upcoming(week_s)
    assert 0 < in_s <= WEEK_S
    just_before = (week_s + in_s - 1) % WEEK_S
    assert OFFICE.current((week_s + in_s + 1) % WEEK_S) == following
    if in_s > 2:
        assert OFFICE.current(just_before) == OFFICE.current(week_s)
