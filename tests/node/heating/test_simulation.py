"""Simulated sinks from a config: every kind runs under the thermostat, sees its weather, and is told its demand."""

from __future__ import annotations

import calendar
from dataclasses import replace
from pathlib import Path

import pytest

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.control.setpoint import Reason, Wish
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.observed import What
from hearthmesh.node.heating.simulated import SimulatedHeater, horizon_of
from hearthmesh.node.heating.simulation import model_of, second_of_year, weather_of
from hearthmesh.node.heating.sink_settings import KINDS, LoopTable, ModelTable, TankTable, WeatherTable
from hearthmesh.node.heating.weather.files import WeatherError
from hearthmesh.node.heating.weather.generator import CLIMATES, generate_year
from hearthmesh.node.settings.schema import Conflict

SECOND_US = 1_000_000
SETTINGS = HeaterSettings(kind="simulated", cores=4, watts_per_core=100.0, idle_watts=0.0, time_scale=60.0)
STARTS = {"tank": 50.0, "tank-layers": 50.0, "pool": 27.0, "boiler-rack": 25.0, "district": 50.0}
SETPOINTS = {"tank": 60.0, "tank-layers": 60.0, "pool": 28.0, "boiler-rack": 20.0, "district": 70.0}


def heater_of_kind(kind: str) -> HeaterSettings:
    room = RoomSettings(start_c=STARTS.get(kind, 15.0))
    return replace(SETTINGS, setpoint_c=SETPOINTS.get(kind, 20.0), model=ModelTable(kind=kind), room=room)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_built_and_takes_heat_if_it_wants_any(kind: str) -> None:
    settings = heater_of_kind(kind)
    assert model_of(settings).kind == kind
    heater = SimulatedHeater(settings, now_us=0)
    first, before_c = heater.reading(), heater.temperature_c
    for second in range(1, 61):
        heater.advance(second * SECOND_US, second * 4 * SECOND_US)
    assert heater.meter.total_uj == 60 * 400 * SECOND_US
    if kind == "data-centre":
        assert (first.slots, first.horizon_wh, first.deficit_w < 0) == (0, 0.0, True)
        return
    assert (first.slots, first.horizon_wh) == (
        4,
        pytest.approx(400.0 * horizon_of(settings.time_scale) / 3600),
    ) and first.useful
    idle = SimulatedHeater(settings, now_us=0)
    for second in range(1, 61):
        idle.advance(second * SECOND_US, 0)
    assert heater.temperature_c > idle.temperature_c
    assert before_c == idle.temperature_c or kind != "room-1r1c" or idle.temperature_c < before_c


def light_rack() -> HeaterSettings:
    """A building that is cold within a day."""
    model = ModelTable(kind="boiler-rack", loop=LoopTable(building_j_per_k=1e7))
    frost = RoomSettings(start_c=15.0, outside_c=-10.0)
    return replace(SETTINGS, cores=64, watts_per_core=150.0, setpoint_c=20.0, model=model, room=frost, time_scale=1.0)


def test_building_of_a_rack_that_is_off_does_not_freeze() -> None:
    """At -10 °C outside. A supply of 7 °C would let it."""
    heater, cpu_us = SimulatedHeater(light_rack(), 0), 0
    heater.thermostat.wish(Wish.OFF, heater.inputs())
    coldest_c = 20.0
    for step in range(1, 36 * 3 + 1):
        cpu_us += round(heater.decision.work.slots * heater.duty * 1200 * SECOND_US)
        heater.advance(step * 1200 * SECOND_US, cpu_us)
        coldest_c = min(coldest_c, heater.sink.state.temperatures_c[2])
    assert heater.decision.target.reason is Reason.OFF
    assert 7.0 <= coldest_c < 12.0


def test_open_window_leaves_the_supply_as_warm_as_protects_the_building_from_frost() -> None:
    heater = SimulatedHeater(light_rack(), 0)
    heater.observed.tell(What.WINDOW, "owner", True, ages=False)
    heater.advance(SECOND_US, 0)
    assert heater.decision.target.reason is Reason.WINDOW
    # Room + span * ((room - outside) / design) ** (1 / exponent).
    assert heater.target_c == pytest.approx(7.0 + 35.0 * (17.0 / 27.0) ** (1 / 1.3))


def test_rack_is_held_at_its_heating_curve() -> None:
    heater = SimulatedHeater(replace(heater_of_kind("boiler-rack"), room=RoomSettings(start_c=20.0, outside_c=0.0)), 0)
    assert heater.target_c == pytest.approx(47.8, abs=0.05)
    assert heater.limit_c == pytest.approx(48.3, abs=0.05)
    assert heater.reading().slots == 4


def test_full_tank_asks_for_nothing_whatever_its_setpoint() -> None:
    model = ModelTable(kind="tank", tank=TankTable(max_c=60.0))
    settings = replace(SETTINGS, setpoint_c=80.0, model=model, room=RoomSettings(start_c=60.0))
    reading = SimulatedHeater(settings, now_us=0).reading()
    assert (reading.slots, reading.horizon_wh) == (0, 0.0)


