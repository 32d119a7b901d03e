"""Which quantity stands in which register of a Modbus device: data files, bundled or the owner's own."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ...settings.read import read_settings
from ...settings.schema import Conflict, Key
from ...toml import read_toml
from .interface import DriverError

BUNDLED = Path(__file__).parent / "maps"
BITS = ("coil", "discrete")
_FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One value; its unit is in its name: power_w, energy_wh, supply_c."""

    register: Annotated[int, Key("Number of the first register, from 0.", low=0, high=65_535)]
    table: Annotated[
        str,
        Key("Which registers, or the bits of a `coil` or a `discrete` input.", choices=("holding", "input", *BITS)),
    ] = "holding"
    type: Annotated[str, Key("How the number is kept.", choices=tuple(_FORMATS))] = "uint16"
    scale: Annotated[float, Key("The value is the number times this.", low=-1e9, high=1e9)] = 1.0
    invert: Annotated[bool, Key("A bit that is 0 counts as 1, and one that is 1 as 0.")] = False
    word_order: Annotated[str, Key("Which register comes first.", choices=("big", "little"))] = "big"

    @property
    def count(self) -> int:
        """Registers that it takes."""
        return 1 if self.table in BITS else struct.calcsize(_FORMATS[self.type]) // 2

    def is_unavailable(self, registers: Sequence[int]) -> bool:
        """Whether an integer is the one by which meters say that they don't know: SunSpec's, and many others'."""
        if self.table in BITS or not self.type.startswith(("int", "uint")):
            return False
        words = registers if self.word_order == "big" else [*reversed(registers)]
        first, rest = (0x8000, 0) if self.type.startswith("int") else (0xFFFF, 0xFFFF)
        return words[0] == first and all(word == rest for word in words[1:])

    def value(self, registers: Sequence[int]) -> float:
        """Raises DriverError for what is no finite number, which is how devices say that they don't know."""
        if self.table in BITS:
            return float(bool(registers[0]) != self.invert)
        words = registers if self.word_order == "big" else [*reversed(registers)]
        data = b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)
        value = float(struct.unpack(f">{_FORMATS[self.type]}", data)[0]) * self.scale
        if not math.isfinite(value):
            raise DriverError(f"register {self.register}: no number")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One value that is written, and bounded. at_rest: what stands there when nobody controls."""

    register: Annotated[int, Key("Number of the first register, or of the coil, from 0.", low=0, high=65_535)]
    follows: Annotated[
        str,
        Key(
            "What it is told: the `watts` that the heater may draw, the same in `percent` of its capacity, the "
            "`setpoint` in °C, `on` (1 while heat is granted, else 0), or `pump` (the same, and `overrun_s` longer).",
            choices=("watts", "percent", "setpoint", "on", "pump"),
        ),
    ]
    low: Annotated[float, Key("It is never told less.", low=-1e9, high=1e9)] = 0.0
    high: Annotated[float, Key("It is never told more.", low=-1e9, high=1e9)]
    safe: Annotated[
        float | None,
        Key(
            "Written when the node leaves, and by the watchdog when it hangs or dies.",
            low=-1e9,
            high=1e9,
            absent="0; 1 for a pump: nobody is there to end its overrun",
        ),
    ] = None
    requires: Annotated[
        str,
        Key("A pump among the outputs, without which this one stays at `low` while heat is granted.", length=128),
    ] = ""
    table: Annotated[str, Key("Registers, or a coil.", choices=("holding", "coil"))] = "holding"
    type: Annotated[str, Key("How the number is kept.", choices=tuple(_FORMATS))] = "uint16"
    scale: Annotated[float, Key("The value is the number times this.", low=1e-9, high=1e9)] = 1.0
    word_order: Annotated[str, Key("Which register comes first.", choices=("big", "little"))] = "big"
    single: Annotated[bool, Key("Write by function 6, which some devices want for a single register.")] = False
    overrun_s: Annotated[float, Key("How much longer a pump runs, s.", low=0.0, high=86_400.0)] = 0.0
    resolution: Annotated[
        float,
        Key("The device keeps multiples of it, rounded up or down; 0: what it is told.", low=0.0, high=1e9),
    ] = 0.0
    hold_s: Annotated[float, Key("What went off comes on again no sooner, s.", low=0.0, high=86_400.0)] = 0.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise Conflict("low", "above high")
        if not self.low <= self.at_rest <= self.high:
            raise Conflict("safe", "not from low to high")
        if self.resolution and (self.table == "coil" or self.follows in ("on", "pump")):
            raise Conflict("resolution", "not 0 for what is on or off")
        if self.single and (self.table == "coil" or self.quantity.count > 1):
            raise Conflict("single", "true for what is not one register")
        for value in (self.low, self.high, self.at_rest):
            try:
                self.words(value)
            except DriverError as error:
                raise Conflict("type", str(error)) from error

    @property
    def at_rest(self) -> float:
        return self.safe if self.safe is not None else float(self.follows == "pump")

    @property
    def quantity(self) -> Quantity:
        """The same, to read."""
        return Quantity(
            register=self.register, table=self.table, type=self.type, scale=self.scale, word_order=self.word_order
        )

    def is_kept(self, value: float, found: Sequence[int]) -> bool:
        """Whether registers say the value, as far as the device can: the multiples around it, and a multiple itself
        exactly."""
        if list(found) == self.words(value):
            return True
        if not self.resolution:
            return False
        try:
            off = abs(self.quantity.value(found) - value)
        except DriverError:
            return False
        # What one count of the register is more or less decides nothing.
        return off < self.resolution - self.scale / 2

    def words(self, value: float) -> list[int]:
        """Registers, or one bit. Raises DriverError for a value that the type cannot hold."""
        if self.table == "coil":
            return [int(value > 0)]
        number = value / self.scale
        layout = _FORMATS[self.type]
        try:
            data = struct.pack(f">{layout}", number if layout in "fd" else round(number))
        except (struct.error, OverflowError, ValueError) as error:
            raise DriverError(f"{self.type} cannot hold {value:g}") from error
        words = [int.from_bytes(data[place : place + 2], "big") for place in range(0, len(data), 2)]
        return words if self.word_order == "big" else words[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMap:
    """A device's file."""

    name: Annotated[str, Key("What device it is.", length=128)]
    quantities: Annotated[Mapping[str, Quantity], Key("What is read, by name.", items=256)] = field(
        default_factory=dict
    )
    outputs: Annotated[Mapping[str, Output], Key("What is written, by name.", items=64)] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, output in self.outputs.items():
            if not output.requires:
                continue
            required = self.outputs.get(output.requires)
            if required is None or required.follows != "pump":
                raise Conflict("outputs", f"{name} requires {output.requires}, which is no pump among them")
            if output.follows == "pump":
                raise Conflict("outputs", f"{name} is a pump, and requires another")

    def quantity(self, name: str) -> Quantity:
        """Raises DriverError."""
        if name not in self.quantities:
            known = ", ".join(sorted(self.quantities)) or "none"
            raise DriverError(f"{self.name}: no quantity {name}; there are: {known}")
        return self.quantities[name]

    def output(self, name: str) -> Output:
        """Raises DriverError."""
        if name not in self.outputs:
            known = ", ".join(sorted(self.outputs)) or "none"
            raise DriverError(f"{self.name}: no output {name}; there are: {known}")
        return self.outputs[name]


def load_register_map(name: str) -> RegisterMap:
    """A bundled one by its name, or a file by its path. Raises DriverError or ConfigError."""
    bundled = BUNDLED / f"{name}.toml"
    path = bundled if "/" not in name and bundled.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in BUNDLED.glob("*.toml")))
        raise DriverError(f"{name}: no such register map; bundled are {names}, or give the path of a file")
    return read_settings(read_toml(path), RegisterMap)
