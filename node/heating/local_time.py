"""The clock on the wall, as schedules and tariffs read it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..clock import asleep_s, wall_us


@dataclass(frozen=True, slots=True)
class LocalTime:
    """wall_s: unix seconds.  utc_offset_s: local time is so far ahead.

    asleep_s: how long the machine slept since it was started; the monotonic clock does not count that.
    """

    wall_s: float = 0.0
    utc_offset_s: float = 0.0
    asleep_s: float = 0.0


def local_time() -> LocalTime:
    """As the node's clock and the machine's time zone say."""
    now_s = wall_us() / 1e6
    return LocalTime(now_s, float(time.localtime(now_s).tm_gmtoff), asleep_s())
