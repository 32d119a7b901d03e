"""`hearth sim heat`: the same rooms, weather and jobs under several policies."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...node.cli.errors import JOB_FAILED, UserError
from ...node.cli.options import Json
from ...node.cli.output import duration, note, print_json, print_table, say
from ...node.cli.tables import Column, Columns

if TYPE_CHECKING:
    from .compare import Group
    from .play import Case

LOADS = (0.3, 0.7, 1.1)
ROOMS_MOST, DAYS_MOST = 20_000, 365
COLUMNS: Columns = (
    *("season", ">load %", "work", "policy", ">K·h p50", Column(">K·h p95", drop=8), Column(">outside %", drop=7)),
    *(Column(">wasted kWh", drop=9), Column(">burnt kWh", drop=6), Column(">lost %", drop=5)),
    *(Column(">makespan h", drop=4), Column(">missed", drop=3), Column(">moved GB", drop=2)),
    Column(">fairness", drop=1),
)
TARGET_COLUMNS: Columns = (
    *("season", ">load %", "work", Column(">rooms", drop=1), Column("target", folds=True), ">found", ">at most", ""),
)


def heat(
    season: Annotated[
        list[str] | None, typer.Option("--season", help="winter, shoulder, summer or year; may be repeated.")
    ] = None,
    load: Annotated[
        list[float] | None, typer.Option("--load", help="Work, as percent of the heat demand; may be repeated.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="ours, central, random, qarnot or optimum; may be repeated."),
    ] = None,
    workload: Annotated[
        list[str] | None, typer.Option("--workload", help="bag, deadline or stream; may be repeated.")
    ] = None,
    rooms: Annotated[
        int | None,
        typer.Option("--rooms", help="With boilers, pools and a centre in proportion. Default: 1,000; 100 a year."),
    ] = None,
    days: Annotated[int | None, typer.Option("--days", help="Instead of the season's own 7, or 365.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of rooms, weather, jobs and decisions.")] = 1,
    climate: Annotated[str, typer.Option("--climate", help="Of the generated weather.")] = "paris",
    step: Annotated[float | None, typer.Option("--step", help="Seconds of a step. Default: 60; a year: 900.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="40 rooms, two days, steps of 2 min: a first look.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with plots, and FILE.png beside it (needs Pillow).")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Append each case that was played, and take what is there instead of playing it."),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Tables as in docs/heat-comparison.md, and the targets that are missed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare policies in one town: who keeps people warm, and what it costs.

    The policies: ours, by what each node may know; random stealing; a central dispatcher that sees everything; Qarnot's
    published rule; and, for a few rooms and a day, the optimum with everything known beforehand.
    Without options: 1,000 rooms, three weeks and a year, all loads and workloads. That takes hours;
    --quick takes some ten minutes of two cores.
    With a --log a comparison that was interrupted goes on where it was; what other sources played is played anew,
    and what comes from the log is in no plot.
    --json: an object a season, load, workload and policy. Needs pip install '.[compare]' in the clone.

    \b
    Examples:
      hearth sim heat --quick
      hearth sim heat --season winter --load 70 --workload bag --json
      hearth sim heat --policy ours --policy optimum --season winter --report heat.html
      hearth sim heat --log heat.log --markdown
    """
    try:
        from .case_log import CaseLog
        from .compare import compare
    except ModuleNotFoundError as error:
        raise UserError(f"this needs {error.name}: pip install '.[compare]' in the clone") from error
    if as_json and as_markdown:
        raise UserError("--markdown and --json: one of the two")
    cases = chosen(season, load, policy, workload, rooms, days, seed, climate, step, quick)
    if report is not None and not report.parent.is_dir():
        raise UserError(f"--report {report}: no such folder")
    groups: list[Group] = []
    progress = Progress(len(cases))
    try:
        for group in compare(cases, progress.told, CaseLog(log) if log is not None else None):
            groups.append(group)
            if as_json:
                for row in group.rows():
                    print_json(row)
    except OSError as error:
        if log is None or error.filename != str(log):
            raise
        raise UserError(f"--log {log}: {error.strerror}") from None
    progress.clear()
    if as_markdown:
        from .markdown import markdown

        say(markdown(groups))
    elif not as_json:
        _print(groups)
    if report is not None:
        _write(groups, cases, report)


