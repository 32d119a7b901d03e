"""A run as one page for people, which needs nothing else, and as JSON beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .engine import SECOND
from .faults import Happened
from .plan import FaultKind
from .run import Outcome

# Faults that take a node away, so that others can notice.
_NOTICED = (FaultKind.KILL, FaultKind.POWER_CUT, FaultKind.FREEZE, FaultKind.NEW_DISK)
_WIDTH, _ROW, _LEFT = 960, 22, 190
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } code { background: #f3f1ee; padding: .1rem .3rem; }
.bad { color: #a31515; } .good { color: #1b7f3b; }
"""


def report(outcome: Outcome) -> dict[str, Any]:
    """Everything that the page shows, as JSON.

    outage_s: how long faults last, as planned.  elsewhere_s, level_s: recovery from them, as `Happened` has it.
    """
    detection = detection_us(outcome.happened)
    outages = sorted(each.mended_us - each.began_us for each in outcome.happened if each.mended_us)
    end_of_faults_us = max((each.mended_us or each.began_us for each in outcome.happened), default=0)
    finished = {name: _seconds(at_us) if at_us else None for name, at_us in outcome.finished_us.items()}
    return {
        **outcome.summary(),
        "plan": outcome.plan.describe(),
        "timeline": [_happened(each) for each in outcome.happened],
        "detection_s": {
            "p50": _percentile(detection, 50),
            "p99": _percentile(detection, 99),
            "samples": len(detection),
        },
        "outage_s": {"p50": _percentile(outages, 50), "p99": _percentile(outages, 99), "samples": len(outages)},
        "elsewhere_s": _spread(sorted(us for each in outcome.happened for us in each.elsewhere_us)),
        "level_s": _spread(sorted(us for each in outcome.happened for us in each.level_us)),
        "jobs_finished_s": finished,
        "converged_s": _seconds(outcome.converged_us) if outcome.converged_us else None,
        "converged_after_faults_s": (
            _seconds(max(0, outcome.converged_us - end_of_faults_us)) if outcome.converged_us else None
        ),
        "wasted_energy_j": round(outcome.wasted_uj / 1e6, 3),
        "energy_j": round(outcome.energy_uj / 1e6, 3),
        "traffic": {kind: {"messages": row[0], "bytes": row[1]} for kind, row in sorted(outcome.traffic.items())},
    }


def detection_us(happened: Sequence[Happened]) -> list[int]:
    """How long it took each node to call a silent one dead, over all such faults, sorted."""
    noticed = [each for each in happened if each.fault.kind in _NOTICED]
    return sorted(after_us for each in noticed for after_us in each.seen_us.values())


def write_report(outcome: Outcome, path: Path) -> None:
    """The page, and the same numbers in a file of the same name that ends in .json. Raises OSError."""
    found = report(outcome)
    path.write_text(page(found), encoding="utf-8")
    path.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def page(found: dict[str, Any]) -> str:
    state = '<b class="good">every invariant holds</b>'
    if found["violations"]:
        lines = "".join(
            f"<li><b>{escape(each['checker'])}</b> at {each['at_s']} s: {escape(each['text'])}</li>"
            for each in found["violations"]
        )
        state = f'<b class="bad">violated</b><ul>{lines}</ul>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Simulation {found["seed"]}</title>
