"""`hearth testnet chaos` and `hearth testnet history`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...node.cli.errors import JOB_FAILED, UserError
from ...node.cli.options import Json
from ...node.cli.output import note, print_json, print_table, say
from ...node.cli.running import run_async, until_signalled
from ...node.cli.tables import Column, Columns

if TYPE_CHECKING:
    from .disturbances import Disturbance
    from .report import Summary
    from .run import Outcome
    from .scene import Settings

MINUTES_MAX = 24 * 60.0
LIST_COLUMNS: Columns = ("name", Column("what", folds=True), Column("not here, since", folds=True))


def chaos(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="This disturbance; may be repeated.")
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Name the disturbances, and whether each can be done here.")
    ] = False,
    nodes: Annotated[int, typer.Option(min=4, max=16, help="Number of nodes.")] = 5,
    tasks: Annotated[int, typer.Option(min=2, max=2000, help="Tasks of a run, in two jobs.")] = 300,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="How often each is done.")] = 1,
    pause: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="How long a node stays frozen or parted, s; work outlasts it.")
    ] = 60.0,
    minutes: Annotated[
        float, typer.Option(min=0.1, max=MINUTES_MAX, help="A run that takes longer has failed.")
    ] = 10.0,
    seed: Annotated[
        int | None, typer.Option(help="Of what is left to chance. Default: a fresh one, which is told.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where runs live. Default: a temporary folder.", show_default=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the files of runs in the folder.")] = False,
    report: Annotated[Path | None, typer.Option(help="A page of what happened, as HTML.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Hurt a network of real processes while it works, one way after another; exit code 1 if any task suffers.

    So it is if all results were there before it began, if a node that was killed alone is not missed in 3 s, or if its
    tasks do not run again in 10 s.

    Each run makes a network of its own, submits two jobs, does one disturbance, lets it heal, and checks: every task
    accepted exactly once with a valid proof, the books, and the history of all nodes. Nothing is left behind.

    \b
    Examples:
      hearth testnet chaos --list
      hearth testnet chaos                                     all of them; about a quarter of an hour
      hearth testnet chaos --only kill-worker --repeat 10 --json
      hearth testnet chaos --only partition --pause 10 --report chaos.html
    """
    from .disturbances import DISTURBANCES
    from .scene import Settings

    if show_list:
        _print_list(list(DISTURBANCES.values()), as_json)
        return
    chosen = [_known(DISTURBANCES, name) for name in dict.fromkeys(only or DISTURBANCES)]
    first_seed = seed if seed is not None else _fresh_seed()
    settings = Settings(nodes=nodes, tasks=tasks, pause_s=pause, limit_s=minutes * 60)
    for each in chosen:
        if each.lasts_s(settings) >= settings.limit_s:
            raise UserError(
                f"{each.name} is on for {each.lasts_s(settings):g} s: it needs more than --minutes {minutes:g}"
            )
    if report is not None and not report.absolute().parent.is_dir():
        raise UserError(f"{report.parent}: no such folder for the report")
    summary, signal_number = run_async(
        lambda: _chaos(chosen, settings, first_seed, repeat, folder, keep, bool(only), as_json)
    )
    if report is not None:
        from .report import page

        try:
            report.write_text(page(summary), encoding="utf-8")
        except OSError as error:
            raise UserError(f"{report}: cannot be written: {error.strerror}") from error
    if as_json:
        print_json(summary.to_value())
    elif not signal_number:
        say(summary.text())
    if signal_number:
        raise typer.Exit(128 + signal_number)
    if not summary.holds:
        raise typer.Exit(JOB_FAILED)


def _known(known: Any, name: str) -> Disturbance:
    found: Disturbance | None = known.get(name)
    if found is None:
        raise UserError(f'there is no disturbance "{name}"; there are: {", ".join(known)}')
    return found


def _fresh_seed() -> int:
    import os

    return int.from_bytes(os.urandom(4), "big")


def _print_list(disturbances: list[Disturbance], as_json: bool) -> None:
    rows = [(each.name, each.what, each.why_not()) for each in disturbances]
    if as_json:
        print_json([{"name": name, "what": what, "not_here": why} for name, what, why in rows])
        return
    print_table(LIST_COLUMNS, rows, empty="none")


async def _chaos(
    chosen: list[Disturbance],
    settings: Settings,
    seed: int,
    repeat: int,
    folder: Path | None,
    keep: bool,
    insist: bool,
    as_json: bool,
) -> tuple[Summary, int]:
    """The runs, until a signal; and its number, or 0. insist: what cannot be done here is an error, not left out."""
    from dataclasses import replace

    import trio

    from .report import Summary
    from .run import run_one

    summary = Summary(seed)
    async with until_signalled() as ended:
        with _place(folder, keep) as place:
            for number in range(repeat):
                for disturbance in chosen:
                    why = disturbance.why_not()
                    if why and insist:
                        raise UserError(f"{disturbance.name}: cannot be done here: {why}")
                    if why:
                        summary.left_out[disturbance.name] = why
                        continue
                    run_settings = replace(settings, seed=seed + number)
                    run_folder = place / f"{disturbance.name}-{number}"
                    outcome = await run_one(disturbance, run_folder, run_settings)
                    summary.outcomes.append(outcome)
                    if not as_json:
                        _print_progress(outcome)
                    if not keep:
                        from .run import remove

                        await trio.to_thread.run_sync(remove, run_folder)
    return summary, ended.signal


def _place(folder: Path | None, keep: bool) -> Any:
    """Where the runs live, as a block; gone afterwards unless it is kept. Raises UserError."""
    import shutil
    import tempfile
    from collections.abc import Iterator
    from contextlib import contextmanager

    @contextmanager
    def place() -> Iterator[Path]:
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix="chaos-", dir=folder))
        except OSError as error:
            raise UserError(f"{error.filename or folder}: {error.strerror}") from error
        try:
            if keep:
                note(f"runs are in {made}")
            yield made
        finally:
            if not keep:
                shutil.rmtree(made, ignore_errors=True)

    return place()


def _print_progress(outcome: Outcome) -> None:
    found = outcome.to_value()
    history = found["history"]
    twice = f", {history['duplicates']} twice" if history and history["duplicates"] else ""
    verdict = "holds" if outcome.holds else "VIOLATED"
    say(f"{outcome.name:<20} {verdict:<9} {outcome.accepted} of {outcome.tasks} tasks{twice}  {outcome.seconds:.1f} s")
    if outcome.met:
        say("  " + outcome.met)
    for problem in outcome.problems():
        say("  " + problem.replace("\n", "\n  "))
    for late in outcome.late:
        say("  LATE: " + late)


def history(
    folder: Annotated[Path, typer.Argument(help="A test network's folder, or one with *.jsonl files.")],
    as_json: Json = False,
) -> None:
    """Check the histories that nodes and clients wrote; exit code 1, with the lines to prove it, if one does not hold.

    The same as python -m hearthmesh.testnet.history, which shares no code with what it checks.

    \b
    Examples:
      hearth testnet history .hearth
      hearth testnet history .hearth --json
    """
    from ..history.__main__ import describe
    from ..history.check import check_folder
    from ..history.lines import HistoryError

    try:
        verdict = check_folder(folder)
    except HistoryError as error:
        raise UserError(str(error)) from error
    if as_json:
        print_json(verdict.to_value())
    else:
        say(describe(verdict))
    if verdict.violations:
        raise typer.Exit(JOB_FAILED)
