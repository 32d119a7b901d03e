"""P-states: the highest frequency that the processor may choose."""

from __future__ import annotations

from pathlib import Path

from .files import folders, read_count, write_text
from .found import FoundValues
from .interface import Allowed, DriverError, PowerActuator, SafeWrite

_POLICIES = "sys/devices/system/cpu/cpufreq"


class CpuFreqLimit(PowerActuator):
    """Between the lowest and the highest frequency."""

    def __init__(self, root: Path = Path("/"), found: FoundValues | None = None) -> None:
        """Raises DriverError without a policy."""
        found = found if found is not None else FoundValues()
        self._policies = list(folders(root / _POLICIES, "policy*"))
        if not self._policies:
            raise DriverError(f"{root / _POLICIES}: no frequency can be set here")
        self._bounds = [
            (read_count(policy / "cpuinfo_min_freq"), read_count(policy / "cpuinfo_max_freq"))
            for policy in self._policies
        ]
        if any(not 0 < low_khz <= high_khz for low_khz, high_khz in self._bounds):
            raise DriverError(f"{root / _POLICIES}: bounds of a frequency that cannot be")
        self._found = [found.count(policy / "scaling_max_freq") for policy in self._policies]

    @property
    def lowest_speed(self) -> float:
        """Of the highest frequency."""
        return max(low_khz / high_khz for low_khz, high_khz in self._bounds)

    def apply(self, allowed: Allowed) -> None:
        for policy, (low_khz, high_khz) in zip(self._policies, self._bounds, strict=True):
            chosen_khz = min(high_khz, max(low_khz, round(high_khz * allowed.speed)))
            write_text(policy / "scaling_max_freq", str(chosen_khz))

    def release(self) -> None:
        for policy, found_khz in zip(self._policies, self._found, strict=True):
            write_text(policy / "scaling_max_freq", str(found_khz))

    def safe_writes(self) -> tuple[SafeWrite, ...]:
        return tuple(
            SafeWrite(str(policy / "scaling_max_freq"), str(low_khz))
            for policy, (low_khz, _) in zip(self._policies, self._bounds, strict=True)
        )
