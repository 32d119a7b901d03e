"""Temperatures that Linux offers: hwmon chips, thermal zones, 1-Wire probes, IIO channels, or any file.

A source is written as a text: `hwmon:NAME/temp1`, `thermal:TYPE`, `w1:28-0123456789ab`, `iio:NAME/in_temp`, and
`file:PATH` for a file with milli-degrees.
"""

from __future__ import annotations

from pathlib import Path

from .files import folders, read_decimal, read_int, read_text
from .interface import DriverError

SCHEMES = ("hwmon", "thermal", "w1", "iio", "file")


def check_source(text: str) -> None:
    """Raises ValueError for a text that is no source."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES or not rest:
        raise ValueError("expected a sensor like hwmon:NAME/temp1, thermal:TYPE, w1:ID, iio:NAME/in_temp or file:PATH")
    if scheme in ("hwmon", "iio") and ("/" not in rest or not all(rest.partition("/")[::2])):
        raise ValueError(f"expected {scheme}:NAME/CHANNEL")
    if scheme != "file" and ".." in rest:
        raise ValueError("no .. in a sensor's name")


class SysfsSensor:
    """Finds the file at each read, since numbers change when modules are loaded; a read costs some 0.1 ms."""

    def __init__(self, source: str, root: Path = Path("/")) -> None:
        """Raises ValueError for a text that is no source."""
        check_source(source)
        self.source = source
        self._root = root

    def read_c(self) -> float:
        """Raises DriverError. Blocks for as long as the device does: 1-Wire takes most of a second."""
        scheme, _, rest = self.source.partition(":")
        match scheme:
            case "hwmon":
                name, _, channel = rest.partition("/")
                return read_int(self._named("sys/class/hwmon", "hwmon*", name) / f"{channel}_input") / 1000
            case "thermal":
                zone = self._named("sys/class/thermal", "thermal_zone*", rest, file="type")
                return read_int(zone / "temp") / 1000
            case "w1":
                return read_int(self._root / "sys/bus/w1/devices" / rest / "temperature") / 1000
            case "iio":
                return self._iio(rest)
            case _:
                return read_int(Path(rest)) / 1000

    def _named(self, parent: str, pattern: str, name: str, file: str = "name") -> Path:
        unreadable = ""
        for folder in folders(self._root / parent, pattern):
            try:
                if (folder / file).is_file() and read_text(folder / file) == name:
                    return folder
            except (DriverError, OSError) as error:
                # Another device that is broken, or going away, is no reason not to find this one.
                unreadable = f", and {error}"
        raise DriverError(f"{self._root / parent}: nothing there is named {name}{unreadable}")

    def _iio(self, rest: str) -> float:
        name, _, channel = rest.partition("/")
        folder = self._named("sys/bus/iio/devices", "iio:device*", name)
        if (folder / f"{channel}_input").is_file():
            return read_int(folder / f"{channel}_input") / 1000
        scale = read_decimal(folder / f"{channel}_scale")
        offset = read_decimal(folder / f"{channel}_offset") if (folder / f"{channel}_offset").is_file() else 0.0
        return (read_int(folder / f"{channel}_raw") + offset) * scale / 1000
