"""What a heater asks of hardware. `HeatSink`, what the heat goes into, is the world; simulated ones are in `sinks/`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..control.sensor import Sample


class DriverError(Exception):
    """Hardware is absent, or did not do as it was told. The text is for the owner, and names the file or device."""


class Sensor(Protocol):
    """A temperature in °C, read in the background."""

    def latest(self) -> Sample | None:
        """The last good reading, with its time on the caller's clock; None before the first. Never blocks."""
        ...


class PowerMeter(Protocol):
    """Energy of the whole heater."""

    def energy_uj(self) -> int:
        """Since the meter was made; never falls. Raises DriverError if it cannot be read now."""
        ...


class PowerActuator(Protocol):
    """Bounds the power of the machine, beside the number of tasks and their duty."""

    def apply(self, watts: float, share: float) -> None:
        """Allow so many watts, >= 0, which are this share of the capacity, 0 … 1. Raises DriverError."""
        ...

    def release(self) -> None:
        """Put back what was found. Raises DriverError."""
        ...

    def safe_writes(self) -> tuple[tuple[Path, str], ...]:
        """Files, and what to write into them, that bring the power down without this process's help."""
        ...
