"""One season, load and kind of work, drawn: a column a policy; temperatures, demand against supply, who took what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .drawing import Drawing, Points
from .metrics import Outcome

_LEFT, _TOP, _COLUMN, _GAP, _PANEL = 64.0, 64.0, 250.0, 26.0, 130.0
_BAND, _MIDDLE, _ONE, _GRID, _WORK, _BURN, _DEMAND = (
    *("#f3d9cf", "#b3321f", "#d9a596", "#dddddd", "#3f7fbf", "#e0823d", "#1d1d1f"),
)
KIND_COLOURS = {"room": "#3f7fbf", "boiler": "#e0823d", "pool": "#2a9d8f", "data centre": "#777777"}
# A year of hours is more than there are pixels.
_POINTS_MAX = 400


def figure(outcomes: Sequence[Outcome]) -> Drawing:
    """Of those that have samples; at least one."""
    shown = [each for each in outcomes if each.samples.hours]
    width = _LEFT + len(shown) * (_COLUMN + _GAP)
    height = _TOP + 3 * (_PANEL + 44) + 16
    drawing = Drawing(max(620.0, width), height)
    first = shown[0]
    drawing.text(
        10, 22, f"{first.season}, work for {100 * first.load:.0f} % of the heat demand, {first.workload}", size=15
    )
    _legend(drawing)
    low_k = min(min(low for low, _, _ in each.samples.spread_c) for each in shown)
    high_k = max(max(high for _, _, high in each.samples.spread_c) for each in shown)
    low_k, high_k = max(-6.0, min(-1.0, low_k)), min(8.0, max(1.0, high_k))
    most_w = max(max(w + b for w, b in zip(each.samples.work_w, each.samples.burn_w, strict=True)) for each in shown)
    most_w = max(most_w, *(max(each.samples.demand_w) for each in shown), 1.0)
    for number, outcome in enumerate(shown):
        left = _LEFT + number * (_COLUMN + _GAP)
        drawing.text(left, _TOP - 6, outcome.policy, size=13)
        _temperatures(drawing, outcome, left, _TOP, low_k, high_k, number == 0)
        _supply(drawing, outcome, left, _TOP + _PANEL + 44, most_w, number == 0)
        _takers(drawing, outcome, left, _TOP + 2 * (_PANEL + 44), number == 0)
    return drawing


def _legend(drawing: Drawing) -> None:
    x = 10.0
    for colour, word in (
        (_BAND, "5 to 95 % of rooms"),
        (_MIDDLE, "median room, K from its setpoint"),
        (_WORK, "useful computing"),
        (_BURN, "burnt without work"),
        (_DEMAND, "heat demand"),
    ):
        drawing.box(x, 32, 10, 10, colour)
        drawing.text(x + 14, 41, word, size=11)
        x += 30 + 6.2 * len(word)


def _places(outcome: Outcome, left: float) -> tuple[list[int], Callable[[int], float]]:
    hours = outcome.samples.hours
    every = max(1, len(hours) // _POINTS_MAX)
    end = max(1e-9, hours[-1])
    return list(range(0, len(hours), every)), lambda index: left + _COLUMN * hours[index] / end


def _frame(drawing: Drawing, left: float, top: float, outcome: Outcome) -> None:
    right, floor = left + _COLUMN, top + _PANEL
    drawing.line([(left, top), (right, top), (right, floor), (left, floor), (left, top)], _GRID)
    hours = outcome.samples.hours[-1]
    drawing.text(left, floor + 13, "0", size=10)
    text = f"{hours / 24:.0f} days" if hours >= 24 else f"{hours:.0f} h"
    drawing.text(right, floor + 13, text, size=10, anchor="end")


def _temperatures(
    drawing: Drawing, outcome: Outcome, left: float, top: float, low_k: float, high_k: float, first: bool
) -> None:
    def y(kelvin: float) -> float:
        return top + _PANEL * (high_k - min(high_k, max(low_k, kelvin))) / (high_k - low_k)

    indices, x = _places(outcome, left)
    spread = outcome.samples.spread_c
    upper: Points = [(x(i), y(spread[i][2])) for i in indices]
    lower: Points = [(x(i), y(spread[i][0])) for i in reversed(indices)]
    drawing.area([*upper, *lower], _BAND)
    for kelvin in (-0.5, 0.0, 0.5):
        drawing.line([(left, y(kelvin)), (left + _COLUMN, y(kelvin))], _GRID if kelvin else "#999999", 0.8)
    drawing.line([(x(i), y(spread[i][1])) for i in indices], _MIDDLE, 1.6)
    _frame(drawing, left, top, outcome)
    numbers = outcome.numbers
    text = f"{numbers['discomfort_kh_p50']:.1f} K·h median, {numbers['discomfort_kh_p95']:.1f} p95; "
    drawing.text(left, top + _PANEL + 28, text + f"{numbers['outside_band_percent']:.1f} % outside", size=10.5)
    if first:
        for kelvin in (low_k, 0.0, high_k):
            drawing.text(left - 6, y(kelvin) + 4, f"{kelvin:+.1f} K" if kelvin else "0 K", size=10, anchor="end")


def _supply(drawing: Drawing, outcome: Outcome, left: float, top: float, most_w: float, first: bool) -> None:
    def y(watts: float) -> float:
        return top + _PANEL * (1 - watts / most_w)

    indices, x = _places(outcome, left)
    samples = outcome.samples
    floor = top + _PANEL
    work: Points = [(x(i), y(samples.work_w[i])) for i in indices]
    both: Points = [(x(i), y(samples.work_w[i] + samples.burn_w[i])) for i in indices]
    drawing.area([(left, floor), *both, (left + _COLUMN, floor)], _BURN)
    drawing.area([(left, floor), *work, (left + _COLUMN, floor)], _WORK)
    drawing.line([(x(i), y(samples.demand_w[i])) for i in indices], _DEMAND, 1.2)
    _frame(drawing, left, top, outcome)
    numbers = outcome.numbers
    text = f"{numbers['wasted_kwh']:,.0f} kWh wasted, {numbers['burnt_kwh']:,.0f} burnt"
    lost = numbers["lost_work_percent"]
    drawing.text(left, floor + 28, text + (f"; {lost:.2g} % of work lost" if lost else ""), size=10.5)
    if first:
        drawing.text(left - 6, top + 10, f"{most_w / 1000:,.0f} kW", size=10, anchor="end")
        drawing.text(left - 6, floor, "0", size=10, anchor="end")


def _takers(drawing: Drawing, outcome: Outcome, left: float, top: float, first: bool) -> None:
    """Stacked, by kind of node."""
    indices, x = _places(outcome, left)
    taken = outcome.samples.taken_w
    most_w = max(1.0, *(sum(each[i] for each in taken.values()) for i in range(len(outcome.samples.hours))))
    floor = top + _PANEL
    below = [0.0] * len(outcome.samples.hours)
    for kind, watts in taken.items():
        above = [base + more for base, more in zip(below, watts, strict=True)]
        upper: Points = [(x(i), floor - _PANEL * above[i] / most_w) for i in indices]
        lower: Points = [(x(i), floor - _PANEL * below[i] / most_w) for i in reversed(indices)]
        drawing.area([*upper, *lower], KIND_COLOURS.get(kind, "#aaaaaa"))
        below = above
    _frame(drawing, left, top, outcome)
    total = sum(sum(watts) for watts in taken.values())
    offset = left
    for kind, watts in taken.items():
        share = 100 * sum(watts) / total if total else 0.0
        name = {"data centre": "centre"}.get(kind, kind + "s")
        drawing.box(offset, floor + 20, 8, 8, KIND_COLOURS.get(kind, "#aaaaaa"))
        drawing.text(offset + 10, floor + 28, f"{name} {share:.0f} %", size=9.5)
        offset += 64
    if first:
        drawing.text(left - 6, top + 10, "work by", size=10, anchor="end")
        drawing.text(left - 6, top + 22, "who took it", size=10, anchor="end")
