"""The report of `hearth sim heat`: one page that needs nothing else, and a picture beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ...node.cli.tables import column_of
from .command import COLUMNS, table_row
from .compare import Group
from .figure import figure
from .play import Case
from .season import town_of

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; }
table { border-collapse: collapse; } td, th { padding: .1rem .7rem .1rem 0; text-align: right; white-space: nowrap; }
td:nth-child(-n+4), th:nth-child(-n+4) { text-align: left; } .no { color: #a31515; font-weight: bold; }
svg { max-width: 100%; height: auto; border-top: 1px solid #ddd; margin-top: 1rem; }
"""


def write_report(groups: Sequence[Group], cases: Sequence[Case], path: Path) -> None:
    """The page; FILE.png of its first figure; FILE.json with all rows. Raises OSError."""
    path.write_text(page(groups, cases), encoding="utf-8")
    rows = [row for group in groups for row in group.rows()]
    path.with_suffix(".json").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    drawn = [group for group in groups if _has_samples(group)]
    if drawn:
        figure(drawn[0].outcomes).write_png(path.with_suffix(".png"))


def page(groups: Sequence[Group], cases: Sequence[Case]) -> str:
    whole = [case for case in cases if case.whole]
    town = f"{town_of(whole[0].town).count()}; " if whole else ""
    first = cases[0]
    head = "".join(f"<th>{escape(column_of(column).heading)}</th>" for column in COLUMNS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in table_row(row)) + "</tr>"
        for group in groups
        for row in group.rows()
    )
    verdicts = "".join(
        f"<tr><td>{escape(group.outcomes[0].season)}</td><td>{100 * group.outcomes[0].load:.0f} %</td>"
        f"<td>{escape(group.outcomes[0].workload)}</td><td>{group.outcomes[0].numbers['rooms']}</td>"
        f"<td>{escape(each.name)}</td><td>{each.found:.4g}</td>"
        f"<td>{each.limit:g}</td><td{'' if each.met else ' class=no'}>{'met' if each.met else 'MISSED'}</td></tr>"
        for group in groups
        for each in group.verdicts
    )
    figures = "\n".join(figure(group.outcomes).svg() for group in groups if _has_samples(group))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Who keeps people warm</title><style>{_STYLE}</style></head><body>
<h1>The same rooms, weather and jobs under several policies</h1>
<p>{escape(town)}weather of {escape(first.climate)}, seed {first.seed}. K·h: kelvin below the setpoint, times hours, of
one zone. Outside: time more than 0.5 K from the setpoint. Wasted: heat above the demand. Burnt: heat without useful
work.</p>
{figures}
<h2>Targets</h2>
<table><tr><th>season</th><th>load</th><th>work</th><th>rooms</th><th>target</th><th>found</th><th>at most</th><th></th>
</tr>
{verdicts}</table>
<h2>Numbers</h2>
<table><tr>{head}</tr>{rows}</table>
</body></html>
"""


def _has_samples(group: Group) -> bool:
    return any(outcome.samples.hours for outcome in group.outcomes)
