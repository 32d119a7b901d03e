"""Reading and writing the kernel's small files, under a root folder that tests replace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .interface import DriverError

READ_BYTES_MAX = 4096
# The kernel's numbers have 64 bits.
DIGITS_MAX = 20


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
    try:
        if len(text) <= DIGITS_MAX:
            return int(text)
    except ValueError:
        pass
    raise DriverError(f"{path}: expected a whole number, got {text[:40]!r}")


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
