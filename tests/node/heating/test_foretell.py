"""What a sink's model foretells, against the closed solution of the room with one capacity."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.foretell import HOURS_AHEAD, Losses, foretell, full_above_k
from hearthmesh.node.heating.simulated import SimulatedHeater, horizon_of
from hearthmesh.node.heating.sinks.room import Room1R1C
from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.weather.conditions import Weather
from hearthmesh.protocol.stealing.urgency import DISCOMFORT_MAX_MKH, discomfort_mkh

H, C = 20.2, 4.62e6
QUARTER_S = 900.0


def foretold(start_c: float, outside_c: float = 5.0, capacity_w: float = 500.0, **more: float):  # type: ignore[no-untyped-def]
    sink = HeatSink(Room1R1C(H, C), start_c)
    about = dict(setpoint_c=20.0, full_c=20.5, capacity_w=capacity_w, idle_w=0.0, horizon_s=QUARTER_S) | more
    return foretell(sink, Weather(outside_c), **about)


def test_a_room_below_its_setpoint_is_as_uncomfortable_as_its_free_cooling_says() -> None:
    tau_s = C / H
    below_k_s = 15.0 * QUARTER_S - (19.0 - 5.0) * tau_s * (1 - math.exp(-QUARTER_S / tau_s))
    assert foretold(19.0).discomfort_kh == pytest.approx(below_k_s / 3600, rel=1e-6)
    assert foretold(22.0).discomfort_kh == 0.0


def test_what_holds_the_limit_is_the_loss_there_less_the_idle_machine() -> None:
    assert foretold(20.0).hold_w == pytest.approx(H * 15.5)
    assert foretold(20.0, idle_w=100.0).hold_w == pytest.approx(H * 15.5 - 100.0)
    assert foretold(20.0, outside_c=25.0).hold_w == 0.0


def test_the_buffer_is_what_the_walls_take_up_to_the_limit() -> None:
    # 0.5 K of 4.62 MJ/K; at 500 W the losses of the way up differ a little from those at the limit.
    assert foretold(20.0).buffer_wh == pytest.approx(0.5 * C / 3600, rel=0.08)
    assert foretold(20.5).buffer_wh == 0.0
    assert foretold(25.0).buffer_wh == 0.0


def test_a_heater_too_weak_to_fill_the_room_never_does() -> None:
    assert foretold(20.0, capacity_w=200.0).buffer_wh == math.inf


@given(st.floats(0.1, 600.0))
def test_on_a_faster_clock_the_wall_sees_as_many_watts_and_less_heat(scale: float) -> None:
    slow, fast = foretold(20.0), foretold(20.0, time_scale=scale, horizon_s=QUARTER_S / scale)
    assert fast.hold_w == slow.hold_w
    assert fast.buffer_wh * scale == pytest.approx(slow.buffer_wh, rel=1e-6)
    assert fast.wanted_wh * scale == pytest.approx(slow.wanted_wh, rel=1e-6)


def test_a_simulated_heater_tells_the_mesh_what_its_sink_foretells() -> None:
    settings = HeaterSettings(kind="simulated", cores=4, watts_per_core=125.0, idle_watts=0.0)
    reading = SimulatedHeater(settings, 0).advance(1_000_000, 0)
    assert reading.discomfort_kh > 0.7 and reading.hold_w == pytest.approx(H * (15.0 + full_above_k(settings.band_c)))
    # Far from full, here by 3.1 K, a sink is told to fill sooner than it does: never too late.
    assert 2.0 < reading.buffer_wh * 3600 / C < 3.1 and reading.reason == ""
    hot = replace(settings, room=replace(settings.room, start_c=21.4), heatless_price=0.04)
    reading = SimulatedHeater(hot, 0).advance(1_000_000, 0)
    assert reading.reason == "too warm: 21.4 of 20.0 °C" and reading.buffer_wh == 0.0
    assert reading.price_micro == 40_000


def test_the_next_day_loses_what_the_last_one_did_at_each_hour() -> None:
    losses, now_s = Losses(), 0.0
    assert losses.ahead(now_s, 300.0) == ()
    # A night of 300 W, and a day whose sun leaves nothing to lose from 9 to 17 o'clock; noted every ten minutes.
    while now_s < 30 * 3600.0:
        now_s += 600.0
        losses.note(now_s, 0.0 if 9 <= now_s / 3600 % 24 < 17 else 300.0)
    ahead = losses.ahead(now_s, 280.0)
    assert len(ahead) == HOURS_AHEAD and ahead[0] == 280.0
    # It is six o'clock: the sun comes in three hours.
    assert ahead[1:3] == (300.0, 300.0) and ahead[4:10] == (0.0,) * 6 and ahead[12:] == (300.0,) * 12
    assert ahead[3] == pytest.approx(0.0, abs=60.0) and ahead[11] == pytest.approx(300.0, abs=60.0)


def test_hours_that_nobody_saw_are_as_the_present_one() -> None:
    losses = Losses()
    losses.note(3600.0 * 5, 100.0)
    assert losses.ahead(3600.0 * 20, 40.0) == (40.0,) * 9 + (100.0,) + (40.0,) * 14
    # After a day without a note nothing is known any more.
    assert losses.ahead(3600.0 * 40, 40.0) == ()


def test_a_room_on_a_fast_clock_foretells_its_own_next_minutes_not_days() -> None:
    assert [horizon_of(scale) for scale in (0.5, 1.0, 60.0, 600.0)] == [900.0, 900.0, 15.0, 10.0]
    urgent = []
    for start_c in (17.0, 19.7, 20.4):
        settings = HeaterSettings(kind="simulated", watts_per_core=1000.0, time_scale=600.0)
        settings = replace(settings, room=replace(settings.room, start_c=start_c))
        urgent.append(discomfort_mkh(SimulatedHeater(settings, 0).reading().discomfort_kh, "room"))
    # With a quarter of an hour of the wall each of them would claim all that can be claimed.
    assert DISCOMFORT_MAX_MKH > urgent[0] > 3 * urgent[1] > 0 and urgent[2] < urgent[1] / 3
