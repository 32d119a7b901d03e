"""`hearth sim`: the protocol in virtual time, by a seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...node.cli.errors import JOB_FAILED, UserError
from ...node.cli.options import Json
from ...node.cli.output import note, print_json, print_table, say
from ...node.cli.tables import Column, Columns
from ..heat.command import heat
from .siege_command import siege

if TYPE_CHECKING:
    from .plan import Plan
    from .run import Outcome

MUTANT_COLUMNS: Columns = (Column("mutant", folds=True), Column("caught by", folds=True), ">seed")
SCENARIO_COLUMNS: Columns = (
    *(Column("scenario", folds=True), "here", ">again", Column("caught if broken", folds=True)),
    Column("where it went wrong", folds=True, drop=1),
)
COST_FIELDS = (
    *("nodes", "messages", "membership_bytes", "gossip_bytes", "finding_bytes", "stealing_bytes", "job_bytes"),
    *("start_bytes", "links", "memory_bytes"),
)
COST_COLUMNS: Columns = (
    *(">nodes", ">messages/s", ">membership B/s", Column(">gossip B/s", drop=4), Column(">finding B/s", drop=5)),
    *(Column(">stealing B/s", drop=3), Column(">jobs B/s", drop=2), Column(">start B", drop=1), ">links", ">memory B"),
)
MEETING_FIELDS = ("records", "missing", "rounds", "bytes")
MEETING_COLUMNS: Columns = tuple(f">{name}" for name in MEETING_FIELDS)

HELP = """Simulate a mesh: the real protocol, a made-up world, one seed. Each command has --json.

\b
Examples:
  hearth sim run --seed 7
  hearth sim run --nodes 100 --hours 1 --churn 0.1 --json
  hearth sim replay 57 --trace --task 11
  hearth sim soak --minutes 10
