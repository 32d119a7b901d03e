"""What was compared, as the tables of docs/heat-comparison.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .compare import SMALL_ROOMS, Group
from .sources import OPTIMUM

_HEAD = (
    "| season, load, work | policy | K·h p50 / p95 | outside % | wasted kWh | burnt kWh | lost % | makespan h | missed "
    "| moved GB | fairness |",
    "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
)


def markdown(groups: Sequence[Group]) -> str:
    """A table of the towns, one of the small cases, and what of the targets is missed; what there is none of apart."""
    towns = [group for group in groups if not _is_small(group)]
    smalls = [group for group in groups if _is_small(group)]
    parts = [list(_towns(towns))] if towns else []
    parts += [list(_smalls(smalls))] if smalls else []
    parts += [list(_targets(groups))] if any(group.verdicts for group in groups) else []
    return "\n\n".join("\n".join(part) for part in parts)


def _is_small(group: Group) -> bool:
    rooms: int = group.outcomes[0].numbers["rooms"]
    return rooms == SMALL_ROOMS


def _towns(groups: Sequence[Group]) -> Iterator[str]:
    yield from _HEAD
    for group in groups:
        name = _name(group)
        for row in group.rows():
            yield f"| {name} | {' | '.join(_cells(row))} |"
            name = ""


def _name(group: Group) -> str:
    first = group.outcomes[0]
    return f"{first.season}, {100 * first.load:.0f} %, {first.workload}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["policy"],
        f"{row['discomfort_kh_p50']:.1f} / {row['discomfort_kh_p95']:.1f}",
        f"{row['outside_band_percent']:.1f}",
        f"{row['wasted_kwh']:,.0f}",
        f"{row['burnt_kwh']:,.0f}",
        f"{row['lost_work_percent']:.2f}",
        f"{row['makespan_h']:,.1f}" + ("" if row["all_finished"] else "\\*"),
        f"{row['deadline_misses']:,}",
        f"{row['moved_gb']:,.0f}",
        f"{row['fairness']:.2f}",
    )


def _smalls(groups: Sequence[Group]) -> Iterator[str]:
    """Costs over the optimum's, of each policy; a row a season and kind of work, a column a load."""
    loads = list(dict.fromkeys(group.outcomes[0].load for group in groups))
    cells: dict[tuple[str, str], dict[float, str]] = {}
    for group in groups:
        first = group.outcomes[0]
        cost = {each.policy: each.numbers.get("cost") for each in group.outcomes}
        best = cost.pop(OPTIMUM, None)
        found = [f"{each / best:.2f}" for each in cost.values() if each is not None and best]
        cells.setdefault((first.season, first.workload), {})[first.load] = ", ".join(found) or "–"
    yield f"| season, work | {' | '.join(f'{100 * load:.0f} %' for load in loads)} |"
    yield f"|---|{'---:|' * len(loads)}"
    for (season, work), by_load in cells.items():
        yield f"| {season}, {work} | {' | '.join(by_load.get(load, '–') for load in loads)} |"


def _targets(groups: Sequence[Group]) -> Iterator[str]:
    verdicts = [(group, verdict) for group in groups for verdict in group.verdicts]
    missed = [(group, verdict) for group, verdict in verdicts if not verdict.met]
    yield f"{len(verdicts) - len(missed)} of {len(verdicts)} targets met{'; missed:' if missed else '.'}"
    if missed:
        yield ""
    for group, verdict in missed:
        rooms = group.outcomes[0].numbers["rooms"]
        yield f"- {_name(group)}, {rooms:,} rooms: {verdict.name} {verdict.found:.4g}, at most {verdict.limit:g}"
