"""What a bad disk does to files: it cuts them short, and flips bits."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from ..errors import TestnetError


def truncate(path: Path) -> str:
    """Half of the file is gone. Returns what was done."""
    size = path.stat().st_size
    os.truncate(path, size // 2)
    return f"{path.name} cut from {size} to {size // 2} bytes"


def flip_bits(path: Path, rng: Random, count: int = 16) -> str:
    """Flip single bits at random places of a file that is not empty. Returns what was done."""
    content = bytearray(path.read_bytes())
    for _ in range(count):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    # In place: it is the same file, with the same times and name.
    with path.open("r+b") as file:
        file.write(content)
    return f"{count} bits of {path.name} flipped"


def blobs_of(state: Path) -> list[Path]:
    """The blob files of a state folder, the largest first. Raises TestnetError if there is none."""
    found = [path for path in (state / "blobs").rglob("*") if path.is_file() and "." in path.name]
    if not found:
        raise TestnetError(f"{state}: keeps no blob")
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))
