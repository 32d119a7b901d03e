"""Where the sun stands. Source: Spencer, Fourier series representation of the position of the sun (1971)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .conditions import DAY_S

SOLAR_CONSTANT_W_M2 = 1367.0


@dataclass(frozen=True, slots=True)
class Place:
    """latitude_deg: north positive.  longitude_deg: east positive.  zone_h: standard time ahead of UTC."""

    latitude_deg: float
    longitude_deg: float
    zone_h: float

    def __post_init__(self) -> None:
        if not (abs(self.latitude_deg) <= 90 and abs(self.longitude_deg) <= 180 and -12 <= self.zone_h <= 14):
            raise ValueError("no place on earth")


def _angle(time_s: float) -> float:
    """Of the year, in radians."""
    return 2 * math.pi * (time_s / DAY_S % 365.0) / 365.0


def declination_rad(time_s: float) -> float:
    """Of the sun, positive in the northern summer; within 0.0006 rad."""
    g = _angle(time_s)
    return (
        0.006918
        - 0.399912 * math.cos(g)
        + 0.070257 * math.sin(g)
        - 0.006758 * math.cos(2 * g)
        + 0.000907 * math.sin(2 * g)
        - 0.002697 * math.cos(3 * g)
        + 0.00148 * math.sin(3 * g)
    )


def equation_of_time_s(time_s: float) -> float:
    """How far the true sun is ahead of the mean one; within 35 s."""
    g = _angle(time_s)
    series = (
        0.000075
        + 0.001868 * math.cos(g)
        - 0.032077 * math.sin(g)
        - 0.014615 * math.cos(2 * g)
        - 0.040849 * math.sin(2 * g)
    )
    return series * DAY_S / (2 * math.pi)


def extraterrestrial_w_m2(time_s: float) -> float:
    """Irradiance on a plane that faces the sun outside the atmosphere."""
    g = _angle(time_s)
    distance = (
        1.00011
        + 0.034221 * math.cos(g)
        + 0.00128 * math.sin(g)
        + 0.000719 * math.cos(2 * g)
        + 0.000077 * math.sin(2 * g)
    )
    return SOLAR_CONSTANT_W_M2 * distance


def hour_angle_rad(place: Place, time_s: float) -> float:
    """0 when the sun is at its highest, positive in the afternoon.  time_s: local standard time since January 1st."""
    mean_s = time_s + (place.longitude_deg / 15.0 - place.zone_h) * 3600.0
    return ((mean_s + equation_of_time_s(time_s)) / DAY_S % 1.0 - 0.5) * 2 * math.pi


def position_rad(place: Place, time_s: float) -> tuple[float, float]:
    """(height over the horizon, azimuth from south with west positive) of the sun's centre, without refraction."""
    latitude, declination = math.radians(place.latitude_deg), declination_rad(time_s)
    hour = hour_angle_rad(place, time_s)
    sine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(hour)
    west = math.cos(declination) * math.sin(hour)
    south = math.sin(latitude) * math.cos(declination) * math.cos(hour) - math.cos(latitude) * math.sin(declination)
    return math.asin(max(-1.0, min(1.0, sine))), math.atan2(west, south)
