"""The table and the plot of `hearth sim sinks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...node.cli.tables import Column, Columns
from .sink_week import Week

COLUMNS: Columns = (
    *("kind", ">heat kWh", Column(">gains kWh", drop=2), Column(">lost kWh", drop=3), ">delivered kWh"),
    *(Column(">stored kWh", drop=1), ">from °C", ">to °C", ">sinks/CPU s"),
)
_WIDTH, _LEFT, _PANEL_W, _PANEL_H, _GAP = 860, 60, 740, 92, 46
_OUTSIDE, _TARGET, _SINK, _POWER = "#88aacc", "#999999", "#bb3322", "#ddaa44"


def table_rows(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    keys = ("heat_kwh", "gains_kwh", "lost_kwh", "delivered_kwh", "stored_kwh", "lowest_c", "highest_c")
    return [
        (
            row["kind"],
            *(f"{row[key]:.1f}" for key in keys),
            f"{row['sinks_per_cpu_s']:,.0f}" if "sinks_per_cpu_s" in row else "–",
        )
        for row in rows
    ]


def svg(weeks: Sequence[Week], title: str) -> str:
    """A panel a sink: its temperature and target, the weather, and the heater's power from the panel's floor."""
    height = 40 + len(weeks) * (_PANEL_H + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{title}</text>',
        f'<text x="{_LEFT + 330}" y="20" fill="{_SINK}">sink</text>',
        f'<text x="{_LEFT + 370}" y="20" fill="{_TARGET}">target</text>',
        f'<text x="{_LEFT + 420}" y="20" fill="{_OUTSIDE}">outside</text>',
        f'<text x="{_LEFT + 480}" y="20" fill="{_POWER}">heater, to its most</text>',
    ]
    for number, week in enumerate(weeks):
        parts += _panel(week, 48 + number * (_PANEL_H + _GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(week: Week, top: int) -> list[str]:
    low_c = min(*week.temperature_c, *week.outside_c, *week.target_c)
    high_c = max(*week.temperature_c, *week.outside_c, *week.target_c)
    span_k, most_w, floor = max(1e-9, high_c - low_c), max(1.0, *week.power_w), top + _PANEL_H

    def line(values: Sequence[float], colour: str, width: float) -> str:
        points = " ".join(
            f"{_x(week, hour):.1f},{floor - _PANEL_H * (value - low_c) / span_k:.1f}"
            for hour, value in _thinned(week, values)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    heat = " ".join(
        f"{_x(week, hour):.1f},{floor - 0.4 * _PANEL_H * power_w / most_w:.1f}"
        for hour, power_w in _thinned(week, week.power_w)
    )
    right = _x(week, week.hours[-1])
    return [
        f'<text x="{_LEFT}" y="{top - 6}">{week.kind}: {week.heat_kwh:,.0f} kWh of heat, to {most_w:,.0f} W</text>',
        f'<polygon points="{_LEFT},{floor} {heat} {right:.1f},{floor}" fill="{_POWER}" opacity="0.6"/>',
        f'<rect x="{_LEFT}" y="{top}" width="{_PANEL_W}" height="{_PANEL_H}" fill="none" stroke="#cccccc"/>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{high_c:.0f} °C</text>',
        f'<text x="{_LEFT - 6}" y="{floor}" text-anchor="end">{low_c:.0f} °C</text>',
        line(week.outside_c, _OUTSIDE, 1),
        line(week.target_c, _TARGET, 1),
        line(week.temperature_c, _SINK, 1.6),
    ]


def _thinned(week: Week, values: Sequence[float]) -> list[tuple[float, float]]:
    """By the hour: more than that is less than a pixel."""
    return [(hour, value) for hour, value in zip(week.hours, values, strict=True) if hour % 1 == 0]


def _x(week: Week, hour: float) -> float:
    return _LEFT + _PANEL_W * hour / max(1e-9, week.hours[-1])
