"""Cases that were played, a line each, so that hours of them can be played in pieces.

A log knows nothing of the code that played: one of another version is not to be gone on with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..line_log import LineLog
from .play import Case


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """cpu_s: processor time that the case took."""

    case: Case
    numbers: dict[str, Any]
    cpu_s: float


class CaseLog:
    """A file of JSON lines. What is no whole line is left alone."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)

    def played(self) -> dict[Case, dict[str, Any]]:
        """Numbers by case. Raises OSError."""
        found: dict[Case, dict[str, Any]] = {}
        for raw in self._lines.whole():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            found[line.case] = line.numbers
        return found

    def append(self, case: Case, numbers: dict[str, Any], cpu_s: float) -> None:
        """Raises OSError."""
        self._lines.append(msgspec.json.encode(_Line(case, numbers, round(cpu_s, 1))))
