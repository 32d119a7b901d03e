"""The room of one capacity against cases with known answers, and its closed forms against laws."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hearthmesh.node.heating.sinks.room import Room1R1C
from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.weather.conditions import Weather

HOUR_S = 3600.0
ROOM = Room1R1C(loss_w_per_k=20.0, capacity_j_per_k=4.62e6)
COOL = Weather(outside_c=5.0)

rooms = st.builds(Room1R1C, loss_w_per_k=st.floats(0.1, 1e4), capacity_j_per_k=st.floats(1e3, 1e9))
weathers = st.builds(Weather, outside_c=st.floats(-40, 40))
temperatures = st.floats(-30, 100)
powers = st.floats(0, 1e5)
durations = st.floats(0, 1e7)


def after(room: Room1R1C, start_c: float, power_w: float, weather: Weather, duration_s: float) -> float:
    sink = HeatSink(room, start_c)
    sink.step(power_w, weather, duration_s)
    return sink.temperature_c(weather)


@pytest.mark.parametrize(("hours", "expected_c"), [(1, 15.231954), (24, 19.680614), (240, 29.643781)])
def test_heated_room_has_the_known_temperatures(hours: int, expected_c: float) -> None:
    assert after(ROOM, 15.0, 500.0, COOL, hours * HOUR_S) == pytest.approx(expected_c, abs=5e-7)


def test_heated_room_reaches_known_temperatures_at_known_times() -> None:
    sink = HeatSink(ROOM, 15.0)
    assert sink.hold_w(30.0, COOL) == pytest.approx(500.0, rel=1e-12)
    assert sink.seconds_to(19.0, 500.0, COOL, 1e9) / HOUR_S == pytest.approx(19.9016, abs=5e-5)
    assert sink.seconds_to(30.5, 500.0, COOL, 1e9) == math.inf
    assert sink.seconds_to(14.0, 500.0, COOL, 1e9) == math.inf
    assert sink.seconds_to(19.0, 500.0, COOL, 19.9 * HOUR_S) == math.inf
    assert sink.seconds_to(15.0, 500.0, COOL, 1e9) == 0.0


def test_free_cooling_takes_the_known_time() -> None:
    found_s = HeatSink(ROOM, 20.0).seconds_to(19.0, 0.0, Weather(outside_c=0.0), 1e9)
    assert found_s / HOUR_S == pytest.approx(3.2913, abs=5e-5)


def test_discomfort_has_the_known_kelvin_hours() -> None:
    """Until 19 °C is reached after t = τ ln(15/11), by hand: the integral of 19 - 30 + 15 exp(-s/τ) is 4 τ - 11 t."""
    time_constant_h = ROOM.time_constant_s / HOUR_S
    by_hand_k_h = 4 * time_constant_h - 11 * time_constant_h * math.log(15 / 11)
    assert by_hand_k_h == pytest.approx(37.748980, abs=5e-7)
    found_k_s = HeatSink(ROOM, 15.0).discomfort_k_s(19.0, 500.0, COOL, 24 * HOUR_S)
    assert found_k_s / HOUR_S == pytest.approx(by_hand_k_h, rel=1e-12)


@given(rooms, temperatures, powers, weathers, durations, temperatures)
@example(Room1R1C(1.0, 1000.0), 5e-324, 2.0, Weather(0.0), 1.0, 0.0).via("a limit left by less than a quotient holds")
def test_time_below_a_limit_is_within_the_step_and_grows_with_the_limit(
    room: Room1R1C, start_c: float, power_w: float, weather: Weather, duration_s: float, limit_c: float
) -> None:
    sink = HeatSink(room, start_c)
    below_s = sink.seconds_below(limit_c, power_w, weather, duration_s)
    assert 0 <= below_s <= duration_s
    assert sink.seconds_below(limit_c + 1, power_w, weather, duration_s) >= below_s
    if below_s == duration_s > 0:
        end_c = weather.outside_c + power_w / room.loss_w_per_k
        assert after(room, start_c, power_w, weather, duration_s) <= limit_c + 1e-9 * (1 + abs(end_c))


@pytest.mark.parametrize("end_c", [10.0, 25.0])
def test_discomfort_agrees_with_a_sum_over_small_steps(end_c: float) -> None:
    power_w = (end_c - COOL.outside_c) * ROOM.loss_w_per_k
    start_c, limit_c, step_s, count = 35.0 - end_c, 18.0, 600.0, 1000
    sink, total_k_s = HeatSink(ROOM, start_c), 0.0
    exact_k_s = sink.discomfort_k_s(limit_c, power_w, COOL, count * step_s)
    for _ in range(count):
        total_k_s += max(0.0, limit_c - sink.step(power_w, COOL, step_s).mean_c) * step_s
    assert exact_k_s == pytest.approx(total_k_s, rel=1e-4)


@given(rooms, temperatures, weathers, st.floats(0, 1e4), st.floats(60, 1e6), st.floats(1, 1e5))
def test_wanted_heat_ends_the_horizon_at_the_setpoint_or_at_a_bound(
    room: Room1R1C, start_c: float, weather: Weather, setpoint_c: float, horizon_s: float, most_w: float
) -> None:
    sink = HeatSink(room, start_c)
    wanted_w = sink.wanted_j(setpoint_c, weather, horizon_s, most_w) / horizon_s
    assert 0 <= wanted_w <= most_w * (1 + 1e-12)
    end_c = after(room, start_c, wanted_w, weather, horizon_s)
    if wanted_w == 0:
        assert end_c >= setpoint_c - 1e-6
    elif wanted_w < most_w * (1 - 1e-9):
        assert end_c == pytest.approx(setpoint_c, abs=1e-6, rel=1e-6)
    else:
        assert end_c <= setpoint_c + 1e-6 * (1 + abs(setpoint_c))


@pytest.mark.parametrize(("loss", "capacity"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_room_without_loss_or_capacity_is_refused(loss: float, capacity: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Room1R1C(loss, capacity)


@pytest.mark.parametrize(("power_w", "duration_s"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, -1.0), (1.0, math.inf)])
def test_step_of_no_power_or_no_duration_is_refused_and_changes_nothing(power_w: float, duration_s: float) -> None:
    sink = HeatSink(ROOM, 15.0)
    with pytest.raises(ValueError, match="no power or no duration"):
        sink.step(power_w, COOL, duration_s)
    assert sink.state == HeatSink(ROOM, 15.0).state
