"""All runs of a command: the numbers over them, and a page with what happened when."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

from ..history.lines import Line
from ..history.measure import ELSEWHERE_WITHIN_S, NOTICED_WITHIN_S, spread
from .run import Outcome

_WIDTH, _ROW, _LEFT = 960, 20, 90
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { max-width: 100%; height: auto; } pre { background: #f3f1ee; padding: .5rem; overflow-x: auto; font-size: 12px; }
.bad { color: #a31515; } .good { color: #1b7f3b; }
"""


@dataclass(slots=True)
class Summary:
    """left_out: disturbances that could not be done here, and why."""

    seed: int
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Every check, and what is promised of kills."""
        return all(outcome.holds for outcome in self.outcomes) and not self.late

    @property
    def late(self) -> list[str]:
        return [f"{outcome.name}: {text}" for outcome in self.outcomes for text in outcome.late]

    def promises(self) -> dict[str, Any]:
        """Of nodes that were killed while nobody else was hurt: what is promised in seconds, and what was seen."""
        kills = [kill for outcome in self.outcomes for kill in outcome.kills if kill.is_alone]
        return {
            "kills": len(kills),
            "noticed_within_s": NOTICED_WITHIN_S,
            "noticed_s": spread([kill.noticed_s for kill in kills if kill.noticed_s is not None]),
            "elsewhere_within_s": ELSEWHERE_WITHIN_S,
            "elsewhere_s": spread([after_s for kill in kills for after_s in kill.again_s]),
            "late": self.late,
        }

    def times(self) -> dict[str, Any]:
        """Over all runs, in which something was killed."""
        verdicts = [outcome.verdict for outcome in self.outcomes if outcome.verdict is not None]
        return {
            "noticed_first_s": spread([sample for each in verdicts for sample in each.times.first]),
            "noticed_by_each_s": spread([sample for each in verdicts for sample in each.times.each]),
            "runs_elsewhere_s": spread([sample for each in verdicts for sample in each.times.elsewhere]),
        }

    def to_value(self) -> dict[str, Any]:
        """For --json."""
        histories = [outcome.verdict.to_value() for outcome in self.outcomes if outcome.verdict is not None]
        return {
            "holds": self.holds,
            "seed": self.seed,
            "runs": len(self.outcomes),
            "tasks_submitted": sum(outcome.tasks for outcome in self.outcomes),
            "tasks_accepted": sum(outcome.accepted for outcome in self.outcomes),
            "duplicates": sum(each["duplicates"] for each in histories),
            "violations": sum(len(each["violations"]) for each in histories),
            "times": self.times(),
            "promises": self.promises(),
            "left_out": self.left_out,
            "outcomes": [outcome.to_value() for outcome in self.outcomes],
        }

    def text(self) -> str:
        """The last lines, for people."""
        times, found = self.times(), self.to_value()
        lines = [f"{name} was left out: {why}" for name, why in self.left_out.items()]
        if times["noticed_first_s"]["samples"]:
            lines.append(f"a killed node is noticed after {_spread(times['noticed_first_s'])}")
        if times["runs_elsewhere_s"]["samples"]:
            lines.append(f"its tasks run elsewhere after {_spread(times['runs_elsewhere_s'])}")
        lines += [*self.kept(), *(f"LATE {text}" for text in self.late)]
        failed = [outcome.name for outcome in self.outcomes if not outcome.holds]
        tasks = f"{found['tasks_accepted']} of {found['tasks_submitted']} tasks accepted"
        twice = f"{found['duplicates']} results came twice"
        verdict = f"VIOLATED by {', '.join(failed)}" if failed else "every check holds"
        verdict += ", but a kill was noticed, or made good, too late" if self.late else ""
        lines.append(f"{len(self.outcomes)} runs, {tasks}, {twice}: {verdict} (seed {self.seed})")
        return "\n".join(lines)

    def kept(self) -> list[str]:
        """What was promised, and kept or not, in a sentence."""
        found = self.promises()
        if not found["kills"]:
            return []
        noticed, again = found["noticed_s"]["max"], found["elsewhere_s"]["max"]
        parts = [f"nodes killed alone: {found['kills']}"]
        if noticed is not None:
            parts.append(f"noticed after at most {noticed:.2f} s, {NOTICED_WITHIN_S:g} s are promised")
        if again is not None:
            parts.append(f"their tasks ran again after at most {again:.2f} s, {ELSEWHERE_WITHIN_S:g} s are promised")
        return ["; ".join(parts)]


def _spread(row: dict[str, Any]) -> str:
    return f"{row['p50']:.2f} s (p50), {row['p99']:.2f} s (p99), {row['samples']} samples"


def page(summary: Summary) -> str:
    """Self-contained."""
    state = '<b class="good">every check holds, in time</b>' if summary.holds else '<b class="bad">violated</b>'
    left_out = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in summary.left_out.items())
    runs = "\n".join(_run(outcome) for outcome in summary.outcomes)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Chaos {summary.seed}</title><style>{_STYLE}</style></head><body>
<h1>Chaos with real processes, seed {summary.seed}</h1>
<p>{len(summary.outcomes)} runs: {state}</p>
{f"<p>Left out:</p><ul>{left_out}</ul>" if left_out else ""}
{_times(summary)}
{"".join(f"<p>{escape(line)}</p>" for line in summary.kept())}
{"".join(f'<p class="bad">{escape(text)}</p>' for text in summary.late)}
<p>Lanes: one a node. Grey: it lives. Orange: it is hurt. Blue ticks: it starts tasks. Red ticks: it calls another dead.
Green ticks: the client accepts.</p>
{runs}
</body></html>
"""


