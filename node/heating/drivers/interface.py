"""What a heater asks of hardware. `HeatSink`, what the heat goes into, is the world; simulated ones are in `sinks/`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..control.sensor import Sample


class DriverError(Exception):
    """Hardware is absent, or did not do as it was told. The text is for the owner, and names the file or device."""


class Sensor(Protocol):
    """A temperature in °C, read in the background."""

    def latest(self) -> Sample | None:
        """The last good reading, with its time on the caller's clock; None before the first. Never blocks."""
        ...

    async def run(self) -> None:
        """Read, until cancelled."""
        ...


class PowerMeter(Protocol):
    """Energy of the whole heater."""

    def energy_uj(self) -> int:
        """Since the meter was made; never falls. Raises DriverError if it cannot be read now."""
        ...


@dataclass(frozen=True, slots=True)
class SafeWrite:
    """What brings the power down without this process's help: a file and its text, or a device and its request.

    text: for a device ("HOST:PORT"), the bytes of a Modbus request in hexadecimal.
    """

    where: str
    text: str
    device: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the machine may do until it is told otherwise.

    watts: of the whole, idle power included.  share: of the capacity above idle, 0 … 1.  cores: busy ones.
    speed: of the cores, of their highest, 0 … 1.  setpoint_c: what the sink is kept at; -inf where
    nothing may heat, whatever the temperature.
    """

    watts: float
    share: float
    cores: float
    speed: float = 1.0
    setpoint_c: float = 0.0


class PowerActuator(Protocol):
    """Bounds the power of the machine, beside the number of tasks and their duty."""

    def apply(self, allowed: Allowed) -> None:
        """Never waits for a device. Raises DriverError."""
        ...

    def release(self) -> None:
        """Put back what was found, or what is safe; may wait for a device. Raises DriverError."""
        ...

    def safe_writes(self) -> tuple[SafeWrite, ...]: ...

    @property
    def problem(self) -> str:
        """One line if the hardware does not do as it was told; else empty."""
        return ""

    async def run(self) -> None:
        """What has to go on beside `apply`, until cancelled; nothing for a file."""
        return
