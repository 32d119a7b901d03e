"""What a sink can burn, and how long a task may be: from watt-hours to CPU time."""

import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.stealing.appetite import (
    FOREVER_US,
    Forecast,
    appetite_us,
    in_units_of,
    is_lively,
    is_steady,
    longest_task_us,
)

HOUR_US = 3_600_000_000
watts = st.floats(0.1, 10_000)
energies = st.floats(0, 1e6)
losses = st.lists(st.floats(0, 1e5), max_size=24).map(tuple)
forecasts = st.builds(Forecast, energies, energies, st.floats(0, 1e5), watts, st.integers(1, 64), losses)


def test_a_watt_hour_is_an_hour_of_a_one_watt_core() -> None:
    assert appetite_us(1.0, 1.0) == HOUR_US
    assert appetite_us(125.0, 250.0) == HOUR_US // 2
    assert appetite_us(125.0, 250.0, queued_us=HOUR_US // 4) == HOUR_US // 4
    assert appetite_us(125.0, 250.0, queued_us=HOUR_US) == 0


def test_a_room_in_spring_takes_what_fits_its_band() -> None:
    # 0.5 K of 4.62 MJ/K are 641 Wh. One slot of 125 W, of which 2 * 30 W are lost meanwhile: 641 / 65 = 9.9 h.
    spring = Forecast(20.0, 0.5 * 4.62e6 / 3600, 30.0, 125.0, 1)
    assert round(longest_task_us(spring) / HOUR_US, 1) == 9.9
    assert longest_task_us(replace(spring, hold_w=62.5)) == FOREVER_US
    assert longest_task_us(replace(spring, buffer_wh=0.0)) == 0


def test_the_sun_to_come_shortens_what_a_cold_morning_takes() -> None:
    # Four slots of 125 W, 300 W lost at six o'clock, and from nine on nothing: 4 h of CPU would take 8.
    morning = Forecast(100.0, 100.0, 300.0, 125.0, 4)
    assert longest_task_us(morning) == FOREVER_US
    sunny = replace(morning, later_w=(300.0,) * 3 + (0.0,) * 9 + (300.0,) * 12)
    # In three hours on the clock 1.5 of CPU: they leave 25 + 0.5 * 75 Wh a slot, which half an hour fills.
    assert round(longest_task_us(sunny) / HOUR_US, 3) == 2.0
    assert longest_task_us(replace(sunny, hold_w=0.0)) == longest_task_us(sunny)


def test_a_sink_that_wants_hardly_anything_takes_short_tasks_only() -> None:
    winter = Forecast(0.49 * 0.25 * 125.0, 600.0, 400.0, 125.0, 4)
    assert longest_task_us(winter) == 900_000_000
    assert longest_task_us(replace(winter, wanted_wh=0.51 * 0.25 * 125.0)) == FOREVER_US
    assert not is_lively(449_999_999) and is_lively(450_000_000) and is_lively(1_000, left_us=1_000)


def test_what_nobody_foretells_forbids_nothing_and_promises_nothing() -> None:
    assert longest_task_us(Forecast(0.0, math.inf, 0.0, 100.0, 4)) == FOREVER_US
    assert appetite_us(math.nan, 100.0) == 0
    assert appetite_us(10.0, 0.0) == 0


@given(forecasts, energies)
def test_more_room_more_losses_or_a_smaller_draw_never_shorten_the_longest_task(sink: Forecast, more: float) -> None:
    longest_us = longest_task_us(sink)
    assert 0 <= longest_us <= FOREVER_US
    assert longest_task_us(replace(sink, buffer_wh=sink.buffer_wh + more)) >= longest_us
    assert longest_task_us(replace(sink, hold_w=sink.hold_w + more)) >= longest_us
    assert longest_task_us(replace(sink, later_w=tuple(each + more for each in sink.later_w))) >= longest_us
    assert longest_task_us(replace(sink, watts_per_slot=sink.watts_per_slot / 2)) >= longest_us


@given(forecasts)
def test_the_longest_task_on_each_slot_leaves_the_sink_within_its_band(sink: Forecast) -> None:
    longest_us = longest_task_us(sink)
    if is_steady(longest_us):
        return
    made_wh = sink.slots * sink.watts_per_slot * longest_us / HOUR_US
    hours = 2 * longest_us / HOUR_US
    lost_wh = sum(each * max(0.0, min(1.0, hours - hour)) for hour, each in enumerate(sink.later_w))
    lost_wh += sink.hold_w * max(0.0, hours - len(sink.later_w))
    assert made_wh - lost_wh <= sink.buffer_wh * (1 + 1e-9) + 1e-6


@given(energies, watts, st.integers(0, 10**12))
def test_what_is_queued_counts_against_the_appetite(wanted_wh: float, watts_per_slot: float, queued_us: int) -> None:
    empty_us = appetite_us(wanted_wh, watts_per_slot)
    assert appetite_us(wanted_wh, watts_per_slot, queued_us) == max(0, empty_us - queued_us)
    assert empty_us * watts_per_slot <= wanted_wh * HOUR_US + watts_per_slot


def test_a_task_takes_half_the_time_on_a_node_twice_as_fast() -> None:
    assert in_units_of(1_000, 2_000) == 500
    assert in_units_of(0, 2_000) == 0
    assert in_units_of(1, 10_000) == 1
