"""Air and sky: saturation of water vapour, the dew point, and the temperature of the sky as a radiator."""

from __future__ import annotations

import math

STEFAN_BOLTZMANN = 5.670374419e-8
KELVIN = 273.15


def saturation_pa(temperature_c: float) -> float:
    """Pressure of saturated water vapour over water. Source: Magnus formula, Alduchov and Eskridge (1996), eq. 21."""
    return 610.94 * math.exp(17.625 * temperature_c / (temperature_c + 243.04))


def saturation_slope_pa_per_k(temperature_c: float) -> float:
    """Its derivative."""
    return saturation_pa(temperature_c) * 17.625 * 243.04 / (temperature_c + 243.04) ** 2


def dew_point_c(temperature_c: float, humidity: float) -> float:
    """humidity: relative, 0 to 1; the least that counts is 1 %."""
    gamma = math.log(max(0.01, humidity)) + 17.625 * temperature_c / (temperature_c + 243.04)
    return 243.04 * gamma / (17.625 - gamma)


def sky_c_of_infrared(infrared_w_m2: float) -> float:
    """Temperature of a black sky that sends so much down."""
    return math.sqrt(math.sqrt(max(50.0, infrared_w_m2) / STEFAN_BOLTZMANN)) - KELVIN


def sky_c_of_clouds(temperature_c: float, dew_c: float, cloud_tenths: float) -> float:
    """The same from what was observed. Source: Clark and Allen (1978); Walton (1983) for the clouds."""
    clear = 0.787 + 0.764 * math.log((dew_c + KELVIN) / KELVIN)
    n = cloud_tenths
    emissivity = clear * (1.0 + 0.0224 * n - 0.0035 * n * n + 0.00028 * n**3)
    return sky_c_of_infrared(min(1.0, emissivity) * STEFAN_BOLTZMANN * (temperature_c + KELVIN) ** 4)
