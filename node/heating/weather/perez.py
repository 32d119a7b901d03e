"""Sunlight on tilted planes by the anisotropic sky of Perez, and what of it glass lets through.

Sources: Perez, Ineichen, Seals, Michalsky, Stewart, Modeling daylight availability and irradiance components from
direct and global irradiance, Solar Energy 44 (1990) 271-289, table 6 (all sites); Kasten and Young, Applied Optics 28
(1989) 4735-4738, for the air mass; Karlsson and Roos, Modelling the angular behaviour of the total solar energy
transmittance of windows, Solar Energy 69 (2000) 321-329.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from .conditions import Weather

GROUND_ALBEDO = 0.2

# Upper bounds of the sky's clearness, and of each class F11 F12 F13 F21 F22 F23.
_CLEARNESS = (1.065, 1.23, 1.5, 1.95, 2.8, 4.5, 6.2, math.inf)
_BRIGHTNESS = (
    (-0.008, 0.588, -0.062, -0.060, 0.072, -0.022),
    (0.130, 0.683, -0.151, -0.019, 0.066, -0.029),
    (0.330, 0.487, -0.221, 0.055, -0.064, -0.026),
    (0.568, 0.187, -0.295, 0.109, -0.152, -0.014),
    (0.873, -0.392, -0.362, 0.226, -0.462, 0.001),
    (1.132, -1.237, -0.412, 0.288, -0.823, 0.056),
    (1.060, -1.600, -0.359, 0.264, -1.127, 0.131),
    (0.678, -0.327, -0.250, 0.156, -1.377, 0.251),
)
_LOWEST_COSINE = math.cos(math.radians(85.0))


@dataclass(frozen=True, slots=True)
class Plane:
    """tilt_deg: 0 lies face up, 90 stands.  azimuth_deg: where it faces, from south, west positive."""

    tilt_deg: float = 90.0
    azimuth_deg: float = 0.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.tilt_deg <= 180.0 and abs(self.azimuth_deg) <= 180.0):
            raise ValueError("no plane")

    @property
    def sky_share(self) -> float:
        """Of the half space in front of it."""
        return (1.0 + math.cos(math.radians(self.tilt_deg))) / 2.0


@dataclass(frozen=True, slots=True)
class Irradiance:
    """W/m² on a plane.  sun: disc and halo, under the angle of incidence.  diffuse: sky and ground."""

    sun_w_m2: float
    diffuse_w_m2: float
    incidence_rad: float

    @property
    def total_w_m2(self) -> float:
        return self.sun_w_m2 + self.diffuse_w_m2


def irradiance_on(plane: Plane, weather: Weather, *, isotropic: bool = False) -> Irradiance:
    """isotropic: as if the sky were equally bright all over, to tell what Perez's sky changes."""
    height = weather.sun_height_rad
    tilt = math.radians(plane.tilt_deg)
    turn = weather.sun_azimuth_rad - math.radians(plane.azimuth_deg)
    cosine = math.sin(height) * math.cos(tilt) + math.cos(height) * math.sin(tilt) * math.cos(turn)
    incidence = math.acos(max(-1.0, min(1.0, cosine)))
    facing = max(0.0, cosine) if height > 0 else 0.0
    ground_w_m2 = GROUND_ALBEDO * weather.global_w_m2 * (1.0 - plane.sky_share)
    circumsolar, horizon = (0.0, 0.0) if isotropic else _brightening(weather)
    halo_w_m2 = weather.diffuse_w_m2 * circumsolar * facing / max(_LOWEST_COSINE, math.sin(height))
    sky_w_m2 = weather.diffuse_w_m2 * ((1.0 - circumsolar) * plane.sky_share + horizon * math.sin(tilt))
    return Irradiance(weather.beam_w_m2 * facing + halo_w_m2, max(0.0, sky_w_m2) + ground_w_m2, incidence)


def _brightening(weather: Weather) -> tuple[float, float]:
    """F1 around the sun, F2 at the horizon."""
    height, diffuse_w_m2 = weather.sun_height_rad, weather.diffuse_w_m2
    if height <= 0 or diffuse_w_m2 < 1e-3:
        return 0.0, 0.0
    zenith = math.pi / 2 - height
    cubed = 1.041 * zenith**3
    clearness = ((diffuse_w_m2 + weather.beam_w_m2) / diffuse_w_m2 + cubed) / (1.0 + cubed)
    brightness = diffuse_w_m2 * air_mass(height) / weather.space_w_m2
    f11, f12, f13, f21, f22, f23 = next(
        row for bound, row in zip(_CLEARNESS, _BRIGHTNESS, strict=True) if clearness < bound
    )
    circumsolar = min(1.0, max(0.0, f11 + f12 * brightness + f13 * zenith))
    return circumsolar, f21 + f22 * brightness + f23 * zenith


def air_mass(height_rad: float) -> float:
    """Of the atmosphere that sunlight crosses, 1 for a sun overhead.  height_rad > 0."""
    height_deg = math.degrees(height_rad)
    return float(1.0 / (math.sin(height_rad) + 0.50572 * (height_deg + 6.07995) ** -1.6364))


def glass_share(incidence_rad: float, panes: int = 2) -> float:
    """Solar energy through clear panes under an angle, as a share of that at normal incidence."""
    z = incidence_rad / (math.pi / 2)
    if z >= 1.0:
        return 0.0
    category = 4.0  # Karlsson and Roos: uncoated clear glass
    alpha = 5.2 + 0.7 * category
    gamma = 5.26 + 0.06 * panes + (0.73 + 0.04 * panes) * category
    a, b = 8.0, 0.25 / category
    return float(max(0.0, 1.0 - a * z**alpha - b * z * z - (1.0 - a - b) * z**gamma))


@lru_cache(maxsize=4)
def glass_share_of_diffuse(panes: int = 2) -> float:
    """The same for light from all sides: the mean over a half space, by the midpoint rule."""
    steps = 900
    width = math.pi / 2 / steps
    angles = [(i + 0.5) * width for i in range(steps)]
    return sum(glass_share(angle, panes) * math.sin(2 * angle) for angle in angles) * width
