"""How long one may hold a job's tasks without delivering: a lease is renewed for work, not for the asking.

A replica notes since when each holder owes it something of the job. What is delivered moves that time on, in proportion
to what it is worth; who owes for longer than the patience loses what it holds, and gets no more of the job until it
delivers, or for a while. Nothing is taken from a result that comes late: it is a candidate like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

from .config import ProtocolConfig
from .jobs import JobState

# Doublings of the patience; it has reached its bound long before.
OVERRUNS_COUNTED_MAX = 30
BARRED_MAX = 1024


class Pace:
    """Of one kept job at one replica. Soft state: after a restart everybody has a full term again."""

    def __init__(self, state: JobState, config: ProtocolConfig) -> None:
        self._state = state
        self._config = config
        self._owes_since_us: dict[bytes, int] = {}
        self._barred_until_us: dict[bytes, int] = {}
        self._overruns = 0
        self._looked_us = 0

    @property
    def patience_us(self) -> int:
        """How long a holder may deliver nothing: microseconds, at least a lease.

        A batch by the job's measured task, or the submitter's estimate, times how much slower than the mean the honest
        may be; twice as long with each overrun, as it may be the tasks that are slow. At most what one task may take by
        the job's own limit, times the same; and that if nothing is known.
        """
        config, wall_us = self._config, self._state.spec.limits.wall_us
        longest_us = max(wall_us, config.batch_target_us)
        task_us = self._state.task_us
        batch_us = max(config.batch_target_us, config.batch_tasks_first * task_us) if task_us else longest_us
        return config.lease_us + config.slower_max * min(longest_us, batch_us << self._overruns)

    def began(self, holder: bytes, now_us: int) -> None:
        """It holds tasks: from now on, unless it did before."""
        if not self._owes_since_us:
            self._looked_us = now_us
        self._owes_since_us.setdefault(holder, now_us)

    def delivered(self, holder: bytes, tasks: int, now_us: int) -> None:
        """tasks: those of which nobody had delivered a result before."""
        if tasks == 0:
            return
        self._barred_until_us.pop(holder, None)
        since_us = self._owes_since_us.get(holder)
        if since_us is not None:
            earned_us = self._config.slower_max * self._state.task_us * tasks
            self._owes_since_us[holder] = min(now_us, since_us + earned_us)

    def bars(self, node: bytes, now_us: int) -> bool:
        """Whether it overran, and has delivered nothing since."""
        return self._barred_until_us.get(node, now_us) > now_us

    def overran(self, held: Mapping[bytes, int], now_us: int) -> list[bytes]:
        """Those whose time has passed. held: tasks by holder.

        To be asked at each sweep. While this node itself slept it could not hear of any delivery: that does not count.
        """
        slept_us = max(0, now_us - self._looked_us - 2 * self._config.lease_sweep_us)
        self._looked_us = now_us
        self._owes_since_us = {
            node: min(now_us, since_us + slept_us) for node, since_us in self._owes_since_us.items() if node in held
        }
        patience_us = self.patience_us
        late = [node for node, since_us in self._owes_since_us.items() if now_us - since_us > patience_us]
        for node in late:
            del self._owes_since_us[node]
            self._bar(node, now_us)
        return late

    def _bar(self, node: bytes, now_us: int) -> None:
        self._overruns = min(self._overruns + 1, OVERRUNS_COUNTED_MAX)
        barred = {other: until_us for other, until_us in self._barred_until_us.items() if until_us > now_us}
        barred[node] = now_us + self.patience_us
        while len(barred) > BARRED_MAX:
            del barred[next(iter(barred))]
        self._barred_until_us = barred
