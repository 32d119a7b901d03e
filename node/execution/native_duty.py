"""Holds a running task to a share of a core, by pausing it, in a loop closed on its measured CPU time.

Open loops miss by 5 to 15 points: processes don't run when they are told to, and pausing takes time.
"""

from __future__ import annotations

from dataclasses import dataclass

PERIOD_US = 100_000
MIN_SLICE_US = 5_000  # a shorter run is not worth two signals
MAX_CREDIT_US = PERIOD_US  # a task that waited may not burst for longer than one period
MAX_DEBT_US = 20 * PERIOD_US  # nor is one that ran on eight threads stopped for ever


@dataclass(slots=True)
class Pace:
    """What an executor and its running tasks tell each other. duty: share of one core that each may use, 0 … 1.
    cpu_us: what all of them have used since the start, up to date within PERIOD_US."""

    duty: float = 1.0
    cpu_us: int = 0


class DutyCycle:
    """How long the task may run within each period. Feed it cumulative readings; it forgets no debt but the
    excess over MAX_DEBT_US."""

    def __init__(self) -> None:
        self._balance_us = 0.0
        self._last_cpu_us = 0

    def slice_us(self, duty: float, elapsed_us: int, cpu_us: int) -> int:
        """Microseconds to run in the coming period, 0 … PERIOD_US.

        duty: share of one core, 0 … 1.  elapsed_us: since the last call.  cpu_us: the task's CPU time so far.
        """
        if duty >= 1.0:
            self._balance_us, self._last_cpu_us = 0.0, cpu_us
            return PERIOD_US
        self._balance_us += duty * elapsed_us - (cpu_us - self._last_cpu_us)
        self._balance_us = max(-MAX_DEBT_US, min(self._balance_us, MAX_CREDIT_US))
        self._last_cpu_us = cpu_us
        if duty <= 0.0:
            return 0
        allowed_us = round(self._balance_us + duty * PERIOD_US)
        return min(allowed_us, PERIOD_US) if allowed_us >= MIN_SLICE_US else 0
