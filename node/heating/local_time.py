"""The clock on the wall, as schedules and tariffs read it."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalTime:
    """wall_s: unix seconds.  utc_offset_s: local time is so far ahead."""

    wall_s: float = 0.0
    utc_offset_s: float = 0.0


def local_time() -> LocalTime:
    """As the machine's clock and time zone say."""
    now_s = time.time()
    return LocalTime(now_s, float(time.localtime(now_s).tm_gmtoff))
