"""RAPL through powercap: what the processor's packages use, and a limit to it."""

from __future__ import annotations

from pathlib import Path

from .files import folders, read_count, read_text, write_text
from .found import FoundValues
from .interface import Allowed, DriverError, PowerActuator, SafeWrite

_PACKAGES = "sys/class/powercap"
# Below this share of its greatest limit a package can hardly run an operating system.
LEAST_SHARE = 0.1


def packages(root: Path) -> list[Path]:
    """The powercap zones of whole packages. Raises DriverError if there is none."""
    found = [
        zone
        for zone in folders(root / _PACKAGES, "intel-rapl:*")
        if zone.name.count(":") == 1 and read_text(zone / "name").startswith("package-")
    ]
    if not found:
        raise DriverError(f"{root / _PACKAGES}: no RAPL package here (a virtual machine, or the module is not loaded)")
    return found


class RaplMeter:
    """Counts on where the kernel's counters wrap, which at 100 W takes some minutes to hours."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Raises DriverError without a readable package."""
        self._zones = packages(root)
        self._ranges = [read_count(zone / "max_energy_range_uj") for zone in self._zones]
        self._last = [read_count(zone / "energy_uj") for zone in self._zones]
        self._total_uj = 0

    def energy_uj(self) -> int:
        for place, zone in enumerate(self._zones):
            now_uj = read_count(zone / "energy_uj")
            step_uj, range_uj = now_uj - self._last[place], self._ranges[place]
            if max(now_uj, self._last[place]) > range_uj:
                self._last[place] = now_uj
                raise DriverError(f"{zone / 'energy_uj'}: beyond its own range, {range_uj}")
            # The counter runs from 0 to its range, that included.
            self._total_uj += step_uj if step_uj >= 0 else step_uj + range_uj + 1
            self._last[place] = now_uj
        return self._total_uj


class RaplLimit(PowerActuator):
    """Sets the long-term limit of each package; several packages share the watts equally."""

    def __init__(self, root: Path = Path("/"), found: FoundValues | None = None) -> None:
        """Raises DriverError without a package that has a long-term limit."""
        found = found if found is not None else FoundValues()
        self._files = [_long_term(zone) for zone in packages(root)]
        self._found = [found.count(file) for file in self._files]
        self._greatest = [_greatest_uw(file, found) for file, found in zip(self._files, self._found, strict=True)]

    def apply(self, allowed: Allowed) -> None:
        each_uw = allowed.watts * 1e6 / len(self._files)
        for file, greatest_uw in zip(self._files, self._greatest, strict=True):
            write_text(file, str(round(min(greatest_uw, max(LEAST_SHARE * greatest_uw, each_uw)))))

    def release(self) -> None:
        for file, found_uw in zip(self._files, self._found, strict=True):
            write_text(file, str(found_uw))

    def safe_writes(self) -> tuple[SafeWrite, ...]:
        return tuple(
            SafeWrite(str(file), str(round(LEAST_SHARE * greatest_uw)))
            for file, greatest_uw in zip(self._files, self._greatest, strict=True)
        )


def _long_term(zone: Path) -> Path:
    for name in folders(zone, "constraint_*_name"):
        if read_text(name) == "long_term":
            return zone / name.name.replace("_name", "_power_limit_uw")
    raise DriverError(f"{zone}: no long-term power limit")


def _greatest_uw(file: Path, found_uw: int) -> int:
    greatest = Path(str(file).replace("_power_limit_uw", "_max_power_uw"))
    known_uw = read_count(greatest) if greatest.is_file() else 0
    return known_uw if known_uw > 0 else found_uw
