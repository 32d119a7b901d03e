"""Whether a sink is being heated: begun below the setpoint, ended above the band."""

from __future__ import annotations

from enum import Enum


class Mode(Enum):
    HEATING = "heating"
    WARM = "warm"


class Place(Enum):
    """Where a temperature lies."""

    BELOW_SETPOINT = "below the setpoint"
    IN_BAND = "in the band"
    ABOVE_BAND = "above the band"


TRANSITIONS: dict[tuple[Mode, Place], Mode] = {
    (Mode.WARM, Place.BELOW_SETPOINT): Mode.HEATING,
    (Mode.WARM, Place.IN_BAND): Mode.WARM,
    (Mode.WARM, Place.ABOVE_BAND): Mode.WARM,
    (Mode.HEATING, Place.BELOW_SETPOINT): Mode.HEATING,
    (Mode.HEATING, Place.IN_BAND): Mode.HEATING,
    (Mode.HEATING, Place.ABOVE_BAND): Mode.WARM,
}


def place(temperature_c: float, setpoint_c: float, band_k: float) -> Place:
    """band_k > 0."""
    if temperature_c < setpoint_c:
        return Place.BELOW_SETPOINT
    return Place.IN_BAND if temperature_c <= setpoint_c + band_k else Place.ABOVE_BAND
