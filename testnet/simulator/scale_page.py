"""What a node costs against the size of the mesh, drawn: one page that needs nothing else, and JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from math import log10
from pathlib import Path

from .scale import Cost

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: right; }
svg { max-width: 100%; height: auto; }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 760, 420, 70, 40
_LINE = 12
# y, x, text, colour
_Label = tuple[float, float, str, str]
# (field of a cost, what it is, colour)
CURVES = (
    ("membership_bytes", "membership, bytes/s", "#24508c"),
    ("gossip_bytes", "gossip, bytes/s", "#e0823d"),
    ("finding_bytes", "finding, bytes/s", "#0f8b8d"),
    ("stealing_bytes", "stealing, bytes/s", "#1b7f3b"),
    ("job_bytes", "jobs, bytes/s", "#777777"),
    ("membership_messages", "membership, messages/s", "#7fa3d6"),
    ("gossip_messages", "gossip, messages/s", "#f2b98a"),
    ("finding_messages", "finding, messages/s", "#8fcfd0"),
    ("stealing_messages", "stealing, messages/s", "#8bc79e"),
    ("start_bytes", "until it has settled, bytes", "#b8860b"),
    ("links", "links", "#a31515"),
    ("memory_bytes", "memory, bytes", "#6b3fa0"),
)


def write_scale(costs: Sequence[Cost], path: Path) -> None:
    """The page, and the same numbers in a file of the same name that ends in .json; of a .svg the drawing alone.

    Raises OSError.
    """
    if path.suffix == ".svg":
        path.write_text(_drawing(costs) + "\n", encoding="utf-8")
        return
    path.write_text(scale_page(costs), encoding="utf-8")
    text = json.dumps([cost.as_json() for cost in costs], indent=1)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def scale_page(costs: Sequence[Cost]) -> str:
    head = "".join(f"<th>{escape(label)}</th>" for _, label, _ in CURVES)
    rows = "".join(
        f"<tr><td>{cost.nodes:,}</td>"
        + "".join(f"<td>{getattr(cost, name):,}</td>" for name, _, _ in CURVES)
        + f"<td>{cost.events:,}</td></tr>"
        for cost in costs
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Cost of a node</title><style>{_STYLE}</style></head><body>
<h1>What one node costs as the mesh grows</h1>
{_drawing(costs)}
<p>Both axes are logarithmic: what does not grow with the mesh is a level line. Bytes and messages a second are those
of a mesh that has settled; what a node sends until then is a line of its own.</p>
<table><tr><th>nodes</th>{head}<th>events of the run</th></tr>{rows}</table>
</body></html>
"""


def _drawing(costs: Sequence[Cost]) -> str:
    """A line for each curve that is anywhere above zero."""
    values = [getattr(cost, name) for cost in costs for name, _, _ in CURVES if getattr(cost, name) > 0]
    x_least, x_most = log10(min(cost.nodes for cost in costs)), log10(max(cost.nodes for cost in costs))
    y_least, y_most = log10(min(values, default=1.0)), log10(max(values, default=10.0))

    def x(nodes: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 170) * (log10(nodes) - x_least) / max(1e-9, x_most - x_least), 1)

    def y(value: float) -> float:
        return round((_HEIGHT - _BOTTOM) * (1 - (log10(value) - y_least) / max(1e-9, y_most - y_least)) + 10, 1)

    box, label = f"0 0 {_WIDTH} {_HEIGHT + 20}", "Cost of a node by size of the mesh"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{label}">']
    for cost in costs:
        parts.append(
            f'<text x="{x(cost.nodes)}" y="{_HEIGHT}" font-size="11" text-anchor="middle">{cost.nodes:,}</text>'
        )
    for power in range(int(y_least), int(y_most) + 1):
        if power >= y_least:
            level = y(10.0**power)
            parts.append(f'<path d="M{_LEFT} {level}H{_WIDTH - 170}" stroke="#dddddd"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{level + 4}" font-size="11" text-anchor="end">{10**power:,}</text>')
    ends: list[_Label] = []
    for name, label, colour in CURVES:
        points = [(x(cost.nodes), y(getattr(cost, name))) for cost in costs if getattr(cost, name) > 0]
        if points:
            line = " ".join(f"{px},{py}" for px, py in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            ends.append((points[-1][1] + 4, points[-1][0] + 6, label, colour))
    for label_y, label_x, label, colour in _apart(ends):
        parts.append(f'<text x="{label_x}" y="{label_y}" font-size="11" fill="{colour}">{escape(label)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _apart(labels: list[_Label]) -> list[_Label]:
    """None over another: each at least a line below the one above."""
    placed: list[_Label] = []
    for y, x, text, colour in sorted(labels):
        above = placed[-1][0] + _LINE if placed else y
        placed.append((max(y, above), x, text, colour))
    return placed
