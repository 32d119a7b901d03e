"""The table and the plot of `hearth sim liars`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...node.cli.tables import Column, Columns, column_of

COLUMNS: Columns = (
    *("policy", "lie", ">liars", ">wrong accepted", Column(">bound", drop=2), ">runs a task"),
    Column(">by policy", drop=3),
    *(Column(">warm-up", drop=1), Column(">found", drop=5), Column(">found after", drop=4)),
)
_COLOURS = {"wrong results": "#4477aa", "accomplice": "#cc6677", "sleeper": "#999933"}
_WIDTH, _PANEL, _TOP, _ROW = 760, 250, 54, 22


def table_rows(findings: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """One row a street, in the order given."""
    return [
        (
            found["policy"],
            found["lie"],
            f"{found['share']:.0%}",
            f"{found['wrong']} of {found['accepted']}",
            f"{found['bound']:.2%}",
            f"{found['executions']:.3f}",
            f"{found['executions_by_policy']:.3f} ± {found['deviation']:.3f}",
            f"{found['executions_warm_up']:.3f}",
            f"{found['found']} of {found['liars']}",
            "–" if found["found_s"] is None else f"{found['found_s']:.1f} s",
        )
        for found in findings
    ]


def markdown(findings: Sequence[dict[str, Any]]) -> str:
    """The table for a page of the docs."""
    columns = [column_of(column) for column in COLUMNS]
    lines = ["| " + " | ".join(column.heading for column in columns) + " |"]
    lines.append("|" + "|".join("---:" if column.is_right else "---" for column in columns) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in table_rows(findings)]
    return "\n".join(lines) + "\n"


def svg(findings: Sequence[dict[str, Any]]) -> str:
    """Wrong results that were accepted, and runs of each task, as bars: a row for each street with liars."""
    rows = [found for found in findings if found["lie"] != "none"]
    height = _TOP + _ROW * len(rows) + 20
    most = max((found["executions"] for found in findings), default=1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(10, 20, "Liars against each policy", bold=True),
        _text(250, 42, "wrong results accepted (bar), bound (line), to 25 %"),
        _text(550, 42, f"runs of each task, to {most:.1f}"),
    ]
    for number, found in enumerate(rows):
        y = _TOP + _ROW * number
        colour = _COLOURS.get(found["lie"], "#555555")
        wrong = _PANEL * min(1.0, (found["wrong_share"] or 0.0) / 0.25)
        bound = 250 + _PANEL * min(1.0, found["bound"] / 0.25)
        runs = 180 * found["executions"] / most
        parts += [
            _text(10, y + 14, f"{found['policy']}, {found['share']:.0%} {found['lie']}"),
            f'<rect x="250" y="{y + 4}" width="{wrong:.1f}" height="12" fill="{colour}"/>',
            f'<line x1="{bound:.1f}" y1="{y + 2}" x2="{bound:.1f}" y2="{y + 18}" stroke="black"/>',
            f'<rect x="550" y="{y + 4}" width="{runs:.1f}" height="12" fill="{colour}" opacity="0.6"/>',
            _text(int(555 + runs), y + 14, f"{found['executions']:.2f}"),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: int, y: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{text}</text>'
