"""Reading and writing the kernel's small files, under a root folder that tests replace."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from .interface import DriverError

READ_BYTES_MAX = 4096
# The kernel's numbers have 64 bits, and no more than a sign and digits: Python's own would also be 2_1.
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def read_text(path: Path) -> str:
    """Raises DriverError."""
    try:
        with path.open("rb") as file:
            return file.read(READ_BYTES_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        raise DriverError(f"{path}: cannot be read: {error.strerror}") from error


def read_int(path: Path) -> int:
    """Raises DriverError."""
    text = read_text(path)
    if not _WHOLE.fullmatch(text):
        raise DriverError(f"{path}: expected a whole number, got {text[:40]!r}")
    return int(text)


def read_count(path: Path) -> int:
    """What is never below 0: energy, power, a frequency. Raises DriverError."""
    number = read_int(path)
    if number < 0:
        raise DriverError(f"{path}: expected no negative number, got {number}")
    return number


def read_decimal(path: Path) -> float:
    """Raises DriverError."""
    text = read_text(path)
    if not _DECIMAL.fullmatch(text):
        raise DriverError(f"{path}: expected a number, got {text[:40]!r}")
    return float(text)


def write_text(path: Path, text: str) -> None:
    """Into a file that is there: the kernel's are never made. Raises DriverError."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(number, text.encode("ascii"))
        finally:
            os.close(number)
    except OSError as error:
        raise DriverError(f"{path}: cannot be written: {error.strerror}") from error


def folders(parent: Path, pattern: str) -> Iterator[Path]:
    """In the order of their names' numbers: hwmon2 before hwmon10."""
    yield from sorted(parent.glob(pattern), key=lambda path: (len(path.name), path.name))
