"""Minimum dwell times: a heater's tasks don't come and go with every breath of the sensor."""

from __future__ import annotations


class Dwell:
    """Holds a level for hold_s before it may change again; only safety lowers it sooner. Seconds never go back."""

    def __init__(self, hold_s: float, level: int = 0) -> None:
        self._hold_s = hold_s
        self._changed_s: float | None = None
        self.level = level

    def update(self, wanted: int, now_s: float, *, ceiling: int | None = None) -> int:
        """The level that holds. ceiling: what safety or a power limit allows; it is obeyed at once."""
        allowed = self._changed_s is None or now_s - self._changed_s >= self._hold_s
        level = wanted if allowed else self.level
        if ceiling is not None:
            level = min(level, ceiling)
        if level != self.level:
            self.level, self._changed_s = level, now_s
        return level

    def release(self) -> None:
        """The next change need not wait."""
        self._changed_s = None
