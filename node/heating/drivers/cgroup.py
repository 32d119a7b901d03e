"""A CPU quota for a control group (version 2): the node's service, or the one that its tasks run in."""

from __future__ import annotations

import re
from pathlib import Path

from .files import write_text
from .found import FoundValues
from .interface import Allowed, DriverError, PowerActuator, SafeWrite

_QUOTA = re.compile(r"(max|[0-9]{1,20}) [0-9]{1,20}")
PERIOD_US = 100_000
# The node itself has to go on, or nobody would be there to raise the quota again.
RESERVE_CORES = 0.25


class CgroupQuota(PowerActuator):
    """group: its path below /sys/fs/cgroup.  cores: the most that it ever allows, beside the node's own."""

    def __init__(self, group: str, cores: int, root: Path = Path("/"), found: FoundValues | None = None) -> None:
        """Raises DriverError if the group has no CPU controller."""
        if ".." in Path(group).parts:
            raise DriverError(f"{group}: no .. in a control group's path")
        self._file = root / "sys/fs/cgroup" / group.lstrip("/") / "cpu.max"
        self._cores = cores
        self._found = (found if found is not None else FoundValues()).text(self._file, _QUOTA)

    def apply(self, allowed: Allowed) -> None:
        write_text(self._file, self._quota(min(float(self._cores), max(0.0, allowed.cores))))

    def release(self) -> None:
        write_text(self._file, self._found)

    def safe_writes(self) -> tuple[SafeWrite, ...]:
        return (SafeWrite(str(self._file), self._quota(0.0)),)

    @staticmethod
    def _quota(cores: float) -> str:
        return f"{round((cores + RESERVE_CORES) * PERIOD_US)} {PERIOD_US}"
