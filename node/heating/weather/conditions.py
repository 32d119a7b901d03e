"""Weather as a sink's step sees it: constant, or the means over the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Weather:
    """Means over a step.

    outside_c: dry-bulb temperature.  time_s: begin of the step since January 1st, 0:00 of local standard time, >= 0;
    what people do (draw water, open a pool) follows it.  humidity: relative, 0 to 1.  sky_c: temperature of a black
    sky that radiates as the real one does; the outside temperature if unknown.
    global_w_m2, beam_w_m2, diffuse_w_m2: irradiance on the ground, of the sun's disc on a plane that faces it, and of
    the sky on the ground.  space_w_m2: of the sun outside the atmosphere.
    sun_height_rad: above the horizon.  sun_azimuth_rad: from south, west positive.
    Raises ValueError for what is no weather.
    """

    outside_c: float
    time_s: float = 0.0
    humidity: float = 0.5
    pressure_pa: float = 101_325.0
    wind_m_s: float = 0.0
    sky_c: float | None = None
    global_w_m2: float = 0.0
    beam_w_m2: float = 0.0
    diffuse_w_m2: float = 0.0
    space_w_m2: float = 1367.0
    sun_height_rad: float = -math.pi / 2
    sun_azimuth_rad: float = 0.0

    def __post_init__(self) -> None:
        if not -100.0 <= self.outside_c <= 100.0:
            raise ValueError(f"no temperature outside: {self.outside_c}")
        if not 0.0 <= self.time_s < math.inf:
            raise ValueError(f"no time of the year: {self.time_s}")

    @property
    def sky_temperature_c(self) -> float:
        return self.outside_c if self.sky_c is None else self.sky_c

    @property
    def second_of_day(self) -> float:
        return self.time_s % DAY_S

    def later(self, seconds: float) -> Weather:
        """The same weather at a later time."""
        return replace(self, time_s=self.time_s + seconds)
