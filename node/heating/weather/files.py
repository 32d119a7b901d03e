"""Weather from a file: EPW (EnergyPlus) or TMY3 (NREL's CSV), told apart by the first line.

Formats: EnergyPlus Auxiliary Programs, "EnergyPlus Weather File (EPW) Data Dictionary"; Wilcox and Marion, Users
Manual for TMY3 Data Sets, NREL/TP-581-43156 (2008). Hours end at their stamps, in local standard time; the years of a
typical year's months are ignored, and so is February 29th.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from .sky import sky_c_of_clouds, sky_c_of_infrared
from .sun import Place
from .year import HOURS, HourlyWeather, WeatherYear

FILE_BYTES_MAX = 16 * 1024 * 1024
_LINES_MAX = 9000
_LINE_CHARACTERS_MAX = 4096

# Of each quantity: what the columns of the two formats are called or numbered, the factor to our unit, and the least
# and most that are believed; what lies beyond is missing.
_EPW = {
    "outside_c": (6, 1.0, -70.0, 70.0),
    "dew_c": (7, 1.0, -90.0, 70.0),
    "humidity": (8, 0.01, 0.0, 110.0),
    "pressure_pa": (9, 1.0, 31_000.0, 120_000.0),
    "infrared_w_m2": (12, 1.0, 1.0, 9_998.0),
    "global_w_m2": (13, 1.0, 0.0, 1_600.0),
    "beam_w_m2": (14, 1.0, 0.0, 1_600.0),
    "diffuse_w_m2": (15, 1.0, 0.0, 1_600.0),
    "wind_m_s": (21, 1.0, 0.0, 90.0),
    "cloud_tenths": (22, 1.0, 0.0, 10.0),
}
_TMY3 = {
    "outside_c": ("Dry-bulb (C)", 1.0, -70.0, 70.0),
    "dew_c": ("Dew-point (C)", 1.0, -90.0, 70.0),
    "humidity": ("RHum (%)", 0.01, 0.0, 110.0),
    "pressure_pa": ("Pressure (mbar)", 100.0, 310.0, 1_200.0),
    "global_w_m2": ("GHI (W/m^2)", 1.0, 0.0, 1_600.0),
    "beam_w_m2": ("DNI (W/m^2)", 1.0, 0.0, 1_600.0),
    "diffuse_w_m2": ("DHI (W/m^2)", 1.0, 0.0, 1_600.0),
    "wind_m_s": ("Wspd (m/s)", 1.0, 0.0, 90.0),
    "cloud_tenths": ("TotCld (tenths)", 1.0, 0.0, 10.0),
}
_NEEDED = ("outside_c", "global_w_m2", "beam_w_m2", "diffuse_w_m2")


class WeatherError(ValueError):
    """A file that is no weather, in one line: which file, which line, what is wrong."""


def read_weather(path: Path) -> WeatherYear:
    """Raises WeatherError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise WeatherError(f"{path.name}: more than {FILE_BYTES_MAX // 2**20} MiB")
        text = path.read_text(encoding="latin-1")
    except OSError as error:
        raise WeatherError(f"{path.name}: {error.strerror or error}") from error
    return parse_weather(text, path.name)


def parse_weather(text: str, name: str) -> WeatherYear:
    """name: of the file, for errors and as the source. Raises WeatherError."""
    lines = text.splitlines()
    if not 8760 <= len(lines) <= _LINES_MAX or any(len(line) > _LINE_CHARACTERS_MAX for line in lines):
        raise WeatherError(f"{name}: neither EPW nor TMY3: {len(lines)} lines")
    rows = csv.reader(lines)
    try:
        first = next(rows)
        is_epw = first[:1] == ["LOCATION"]
        place = _place(name, first, (6, 7, 8) if is_epw else (4, 5, 3))
        hours = list(_epw_hours(name, rows) if is_epw else _tmy3_hours(name, rows))
    except csv.Error as error:
        raise WeatherError(f"{name}: {error}") from error
    if len(hours) != HOURS:
        raise WeatherError(f"{name}: {len(hours)} hours of data instead of {HOURS}")
    return WeatherYear(place, hours, name)


def _place(name: str, header: list[str], columns: tuple[int, int, int]) -> Place:
    try:
        latitude_deg, longitude_deg, zone_h = (float(header[column]) for column in columns)
        return Place(latitude_deg, longitude_deg, zone_h)
    except (IndexError, ValueError):
        raise WeatherError(f"{name}:1: no latitude, longitude and time zone: neither EPW nor TMY3") from None


def _epw_hours(name: str, rows: Iterator[list[str]]) -> Iterator[HourlyWeather]:
    for number, row in enumerate(rows, start=2):
        if not row or not row[0].strip().lstrip("-").isdigit():
            continue  # the other seven header lines
        if len(row) < 23:
            raise WeatherError(f"{name}:{number}: {len(row)} columns, EPW has 35")
        if (row[1].strip(), row[2].strip()) != ("2", "29"):
            yield _hour(name, number, {key: _number(row[spec[0]], *spec[1:]) for key, spec in _EPW.items()})


def _tmy3_hours(name: str, rows: Iterator[list[str]]) -> Iterator[HourlyWeather]:
    titles = {title.strip(): column for column, title in enumerate(next(rows, []))}
    lacking = [spec[0] for spec in _TMY3.values() if spec[0] not in titles]
    if lacking:
        raise WeatherError(f'{name}:2: neither EPW nor TMY3: no column "{lacking[0]}"')
    columns = {key: titles[spec[0]] for key, spec in _TMY3.items()}
    for number, row in enumerate(rows, start=3):
        if len(row) < len(titles):
            raise WeatherError(f"{name}:{number}: {len(row)} columns of {len(titles)}")
        if not row[0].startswith("02/29"):
            yield _hour(name, number, {key: _number(row[columns[key]], *spec[1:]) for key, spec in _TMY3.items()})


def _number(text: str, factor: float, low: float, high: float) -> float | None:
    """In our unit; None where the format's mark for a missing value or nonsense stands."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value * factor if math.isfinite(value) and low <= value <= high else None


def _hour(name: str, number: int, found: Mapping[str, float | None]) -> HourlyWeather:
    for key in _NEEDED:
        if found[key] is None:
            raise WeatherError(f"{name}:{number}: no usable {key.rsplit('_', 1)[0] if key == 'outside_c' else key}")
    outside_c = found["outside_c"] or 0.0
    humidity = found["humidity"]
    infrared_w_m2, dew_c, cloud_tenths = found.get("infrared_w_m2"), found["dew_c"], found["cloud_tenths"]
    if infrared_w_m2 is not None:
        sky_c = sky_c_of_infrared(infrared_w_m2)
    else:
        sky_c = sky_c_of_clouds(outside_c, dew_c if dew_c is not None else outside_c - 5.0, cloud_tenths or 0.0)
    return HourlyWeather(
        outside_c=outside_c,
        humidity=min(1.0, humidity) if humidity is not None else 0.5,
        pressure_pa=found["pressure_pa"] or 101_325.0,
        wind_m_s=found["wind_m_s"] or 0.0,
        sky_c=sky_c,
        global_w_m2=found["global_w_m2"] or 0.0,
        beam_w_m2=found["beam_w_m2"] or 0.0,
        diffuse_w_m2=found["diffuse_w_m2"] or 0.0,
    )
