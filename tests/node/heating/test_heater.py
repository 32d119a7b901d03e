"""Heaters: joules in are joules stored and lost, waste is told from use, and receipts add up to the meter."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.choose import heater_of
from hearthmesh.node.heating.control.limits import LimitWindow
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.heating.simulated import HISTORY_STEPS, SimulatedHeater
from hearthmesh.node.heating.sinks.room import Room1R1C
from hearthmesh.node.heating.sinks.sink import HeatSink

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
ROOM = RoomSettings(loss_w_per_k=20.0, capacity_j_per_k=4.62e6, start_c=15.0, outside_c=5.0)
SETTINGS = HeaterSettings(
    kind="simulated", cores=4, watts_per_core=100.0, idle_watts=100.0, setpoint_c=19.0, band_c=0.5, room=ROOM
)
WARM = replace(SETTINGS, room=replace(ROOM, start_c=25.0))
steps = st.lists(st.tuples(st.integers(1, HOUR_US), st.integers(0, 4 * HOUR_US)), min_size=1, max_size=30)


def test_full_load_heats_the_room_as_the_known_case() -> None:
    """Four cores of 100 W and 100 W idle: the case of 500 W."""
    heater = SimulatedHeater(SETTINGS, now_us=7)
    reading = heater.advance(7 + HOUR_US, 4 * HOUR_US)
    assert reading.temperature_c == pytest.approx(15.231954, abs=5e-7)
    for hour in range(2, 25):
        reading = heater.advance(7 + hour * HOUR_US, 4 * hour * HOUR_US)
    assert reading.temperature_c == pytest.approx(19.680614, abs=5e-7)
    assert heater.discomfort_k_s / 3600 == pytest.approx(37.748980, abs=5e-7)
    assert heater.meter.total_uj == 500 * 24 * HOUR_US


def test_room_on_a_faster_clock_passes_a_day_in_a_minute() -> None:
    heater = SimulatedHeater(replace(SETTINGS, time_scale=1440.0), now_us=0)
    reading = heater.advance(60 * SECOND_US, 4 * 60 * SECOND_US)
    assert reading.temperature_c == pytest.approx(19.680614, abs=5e-7)
    assert heater.meter.total_uj == 500 * 60 * SECOND_US


@given(steps, st.floats(1, 1000))
def test_joules_in_are_joules_stored_and_lost(durations_and_cpu: list[tuple[int, int]], time_scale: float) -> None:
    heater = SimulatedHeater(replace(SETTINGS, time_scale=time_scale), now_us=0)
    now_us = cpu_us_total = 0
    lost_j = rounding_j = 0.0
    for duration_us, cpu_us in durations_and_cpu:
        before, before_uj = heater.sink.copy(), heater.meter.total_uj
        now_us, cpu_us_total = now_us + duration_us, cpu_us_total + cpu_us
        heater.advance(now_us, cpu_us_total)
        power_w = (heater.meter.total_uj - before_uj) / duration_us
        lost_j += before.step(power_w, heater.weather, duration_us / 1e6 * time_scale).lost_j
        # A temperature has 53 bits, and so has the heat stored in it.
        rounding_j += 1e-15 * ROOM.capacity_j_per_k * (25 + abs(heater.temperature_c))
    in_j = heater.meter.total_uj / 1e6 * time_scale
    stored_j = ROOM.capacity_j_per_k * (heater.temperature_c - ROOM.start_c)
    assert abs(in_j - stored_j - lost_j) <= 1e-12 * (in_j + lost_j) + rounding_j


@given(steps)
def test_meter_only_grows_and_its_parts_add_up(durations_and_cpu: list[tuple[int, int]]) -> None:
    heater = SimulatedHeater(SETTINGS, now_us=0)
    now_us = cpu_us_total = 0
    for duration_us, cpu_us in durations_and_cpu:
        before = heater.meter
        now_us, cpu_us_total = now_us + duration_us, cpu_us_total + cpu_us
        heater.advance(now_us, cpu_us_total)
        meter = heater.meter
        assert meter.work_uj - before.work_uj == cpu_us * 100
        assert meter.idle_uj - before.idle_uj == duration_us * 100
        assert before.useful_uj <= meter.useful_uj <= meter.total_uj
        assert before.wasted_uj <= meter.wasted_uj


def test_step_across_the_limit_is_divided_at_the_crossing() -> None:
    heater = SimulatedHeater(replace(SETTINGS, setpoint_c=18.5), now_us=0)
    heater.advance(24 * HOUR_US, 4 * 24 * HOUR_US)
    reached_s = HeatSink(Room1R1C(20.0, 4.62e6), 15.0).seconds_to(19.0, 500.0, heater.weather, 24 * 3600.0)
    assert heater.meter.useful_uj == pytest.approx(500e6 * reached_s, rel=1e-9)
    assert heater.meter.useful_uj + heater.meter.wasted_uj == heater.meter.total_uj
    assert not heater.reading().useful


def test_cold_room_asks_for_all_cores_and_a_warm_one_for_none() -> None:
    cold = SimulatedHeater(SETTINGS, now_us=0).reading()
    assert (cold.slots, cold.deficit_w, cold.capacity_w, cold.useful) == (4, 400.0, 400.0, True)
    warm = SimulatedHeater(WARM, now_us=0).reading()
    assert (warm.slots, warm.deficit_w, warm.horizon_wh, warm.useful) == (0, -400.0, 0.0, False)


def test_energy_wanted_ends_the_horizon_at_the_setpoint_within_the_capacity() -> None:
    cold = SimulatedHeater(SETTINGS, now_us=0).reading()
    assert cold.horizon_wh == 400.0 / 4
    nearly = replace(SETTINGS, room=replace(ROOM, start_c=18.999))
    left = math.exp(-900 * 20.0 / 4.62e6)
    lift_wh, hold_wh, idle_wh = 20.0 * 0.001 * left / (1 - left) / 4, 20.0 * 14 / 4, 100.0 / 4
    found = SimulatedHeater(nearly, now_us=0).reading().horizon_wh
    assert found == pytest.approx(lift_wh + hold_wh - idle_wh)


def test_node_in_its_band_asks_for_nothing_new() -> None:
    heater = SimulatedHeater(replace(SETTINGS, room=replace(ROOM, start_c=18.99)), now_us=0)
    reading = heater.advance(HOUR_US, 4 * HOUR_US)
    assert 19.0 < reading.temperature_c < 19.5
    assert (reading.slots, reading.horizon_wh, heater.duty) == (1, 0.0, 0.1)
    assert reading.deficit_w < 0 and reading.useful


def test_attributed_energy_is_that_of_the_cpu_time_and_shares_the_use_of_its_time() -> None:
    heater = SimulatedHeater(SETTINGS, now_us=0)
    assert heater.attribute(SECOND_US) == (100_000, 100_000)
    heater.advance(24 * HOUR_US, 24 * HOUR_US)
    heater.advance(96 * HOUR_US, 300 * HOUR_US)
    cpu_us = 300 * HOUR_US
    energy_mj, useful_mj = heater.attribute(cpu_us, since_us=0)
    assert energy_mj * 1000 == heater.meter.work_uj
    assert useful_mj * 1000 == pytest.approx(heater.meter.work_useful_uj, abs=1000)
    assert 0 < heater.attribute(cpu_us)[1] < useful_mj
    assert heater.attribute(SECOND_US, since_us=24 * HOUR_US) == heater.attribute(SECOND_US)


def test_history_is_bounded_and_an_older_execution_gets_the_oldest_share() -> None:
    heater = SimulatedHeater(SETTINGS, now_us=0)
    for second in range(1, 3 * HISTORY_STEPS):
        heater.advance(second * SECOND_US, second * SECOND_US)
    assert len(heater._history) == HISTORY_STEPS
    assert heater.attribute(SECOND_US, since_us=0) == (100_000, 100_000)


def test_lost_cpu_count_is_no_negative_heat_and_time_never_goes_back() -> None:
    heater = SimulatedHeater(SETTINGS, now_us=10, cpu_us_total=500)
    heater.advance(1000, 300)
    assert heater.meter.work_uj == 0
    heater.advance(2000, 400)
    assert heater.meter.work_uj == 100 * 100
    with pytest.raises(ValueError, match="went back by 1 us"):
        heater.advance(1999, 400)
    assert heater.advance(2000, 400) == heater.reading()


def test_cpu_time_that_is_seen_in_no_time_heats_in_the_next_step() -> None:
    heater = SimulatedHeater(SETTINGS, now_us=0)
    heater.advance(0, 1000)
    assert heater.meter.work_uj == 0
    heater.advance(SECOND_US, 1500)
    assert heater.meter.work_uj == 1500 * 100


def test_machine_without_a_sink_always_works_and_nothing_it_makes_is_useful() -> None:
    settings = replace(SETTINGS, kind="none")
    heater = heater_of(settings, now_us=0)
    assert isinstance(heater, NoHeater)
    reading = heater.advance(SECOND_US, 2 * SECOND_US)
    assert (reading.slots, reading.sink, reading.useful, heater.duty) == (4, "none", False, 1.0)
    assert heater.attribute(SECOND_US) == (100_000, 0)
    assert heater.meter.total_uj == 300 * SECOND_US
    assert heater.meter.useful_uj == 0


def test_tasks_that_outlast_the_power_that_they_began_with_share_what_is_wanted_now() -> None:
    """A limit of 100 W beside the idle power leaves one core to four tasks; none of them is stopped."""
    heater = SimulatedHeater(replace(SETTINGS, dwell_s=0.0, room=replace(ROOM, start_c=17.5)), now_us=0)
    heater.advance(SECOND_US, 4 * SECOND_US, running=4)
    assert (heater.decision.work.slots, heater.duty) == (4, 1.0)
    heater.thermostat.limits.add(LimitWindow(0.0, HOUR_US, 200.0), 0.0)
    heater.advance(2 * SECOND_US, 8 * SECOND_US, running=4)
    assert (heater.decision.work.slots, heater.duty) == (1, 0.25)
    effort = heater.thermostat.loop.effort
    heater.advance(3 * SECOND_US, 9 * SECOND_US, running=4)
    assert heater.thermostat.loop.effort == pytest.approx(effort)
    heater.advance(4 * SECOND_US, 10 * SECOND_US, running=1)
    assert (heater.decision.work.slots, heater.duty) == (1, 1.0)


@pytest.mark.parametrize("left_w", [0.0, 10.0, 30.0])
def test_limit_counts_for_what_runs_as_well_whatever_its_least_duty(left_w: float) -> None:
    heater = SimulatedHeater(replace(SETTINGS, dwell_s=0.0, room=replace(ROOM, start_c=17.5)), now_us=0)
    heater.advance(SECOND_US, 4 * SECOND_US, running=4)
    heater.thermostat.limits.add(LimitWindow(0.0, 3.0, 100.0 + left_w), 0.0)
    limited = heater.advance(2 * SECOND_US, 8 * SECOND_US, running=4)
    # Ten watts make one task at its least duty; with less there is none.
    assert 4 * heater.duty * 100.0 == pytest.approx(left_w)
    assert (limited.slots, limited.stopped) == ((1, False) if left_w else (0, True))
    after = heater.advance(3 * SECOND_US, 8 * SECOND_US, running=4)
    assert (after.slots > 0, after.stopped, heater.duty > 0.1) == (True, False, True)


def test_what_runs_in_a_room_that_is_too_hot_stands_still_until_it_is_cooler() -> None:
    heater = SimulatedHeater(replace(SETTINGS, dwell_s=0.0), now_us=0)
    heater.advance(SECOND_US, 4 * SECOND_US, running=4)
    heater.sink = HeatSink(heater.sink.model, 25.0)
    warm = heater.advance(2 * SECOND_US, 8 * SECOND_US, running=4)
    assert (warm.slots, warm.stopped, heater.duty) == (0, False, 0.1)
    heater.sink = HeatSink(heater.sink.model, 40.0)
    hot = heater.advance(3 * SECOND_US, 8 * SECOND_US, running=4)
    assert (hot.slots, hot.stopped, heater.duty) == (0, True, 0.0)
    heater.sink = HeatSink(heater.sink.model, 18.0)
    cool = heater.advance(4 * SECOND_US, 8 * SECOND_US, running=4)
    assert (cool.slots, cool.stopped, heater.duty) == (4, False, 1.0)
