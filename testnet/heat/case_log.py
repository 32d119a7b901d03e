"""Cases that were played, a line each, so that hours of them can be played in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ..line_log import LineLog
from .play import Case
from .policies import POLICIES
from .sources import OPTIMUM, digest_of


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """sources: a digest of what played it.  cpu_s: processor time that the case took."""

    sources: str
    case: Case
    numbers: dict[str, Any]
    cpu_s: float


class CaseLog:
    """A file of JSON lines. Lines of other sources are left alone, and so is what is no whole line.

    Numbers also rest on NumPy and the interpreter, of which another version may round otherwise; that is not looked at.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._lines = LineLog(path)
        # As they stand now, when they are loaded.
        self._sources = {policy: digest_of(policy) for policy in (*POLICIES, OPTIMUM)}

    def played(self) -> dict[Case, dict[str, Any]]:
        """Numbers by case. Raises OSError."""
        found: dict[Case, dict[str, Any]] = {}
        for raw in self._lines.whole():
            try:
                line = msgspec.json.decode(raw, type=_Line)
            except msgspec.DecodeError:
                continue
            if line.sources == self._sources.get(line.case.policy):
                found[line.case] = line.numbers
        return found

    def append(self, case: Case, numbers: dict[str, Any], cpu_s: float) -> None:
        """Raises OSError."""
        self._lines.append(msgspec.json.encode(_Line(self._sources[case.policy], case, numbers, round(cpu_s, 1))))
