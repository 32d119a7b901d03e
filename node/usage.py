"""CPU time that tasks have used, also while they run: what the heater's watts are computed from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

_TICKS_S = os.sysconf("SC_CLK_TCK")


def process_cpu_us(pid: int) -> int | None:
    """User and system time of a process and of the children it has waited for; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return sum(map(int, fields[11:15])) * 1_000_000 // _TICKS_S


class TaskUsage:
    """Sums the CPU time of the executors' processes; what an ended process used stays counted."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._seen_us: dict[int, int] = {}
        self._ended_us = 0

    def total_us(self) -> int:
        """Microseconds since the start. Never falls."""
        current: dict[int, int] = {}
        for pid in self._pids():
            used_us = process_cpu_us(pid)
            if used_us is not None:
                current[pid] = used_us
        for pid, used_us in self._seen_us.items():
            if current.get(pid, -1) < used_us:
                self._ended_us += used_us
        self._seen_us = current
        return self._ended_us + sum(current.values())