def chosen(
    season: Sequence[str] | None,
    load: Sequence[float] | None,
    policy: Sequence[str] | None,
    workload: Sequence[str] | None,
    rooms: int | None,
    days: int | None,
    seed: int,
    climate: str,
    step: float | None,
    quick: bool,
) -> list[Case]:
    """All cases that were asked for: of the whole town, and small ones where the optimum is asked for.

    Raises UserError.
    """
    from ...node.heating.weather.generator import CLIMATES
    from .compare import small
    from .play import Case
    from .policies import POLICIES
    from .season import SEASONS
    from .sources import OPTIMUM
    from .work import KINDS

    seasons = _known("--season", season, tuple(SEASONS))
    policies = _known("--policy", policy, (*POLICIES, OPTIMUM))
    kinds = _known("--workload", workload, KINDS)
    _known("--climate", [climate], tuple(CLIMATES))
    loads = [each / 100.0 for each in load] if load else list(LOADS)
    if any(not 0 < each <= 5 for each in loads):
        raise UserError("--load: percent of the heat demand, above 0 and up to 500")
    for option, value, most in (("--rooms", rooms, ROOMS_MOST), ("--days", days, DAYS_MOST)):
        if value is not None and not 1 <= value <= most:
            raise UserError(f"{option} {value}: from 1 to {most:,}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed {seed}: a whole number from 0 to 2^63 - 1")
    if step is not None and not (math.isfinite(step) and 10 <= step <= 3600 and 3600 % step == 0):
        raise UserError(f"--step {step:g}: seconds that divide an hour, 10 or more")
    if quick:
        rooms, days, step = rooms or 40, days or 2, step or 120.0
        seasons = seasons if season else [name for name in seasons if name != "year"]
    base = Case(seed=seed, climate=climate, days=days, step_s=step)
    cases: list[Case] = []
    for name in seasons:
        count = rooms or (100 if name == "year" else 1000)
        for share in loads:
            for kind in kinds:
                here = replace(base, season=name, load=share, workload=kind, rooms=count)
                cases += [replace(here, policy=each) for each in policies if each != OPTIMUM]
                if OPTIMUM in policies and name != "year":
                    cases += [replace(small(here), policy=each) for each in policies]
    if not cases:
        raise UserError("--policy optimum: it is solved for a day of a week's season, not for a year")
    return cases


def _known(option: str, given: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """What was given, once each; all by default. Raises UserError."""
    for each in given or ():
        if each not in known:
            raise UserError(f'{option} "{each}": one of {", ".join(known)}')
    return list(dict.fromkeys(given or known))


class Progress:
    """On standard error, where somebody looks: a line that is written over; elsewhere a line a case."""

    def __init__(self, cases: int) -> None:
        self._cases = cases
        self._began_s = time.monotonic()
        self._live = sys.stderr.isatty()

    def told(self, case: Case, done: int) -> None:
        text = f"{done} of {self._cases}: {case.season}, {100 * case.load:.0f} %, {case.workload}, {case.policy}"
        spent_s = time.monotonic() - self._began_s
        text += f", {case.rooms:,} rooms; {duration(spent_s)}, {duration(spent_s / done * (self._cases - done))} left"
        if self._live:
            sys.stderr.write(f"\r{text:<100}")
            sys.stderr.flush()
        else:
            note(text)

    def clear(self) -> None:
        if self._live:
            sys.stderr.write("\r" + " " * 110 + "\r")
            sys.stderr.flush()


def table_row(row: dict[str, Any]) -> tuple[str, ...]:
    def cell(key: str, form: str) -> str:
        return format(row[key], form) if key in row else "–"

    return (
        row["season"],
        f"{100 * row['load']:.0f}",
        row["workload"],
        row["policy"] if row["rooms"] > 12 else f"{row['policy']} ({row['rooms']} rooms)",
        cell("discomfort_kh_p50", ".2f"),
        cell("discomfort_kh_p95", ".2f"),
        cell("outside_band_percent", ".1f"),
        cell("wasted_kwh", ",.0f"),
        cell("burnt_kwh", ",.0f"),
        cell("lost_work_percent", ".2f"),
        cell("makespan_h", ",.1f"),
        cell("deadline_misses", ",d"),
        cell("moved_gb", ",.0f"),
        cell("fairness", ".2f"),
    )


def _print(groups: Sequence[Group]) -> None:
    rows = [table_row(row) for group in groups for row in group.rows()]
    print_table(COLUMNS, rows, empty="nothing was asked for")
    verdicts = [(group.outcomes[0], verdict) for group in groups for verdict in group.verdicts]
    if not verdicts:
        return
    say("")
    shown = [
        (first.season, f"{100 * first.load:.0f}", first.workload, f"{first.numbers['rooms']}", each.name)
        + (f"{each.found:.4g}", f"{each.limit:g}", "met" if each.met else "MISSED")
        for first, each in verdicts
    ]
    print_table(TARGET_COLUMNS, shown, empty="")
    met = sum(verdict.met for _, verdict in verdicts)
    say(f"{met} of {len(verdicts)} targets met")


def _write(groups: Sequence[Group], cases: Sequence[Case], path: Path) -> None:
    try:
        from .report import write_report
    except ModuleNotFoundError as error:
        raise UserError(f"--report needs {error.name}: pip install '.[compare]' in the clone") from error
    try:
        write_report(groups, cases, path)
    except OSError as error:
        raise UserError(f"--report {error.filename}: {error.strerror}", JOB_FAILED) from error
