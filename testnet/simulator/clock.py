"""A machine's own clocks: one that only counts, at its own pace, and one on the wall that can be wrong or set."""

from __future__ import annotations

from dataclasses import dataclass

_MILLION = 1_000_000
WALL_OFFSET_US = 1_800_000_000_000_000


@dataclass(slots=True)
class Clock:
    """drift_ppm: millionths by which the machine counts too fast.  skew_us: how far its wall clock is ahead.

    The counting clock begins anew, at `origin_us` of true time, with each boot; here with each life.
    """

    drift_ppm: int = 0
    skew_us: int = 0
    origin_us: int = 0

    def local_us(self, true_us: int) -> int:
        passed_us = true_us - self.origin_us
        return passed_us + passed_us * self.drift_ppm // _MILLION + 1

    def true_us(self, local_us: int) -> int:
        """The first true time at which the local clock shows at least this."""
        wanted_us = local_us - 1
        if wanted_us <= 0:
            return self.origin_us
        drift_ppm = self.drift_ppm
        if not drift_ppm:
            return self.origin_us + wanted_us
        passed_us = wanted_us * _MILLION // (_MILLION + drift_ppm)
        while passed_us + passed_us * drift_ppm // _MILLION < wanted_us:
            passed_us += 1
        return self.origin_us + passed_us

    def wall_offset_us(self, true_us: int) -> int:
        """What to add to the local time for microseconds since 1970, as the machine believes."""
        return true_us + self.skew_us + WALL_OFFSET_US - self.local_us(true_us)

    def wall_us(self, true_us: int) -> int:
        return true_us + self.skew_us + WALL_OFFSET_US
