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
        self._fill(now_us)
        if amount * self._interval_us > self._spare:
            return False
        self._spare -= amount * self._interval_us
        return True

    def charge(self, amount: int, now_us: int) -> bool:
        """Spend it, there or not. True if it is this that overdraws the budget.

        For what has come already, and is only known to have been too much once it is counted.
        """
        self._fill(now_us)
        was_even = self._spare >= 0
        self._spare -= amount * self._interval_us
        return was_even and self._spare < 0

    def overdrawn_us(self, now_us: int) -> int:
        """Microseconds until there is something again."""
        if self._spare >= 0:
            return 0
        self._fill(now_us)
        return -(self._spare // self._refill) if self._spare < 0 else 0

    def _fill(self, now_us: int) -> None:
        passed_us = now_us - self._updated_us
        if passed_us:
            self._updated_us = now_us
            if passed_us > 0:
                full, spare = self._burst * self._interval_us, self._spare + passed_us * self._refill
                self._spare = spare if spare < full else full
