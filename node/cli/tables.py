"""Tables for people, as wide as their terminal: what stands in a cell is whole, or the column says how it gives way.

In a terminal that is too narrow headings are folded, then texts that may be, then ids lose their middle of no use, and
then whole columns go, the least important first. Names, states and numbers are never cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
# What identifies a peer well enough for a person, and for commands that take a part of an id.
ID_CHARS = 8
# What stands for what is not known.
UNKNOWN = "–"
# A text that is folded keeps its words whole up to this length, and is not narrower than that.
FOLDED_MIN, WORD_MAX = 10, 24


@dataclass(frozen=True, slots=True)
class Column:
    """What a column does where there is no room for all: by default its cells stay whole, and it stays.

    title: with ">" before it the cells are right-aligned.  tail, head: so many of the last or first characters of a
    longer cell are kept.  folds: over several lines.  drop: it is left out if it must be, 1 before 2; 0: never.
    """

    title: str
    tail: int = 0
    head: int = 0
    folds: bool = False
    drop: int = 0

    @property
    def heading(self) -> str:
        return self.title.removeprefix(">")

    @property
    def is_right(self) -> bool:
        return self.title.startswith(">")


Columns = Sequence[str | Column]
PEER_ID = Column("peer id", tail=ID_CHARS)


def column_of(column: str | Column) -> Column:
    """A bare title is a column that never gives way."""
    return column if isinstance(column, Column) else Column(column)


@dataclass(frozen=True, slots=True)
class Layout:
    """lines: the headings' first, `heading_lines` of them.  omitted: headings of the columns that are not in it,
    though there is something in them."""

    lines: tuple[str, ...]
    heading_lines: int
    omitted: tuple[str, ...]

    def text(self) -> Text:
        """To be shown; a line that is longer than the terminal, which only names can make it, goes on in the next."""
        from rich.text import Text

        text = Text()
        for number, line in enumerate(self.lines):
            text.append(line + "\n" * (number + 1 < len(self.lines)), "bold" if number < self.heading_lines else "")
        return text


def lay_out(columns: Columns, rows: Iterable[Sequence[str]], width: int | None) -> Layout:
    """width: columns of the terminal; None: as many as it takes."""
    measured = [_Measured(column_of(column)) for column in columns]
    cells = [tuple(row) for row in rows]
    for row in cells:
        for each, cell in zip(measured, row, strict=True):
            each.measure(cell)
    shown = list(range(len(measured)))
    while width is not None and _total([measured[at].least for at in shown]) > width:
        droppable = [at for at in shown if measured[at].column.drop]
        if not droppable:
            break
        shown.remove(min(droppable, key=lambda at: measured[at].column.drop))
    chosen = [measured[at] for at in shown]
    widths = _widths(chosen, width)
    lines: list[str] = []
    headings = [_folded(each.column.heading, size) for each, size in zip(chosen, widths, strict=True)]
    lines += _lines(chosen, widths, headings)
    heading_lines = len(lines)
    for row in cells:
        parts = [_fitted(each.column, row[at], size) for each, at, size in zip(chosen, shown, widths, strict=True)]
        lines += _lines(chosen, widths, parts)
    omitted = tuple(each.column.heading for at, each in enumerate(measured) if at not in shown and each.says_something)
    return Layout(tuple(lines), heading_lines, omitted)


class _Measured:
    """A column, and how wide it would be, and may be at least."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._heading = _cells(column.heading)
        self._heading_word = max(map(_cells, column.heading.split()), default=0)
        self._longest = 0
        self._longest_word = 0
        self.says_something = False

    def measure(self, cell: str) -> None:
        self.says_something |= cell not in ("", UNKNOWN)
        self._longest = max(self._longest, _cells(cell))
        if self.column.folds:
            self._longest_word = max(self._longest_word, *map(_cells, cell.split()), 0)

    @property
    def natural(self) -> int:
        return max(self._heading, self._longest)

    @property
    def least(self) -> int:
        kept = self.column.tail or self.column.head
        cells = self._longest
        if kept:
            cells = min(cells, kept + 1)
        elif self.column.folds:
            cells = min(cells, max(FOLDED_MIN, min(self._longest_word, WORD_MAX)))
        return max(self._heading_word, cells)

    @property
    def turn(self) -> int:
        """When it gets of the room that is left: headings in one line, then texts, then ids."""
        return 2 if self.column.tail or self.column.head else 1 if self.column.folds else 0


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(0, len(widths) - 1)


def _widths(columns: Sequence[_Measured], width: int | None) -> list[int]:
    if width is None:
        return [each.natural for each in columns]
    widths = [each.least for each in columns]
    left = width - _total(widths)
    for turn in range(3):
        growing = [at for at, each in enumerate(columns) if each.turn == turn]
        while left > 0 and (growing := [at for at in growing if widths[at] < columns[at].natural]):
            for at in growing[:left]:
                widths[at] += 1
            left -= len(growing[:left])
    return widths


def _fitted(column: Column, cell: str, width: int) -> list[str]:
    if column.folds:
        return _folded(cell, width)
    if _cells(cell) <= width or not (column.tail or column.head):
        return [cell]
    while _cells(cell) > width - 1:
        cell = cell[1:] if column.tail else cell[:-1]
    return [f"…{cell}" if column.tail else f"{cell}…"]


def _folded(text: str, width: int) -> list[str]:
    """In lines of at most `width`; a longer word is broken."""
    from rich.cells import chop_cells

    lines: list[str] = []
    for word in text.split():
        if lines and _cells(lines[-1]) + 1 + _cells(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += chop_cells(word, max(1, width))
    return lines if _cells(text) > width else [text]


def _lines(columns: Sequence[_Measured], widths: Sequence[int], cells: Sequence[list[str]]) -> list[str]:
    """One row, as high as its highest cell."""
    lines = []
    for number in range(max(map(len, cells), default=0)):
        parts = []
        for each, width, cell in zip(columns, widths, cells, strict=True):
            part = cell[number] if number < len(cell) else ""
            space = " " * (width - _cells(part))
            parts.append(space + part if each.column.is_right else part + space)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
