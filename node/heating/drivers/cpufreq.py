"""P-states: the highest frequency that the processor may choose."""

from __future__ import annotations

from pathlib import Path

from .files import folders, read_int, write_text
from .interface import DriverError

_POLICIES = "sys/devices/system/cpu/cpufreq"


class CpuFreqLimit:
    """Between the lowest and the highest frequency, by the share of the capacity that is wanted."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises DriverError without a policy."""
        self._policies = list(folders(root / _POLICIES, "policy*"))
        if not self._policies:
            raise DriverError(f"{root / _POLICIES}: no frequency can be set here")
        self._bounds = [
            (read_int(policy / "cpuinfo_min_freq"), read_int(policy / "cpuinfo_max_freq")) for policy in self._policies
        ]
        self._found = [read_int(policy / "scaling_max_freq") for policy in self._policies]

    def apply(self, watts: float, share: float) -> None:
        for policy, (low_khz, high_khz) in zip(self._policies, self._bounds, strict=True):
            chosen_khz = low_khz + (high_khz - low_khz) * min(1.0, max(0.0, share))
            write_text(policy / "scaling_max_freq", str(round(chosen_khz)))

    def release(self) -> None:
        for policy, found_khz in zip(self._policies, self._found, strict=True):
            write_text(policy / "scaling_max_freq", str(found_khz))

    def safe_writes(self) -> tuple[tuple[Path, str], ...]:
        return tuple(
            (policy / "scaling_max_freq", str(low_khz))
            for policy, (low_khz, _) in zip(self._policies, self._bounds, strict=True)
        )
