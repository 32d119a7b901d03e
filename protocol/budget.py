"""What a peer may cause within a time: a token bucket in whole numbers."""

from __future__ import annotations


class Budget:
    """`burst` at once, then `refill` every `interval_us`."""

    __slots__ = ("_burst", "_interval_us", "_refill", "_spare", "_updated_us")

    def __init__(self, burst: int, refill: int, interval_us: int, now_us: int) -> None:
        self._burst = burst
        self._refill = refill
        self._interval_us = interval_us
        # In units of 1 / interval_us, so that no refill is lost to rounding.
        self._spare = burst * interval_us
        self._updated_us = now_us

    def spend(self, amount: int, now_us: int) -> bool:
        """False, and nothing spent, if there is less than `amount`."""
        passed_us = max(0, now_us - self._updated_us)
        self._updated_us = now_us
        self._spare = min(self._burst * self._interval_us, self._spare + passed_us * self._refill)
        if amount * self._interval_us > self._spare:
            return False
        self._spare -= amount * self._interval_us
        return True
