"""Summer comes and goes with the weather of days, and too hot is too hot at once."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.season import (
    BLOCKS,
    SEASONS,
    Heat,
    Inside,
    Outside,
    OverheatBlock,
    Season,
    SeasonKept,
    SeasonSettings,
    SeasonWatch,
)

SETTINGS = SeasonSettings(summer_c=16.0, block_c=27.0, block_hysteresis_k=1.0, surface_block_c=75.0)
HOUR_S = 3600.0


def test_every_state_knows_every_finding() -> None:
    assert set(SEASONS) == {(season, outside) for season in Season for outside in Outside}
    assert set(BLOCKS) == {(heat, inside) for heat in Heat for inside in Inside}


def test_one_warm_afternoon_makes_no_summer_but_a_warm_week_does() -> None:
    watch = SeasonWatch(SETTINGS)
    hours = [5.0] * 48 + [22.0] * 6 + [8.0] * 24
    assert {watch.update(hour * HOUR_S, outside_c) for hour, outside_c in enumerate(hours)} == {Season.WINTER}
    assert [watch.update((len(hours) + hour) * HOUR_S, 22.0) for hour in range(168)][-1] is Season.SUMMER
    assert watch.update(300 * HOUR_S, None) is Season.SUMMER


def test_summer_ends_lower_than_it_begins() -> None:
    watch = SeasonWatch(SETTINGS)
    assert [watch.update(hour * HOUR_S, 17.0) for hour in range(49)][-1] is Season.SUMMER
    assert [watch.update(hour * HOUR_S, 15.0) for hour in range(49, 500)][-1] is Season.SUMMER
    assert [watch.update((500 + hour) * HOUR_S, 13.0) for hour in range(200)][-1] is Season.WINTER


def test_first_reading_makes_no_summer_and_nor_do_two_days_without_any() -> None:
    watch = SeasonWatch(SETTINGS)
    assert watch.update(0, 25.0) is Season.WINTER
    assert watch.update(1, 25.0) is Season.WINTER
    assert watch.update(50 * HOUR_S, None) is Season.WINTER
    assert watch.update(51 * HOUR_S, 25.0) is Season.WINTER


def test_days_and_nights_after_a_start_are_all_weighed_alike() -> None:
    """Begun on a hot afternoon: 20 hours of 24 °C, and 28 of 8 °C, are 14.7 °C."""
    watch = SeasonWatch(SETTINGS)
    hours = [24.0] * 21 + [8.0] * 28
    assert {watch.update(hour * HOUR_S, outside_c) for hour, outside_c in enumerate(hours)} == {Season.WINTER}


def test_hot_sink_or_surface_blocks_until_it_has_cooled() -> None:
    block = OverheatBlock(SETTINGS)
    assert [block.update(each) for each in (26.9, 27.1, 26.5, None, 26.0)] == [False, True, True, True, False]
    assert block.update(20.0, surface_c=76.0)
    assert block.update(20.0, surface_c=74.5)
    assert not block.update(20.0, surface_c=74.0)


def test_sensor_that_falls_silent_lifts_no_block_of_its_own_and_the_other_one_lifts_none_but_its_own() -> None:
    block = OverheatBlock(SETTINGS)
    assert block.update(28.0, 40.0)
    assert block.update(None, 40.0)
    assert block.update(None, None)
    assert not block.update(25.0, None)
    assert block.update(25.0, 80.0)
    assert block.update(20.0, None)
    assert not block.update(20.0, 70.0)


@given(st.lists(st.tuples(st.floats(-20, 60), st.floats(-20, 120)), min_size=1))
def test_nothing_runs_above_either_limit(path: list[tuple[float, float]]) -> None:
    block = OverheatBlock(SETTINGS)
    for sink_c, surface_c in path:
        blocked = block.update(sink_c, surface_c)
        assert blocked or (sink_c <= 27.0 and surface_c <= 75.0)
        assert not blocked or sink_c > 26.0 or surface_c > 74.0


def test_season_is_gone_on_from_unless_it_is_too_long_ago() -> None:
    kept = SeasonKept(Season.SUMMER, 20.0, SeasonWatch.MEAN_S)
    for hours, season, mean_c in ((1.0, Season.SUMMER, 20.0), (49.0, Season.WINTER, 0.0)):
        watch = SeasonWatch(SETTINGS)
        watch.recall(kept, hours * HOUR_S)
        assert watch.update(0.0, 10.0) is season
        assert watch.kept().mean_c == mean_c
