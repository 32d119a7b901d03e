"""Runs that were watched for false alarms, a line each, so that hours of them can be played in pieces."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..line_log import LineLog
from .numbers import Detection


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    seed: int
    minutes: float
    detection: Detection


class DetectionLog:
    """A file of JSON lines. Lines of runs of another length are left alone, and so is what is no whole line."""

    def __init__(self, path: Path, minutes: float) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)
        self._minutes = minutes

    def played(self) -> dict[int, Detection]:
        """By seed. Raises OSError."""
        found: dict[int, Detection] = {}
        for raw in self._lines.whole():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.minutes == self._minutes:
                found[line.seed] = line.detection
        return found

    def append(self, seed: int, detection: Detection) -> None:
        """Raises OSError."""
        self._lines.append(msgspec.json.encode(_Line(seed, self._minutes, detection)))