"""
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=HELP,
)
app.command()(heat)

Nodes = Annotated[int | None, typer.Option("--nodes", help="Machines. Default: as the seed draws.")]
Hours = Annotated[float | None, typer.Option("--hours", help="Virtual hours. Default: as the seed draws.")]
Seed = Annotated[int, typer.Option("--seed", help="What is drawn is drawn from it.")]
Churn = Annotated[
    float | None, typer.Option("--churn", help="With --hours: share of the nodes that dies in an hour. Default: 0.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", help="With --hours: how many jobs. Default: one in five minutes.")]
Tasks = Annotated[
    int | None, typer.Option("--tasks", help="With --hours: tasks of a job for each node, a second each. Default: 4.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset", help="With --hours: lan, local, wan, thin (small cells) or slow (for days). Default: lan."
    ),
]
Warm = Annotated[
    bool, typer.Option("--warm", help="With --hours: begin with a mesh whose nodes know their neighbours already.")
]
Report = Annotated[Path | None, typer.Option("--report", help="Write a page for people, and FILE.json beside it.")]
Name = Annotated[str | None, typer.Option("--scenario", help="A named scenario instead; see hearth sim scenarios.")]


@app.command()
def run(
    nodes: Nodes = None,
    hours: Hours = None,
    seed: Seed = 1,
    churn: Churn = None,
    jobs: Jobs = None,
    preset: Preset = None,
    tasks: Tasks = None,
    warm: Warm = False,
    scenario: Name = None,
    report: Report = None,
    no_shrink: Annotated[bool, typer.Option("--no-shrink", help="Do not look for a smaller run that fails.")] = False,
    as_json: Json = False,
) -> None:
    """Run one simulation and check the design's invariants; exit code 1 if one does not hold.

    Without --nodes and --hours: a random scenario of some seconds, with faults, all drawn from the seed.

    \b
    Examples:
      hearth sim run --seed 7
      hearth sim run --nodes 100 --hours 1 --seed 7 --churn 0.1 --json
      hearth sim run --nodes 1000 --hours 0.01 --jobs 1 --warm --json
      hearth sim run --nodes 400 --hours 0.001 --jobs 1 --tasks 40 --warm
      hearth sim run --scenario vanished-holder --report out.html
    """
    from .asked import Asked, check_report
    from .progress import Progress
    from .run import play

    check_report(report)
    asked = Asked(seed, nodes, hours, churn, jobs, preset, scenario, warm, tasks)
    plan = asked.plan()
    outcome = play(plan, watch=Progress())
    if report is not None:
        _write_report(outcome, report)
    if as_json:
        print_json(outcome.summary())
    else:
        _print_outcome(outcome)
    if not outcome.ok:
        command = asked.replay_command()
        note(f"seed {seed} fails; to see it: {command}")
        if not no_shrink:
            _print_shrunk(plan, outcome, command)
        raise typer.Exit(JOB_FAILED)


@app.command()
def replay(
    seed: Annotated[int | None, typer.Argument(metavar="[SEED]", help="As `run` printed it.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Tell the story.")] = False,
    task: Annotated[int | None, typer.Option("--task", help="Only what is about this task.")] = None,
    node: Annotated[str | None, typer.Option("--node", help="Only what this node says and is told: n0, c0.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="Only what is about this job: job0.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Pings, tables and progress too.")] = False,
    nodes: Nodes = None,
    hours: Hours = None,
    churn: Churn = None,
    jobs: Jobs = None,
    preset: Preset = None,
    tasks: Tasks = None,
    warm: Warm = False,
    scenario: Name = None,
    draw_nodes: Annotated[int | None, typer.Option(help="A random scenario of so many machines.")] = None,
    draw_faults: Annotated[int | None, typer.Option(help="A random scenario with so many faults.")] = None,
    keep_nodes: Annotated[int | None, typer.Option(help="Only the first so many machines.")] = None,
    keep_faults: Annotated[str | None, typer.Option(help="Only these faults of the plan: 0,3 or none.")] = None,
    keep_jobs: Annotated[str | None, typer.Option(help="Only these jobs of the plan: 0,1.")] = None,
    keep_tasks: Annotated[int | None, typer.Option(help="At most so many tasks a job.")] = None,
    keep_liars: Annotated[str | None, typer.Option(help="Only these liars of the plan: 0 or none.")] = None,
    draw_honest: Annotated[
        bool, typer.Option("--draw-honest", help="As seeds were drawn before some had liars and results compared.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a seed again, to the byte, and tell what happened.

    \b
    Examples:
      hearth sim replay 57 --trace
      hearth sim replay 57 --trace --task 11
      hearth sim replay 57 --trace --node n3 --keep-faults 0,2
      hearth sim replay --scenario vanished-holder --trace --job job0
    """
    from .asked import Asked, reduced
    from .run import play
    from .telling import Story, Wanted

    if seed is None and scenario is None:
        raise UserError("give a seed, as hearth sim run prints it, or a --scenario")
    drawn = (draw_nodes, draw_faults, draw_honest)
    asked = Asked(seed or 1, nodes, hours, churn, jobs, preset, scenario, warm, tasks, *drawn)
    plan = reduced(asked.plan(), keep_nodes, keep_faults, keep_jobs, keep_tasks, keep_liars)
    story = Story(Wanted(node, job, task, everything)) if trace else None
    outcome = play(plan, story)
    if story is not None and not as_json:
        say(story.text().rstrip("\n") or "nothing is told of that")
    if as_json:
        lines = story.text().splitlines() if story is not None else []
        print_json({**outcome.summary(), "plan": plan.describe(), **({"story": lines} if trace else {})})
    else:
        _print_outcome(outcome)
    if not outcome.ok:
        raise typer.Exit(JOB_FAILED)


