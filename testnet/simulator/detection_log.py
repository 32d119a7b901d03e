"""Runs that were watched for false alarms, a line each, so that hours of them can be played in pieces."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .numbers import Detection


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    seed: int
    minutes: float
    detection: Detection


class DetectionLog:
    """A file of JSON lines. Lines of runs of another length are left alone, and so is what is no whole line."""

    def __init__(self, path: Path, minutes: float) -> None:
        """Raises OSError."""
        self._path = path
        self._minutes = minutes
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    # A process was killed while it wrote.
                    file.write(b"\n")

    def played(self) -> dict[int, Detection]:
        """By seed. Raises OSError."""
        found: dict[int, Detection] = {}
        for raw in self._path.read_bytes().splitlines():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.minutes == self._minutes:
                found[line.seed] = line.detection
        return found

    def append(self, seed: int, detection: Detection) -> None:
        """Raises OSError."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(_Line(seed, self._minutes, detection)) + b"\n")
