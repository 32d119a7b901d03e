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
        passed_us = max(0, local_us - 1)
        guess_us = self.origin_us + passed_us * _MILLION // (_MILLION + self.drift_ppm)
        while self.local_us(guess_us) < local_us:
            guess_us += 1
        return guess_us

    def wall_offset_us(self, true_us: int) -> int:
        """What to add to the local time for microseconds since 1970, as the machine believes."""
        return true_us + self.skew_us + WALL_OFFSET_US - self.local_us(true_us)

    def wall_us(self, true_us: int) -> int:
        return true_us + self.skew_us + WALL_OFFSET_US
