"""Which quantity stands in which register of a Modbus device: data files, bundled or the owner's own."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ...settings.read import read_settings
from ...settings.schema import Key
from ...toml import read_toml
from .interface import DriverError

BUNDLED = Path(__file__).parent / "maps"
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
    table: Annotated[str, Key("Which registers.", choices=("holding", "input"))] = "holding"
    type: Annotated[str, Key("How the number is kept.", choices=tuple(_FORMATS))] = "uint16"
    scale: Annotated[float, Key("The value is the number times this.", low=-1e9, high=1e9)] = 1.0
    word_order: Annotated[str, Key("Which register comes first.", choices=("big", "little"))] = "big"

    @property
    def count(self) -> int:
        """Registers that it takes."""
        return struct.calcsize(_FORMATS[self.type]) // 2

    def value(self, registers: Sequence[int]) -> float:
        """Raises DriverError for what is no finite number, which is how devices say that they don't know."""
        words = registers if self.word_order == "big" else [*reversed(registers)]
        data = b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)
        value = float(struct.unpack(f">{_FORMATS[self.type]}", data)[0]) * self.scale
        if not math.isfinite(value):
            raise DriverError(f"register {self.register}: no number")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterMap:
    """A device's file."""

    name: Annotated[str, Key("What device it is.", length=128)]
    quantities: Annotated[Mapping[str, Quantity], Key("By name.", items=256)] = field(default_factory=dict)

    def quantity(self, name: str) -> Quantity:
        """Raises DriverError."""
        if name not in self.quantities:
            known = ", ".join(sorted(self.quantities)) or "none"
            raise DriverError(f"{self.name}: no quantity {name}; there are: {known}")
        return self.quantities[name]


def load_register_map(name: str) -> RegisterMap:
    """A bundled one by its name, or a file by its path. Raises DriverError or ConfigError."""
    bundled = BUNDLED / f"{name}.toml"
    path = bundled if "/" not in name and bundled.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(each.stem for each in BUNDLED.glob("*.toml")))
        raise DriverError(f"{name}: no such register map; bundled are {names}, or give the path of a file")
    return read_settings(read_toml(path), RegisterMap)
