"""Power limits: kept in their window, given up for comfort, and without a peak afterwards."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.limits import (
    TRANSITIONS,
    WINDOWS_MAX,
    Colour,
    Grid,
    Limit,
    LimitSettings,
    LimitWindow,
    Phase,
    PowerLimits,
)
from tests.docs_diagrams import documented_diagram, render_table

SETTINGS = LimitSettings(
    capacity_w=1000.0,
    floor_c=17.0,
    floor_ramp_k=0.5,
    rebound_share=0.6,
    rebound_s=1800.0,
    tempo_shares={Colour.RED: 0.0, Colour.WHITE: 0.5},
)


def at(limits: PowerLimits, wall_s: float, temperature_c: float | None = 20.0, setpoint_c: float = 20.0) -> Limit:
    return limits.update(wall_s, wall_s, wall_s, temperature_c, setpoint_c)


def test_every_phase_knows_every_finding() -> None:
    assert set(TRANSITIONS) == {(phase, grid) for phase in Phase for grid in Grid}


def test_page_has_the_diagram_of_the_table() -> None:
    assert documented_diagram("thermostat.md", 2) == render_table(TRANSITIONS)


def test_limit_holds_in_its_window_and_the_return_is_capped() -> None:
    limits = PowerLimits(SETTINGS)
    limits.add(LimitWindow(100, 200, 250.0, "evening peak"), now_s=0)
    found = [at(limits, each) for each in (99, 100, 199, 200, 1999, 2000)]
    assert [each.limit_w for each in found] == [1000, 250, 250, 600, 600, 1000]
    assert found[1].reason == "evening peak"
    assert found[3].reason == "slow return after a power limit"


def test_return_may_be_as_much_as_was_usual_before() -> None:
    limits = PowerLimits(SETTINGS)
    at(limits, 0)
    for second in range(0, 36_000, 60):
        limits.drew(second, 900.0)
    limits.add(LimitWindow(36_000, 36_100, 0.0), now_s=36_000)
    at(limits, 36_000)
    assert 880 < at(limits, 36_100).limit_w <= 900


def test_floor_of_comfort_lifts_a_limit_as_it_gets_colder() -> None:
    limits = PowerLimits(SETTINGS)
    limits.add(LimitWindow(0, 100, 200.0), now_s=0)
    found = [at(limits, 10, each).limit_w for each in (20.0, 17.5, 17.25, 17.0, 5.0)]
    assert found == [200, 200, 600, 1000, 1000]
    assert at(limits, 10, 17.0).reason == "demand response, lifted to keep 17 °C"


@pytest.mark.parametrize(
    ("limit_w", "left_w", "reason"),
    [
        (300.0, 120.0, "peak"),
        (190.0, 10.0, "peak"),
        (189.0, 0.0, "peak"),
        (180.0, 0.0, "peak"),
        (100.0, 0.0, "peak (100 W, which cannot be kept: the idle machine draws 180 W)"),
        (1180.0, 1000.0, ""),
    ],
)
def test_limit_is_of_all_that_the_machine_draws(limit_w: float, left_w: float, reason: str) -> None:
    limits = PowerLimits(replace(SETTINGS, idle_w=180.0, least_w=10.0))
    limits.add(LimitWindow(0, 100, limit_w, "peak"), now_s=0)
    assert at(limits, 10) == Limit(left_w, reason)


@pytest.mark.parametrize(
    ("setpoint_c", "floor_c"),
    [(22.0, 17.0), (20.0, 17.0), (19.0, 16.0), (17.0, 14.0), (9.0, 7.0), (7.0, 7.0)],
)
def test_floor_of_comfort_goes_down_with_the_setpoint_but_not_below_frost_protection(
    setpoint_c: float, floor_c: float
) -> None:
    limits = PowerLimits(replace(SETTINGS, frost_c=7.0))
    limits.add(LimitWindow(0, 100, 200.0), now_s=0)
    found = [at(limits, 10, floor_c + above_k, setpoint_c).limit_w for above_k in (0.5, 0.25, 0.0, -5.0)]
    assert found == [200, 600, 1000, 1000]


def test_red_day_has_no_power_in_its_peak_hours_and_all_at_night() -> None:
    limits, day_s, hour_s = PowerLimits(SETTINGS), 86_400, 3600
    limits.set_colour(20, Colour.RED)
    limits.set_colour(21, Colour.WHITE)
    hours = [at(limits, 20 * day_s + hour * hour_s).limit_w for hour in (5, 6, 21, 22, 23, 24 + 6, 24 + 22)]
    assert hours == [1000, 0, 0, 600, 1000, 500, 600]


def test_limit_holds_whatever_is_done_to_the_clock_on_the_wall() -> None:
    limits = PowerLimits(SETTINGS)
    limits.add(LimitWindow(100, 200, 250.0), now_s=0)
    walls = {99: 5e6, 124: 5e6 - 3600, 149: 1.7e9, 174: 0.0, 199: 5e6}
    found = [limits.update(now_s, wall_s, wall_s, 20.0, 20.0) for now_s, wall_s in walls.items()]
    assert [each.limit_w for each in found] == [1000, 250, 250, 250, 250]


@pytest.mark.parametrize("set_s", [1.7e9, -3600.0, 10 * 3600.0, 3600.0])
def test_red_tomorrow_is_the_same_day_after_the_clock_was_set(set_s: float) -> None:
    """Told at 8:00 by the clock as it is now, whatever that was before."""
    limits, day_s, right_s = PowerLimits(SETTINGS), 86_400, 19_700 * 86_400 + 8 * 3600
    wrong_s = right_s - set_s
    limits.follow(0, wrong_s, wrong_s)
    limits.set_colour(int(wrong_s // day_s) + 1, Colour.RED)
    laters = [1 + days * day_s for days in range(3)]
    found = [limits.update(each, right_s + each, right_s + each, 20.0, 20.0).limit_w for each in laters]
    assert found == [1000, 0, 600]


def test_summer_time_moves_no_day() -> None:
    limits, day_s = PowerLimits(SETTINGS), 86_400
    limits.follow(0, 20.5 * day_s, 20.5 * day_s)
    limits.set_colour(20, Colour.RED)
    assert limits.update(60, 20.5 * day_s + 60, 20.5 * day_s + 3660, 20.0, 20.0).limit_w == 0


def test_lowest_of_several_limits_counts() -> None:
    limits = PowerLimits(SETTINGS)
    limits.add(LimitWindow(0, 100, 400.0), now_s=0)
    limits.add(LimitWindow(0, 50, 300.0), now_s=0)
    assert [at(limits, each).limit_w for each in (10, 60)] == [300, 400]
    limits.withdraw()
    assert at(limits, 70).reason == "slow return after a power limit"


def test_windows_are_bounded_and_those_over_make_room() -> None:
    limits = PowerLimits(SETTINGS)
    for number in range(WINDOWS_MAX):
        limits.add(LimitWindow(number, 100 + number, 1.0), now_s=0)
    with pytest.raises(ValueError, match="64 limits"):
        limits.add(LimitWindow(0, 100, 1.0), now_s=0)
    limits.add(LimitWindow(200, 300, 1.0), now_s=100)


@pytest.mark.parametrize(("begin_s", "end_s", "watts"), [(5, 5, 1), (6, 5, 1), (0, 1, -1), (0, 1, math.nan)])
def test_window_that_makes_no_sense_is_refused(begin_s: float, end_s: float, watts: float) -> None:
    with pytest.raises(ValueError, match="a limit needs"):
        LimitWindow(begin_s, end_s, watts)


@given(
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 5000), st.floats(0, 2000)), max_size=8),
    st.lists(st.tuples(st.integers(0, 900), st.one_of(st.none(), st.floats(10, 25))), max_size=60),
)
def test_limits_keep_their_word(windows: list[tuple[int, int, float]], path: list[tuple[int, float | None]]) -> None:
    """Within 0 and the capacity; below every window's watts unless it is cold; cold rooms have all there is."""
    limits, now_s, limited_s = PowerLimits(SETTINGS), 0, -math.inf
    made = [LimitWindow(begin_s, begin_s + length_s, watts) for begin_s, length_s, watts in windows]
    for window in made:
        limits.add(window, now_s=0)
    for wait_s, temperature_c in path:
        now_s += wait_s
        found = at(limits, now_s, temperature_c)
        asked_w = min((each.limit_w for each in made if each.begin_s <= now_s < each.end_s), default=math.inf)
        assert 0 <= found.limit_w <= 1000
        if temperature_c is not None and temperature_c <= 17.0:
            assert found.limit_w == 1000
        elif temperature_c is None or temperature_c >= 17.5:
            assert found.limit_w <= asked_w
            if asked_w >= 1000 and now_s - limited_s < 1800:
                assert found.limit_w <= 600
        if asked_w < 1000:
            limited_s = now_s


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 5000), st.floats(0, 2000)), max_size=8),
    st.lists(st.integers(0, 900), max_size=20),
    st.integers(0, 10_000),
    st.lists(st.integers(0, 900), max_size=20),
)
def test_limits_are_those_of_before_a_restart(
    windows: list[tuple[int, int, float]], before: list[int], away_s: int, after: list[int]
) -> None:
    """Within windows as if there had been none; what ended meanwhile is not made up for at once."""
    first, second = PowerLimits(SETTINGS), PowerLimits(SETTINGS)
    made = [LimitWindow(begin_s, begin_s + length_s, watts) for begin_s, length_s, watts in windows]
    for window in made:
        first.add(window, now_s=0)
    taken_s = sum(before)
    for place in range(len(before)):
        at(first, sum(before[: place + 1]))
    now_s = taken_s + away_s
    # Of another clock.
    second.recall(first.kept(taken_s), now_s - 1e6, away_s)
    found = at(second, now_s - 1e6)
    asked_w = min((each.limit_w for each in made if each.begin_s <= now_s < each.end_s), default=math.inf)
    if asked_w < 1000:
        assert found.limit_w == asked_w
    elif any(each.limit_w < 1000 and each.end_s <= now_s < each.end_s + 1800 for each in made):
        assert found.limit_w <= 600
    for wait_s in after:
        now_s += wait_s
        found = at(second, now_s - 1e6)
        asked_w = min((each.limit_w for each in made if each.begin_s <= now_s < each.end_s), default=math.inf)
        if asked_w < 1000:
            assert found.limit_w == asked_w
