"""A file of lines to which a long measurement appends, so that it can go on where it was interrupted."""

from __future__ import annotations

from pathlib import Path

# Half of a line may look like a whole one.
_TORN = b" (torn)"


class LineLog:
    """What is no whole line, as a kill leaves it, is kept and left alone: it is ended with what makes it no line."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(_TORN + b"\n")

    def whole(self) -> list[bytes]:
        """Lines, without their ends. Raises OSError."""
        return [line for line in self._path.read_bytes().split(b"\n") if line and not line.endswith(_TORN)]

    def append(self, line: bytes) -> None:
        """Raises OSError."""
        with self._path.open("ab") as file:
            file.write(line + b"\n")
