"""Whether a meter tells too little for what is computed: it sees another circuit, or hangs, or a clamp has come off."""

from __future__ import annotations

from .power import PowerLoop, PowerTable


class MeterDoubt:
    """Compares sums: what the meter told in all, and what cores that were busy meanwhile draw above idle by the table.

    So a meter that is read late is not doubted, nor one that sees only a part of the heater, nor any at rest.
    A doubt stays until cores are busy and the meter shows it.
    """

    # By a table that was measured: what the power loop would not follow. By a guessed one: next to nothing.
    SHARE_OF_MEASURED, SHARE_OF_GUESSED = 1 / PowerLoop.FACTOR_MAX, 0.02
    # Of the heater at full power: what a verdict needs, and what it is by.
    NOTICED_S, WINDOW_S = 12.0, 20.0
    # A meter is so late at most, since a quarter of the former is told then; after it, what is told at rest speaks for
    # nothing.
    LATE_US = 8_000_000

    def __init__(self, table: PowerTable) -> None:
        self._table = table
        self._share = self.SHARE_OF_MEASURED if table.measured else self.SHARE_OF_GUESSED
        self._expected_uj = self._told_uj = 0.0
        self._rested_us = self.LATE_US
        self.doubted = False

    def see(self, load: float, told_uj: int, duration_us: int) -> None:
        """load: in cores at full speed.  told_uj: idle energy included."""
        full_uj_per_s = self._table.capacity_w * 1e6
        if self._expected_uj >= self.WINDOW_S * full_uj_per_s:
            self._expected_uj = self._told_uj = 0.0
        busy_w = self._table.watts(load)
        self._rested_us = 0 if busy_w > 0.02 * self._table.capacity_w else self._rested_us + duration_us
        if self._rested_us > self.LATE_US:
            return
        self._expected_uj += busy_w * duration_us
        self._told_uj += told_uj
        if self._expected_uj >= self.NOTICED_S * full_uj_per_s:
            self.doubted = self._told_uj < self._share * self._expected_uj
