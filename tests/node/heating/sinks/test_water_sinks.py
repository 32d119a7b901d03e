"""Tanks, pools, loops and the data centre: cases with known answers, and what each of them is for."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.sink_settings import LoopTable, SunTable
from hearthmesh.node.heating.sinks.datacentre import DataCentre
from hearthmesh.node.heating.sinks.loop import BoilerRack, DistrictLoop, HeatingCurve, LoopLimits
from hearthmesh.node.heating.sinks.pool import Pool
from hearthmesh.node.heating.sinks.room import Room1R1C
from hearthmesh.node.heating.sinks.sink import HeatSink
from hearthmesh.node.heating.sinks.tank import LayeredTank, MixedTank, risen
from hearthmesh.node.heating.sinks.water import J_PER_L_K, PATTERN_M, Disinfection, Draws
from hearthmesh.node.heating.weather.conditions import Weather
from hearthmesh.node.heating.weather.sky import saturation_pa

CASES = tomllib.loads((Path(__file__).parents[3] / "data/heat/exact_cases.toml").read_text())
HOUR_S, DAY_S = 3600.0, 86_400.0
MILD = Weather(outside_c=10.0)


@pytest.mark.parametrize("case", CASES["room"])
def test_room_has_the_exact_answers(case: dict[str, Any]) -> None:
    room, weather = Room1R1C(case["loss_w_per_k"], case["capacity_j_per_k"]), Weather(case["outside_c"])
    start, power_w = HeatSink(room, case["start_c"]), case["power_w"]
    for hours, expected_c in case["after"]:
        sink = start.copy()
        sink.step(power_w, weather, hours * HOUR_S)
        assert sink.temperature_c(weather) == pytest.approx(expected_c, abs=5e-7)
    for target_c, hours in case["reached"]:
        assert start.seconds_to(target_c, power_w, weather, 1e9) / HOUR_S == pytest.approx(hours, abs=5e-5)
    for below_c, hours, k_h in case["discomfort"]:
        found_k_s = start.discomfort_k_s(below_c, power_w, weather, hours * HOUR_S)
        assert found_k_s / HOUR_S == pytest.approx(k_h, abs=5e-7)
    assert start.hold_w(case["hold_c"], weather) == pytest.approx(power_w, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("case", CASES["tank"])
def test_mixed_tank_heats_in_the_known_time(case: dict[str, Any]) -> None:
    tank = MixedTank(litres=case["litres"], loss_w_per_k=case["loss_w_per_k"], ambient_c=20.0)
    assert tank.capacity_j_per_k / 3.6e6 == pytest.approx(case["capacity_kwh_per_k"], abs=5e-5)
    start_c, target_c, hours = case["reached"]
    found_s = HeatSink(tank, start_c).seconds_to(target_c, case["power_w"], MILD, 1e6)
    assert found_s / HOUR_S == pytest.approx(hours, abs=6e-5)


def test_pool_holds_the_known_heat() -> None:
    pool = Pool(surface_m2=CASES["pool"]["volume_m3"] / 2.0, depth_m=2.0)
    assert pool.capacity_j_per_k / 3.6e6 == pytest.approx(CASES["pool"]["capacity_kwh_per_k"], abs=0.05)


@pytest.mark.parametrize("case", CASES["heating_curve"])
def test_heating_curve_has_the_known_flow(case: dict[str, float]) -> None:
    assert HeatingCurve().flow_c(20.0, case["outside_c"]) == pytest.approx(case["flow_c"], abs=0.05)


def test_draws_of_a_day_take_their_litres_and_peak_in_the_evening() -> None:
    draws = Draws(litres_per_day=240.0)
    litres = [draws.w_per_k(hour * HOUR_S) * HOUR_S / J_PER_L_K for hour in range(24)]
    assert math.fsum(litres) == pytest.approx(240.0)
    assert math.fsum(PATTERN_M) == pytest.approx(5.845)
    assert litres.index(max(litres)) == 7 and litres[3] == 0 and litres[21] > litres[12]


def test_drawn_heat_is_what_the_water_carries_off() -> None:
    """A large tank loses hardly any temperature: its draws carry litres * c * (T - T_cold)."""
    tank = MixedTank(litres=1e6, loss_w_per_k=0.0, draws=Draws(litres_per_day=500.0, cold_c=10.0))
    flows = HeatSink(tank, 60.0).step(0.0, MILD, DAY_S)
    assert flows.delivered_j == pytest.approx(500 * J_PER_L_K * 50, rel=1e-3)
    assert flows.lost_j == 0 and flows.stored_j == pytest.approx(-flows.delivered_j)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_layers_after_mixing_are_in_order_and_hold_the_same_heat(temperatures_c: list[float]) -> None:
    mixed = risen(temperatures_c)
    assert all(upper >= lower - 1e-12 for upper, lower in zip(mixed, mixed[1:], strict=False))
    assert math.fsum(mixed) == pytest.approx(math.fsum(temperatures_c), abs=1e-10)
    assert risen(sorted(temperatures_c, reverse=True)) == sorted(temperatures_c, reverse=True)


def test_layered_tank_keeps_its_top_hot_while_a_mixed_one_cools() -> None:
    draws = Draws(litres_per_day=600.0, cold_c=10.0)
    layered = HeatSink(LayeredTank(litres=1000.0, loss_w_per_k=2.0, layers=20, draws=draws), 60.0)
    mixed = HeatSink(MixedTank(litres=1000.0, loss_w_per_k=2.0, draws=draws), 60.0)
    layered.step(0.0, MILD, DAY_S)
    mixed.step(0.0, MILD, DAY_S)
    assert layered.state.temperatures_c[0] > 55 > 40 > mixed.state.temperatures_c[0]
    assert layered.state.temperatures_c[-1] < 20


def test_tank_asks_for_its_disinfection_each_day_and_then_for_the_setpoint_again() -> None:
    draws = Draws(litres_per_day=500.0)
    tank = MixedTank(litres=500.0, loss_w_per_k=2.0, draws=draws, disinfection=Disinfection.at_level(60.0))
    sink, weather, asked, ages_s = HeatSink(tank, 50.0), Weather(10.0), [], []
    for _ in range(2 * 24 * 12):
        wanted_c = sink.target_c(50.0, weather)
        asked.append(wanted_c)
        ages_s.append(sink.state.memory[0])
        power_w = 20_000.0 if sink.temperature_c(weather) < wanted_c else 0.0
        sink.step(power_w, weather, 300.0)
        weather = weather.later(300.0)
    assert asked[0] == 62.0 and set(asked) == {50.0, 62.0}
    ends = [i for i, (now, then) in enumerate(zip(asked, asked[1:], strict=False)) if now > then]
    # Hot from the first evening to the first showers; asked for again 20 h after that.
    assert len(ends) == 2
    assert 20 < (ends[1] - ends[0]) * 300 / HOUR_S < 30
    assert max(ages_s[ends[0] + 1 :]) < DAY_S


def test_layered_tank_is_disinfected_to_its_coldest_layer() -> None:
    tank = LayeredTank(litres=500.0, loss_w_per_k=2.0, disinfection=Disinfection.at_level(60.0))
    sink, weather = HeatSink(tank, 20.0), Weather(10.0)
    while sink.target_c(50.0, weather) > 50.0 and weather.time_s < DAY_S:
        power_w = 10_000.0 if min(sink.state.temperatures_c) < 62.0 else 0.0
        sink.step(power_w, weather, 300.0)
        weather = weather.later(300.0)
    heated_s = 500 * J_PER_L_K * 40 / 10_000
    assert heated_s + 3600 < weather.time_s < heated_s + 2 * 3600
    assert min(sink.state.temperatures_c) >= 60.0
    with pytest.raises(ValueError, match="never gets hot"):
        LayeredTank(litres=500.0, loss_w_per_k=2.0, heater_height=0.5, disinfection=Disinfection.at_level(60.0))


@pytest.mark.parametrize(("level_c", "held_s"), [(60.0, 3600.0), (65.0, 240.0), (70.0, 120.0)])
def test_disinfection_takes_the_time_of_its_level(level_c: float, held_s: float) -> None:
    tank = MixedTank(litres=1e5, loss_w_per_k=0.0, disinfection=Disinfection.at_level(level_c))
    sink, weather, passed_s = HeatSink(tank, level_c + 5), Weather(10.0), 0.0
    while sink.target_c(50.0, weather) > 50.0 and passed_s < 2 * held_s:
        sink.step(0.0, weather, 60.0)
        weather, passed_s = weather.later(60.0), passed_s + 60.0
    # One grid's length is there before the first point at which it was hot.
    assert passed_s == held_s + min(held_s, 300.0)


def test_full_tank_takes_no_more_heat() -> None:
    sink = HeatSink(MixedTank(litres=300.0, loss_w_per_k=2.0, max_c=80.0), 80.0)
    assert sink.limits(MILD).power_max_w == 0
    assert sink.wanted_j(90.0, MILD, 900.0, 5000.0) == 0


def test_pool_in_a_hall_evaporates_as_the_handbook_says() -> None:
    """28 °C of water under still air of 29 °C and 55 %: 0.089 W/m²Pa times the difference of the pressures."""
    pool = Pool(surface_m2=300.0, activity=1.0)
    weather = Weather(5.0)
    flows = HeatSink(pool, 28.0).step(0.0, weather, 600.0)
    evaporated_w = 300 * 0.089 * (saturation_pa(28.0) - 0.55 * saturation_pa(29.0))
    warmed_w = 300 * (0.089 * 61.3 + 5.6) * (29.0 - 28.0)
    assert flows.lost_j / 600 == pytest.approx(evaporated_w - warmed_w, rel=2e-3)
    assert 30_000 < evaporated_w < 60_000


def test_pool_under_a_cover_loses_a_tenth() -> None:
    covered = Pool(surface_m2=300.0, open_from=8, open_until=22)
    night, day = Weather(5.0, time_s=2 * HOUR_S), Weather(5.0, time_s=12 * HOUR_S)
    lost_by_night_j, lost_by_day_j = (HeatSink(covered, 28.0).step(0.0, at, 600.0).lost_j for at in (night, day))
    assert lost_by_night_j == pytest.approx(lost_by_day_j / 10, rel=0.01)


def test_pool_wants_heat_in_summer_too() -> None:
    warm = Weather(28.0, time_s=200 * DAY_S, humidity=0.5, wind_m_s=1.5, sky_c=18.0)
    assert HeatSink(Pool(surface_m2=300.0), 28.0).hold_w(28.0, warm) > 10_000
    assert HeatSink(Pool(surface_m2=300.0, hall=None), 28.0).hold_w(28.0, warm) > 10_000


def test_tangent_of_saturation_costs_little_over_a_day() -> None:
    """Against steps of a second whose tangent is always new."""
    sink, exact_c, cold = HeatSink(Pool(surface_m2=100.0, depth_m=0.5), 30.0), 30.0, Weather(5.0)
    sink.step(0.0, cold, 6 * HOUR_S)
    capacity_j_per_k = 100.0 * 0.5 * 1000 * J_PER_L_K
    for _ in range(6 * 360):
        lost_w_m2 = 0.089 * (saturation_pa(exact_c) - 0.55 * saturation_pa(29.0))
        lost_w_m2 += (0.089 * 61.3 + 5.6) * (exact_c - 29.0)
        exact_c -= 100.0 * lost_w_m2 * 10.0 / capacity_j_per_k
    assert sink.temperature_c(cold) == pytest.approx(exact_c, abs=2e-3)


RACK = BoilerRack(flow_l_s=0.5, emitter_w_per_k=400.0, building_w_per_k=300.0, building_j_per_k=2e8)


def test_rack_on_a_loop_settles_where_its_flows_balance() -> None:
    sink, cold, power_w = HeatSink(RACK, 20.0), Weather(0.0), 6000.0
    sink.step(power_w, cold, 100 * DAY_S)
    found = sink.temperatures_c(cold)
    assert found["building"] == pytest.approx(power_w / 300.0, abs=1e-6)
    assert found["return"] == pytest.approx(found["building"] + power_w / 400.0, abs=1e-6)
    assert found["supply"] == pytest.approx(found["return"] + power_w / (0.5 * J_PER_L_K), abs=1e-6)
    assert sink.hold_w(found["supply"], cold) == pytest.approx(power_w)
    assert sink.target_c(20.0, cold) == pytest.approx(47.8, abs=0.05)


@pytest.mark.parametrize(("outside_c", "building_c"), [(-10.0, 19.6), (-7.0, 20.0), (0.0, 20.8), (10.0, 21.4)])
def test_the_default_rack_brings_its_building_to_the_setpoint(outside_c: float, building_c: float) -> None:
    sink, weather = HeatSink(LoopTable().rack(SunTable()), 20.0), Weather(outside_c)
    supply_c = sink.target_c(20.0, weather)
    sink.step(sink.hold_w(supply_c, weather), weather, 100 * DAY_S)
    found = sink.temperatures_c(weather)
    assert found["supply"] == pytest.approx(supply_c, abs=0.01)
    assert found["building"] == pytest.approx(building_c, abs=0.1)


def test_return_that_is_too_warm_stops_the_rack() -> None:
    cool, hot = HeatSink(RACK, 40.0), HeatSink(RACK, 55.0)
    assert cool.limits(MILD).power_max_w == pytest.approx(0.5 * J_PER_L_K * (75 - 40))
    assert hot.limits(MILD).power_max_w == 0
    assert LoopLimits(50.0, 50.0).power_max_w(49.9, 100.0) == pytest.approx(10.0)


def test_our_heat_takes_the_place_of_the_district_plants() -> None:
    loop = DistrictLoop(
        flow_l_s=5.0,
        supply_litres=2e4,
        return_litres=2e4,
        loss_w_per_k=100.0,
        base_w=20_000.0,
        load_w_per_k=2000.0,
        plant_max_w=2e5,
        plant_gain_w_per_k=5e4,
    )
    cold = Weather(0.0)
    without, ours = HeatSink(loop, 60.0), HeatSink(loop, 60.0)
    plant_j, both = without.step(0.0, cold, DAY_S), ours.step(30_000.0, cold, DAY_S)
    assert plant_j.delivered_j == both.delivered_j == pytest.approx((20_000 + 30_000) * DAY_S)
    assert plant_j.gains_j - both.gains_j == pytest.approx(30_000 * DAY_S, rel=0.05)
    assert loop.load_w(Weather(25.0)) == 20_000


def test_data_centre_wants_nothing_and_loses_all() -> None:
    sink = HeatSink(DataCentre(inlet_c=24.0, air_w_per_k=1000.0), 24.0)
    flows = sink.step(5000.0, MILD, HOUR_S)
    assert flows.lost_j == flows.heater_j == 5000 * HOUR_S and flows.stored_j == 0
    assert sink.temperature_c(MILD, 5000.0) == pytest.approx(29.0)
    assert (sink.wanted_j(60.0, MILD, 900.0, 5000.0), sink.hold_w(60.0, MILD)) == (0.0, 0.0)
    assert sink.limits(MILD).power_max_w == pytest.approx(21_000)


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: MixedTank(litres=0.0, loss_w_per_k=1.0), "litres"),
        (lambda: LayeredTank(litres=100.0, loss_w_per_k=1.0, layers=21), "2 to 20"),
        (lambda: LayeredTank(litres=100.0, loss_w_per_k=1.0, sensor_height=1.5), "share from 0 to 1"),
        (lambda: Draws(10.0, (0.0,) * 24), "24 shares"),
        (lambda: Draws(math.nan), "no amount"),
        (lambda: Disinfection.at_level(50.0), "60, 65 and 70"),
        (lambda: Pool(surface_m2=0.0), "surface"),
        (lambda: Pool(surface_m2=10.0, open_from=20, open_until=8), "open from an hour to a later"),
        (lambda: HeatingCurve(span_k=0.0), "no heating curve"),
        (lambda: LoopLimits(80.0, 70.0), "cooler"),
        (
            lambda: DistrictLoop(flow_l_s=1.0, supply_litres=10.0, return_litres=10.0, plant_gain_w_per_k=1e4),
            "overshoot",
        ),
        (lambda: DataCentre(air_w_per_k=0.0), "needs air"),
    ],
)
def test_sink_that_cannot_be_is_refused(build: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build()