def _times(summary: Summary) -> str:
    titles = {
        "noticed_first_s": "a SIGKILL is noticed by the first",
        "noticed_by_each_s": "by each that notices",
        "runs_elsewhere_s": "a task of the killed node starts elsewhere",
    }
    rows = "".join(
        f"<tr><td>{titles[key]}</td>"
        + "".join(f'<td class="number">{"–" if row[at] is None else row[at]}</td>' for at in ("p50", "p99", "max"))
        + f'<td class="number">{row["samples"]}</td></tr>'
        for key, row in summary.times().items()
    )
    return f"<table><tr><th>seconds until</th><th>p50</th><th>p99</th><th>max</th><th>samples</th></tr>{rows}</table>"


def _run(outcome: Outcome) -> str:
    state = '<b class="good">holds</b>' if outcome.holds else '<b class="bad">violated</b>'
    shown = "".join(f"<pre>{escape(text)}</pre>" for text in outcome.problems())
    notes = "".join(f"<li>{escape(text)}</li>" for text in outcome.notes)
    lines = outcome.verdict.history.lines if outcome.verdict is not None else []
    return f"""<h2>{escape(outcome.name)}</h2>
<p>{outcome.accepted} of {outcome.tasks} tasks, {outcome.seconds:.1f} s, seed {outcome.seed}: {state}</p>
<p>{escape(outcome.met)}</p>
<ul>{notes}</ul>{shown}
{timeline(lines)}"""


def timeline(lines: list[Line]) -> str:
    """An SVG of one history: a lane a node."""
    if not lines:
        return ""
    begin_us, end_us = min(line.at_us for line in lines), max(line.at_us for line in lines)

    def x(at_us: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT) * (at_us - begin_us) / max(1, end_us - begin_us), 1)

    names: dict[str, str] = {line.node: line.name for line in lines if line.name != "chaos"}
    lanes = {node: at for at, node in enumerate(sorted(names, key=lambda node: names[node]))}
    height = _ROW * (len(lanes) + 2)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="What happened when">']
    parts += [
        f'<text x="0" y="{_ROW * at + 13}" font-size="12">{escape(names[node])}</text>' for node, at in lanes.items()
    ]
    parts += _lives(lines, lanes, x)
    parts += _faults(lines, lanes, x, end_us)
    for line in lines:
        colour = {"start": "#24508c", "accept": "#1b7f3b"}.get(line.event, "")
        if line.event == "peer" and line["status"] == "dead":
            colour = "#a31515"
        if colour and line.node in lanes:
            parts.append(f'<path d="M{x(line.at_us)} {_ROW * lanes[line.node] + 3}v12" stroke="{colour}"/>')
    base = _ROW * len(lanes) + 14
    for tenth in range(0, 11, 2):
        at_us = begin_us + (end_us - begin_us) * tenth // 10
        text = f"{(at_us - begin_us) / 1e6:.0f} s"
        parts.append(f'<text x="{x(at_us)}" y="{base}" font-size="11" text-anchor="middle">{text}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _lives(lines: list[Line], lanes: dict[str, int], x: Any) -> list[str]:
    spans: dict[tuple[str, int], list[int]] = {}
    for line in lines:
        if line.node in lanes:
            span = spans.setdefault(line.who, [line.at_us, line.at_us])
            span[0], span[1] = min(span[0], line.at_us), max(span[1], line.at_us)
    return [
        f'<rect x="{x(first)}" y="{_ROW * lanes[node] + 4}" width="{max(1.0, x(last) - x(first)):.1f}" height="10" '
        'fill="#d9d6d0"/>'
        for (node, _), (first, last) in spans.items()
    ]


def _faults(lines: list[Line], lanes: dict[str, int], x: Any, end_us: int) -> list[str]:
    """From each fault to its mending; over all lanes where it is nobody's."""
    parts = []
    open_faults: list[tuple[Line, int]] = []
    for line in sorted((each for each in lines if each.event in ("fault", "mend")), key=lambda each: each.at_us):
        if line.event == "fault":
            open_faults.append((line, end_us))
            continue
        for at, (fault, until_us) in enumerate(open_faults):
            if until_us == end_us and (fault["kind"], fault["node"]) == (line["kind"], line["node"]):
                open_faults[at] = fault, line.at_us
                break
    for fault, until_us in open_faults:
        lane = lanes.get(fault["node"])
        y, height = (_ROW * lane + 2, 14) if lane is not None else (0, _ROW * len(lanes))
        # What is not mended by itself (a damaged file) is a moment.
        width = max(2.0, x(until_us) - x(fault.at_us)) if until_us < end_us else 2.0
        title = escape(fault["kind"])
        parts.append(
            f'<rect x="{x(fault.at_us)}" y="{y}" width="{width:.1f}" height="{height}" fill="#e0823d" '
            f'fill-opacity="{0.75 if lane is not None else 0.2}"><title>{title}</title></rect>'
        )
    return parts