<style>{_STYLE}</style></head><body>
<h1>Simulation, seed {found["seed"]}</h1>
<p>{found["nodes"]} nodes, {found["virtual_s"]} s of virtual time, {found["events"]:,} events, trace
<code>{found["trace_digest"]}</code>: {state}</p>
<h2>Faults and recovery</h2>
{_timeline(found)}
<h2>Numbers</h2>
{_numbers(found)}
<h2>Traffic</h2>
{_traffic(found)}
</body></html>
"""


def _timeline(found: dict[str, Any]) -> str:
    """A bar for each fault, ticks where others noticed it, and lines where jobs were finished."""
    rows = found["timeline"]
    end_s: float = max(found["virtual_s"], 1.0)

    def x(at_s: float) -> float:
        return round(float(_LEFT + (_WIDTH - _LEFT) * at_s / end_s), 1)

    height = _ROW * (len(rows) + 2)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="Faults over time">']
    for at, row in enumerate(rows):
        y = _ROW * at + 4
        until_s = row["mended_s"] if row["mended_s"] is not None else end_s
        parts.append(f'<text x="0" y="{y + 11}" font-size="12">{escape(row["fault"])} {escape(row["targets"])}</text>')
        width = max(2, x(until_s) - x(row["began_s"]))
        parts.append(f'<rect x="{x(row["began_s"])}" y="{y}" width="{width:.1f}" height="12" fill="#e0823d"/>')
        for after_s in row["noticed_after_s"]:
            tick = x(row["began_s"] + after_s)
            parts.append(f'<path d="M{tick} {y - 2}v16" stroke="#24508c"/>')
    base = _ROW * len(rows) + 16
    for name, at_s in found["jobs_finished_s"].items():
        if at_s is not None:
            parts.append(f'<path d="M{x(at_s)} 0V{base - 12}" stroke="#1b7f3b" stroke-dasharray="3 3"/>')
            parts.append(f'<text x="{x(at_s)}" y="{base}" font-size="11" text-anchor="middle">{escape(name)}</text>')
    for tenth in range(0, 11, 2):
        at_s = end_s * tenth / 10
        parts.append(f'<text x="{x(at_s)}" y="{base + 14}" font-size="11" text-anchor="middle">{at_s:.0f} s</text>')
    parts.append("</svg><p>Bars: from the fault to its mending. Ticks: a node calls the silent one dead. ")
    parts.append("Dashed: a job is complete.</p>")
    return "".join(parts)


def _numbers(found: dict[str, Any]) -> str:
    detection, outage = found["detection_s"], found["outage_s"]
    elsewhere, level = found["elsewhere_s"], found["level_s"]
    rows: list[tuple[str, Any]] = [
        ("tasks accepted, of those submitted", f"{found['tasks_accepted']:,} of {found['tasks_submitted']:,}"),
        ("tasks run again", found["duplicates"]),
        ("energy of work that was cut short", f"{found['wasted_energy_j']:,} J of {found['energy_j']:,} J"),
        ("a dead node is noticed after (p50, p99)", f"{detection['p50']} s, {detection['p99']} s"),
        ("a fault lasts (p50, p99)", f"{outage['p50']} s, {outage['p99']} s"),
        ("a task of a silent node starts elsewhere after (p50, p99)", f"{elsewhere['p50']} s, {elsewhere['p99']} s"),
        ("who came back grants again after (p50, p99)", f"{level['p50']} s, {level['p99']} s"),
        ("living nodes called dead", found["false_alarms"]),
        ("dead called so when they were back already", found["late_alarms"]),
        ("all accepted and alike at", f"{found['converged_s']} s"),
        ("that is, after the last fault", f"{found['converged_after_faults_s']} s"),
        ("bytes a node and second", found["bytes_per_node_per_s"]),
        ("events a second of ours", f"{found['events_per_s']:,}"),
    ]
    cells = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(str(value))}</td></tr>' for name, value in rows
    )
    return f"<table>{cells}</table>"


def _traffic(found: dict[str, Any]) -> str:
    rows = sorted(found["traffic"].items(), key=lambda item: -item[1]["bytes"])
    cells = "".join(
        f'<tr><td>{escape(kind)}</td><td class="number">{row["messages"]:,}</td>'
        f'<td class="number">{row["bytes"]:,}</td></tr>'
        for kind, row in rows
    )
    return f"<table><tr><th>message</th><th>count</th><th>bytes</th></tr>{cells}</table>"


def _happened(each: Happened) -> dict[str, Any]:
    noticed = each.seen_us.values() if each.fault.kind in _NOTICED else ()
    return {
        "fault": str(each.fault.kind),
        "targets": " ".join(each.names),
        "began_s": _seconds(each.began_us),
        "mended_s": _seconds(each.mended_us) if each.mended_us else None,
        "noticed_after_s": sorted(_seconds(after_us) for after_us in noticed),
    }


def _spread(sorted_us: Sequence[int]) -> dict[str, Any]:
    return {"p50": _percentile(sorted_us, 50), "p99": _percentile(sorted_us, 99), "samples": len(sorted_us)}


def _seconds(us: int) -> float:
    return round(us / SECOND, 3)


def _percentile(sorted_us: Sequence[int], percent: int) -> float | None:
    """The least value that so many percent do not exceed; None of none."""
    if not sorted_us:
        return None
    return _seconds(sorted_us[min(len(sorted_us) - 1, -(-len(sorted_us) * percent // 100) - 1)])
