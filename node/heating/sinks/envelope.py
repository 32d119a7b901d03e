"""Sun and sky on a room's windows and walls.

Source: ISO 13790:2008, sections 11.3 (solar gains, with the frame's share), 11.3.4 (radiation of opaque parts to the
sky); the light's angle on the glass as in `weather/perez.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from ..weather.conditions import Weather
from ..weather.perez import Plane, glass_share, glass_share_of_diffuse, irradiance_on

# ISO 13790, 11.4.6: of a surface at some 10 °C, W/m²K per unit of emissivity.
RADIATIVE_W_M2_K = 5.0
EMISSIVITY = 0.9
OUTSIDE_RESISTANCE_M2_K_W = 0.04


@dataclass(frozen=True, slots=True)
class Window:
    """area_m2: with the frame.  g: share of the sun's energy that comes in at normal incidence.  panes: of clear glass.

    u_w_m2_k: its transmittance, for what it radiates to the sky; the loss to the air is the room's business.
    """

    area_m2: float
    plane: Plane = Plane()
    g: float = 0.6
    frame_share: float = 0.25
    u_w_m2_k: float = 1.6
    panes: int = 2

    def __post_init__(self) -> None:
        if not (0 < self.area_m2 < 1e6 and 0 <= self.g <= 1 and 0 <= self.frame_share < 1 and 0 < self.u_w_m2_k < 10):
            raise ValueError("no window")

    def sun_w(self, weather: Weather) -> float:
        light = irradiance_on(self.plane, weather)
        through_w_m2 = light.sun_w_m2 * glass_share(light.incidence_rad, self.panes)
        through_w_m2 += light.diffuse_w_m2 * glass_share_of_diffuse(self.panes)
        return self.area_m2 * (1.0 - self.frame_share) * self.g * through_w_m2

    def sky_w(self, weather: Weather) -> float:
        """To the sky, beyond what the loss to the air counts."""
        return _sky_w(self.area_m2 * self.u_w_m2_k, self.plane, weather)


@dataclass(frozen=True, slots=True)
class Wall:
    """An opaque part.  absorptance: of sunlight."""

    area_m2: float
    u_w_m2_k: float
    plane: Plane = Plane()
    absorptance: float = 0.6

    def __post_init__(self) -> None:
        if not (0 < self.area_m2 < 1e6 and 0 < self.u_w_m2_k < 10 and 0 <= self.absorptance <= 1):
            raise ValueError("no wall")

    def net_w(self, weather: Weather) -> float:
        """Sunlight that gets inside less radiation to the sky."""
        area_w_k = self.area_m2 * self.u_w_m2_k
        sun_w = area_w_k * OUTSIDE_RESISTANCE_M2_K_W * self.absorptance * irradiance_on(self.plane, weather).total_w_m2
        return sun_w - _sky_w(area_w_k, self.plane, weather)


@dataclass(frozen=True, slots=True)
class Envelope:
    """windows and walls: those that the sun or the sky reaches."""

    windows: tuple[Window, ...] = ()
    walls: tuple[Wall, ...] = ()

    def gains_w(self, weather: Weather) -> float:
        """Net gain of all of it. 0 without any."""
        return _gains_w(self, weather) if self.windows or self.walls else 0.0


# A controller asks many times about one weather, and rooms of one house share an envelope.
@lru_cache(maxsize=256)
def _gains_w(envelope: Envelope, weather: Weather) -> float:
    windows_w = math.fsum(window.sun_w(weather) - window.sky_w(weather) for window in envelope.windows)
    return windows_w + math.fsum(wall.net_w(weather) for wall in envelope.walls)


def _sky_w(area_w_k: float, plane: Plane, weather: Weather) -> float:
    colder_k = weather.outside_c - weather.sky_temperature_c
    return area_w_k * OUTSIDE_RESISTANCE_M2_K_W * plane.sky_share * RADIATIVE_W_M2_K * EMISSIVITY * colder_k
