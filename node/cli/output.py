"""What commands print: one JSON object, or text and tables for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .tables import UNKNOWN, Columns, lay_out

if TYPE_CHECKING:
    from rich.console import Console

# Wide enough for a peer id and more where no terminal says how wide it is.
PIPED_COLUMNS = 200


def print_json(value: object) -> None:
    """One line, flushed: whoever reads a stream of them gets each at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people, on standard output. Control characters in it, which others may have chosen, are escaped."""
    sys.stdout.write("\n".join(printable(line) for line in text.split("\n")) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line beside the result, on standard error."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


@contextmanager
def connecting(addresses: int, *, mdns: bool) -> Iterator[None]:
    """Says on standard error what is waited for, and takes it back; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield
        return
    ways = [f"{addresses} address{'es' if addresses != 1 else ''}"] if addresses else []
    if mdns:
        ways.append("the local network")
    text = f"connecting to the mesh by {' and '.join(ways) or 'no way'} …"
    sys.stderr.write(text)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r" + " " * len(text) + "\r")
        sys.stderr.flush()


def printable(text: str) -> str:
    """Names and error texts come from other nodes: nothing of them may steer the terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_COLUMNS
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_table(columns: Columns, rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """As wide as the terminal; into a pipe, as wide as it is. Without rows, the text `empty`.

    What had to be left out is said on standard error.
    """
    cells = [cells_of(row) for row in rows]
    if not cells:
        say(empty)
        return
    layout = lay_out(columns, cells, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    console().print(layout.text(), soft_wrap=True)
    if layout.omitted:
        note(f"no room for {', '.join(layout.omitted)}: a wider terminal, or --json, shows all")


def cells_of(row: Sequence[Any]) -> tuple[str, ...]:
    """A table's row as text; what is not known is a dash."""
    return tuple(printable(UNKNOWN if cell is None else str(cell)) for cell in row)


def duration(seconds: float) -> str:
    """73 → 1 min 13 s."""
    whole = max(0, round(seconds))
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def energy(joules: float) -> str:
    """In the unit that a person would use."""
    if joules < 10_000:
        return f"{joules:.1f} J"
    if joules < 3_600_000:
        return f"{joules / 3600:.2f} Wh"
    return f"{joules / 3_600_000:.3f} kWh"