def played(heater: SimulatedHeater, hours: int, wish: Wish | None = None) -> SimulatedHeater:
    """Tasks draw whatever is granted; five minutes a step."""
    if wish is not None:
        heater.thermostat.wish(wish, heater.inputs())
        heater.advance(1, 0)
    cpu_us = 0
    for step in range(1, hours * 12 + 1):
        cpu_us += round(heater.decision.work.slots * heater.duty * 300 * SECOND_US)
        heater.advance(step * 300 * SECOND_US, cpu_us, running=heater.decision.work.slots)
    return heater


@pytest.mark.parametrize("wish", [None, Wish.ECO, Wish.AWAY, Wish.MANUAL])
def test_a_tank_is_disinfected_each_day_whatever_its_setback(wish: Wish | None) -> None:
    table = TankTable(litres=500.0, disinfect_c="60")
    settings = HeaterSettings(kind="simulated", sink="tank", cores=16, watts_per_core=125.0, setpoint_c=55.0)
    settings = replace(settings, model=ModelTable(kind="tank", tank=table), room=RoomSettings(start_c=50.0))
    heater = SimulatedHeater(settings, 0, local=LocalTime(1.7e9))
    if wish is Wish.MANUAL:
        heater.thermostat.wish(wish, heater.inputs(), 48.0)
    played(heater, 12, None if wish is Wish.MANUAL else wish)
    since_s = heater.sink.state.memory[0]
    assert since_s < 12 * 3600.0
    assert heater.target_c == heater.decision.target.setpoint_c


def test_a_tank_that_is_switched_off_is_not_heated_for_its_disinfection() -> None:
    settings = replace(heater_of_kind("tank"), time_scale=1.0)
    settings = replace(settings, model=ModelTable(kind="tank", tank=TankTable(disinfect_c="60")))
    heater = played(SimulatedHeater(settings, 0), 3, Wish.OFF)
    assert heater.meter.work_uj == 0 and heater.target_c < 20.0


@pytest.mark.parametrize("wish", [Wish.ECO, Wish.AWAY])
def test_a_rack_in_a_setback_has_one_aim_for_thermostat_and_mesh(wish: Wish) -> None:
    settings = replace(heater_of_kind("boiler-rack"), cores=160, watts_per_core=125.0, time_scale=1.0)
    heater = SimulatedHeater(replace(settings, room=RoomSettings(start_c=20.0, outside_c=0.0)), 0)
    assert heater.target_c == pytest.approx(47.8, abs=0.05)
    played(heater, 12, wish)
    assert heater.target_c < 46.0
    assert heater.temperature_c == pytest.approx(heater.target_c, abs=heater.limit_c - heater.target_c)
    reading = heater.reading()
    assert (reading.deficit_w > 0) == (reading.horizon_wh > 0)
    assert heater.meter.work_useful_uj > 0.9 * heater.meter.work_uj


def test_disinfection_that_could_never_end_is_a_conflict_of_the_config() -> None:
    with pytest.raises(Conflict, match="tank: water below .* set heater_percent = 0"):
        ModelTable(kind="tank-layers", tank=TankTable(disinfect_c="60", heater_percent=50.0))
    ModelTable(kind="tank", tank=TankTable(disinfect_c="60", heater_percent=50.0))


def test_weather_is_that_of_the_seed_at_the_local_time_of_the_year() -> None:
    settings = replace(SETTINGS, weather=WeatherTable(climate="milan", seed=5))
    begin_s = calendar.timegm((2025, 7, 10, 11, 0, 0))
    heater = SimulatedHeater(settings, 0, local=LocalTime(float(begin_s), 3600.0))
    year = generate_year(CLIMATES["milan"], 5)
    assert heater.weather == year.at((190 * 24 + 12) * 3600.0)
    heater.advance(60 * SECOND_US, 0)
    assert heater.weather == year.at((190 * 24 + 13) * 3600.0)


@pytest.mark.parametrize(
    ("date", "day"), [((2025, 1, 1), 0), ((2025, 12, 31), 364), ((2024, 12, 31), 364), ((2024, 2, 29), 59)]
)
def test_second_of_the_year_counts_days_of_365(date: tuple[int, int, int], day: int) -> None:
    noon_s = float(calendar.timegm((*date, 12, 0, 0)))
    assert second_of_year(noon_s, 0.0) == day * 86_400 + 43_200
    assert second_of_year(noon_s, -3600.0) == day * 86_400 + 39_600


def test_weather_file_that_is_none_is_refused_before_anything_runs(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.epw"
    wrong.write_text("LOCATION\n")
    with pytest.raises(WeatherError, match="wrong.epw: neither EPW nor TMY3"):
        SimulatedHeater(replace(SETTINGS, weather=WeatherTable(file=wrong)), 0)
    assert weather_of(SETTINGS)(7.0).outside_c == 5.0


def test_a_new_setpoint_is_worked_out_at_once_and_the_same_one_not_again() -> None:
    heater = SimulatedHeater(replace(heater_of_kind("room-1r1c"), setpoint_c=15.01), now_us=0)
    before = heater.reading().horizon_wh
    forecast = heater._forecast
    assert heater.advance(SECOND_US // 10, 0).horizon_wh == before
    assert heater._forecast is forecast
    heater.thermostat.wish(Wish.MANUAL, heater.inputs(), 17.0)
    assert heater.advance(2 * SECOND_US // 10, 0).horizon_wh > before
