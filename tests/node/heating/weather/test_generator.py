"""Years from a seed: the same again, plausible, and different from each other."""

import math

import pytest

from hearthmesh.node.heating.weather.generator import CLIMATES, Climate, generate_year

HOUR_S = 3600.0


def test_same_seed_gives_the_same_year_and_another_another() -> None:
    first, again, other = (generate_year(CLIMATES["paris"], seed) for seed in (1, 1, 2))
    hours = [index * HOUR_S for index in range(0, 8760, 97)]
    assert [first.at(time_s) for time_s in hours] == [again.at(time_s) for time_s in hours]
    assert [first.at(time_s) for time_s in hours] != [other.at(time_s) for time_s in hours]


@pytest.mark.parametrize("name", CLIMATES)
def test_year_has_the_means_of_its_climate_and_light_that_adds_up(name: str) -> None:
    climate: Climate = CLIMATES[name]
    year = generate_year(climate, 7)
    hours = [year.at(index * HOUR_S) for index in range(8760)]
    outside_c = [weather.outside_c for weather in hours]
    january_c, july_c = math.fsum(outside_c[:744]) / 744, math.fsum(outside_c[4344:5088]) / 744
    assert math.fsum(outside_c) / 8760 == pytest.approx(climate.mean_c, abs=1.5)
    assert (july_c - january_c) / 2 == pytest.approx(climate.wave_k, abs=2.5)
    assert 800 < math.fsum(weather.global_w_m2 for weather in hours) / 1000 < 2000  # kWh/m² a year
    for weather in hours[::37]:
        assert 0 <= weather.humidity <= 1 and weather.sky_temperature_c <= weather.outside_c
        assert 0 <= weather.beam_w_m2 < 1100 and 0 <= weather.wind_m_s <= 30
        if weather.sun_height_rad > 0.05 and weather.global_w_m2 > 0:
            together = weather.beam_w_m2 * math.sin(weather.sun_height_rad) + weather.diffuse_w_m2
            assert together == pytest.approx(weather.global_w_m2, rel=1e-6)
