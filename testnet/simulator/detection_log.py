"""Runs that were watched for false alarms, a line each, so that hours of them can be played in pieces."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..line_log import LineLog
from . import compiled
from .numbers import Detection


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """sources: a digest of what was played; empty in lines that are older than that."""

    seed: int
    minutes: float
    detection: Detection
    sources: str = ""


class DetectionLog:
    """A file of JSON lines. Lines of runs of another length are left alone, and so is what is no whole line."""

    def __init__(self, path: Path, minutes: float) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)
        self._minutes = minutes
        self.sources = compiled.digest_of_sources()

    def played(self) -> dict[int, tuple[str, Detection]]:
        """By seed, with the sources that were played. Raises OSError."""
        found: dict[int, tuple[str, Detection]] = {}
        for raw in self._lines.whole():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.minutes == self._minutes:
                found[line.seed] = line.sources, line.detection
        return found

    def append(self, seed: int, detection: Detection) -> None:
        """Raises OSError."""
        self._lines.append(msgspec.json.encode(_Line(seed, self._minutes, detection, self.sources)))
