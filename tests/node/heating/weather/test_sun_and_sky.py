"""The sun's position, Perez's sky and the air, against what is known and what must hold anywhere."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.weather.conditions import Weather
from hearthmesh.node.heating.weather.perez import (
    Plane,
    air_mass,
    glass_share,
    glass_share_of_diffuse,
    irradiance_on,
)
from hearthmesh.node.heating.weather.sky import (
    dew_point_c,
    saturation_pa,
    saturation_slope_pa_per_k,
    sky_c_of_clouds,
    sky_c_of_infrared,
)
from hearthmesh.node.heating.weather.sun import Place, declination_rad, equation_of_time_s, position_rad

DAY_S = 86_400.0
GREENWICH = Place(51.48, 0.0, 0.0)
MARCH_20, JUNE_21, DECEMBER_21 = 78.5 * DAY_S, 171.5 * DAY_S, 354.5 * DAY_S

lights = st.builds(
    Weather,
    outside_c=st.just(10.0),
    time_s=st.floats(0, 365 * DAY_S),
    global_w_m2=st.floats(0, 1200),
    beam_w_m2=st.floats(0, 1000),
    diffuse_w_m2=st.floats(0, 600),
    sun_height_rad=st.floats(math.radians(6), math.pi / 2),
    sun_azimuth_rad=st.floats(-math.pi, math.pi),
)
planes = st.builds(Plane, st.floats(0, 180), st.floats(-180, 180))


@pytest.mark.parametrize(("time_s", "degrees"), [(MARCH_20, 0.0), (JUNE_21, 23.44), (DECEMBER_21, -23.44)])
def test_sun_stands_over_the_equator_and_the_tropics_when_it_should(time_s: float, degrees: float) -> None:
    assert math.degrees(declination_rad(time_s)) == pytest.approx(degrees, abs=0.5)


def test_sun_is_due_south_and_highest_at_true_noon() -> None:
    noon_s = JUNE_21 - equation_of_time_s(JUNE_21)
    height, azimuth = position_rad(GREENWICH, noon_s)
    assert math.degrees(height) == pytest.approx(90 - 51.48 + 23.44, abs=0.1)
    assert math.degrees(azimuth) == pytest.approx(0, abs=0.1)
    assert position_rad(GREENWICH, noon_s - 3600)[1] < 0 < position_rad(GREENWICH, noon_s + 3600)[1]
    assert position_rad(GREENWICH, noon_s + DAY_S / 2)[0] < 0


@pytest.mark.parametrize(("month_day", "minutes"), [(41, -14.2), (133, 3.7), (207, -6.5), (306, 16.4)])
def test_equation_of_time_has_its_four_known_extremes(month_day: int, minutes: float) -> None:
    assert equation_of_time_s(month_day * DAY_S) / 60 == pytest.approx(minutes, abs=0.6)


@given(lights)
def test_level_plane_gets_beam_and_the_whole_sky(weather: Weather) -> None:
    found = irradiance_on(Plane(0.0), weather).total_w_m2
    expected = weather.beam_w_m2 * math.sin(weather.sun_height_rad) + weather.diffuse_w_m2
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(lights, planes)
def test_light_on_a_plane_is_never_negative_and_bounded(weather: Weather, plane: Plane) -> None:
    found = irradiance_on(plane, weather)
    most = weather.beam_w_m2 + 13 * weather.diffuse_w_m2 + weather.global_w_m2
    assert 0 <= found.sun_w_m2 and 0 <= found.diffuse_w_m2 and found.total_w_m2 <= most


def test_bright_sky_gives_a_wall_towards_the_sun_more_than_an_even_one() -> None:
    weather = Weather(10.0, time_s=MARCH_20, global_w_m2=600.0, beam_w_m2=800.0, diffuse_w_m2=120.0, sun_height_rad=0.6)
    even, bright = (irradiance_on(Plane(), weather, isotropic=flat).total_w_m2 for flat in (True, False))
    assert bright > 1.05 * even
    away_even, away = (irradiance_on(Plane(90, 180), weather, isotropic=flat).total_w_m2 for flat in (True, False))
    assert away < away_even


def test_night_has_no_light() -> None:
    assert irradiance_on(Plane(), Weather(10.0)).total_w_m2 == 0


def test_air_mass_and_glass_have_known_values() -> None:
    assert air_mass(math.pi / 2) == pytest.approx(1.0, abs=1e-3)
    assert air_mass(math.radians(30)) == pytest.approx(1.995, abs=0.01)
    assert glass_share(0.0) == 1.0 and glass_share(math.pi / 2) == 0.0
    assert glass_share(math.radians(60)) == pytest.approx(0.87, abs=0.02)
    assert 0.8 < glass_share_of_diffuse() < 0.95


@pytest.mark.parametrize(("temperature_c", "pascal"), [(0, 611.2), (20, 2339), (28, 3783), (60, 19946)])
def test_vapour_saturates_at_the_known_pressures(temperature_c: float, pascal: float) -> None:
    assert saturation_pa(temperature_c) == pytest.approx(pascal, rel=5e-3)
    by_difference = saturation_pa(temperature_c + 0.01) - saturation_pa(temperature_c - 0.01)
    assert saturation_slope_pa_per_k(temperature_c) == pytest.approx(by_difference / 0.02, rel=1e-5)


def test_dew_point_and_sky_are_what_they_should_be() -> None:
    assert dew_point_c(20.0, 1.0) == pytest.approx(20.0)
    assert dew_point_c(20.0, 0.5) == pytest.approx(9.3, abs=0.1)
    assert sky_c_of_infrared(5.670374419e-8 * 293.15**4) == pytest.approx(20.0)
    assert sky_c_of_clouds(10.0, 5.0, 0.0) < sky_c_of_clouds(10.0, 5.0, 10.0) <= 10.0


@pytest.mark.parametrize("wrong", [{"outside_c": math.nan}, {"outside_c": 1e3}, {"time_s": -1.0}, {"time_s": math.inf}])
def test_weather_of_no_number_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Weather(**({"outside_c": 5.0} | wrong))
