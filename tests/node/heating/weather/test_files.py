"""Weather files: what is read of the two formats, and how a wrong one is refused in one line."""

from pathlib import Path

import pytest

from hearthmesh.node.heating.weather.files import FILE_BYTES_MAX, WeatherError, parse_weather, read_weather

HOURS = 8760
EPW_HEADER = ["LOCATION,Lyon,-,FRA,IWEC,074810,45.73,5.08,1.0,240.0"] + [f"COMMENTS {i}" for i in range(7)]
TMY3_HEADER = [
    '725650,"DENVER INTL AP",CO,-7.0,39.833,-104.650,1650',
    "Date (MM/DD/YYYY),Time (HH:MM),GHI (W/m^2),DNI (W/m^2),DHI (W/m^2),TotCld (tenths),Dry-bulb (C),Dew-point (C),"
    "RHum (%),Pressure (mbar),Wspd (m/s)",
]


def epw_line(hour: int, outside_c: str = "4.5", infrared: str = "290", light: str = "0") -> str:
    return (
        f"1999,1,1,{hour % 24 + 1},0,?,{outside_c},1.0,80,98000,0,1415,{infrared},{light},0,{light},0,0,0,0,180,3.5,7,7"
        + (",0" * 11)
    )


def epw(**change: str) -> str:
    return "\n".join(EPW_HEADER + [epw_line(hour, **change) for hour in range(HOURS)])


def tmy3(line: str = "01/01/1999,01:00,0,0,0,10,-5.0,-8.0,79,835,2.6") -> str:
    return "\n".join(TMY3_HEADER + [line] * HOURS)


def test_epw_is_read() -> None:
    year = parse_weather(epw(light="100"), "lyon.epw")
    assert (year.place.latitude_deg, year.place.longitude_deg, year.place.zone_h) == (45.73, 5.08, 1.0)
    weather = year.at(12.5 * 3600)
    assert (weather.outside_c, weather.humidity, weather.pressure_pa, weather.wind_m_s) == (4.5, 0.8, 98_000.0, 3.5)
    assert (weather.global_w_m2, weather.beam_w_m2, weather.diffuse_w_m2) == (100.0, 0.0, 100.0)
    assert weather.time_s == 12.5 * 3600 and 0.1 < weather.sun_height_rad < 0.5
    assert weather.sky_temperature_c == pytest.approx(-5.75, abs=0.1)


def test_tmy3_is_read_and_its_sky_comes_from_clouds() -> None:
    year = parse_weather(tmy3(), "denver.csv")
    weather = year.at(0.0)
    assert (year.place.latitude_deg, year.place.zone_h) == (39.833, -7.0)
    assert (weather.outside_c, weather.humidity, weather.pressure_pa) == (-5.0, 0.79, 83_500.0)
    assert -30 < weather.sky_temperature_c < -5


def test_year_goes_on_from_its_last_hour_into_its_first() -> None:
    lines = [epw_line(hour, outside_c=str(hour % 24)) for hour in range(HOURS)]
    year = parse_weather("\n".join(EPW_HEADER + lines), "x.epw")
    assert year.at(0.0).outside_c == (23 + 0) / 2
    assert year.at(365 * 86_400.0 + 3600).outside_c == 0.5
    assert year.at(1.999 * 3600).outside_c == 0.5


def test_february_29th_is_left_out() -> None:
    lines = [epw_line(hour) for hour in range(HOURS)]
    leap = [line.replace("1999,1,1,", "2000,2,29,") for line in lines[:24]]
    assert parse_weather("\n".join(EPW_HEADER + leap + lines), "x.epw").at(0.0).outside_c == 4.5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "x: neither EPW nor TMY3: 0 lines"),
        ("\n" * 8768, "x:1: no latitude, longitude and time zone: neither EPW nor TMY3"),
        (epw().replace("45.73", "145.73"), "x:1: no latitude, longitude and time zone: neither EPW nor TMY3"),
        (epw().replace(",4.5,", ",99.9,", 1), "x:9: no usable outside"),
        (epw().replace(",4.5,", ",nan,", 1), "x:9: no usable outside"),
        (epw(light="9999"), "x:9: no usable global_w_m2"),
        (epw().replace(epw_line(5), "1999,1,1,6,0", 1), "x:14: 5 columns, EPW has 35"),
        ("\n".join(epw().split("\n")[:-3]), "x: 8757 hours of data instead of 8760"),
        (tmy3().replace("Dry-bulb (C)", "Wet-bulb (C)"), 'x:2: neither EPW nor TMY3: no column "Dry-bulb (C)"'),
        (tmy3("01/01/1999,01:00,0,0"), "x:3: 4 columns of 11"),
        (epw() + "\n" * 1000, "x: neither EPW nor TMY3: 9767 lines"),
        (epw().replace("COMMENTS 3", "C" * 5000), "x: neither EPW nor TMY3: 8768 lines"),
    ],
)
def test_wrong_file_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(WeatherError) as caught:
        parse_weather(text, "x")
    assert str(caught.value) == problem


def test_file_that_is_absent_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeatherError, match="no.epw: No such file"):
        read_weather(tmp_path / "no.epw")
    (large := tmp_path / "large.epw").touch()
    with large.open("r+b") as handle:
        handle.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(WeatherError, match="large.epw: more than 16 MiB"):
        read_weather(large)
