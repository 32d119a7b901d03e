"""A year of hours of weather at a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .conditions import Weather
from .sun import Place, extraterrestrial_w_m2, position_rad

HOUR_S = 3600.0
HOURS = 8760
YEAR_S = HOURS * HOUR_S


@dataclass(frozen=True, slots=True)
class HourlyWeather:
    """One hour that ends at its stamp. Sunlight is the mean of the hour, all else as of the stamp."""

    outside_c: float
    humidity: float
    pressure_pa: float
    wind_m_s: float
    sky_c: float
    global_w_m2: float
    beam_w_m2: float
    diffuse_w_m2: float


class WeatherYear:
    """8,760 hours; time goes on from the last into the first. Raises ValueError for another number."""

    def __init__(self, place: Place, hours: Sequence[HourlyWeather], source: str) -> None:
        if len(hours) != HOURS:
            raise ValueError(f"{len(hours)} hours instead of {HOURS}")
        self.place = place
        self.source = source
        self._hours = tuple(hours)
        self.hour = lru_cache(maxsize=512)(self._hour)

    def at(self, time_s: float) -> Weather:
        """The means of the hour in which a time lies, and that time."""
        found = self.hour(int(time_s // HOUR_S) % HOURS)
        return found.later(time_s - found.time_s)

    def steps(self, begin_s: float, end_s: float, step_s: float) -> Iterator[Weather]:
        """The weather at the begin of each step; a step should divide the hour."""
        count = round((end_s - begin_s) / step_s)
        return (self.at(begin_s + i * step_s) for i in range(count))

    def _hour(self, index: int) -> Weather:
        """Its means: of what was stamped, between the stamps before and after; the sun stands where it is halfway."""
        before, after = self._hours[index - 1], self._hours[index]
        middle_s = (index + 0.5) * HOUR_S
        height, azimuth = position_rad(self.place, middle_s)
        if height <= 0 and after.global_w_m2 > 0:
            # It rises or sets within the hour: just over the horizon for what light there was.
            height = 0.01
        return Weather(
            outside_c=(before.outside_c + after.outside_c) / 2,
            time_s=index * HOUR_S,
            humidity=(before.humidity + after.humidity) / 2,
            pressure_pa=(before.pressure_pa + after.pressure_pa) / 2,
            wind_m_s=(before.wind_m_s + after.wind_m_s) / 2,
            sky_c=(before.sky_c + after.sky_c) / 2,
            global_w_m2=after.global_w_m2,
            beam_w_m2=after.beam_w_m2,
            diffuse_w_m2=after.diffuse_w_m2,
            space_w_m2=extraterrestrial_w_m2(middle_s),
            sun_height_rad=height,
            sun_azimuth_rad=azimuth,
        )
