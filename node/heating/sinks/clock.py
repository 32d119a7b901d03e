"""A grid on a sink's own clock.

What is not linear in the temperatures happens at its points: so it happens at the same moments however a time is cut
into steps, and one step still equals two halves.
"""

from __future__ import annotations

import math

# Times of a year have some 4e-9 s of rounding; points closer than this are one.
_ROUNDING_S = 2e-6
HOUR_S = 3600.0


def until_next(time_s: float, grid_s: float) -> float:
    """Seconds to the next point, > 0; a whole grid at a point.

    To the microsecond, so that equal pieces have equal lengths, for which circuits remember their matrices.
    """
    return round((math.floor((time_s + _ROUNDING_S) / grid_s) + 1) * grid_s - time_s, 6)


def is_point(time_s: float, grid_s: float) -> bool:
    remainder = time_s % grid_s
    return min(remainder, grid_s - remainder) <= _ROUNDING_S


def hour_of_day(time_s: float) -> int:
    """0 to 23; a time just before an hour by rounding belongs to it."""
    return int((time_s + _ROUNDING_S) // HOUR_S) % 24