@app.command()
def liars(
    nodes: Annotated[int, typer.Option("--nodes", min=5, max=1_000, help="Workers of each street.")] = 40,
    seed: Seed = 1,
    tasks: Annotated[
        int, typer.Option("--tasks", min=20, max=100_000, help="Of the measured job; as many before it count too.")
    ] = 4_000,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="Only this one; may be repeated.")] = None,
    share: Annotated[list[float] | None, typer.Option("--share", help="Only this share of liars, up to 0.5.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a plot, as SVG.")] = None,
    table: Annotated[Path | None, typer.Option("--table", help="Write the table, as Markdown.")] = None,
    as_json: Json = False,
) -> None:
    """Liars against each policy: what they get accepted, what checking costs, how soon they are found.

    Alone, as accomplices who give the same wrong answer, and as accomplices who are honest until they are believed.
    --json: one object a street, as it ends. All of it takes minutes.

    \b
    Examples:
      hearth sim liars --json
      hearth sim liars --policy adaptive --share 0.2
      hearth sim liars --plot liars.svg --table liars.md
    """
    from ...protocol.verification.policy import parse_policy
    from .deceit import POLICIES, SHARES, observe, streets
    from .liars_page import COLUMNS, markdown, svg, table_rows

    for text in policy or ():
        try:
            parse_policy(text)
        except ValueError as error:
            raise UserError(f'--policy "{text}": {error}') from error
    if any(not 0 < each <= 0.5 for each in share or ()):
        raise UserError("--share: a number above 0, up to 0.5")
    findings = []
    for street in streets(nodes, tasks, seed, tuple(policy or POLICIES), tuple(share or SHARES)):
        findings.append(observe(street).row())
        if as_json:
            print_json(findings[-1])
        else:
            note(f"{street.policy}, {street.liars} of {nodes}: {street.lie or 'nobody lies'}")
    try:
        if plot is not None:
            plot.write_text(svg(findings), encoding="utf-8")
        if table is not None:
            table.write_text(markdown(findings), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    if not as_json:
        print_table(COLUMNS, table_rows(findings), empty="nothing was asked for")


app.command()(siege)


@app.command()
def sinks(
    kind: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; may be repeated.")] = None,
    climate: Annotated[str, typer.Option("--climate", help="Of the generated weather.")] = "paris",
    seed: Seed = 1,
    bench: Annotated[
        bool, typer.Option("--bench", help="Measure how many are stepped in a second of CPU time.")
    ] = False,
    count: Annotated[int, typer.Option("--count", min=1, max=1_000_000, help="Sinks at once, with --bench.")] = 10_000,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a plot, as SVG.")] = None,
    as_json: Json = False,
) -> None:
    """A winter week of each kind of heat sink under an ideal heater; with --bench, how fast many are stepped.

    Needs NumPy: pip install '.[heat]' in the clone.  --json: one object a kind.

    \b
    Examples:
      hearth sim sinks
      hearth sim sinks --kind pool --kind tank --climate stockholm --plot week.svg
      hearth sim sinks --bench --count 10000 --json
    """
    try:
        from .sink_page import COLUMNS, svg, table_rows
        from .sink_week import all_kinds, steps_per_cpu_s, week_of
    except ModuleNotFoundError as error:
        raise UserError(f"this needs {error.name}: pip install '.[heat]' in the clone") from error
    from ...node.heating.weather.generator import CLIMATES

    for each in kind or ():
        if each not in all_kinds():
            raise UserError(f'--kind "{each}": one of {", ".join(all_kinds())}')
    if climate not in CLIMATES:
        raise UserError(f'--climate "{climate}": one of {", ".join(CLIMATES)}')
    weeks, rows = [], []
    for each in kind or all_kinds():
        weeks.append(week_of(each, climate, seed))
        rows.append(weeks[-1].row())
        if bench:
            rows[-1]["sinks_per_cpu_s"] = round(steps_per_cpu_s(each, count, 20))
        if as_json:
            print_json(rows[-1])
    if plot is not None:
        try:
            plot.write_text(svg(weeks, f"A week of January, {climate}, seed {seed}"), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from error
    if not as_json:
        print_table(COLUMNS, table_rows(rows), empty="nothing was asked for")


@app.command()
def mutants(as_json: Json = False) -> None:
    """Break the protocol in one place at a time, and show which checker notices.

    \b
    Examples:
      hearth sim mutants
      hearth sim mutants --json
    """
    from .cores import over_all_cores
    from .mutants import MUTANTS, catch_number

    caught = over_all_cores(catch_number, len(MUTANTS))
    if as_json:
        print_json([{"mutant": each.mutant, "caught_by": each.caught_by or None, "seed": each.seed} for each in caught])
    else:
        rows = [(each.mutant, each.caught_by or "NOBODY", each.seed) for each in caught]
        print_table(MUTANT_COLUMNS, rows, empty="no mutants")
    if not all(each.caught_by for each in caught):
        raise typer.Exit(JOB_FAILED)


@app.command()
def scenarios(as_json: Json = False) -> None:
    """Play the known ways in which others failed; then break the protocol as theirs was, and show who notices.

    \b
    Examples:
      hearth sim scenarios
      hearth sim scenarios --json
    """
    from .cores import over_all_cores
    from .scenario_mutants import BROKEN, catch_number
    from .scenarios import SCENARIOS, play_number

    rows: list[dict[str, Any]] = []
    broken: dict[str, list[dict[str, Any]]] = {}
    for caught in over_all_cores(catch_number, len(BROKEN)):
        told = {"mutant": caught.what, "caught_by": caught.caught_by or None}
        broken.setdefault(caught.scenario, []).append(told)
    for each, played in zip(SCENARIOS, over_all_cores(play_number, len(SCENARIOS)), strict=True):
        state = "holds" if not played.checker else "known to fail" if each.known else "FAILS"
        rows.append(
            {
                "scenario": each.name,
                "failed": each.failed,
                "state": state,
                "checker": played.checker or None,
                "events": played.events,
                "duplicates": played.duplicates,
                "mutants": broken.get(each.name, []),
            }
        )
    if as_json:
        print_json(rows)
    else:
        shown = [
            (row["scenario"], row["state"], row["duplicates"], _who_notices(row["mutants"]), row["failed"])
            for row in rows
        ]
        print_table(SCENARIO_COLUMNS, shown, empty="no scenarios")
    unnoticed = any(each["caught_by"] is None for row in rows for each in row["mutants"])
    if unnoticed or any(row["state"] == "FAILS" for row in rows):
        raise typer.Exit(JOB_FAILED)


def _who_notices(mutants: list[dict[str, Any]]) -> str:
    return "; ".join(f"{each['mutant']}: {each['caught_by'] or 'NOBODY'}" for each in mutants) or "-"


@app.command()
def soak(
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="How long to begin new runs. Default: 10; no bound with --runs.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The first. Default: drawn, and printed.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", help="At most so many runs.")] = None,
    draw_nodes: Annotated[int | None, typer.Option(help="Machines in each run. Default: drawn.")] = None,
    draw_faults: Annotated[int | None, typer.Option(help="Faults in each run. Default: drawn.")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Append a line for each seed.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out, and count, what the log holds of the same draw.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Random scenarios over all cores until the time is over; failures are shrunk.

    \b
    Examples:
      hearth sim soak --minutes 60 --log soak.log
      hearth sim soak --runs 10000 --draw-nodes 50 --draw-faults 5 --seed 0 --log soak-50.log --resume
    """
    import math
    import os
    import time

    from .asked import SEEDS_MOST, check_drawn
    from .soak import Log, SoakTotals
    from .soak import soak as begin

    if minutes is not None and minutes <= 0:
        raise UserError("--minutes must be more than 0")
    check_drawn(draw_nodes, draw_faults)
    if resume and (log is None or seed is None):
        raise UserError("--resume: give the --log and the first --seed")
    seconds = minutes * 60 if minutes is not None else math.inf if runs is not None else 600.0
    first = int.from_bytes(os.urandom(6), "big") if seed is None else seed
    note(f"seeds from {first} on")
    totals, started = SoakTotals(), time.monotonic()
    try:
        lines = Log(log, draw_nodes, draw_faults) if log is not None else None
        before = lines.played() if lines is not None and resume else {}
    except OSError as error:
        raise UserError(f"--log {log}: {error.strerror}") from None
    wanted = range(first, first + runs) if runs is not None else range(first, SEEDS_MOST)
    before = {number: played for number, played in before.items() if number in wanted}
    for played in before.values():
        totals.add(played)
    for played in begin(first, seconds, runs=runs, nodes=draw_nodes, faults=draw_faults, leave_out=before):
        totals.add(played)
        if lines is not None:
            lines.append(played)
        if played.checker:
            note(f"seed {played.seed}: {played.checker}: {played.text}")
            note(f"  {played.command}")
    totals.elapsed_s = time.monotonic() - started
    if as_json:
        print_json(totals.as_json())
    else:
        per_run = totals.events / max(1, totals.runs)
        say(
            f"{totals.runs} runs ({len(before)} of them before), {totals.faults} faults, {per_run:.0f} events each, "
            f"{totals.cpu_s:.0f} s of CPU, now {totals.elapsed_s:.0f} s; {len(totals.failures)} failed"
        )
        for each in totals.as_json()["by_sources"] if before else ():
            say(f"  {each['runs']} of sources {each['sources'] or 'unknown'}: {each['failed']} failed")
    if totals.failures:
        raise typer.Exit(JOB_FAILED)


@app.command()
def scale(
    nodes: Annotated[str, typer.Option("--nodes", help="Sizes of the mesh, with commas.")] = "25,50,100,200",
    seconds: Annotated[float, typer.Option("--seconds", help="Virtual, in which is counted.")] = 30.0,
    after: Annotated[float, typer.Option("--after", help="Virtual seconds from the settling to the count.")] = 0.0,
    jobs: Annotated[int, typer.Option("--jobs", help="0, or 1: a job that comes when the mesh has settled.")] = 1,
    seed: Seed = 1,
    preset: Preset = None,
    warm: Warm = False,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Append each size, and take what is there of the same sources."),
    ] = None,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """What a node costs, in bytes, messages and memory, as the mesh grows. Over all cores.

    Counted from when the mesh has settled; what a node sends until then is told apart, in bytes in all.

    \b
    Examples:
      hearth sim scale
      hearth sim scale --nodes 100,200,500 --warm --jobs 0 --after 300 --log scale.log --report scale.html
      hearth sim scale --nodes 100,1000,10000 --seconds 10 --warm --json
    """
    from .asked import HOURS_MOST, NODES_MOST, PRESET, check_report, positions
    from .plan import SIMULATED_PRESETS
    from .scale import Asked, costs_of
    from .scale_page import write_scale

    check_report(report)
    sizes = positions("--nodes", nodes) or ()
    if not sizes or not all(2 <= size <= NODES_MOST for size in sizes):
        raise UserError(f"--nodes {nodes}: sizes from 2 to {NODES_MOST} with commas between them")
    if not 0 < seconds <= HOURS_MOST * 3600:
        raise UserError(f"--seconds {seconds:g}: more than 0")
    if not 0 <= after <= HOURS_MOST * 3600:
        raise UserError(f"--after {after:g}: 0 or more")
    if jobs not in (0, 1):
        raise UserError(f"--jobs {jobs}: 0 or 1")
    preset = preset if preset is not None else PRESET
    if preset not in SIMULATED_PRESETS:
        raise UserError(f"--preset {preset}: there are {', '.join(SIMULATED_PRESETS)}")
    costs = []
    try:
        for cost in costs_of(sizes, Asked(seconds, after, jobs, seed, preset, warm), log):
            costs.append(cost)
            how = ", compiled" if cost.compiled else ""
            note(f"{cost.nodes} nodes: {cost.events:,} events, {cost.events_per_cpu_s:,} a second of CPU{how}")
    except OSError as error:
        raise UserError(f"--log {log}: {error.strerror}") from None
    if report is not None:
        try:
            write_scale(costs, report)
        except OSError as error:
            raise UserError(f"--report {report}: {error.strerror}") from None
    if as_json:
        print_json([cost.as_json() for cost in costs])
        return
    rows = [tuple(getattr(cost, name) for name in COST_FIELDS) for cost in costs]
    print_table(COST_COLUMNS, rows, empty="no sizes")


@app.command()
def numbers(
    detection_hours: Annotated[
        float, typer.Option("--detection-hours", help="Node-hours to watch for false alarms, at 30 % starvation.")
    ] = 20.0,
    churn_hours: Annotated[
        float, typer.Option("--churn-hours", help="Hours of 20 busy nodes, of which a tenth dies an hour.")
    ] = 2.0,
    seed: Seed = 1,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Append each run of detection, and count what is there instead of playing it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure detection, false alarms, work that is run again, and how replicas meet after a partition.

    Over all cores. False alarms are rare: 2,190 node-hours without one show less than one a node-month. With a --log a
    measurement that was interrupted goes on where it was.

    \b
    Examples:
      hearth sim numbers
      hearth sim numbers --detection-hours 2200 --churn-hours 20 --log detection.log --json
    """
    from .measure import numbers_of

    for option, hours in (("--detection-hours", detection_hours), ("--churn-hours", churn_hours)):
        if not 0 < hours <= 100_000:
            raise UserError(f"{option} {hours:g}: more than 0, at most 100000")
    try:
        found = numbers_of(detection_hours, churn_hours, seed, log)
    except OSError as error:
        raise UserError(f"--log {log}: {error.strerror}") from None
    if as_json:
        print_json(found)
        return
    by_sources = found["detection"].pop("by_sources")
    for what in ("detection", "churn"):
        say(f"{what}: " + ", ".join(f"{name} {value}" for name, value in found[what].items()))
    for each in by_sources if len(by_sources) > 1 else ():
        say("  of them " + ", ".join(f"{name} {value}" for name, value in each.items()))
    rows = [tuple(each[name] for name in MEETING_FIELDS) for each in found["meeting"]]
    print_table(MEETING_COLUMNS, rows, empty="no partitions")


# -- output ----------------------------------------------------------------------------------------------------


def _print_outcome(outcome: Outcome) -> None:
    found = outcome.summary()
    say(
        f"seed {found['seed']}: {outcome.plan.nodes} nodes, {found['virtual_s']:.1f} s of theirs in "
        f"{found['elapsed_s']:.1f} s of ours; {found['events']:,} events, {found['events_per_s']:,} a second"
    )
    say(f"trace {found['trace_digest']}")
    say(
        f"{found['tasks_accepted']} of {found['tasks_submitted']} tasks accepted, {found['duplicates']} run again; "
        f"the longest job took {found['makespan_s']:.1f} s; "
        f"{found['faults']} faults, {found['false_alarms']} false alarms, "
        f"{found['late_alarms']} late ones"
    )
    for violation in outcome.violations:
        say(f"VIOLATED {violation.checker} at {violation.at_us / 1e6:.6f} s: {violation.text}")
    if outcome.ok:
        say("every invariant holds")


def _print_shrunk(plan: Plan, outcome: Outcome, command: str) -> None:
    from .shrink import shrink

    if outcome.cpu_s > 5:
        note("too long a run to look for a smaller one")
        return
    reduction, attempts = shrink(plan, outcome.violations[0].checker)
    options = reduction.options()
    if options:
        note(f"smaller, found in {attempts} runs: {command}{options}")
    else:
        note(f"no smaller run fails alike; {attempts} were tried")


def _write_report(outcome: Outcome, path: Path) -> None:
    from .report import write_report

    try:
        write_report(outcome, path)
    except OSError as error:
        raise UserError(f"--report {path}: {error.strerror}") from None
