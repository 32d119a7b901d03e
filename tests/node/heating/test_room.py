"""The room against cases with known answers, and its energy balance."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hearthmesh.node.heating.room import Room

HOUR_S = 3600.0
ROOM = Room(loss_w_per_k=20.0, capacity_j_per_k=4.62e6, outside_c=5.0)

rooms = st.builds(
    Room,
    loss_w_per_k=st.floats(0.1, 1e4),
    capacity_j_per_k=st.floats(1e3, 1e9),
    outside_c=st.floats(-40, 40),
)
temperatures = st.floats(-30, 100)
powers = st.floats(0, 1e5)
durations = st.floats(0, 1e7)


@pytest.mark.parametrize(("hours", "expected_c"), [(1, 15.231954), (24, 19.680614), (240, 29.643781)])
def test_heated_room_has_the_known_temperatures(hours: int, expected_c: float) -> None:
    assert ROOM.after(15.0, 500.0, hours * HOUR_S) == pytest.approx(expected_c, abs=5e-7)


def test_heated_room_reaches_known_temperatures_at_known_times() -> None:
    assert ROOM.final_c(500.0) == 30.0
    assert ROOM.seconds_to(19.0, 15.0, 500.0) / HOUR_S == pytest.approx(19.9016, abs=5e-5)
    assert ROOM.seconds_to(30.0, 15.0, 500.0) == math.inf
    assert ROOM.seconds_to(14.0, 15.0, 500.0) == math.inf


def test_free_cooling_takes_the_known_time() -> None:
    cold = Room(loss_w_per_k=20.0, capacity_j_per_k=4.62e6, outside_c=0.0)
    assert cold.seconds_to(19.0, 20.0, 0.0) / HOUR_S == pytest.approx(3.2913, abs=5e-5)


def test_discomfort_has_the_known_kelvin_hours() -> None:
    """Until 19 °C is reached after t = τ ln(15/11), by hand: the integral of 19 - 30 + 15 exp(-s/τ) is 4 τ - 11 t."""
    time_constant_h = 4.62e6 / 20.0 / HOUR_S
    by_hand_k_h = 4 * time_constant_h - 11 * time_constant_h * math.log(15 / 11)
    assert by_hand_k_h == pytest.approx(37.748980, abs=5e-7)
    found_k_s = ROOM.discomfort_k_s(19.0, 15.0, 500.0, 24 * HOUR_S)
    assert found_k_s / HOUR_S == pytest.approx(by_hand_k_h, rel=1e-12)


def test_tank_heats_in_the_known_times() -> None:
    """1,000 L of water: 1.1628 kWh/K; 20 kW from 20 to 60 °C, with and without a loss of 2.5 W/K."""
    capacity_j_per_k = 1162.8 * HOUR_S
    leaky = Room(2.5, capacity_j_per_k, outside_c=20.0)
    tight = Room(1e-9, capacity_j_per_k, outside_c=20.0)
    assert leaky.seconds_to(60.0, 20.0, 20_000.0) / HOUR_S == pytest.approx(2.3314, abs=5e-5)
    assert tight.seconds_to(60.0, 20.0, 20_000.0) / HOUR_S == pytest.approx(2.3256, abs=5e-5)


@given(rooms, temperatures, st.floats(1.0, 1e5), st.floats(0.5, 100))
def test_energy_in_is_energy_stored_and_lost(room: Room, start_c: float, power_w: float, time_constants: float) -> None:
    duration_s = time_constants * room.time_constant_s
    end_c = room.after(start_c, power_w, duration_s)
    stored_j = room.stored_j(start_c, end_c)
    lost_j = room.lost_j(start_c, power_w, duration_s)
    in_j = power_w * duration_s
    moved_j = in_j + abs(stored_j) + abs(room.loss_w_per_k * duration_s * (abs(start_c) + abs(room.outside_c)))
    assert abs(in_j - stored_j - lost_j) <= 1e-12 * moved_j


@given(rooms, temperatures, powers, durations, durations)
def test_two_steps_end_where_one_does(
    room: Room, start_c: float, power_w: float, first_s: float, second_s: float
) -> None:
    halfway_c = room.after(start_c, power_w, first_s)
    scale_k = abs(start_c) + abs(room.final_c(power_w))
    together_c = room.after(start_c, power_w, first_s + second_s)
    assert abs(room.after(halfway_c, power_w, second_s) - together_c) <= 1e-12 * (1 + scale_k)


@given(rooms, temperatures, powers, durations, temperatures)
@example(Room(1.0, 1000.0, 0.0), 5e-324, 2.0, 1.0, 0.0).via("a limit left behind by less than a quotient can hold")
def test_time_below_a_limit_is_within_the_step_and_grows_with_the_limit(
    room: Room, start_c: float, power_w: float, duration_s: float, limit_c: float
) -> None:
    below_s = room.seconds_below(limit_c, start_c, power_w, duration_s)
    assert 0 <= below_s <= duration_s
    assert room.seconds_below(limit_c + 1, start_c, power_w, duration_s) >= below_s
    if below_s == duration_s > 0:
        assert room.after(start_c, power_w, duration_s) <= limit_c + 1e-9 * (1 + abs(room.final_c(power_w)))


@pytest.mark.parametrize("end_c", [10.0, 25.0])
def test_discomfort_agrees_with_a_sum_over_small_steps(end_c: float) -> None:
    power_w = (end_c - ROOM.outside_c) * ROOM.loss_w_per_k
    start_c, limit_c, step_s = 35.0 - end_c, 18.0, 60.0
    total_k_s, temperature_c = 0.0, start_c
    for _ in range(10_000):
        middle_c = ROOM.after(temperature_c, power_w, step_s / 2)
        total_k_s += max(0.0, limit_c - middle_c) * step_s
        temperature_c = ROOM.after(temperature_c, power_w, step_s)
    exact_k_s = ROOM.discomfort_k_s(limit_c, start_c, power_w, 10_000 * step_s)
    assert exact_k_s == pytest.approx(total_k_s, rel=1e-5)


@pytest.mark.parametrize(("loss", "capacity"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_room_without_loss_or_capacity_is_refused(loss: float, capacity: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Room(loss, capacity, 0.0)
