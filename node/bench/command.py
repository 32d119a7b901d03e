"""`hearth bench`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..cli.errors import UserError
from ..cli.options import Json
from ..cli.output import note, print_json
from ..cli.running import run_async, until_signalled

DEFAULT_FOLDER = Path(".bench")


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, and no second look at memory.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="tiny, single, efficiency, idle, million, blobs, budgets, checked or parts; may be repeated."
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Then the same work on Dask and Ray; installs them in FOLDER at first.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(help="Instead: where r0 … r2, w0, w1 or client spend their time.", show_default=False)
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where nodes keep their state meanwhile; its disk is measured too.")
    ] = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Measure a mesh of real processes on this machine; best with nothing else running. Takes some minutes.

    \b
    Examples:
      hearth bench
      hearth bench --quick --json
      hearth bench --only tiny --only single
      hearth bench --peers
      hearth bench --profile w0
    """
    from ..logs import configure_logs
    from .peers import FULL as FULL_COMPARISON
    from .peers import QUICK as QUICK_COMPARISON
    from .peers import compare
    from .report import print_comparison, print_profile, print_report
    from .suite import FULL, QUICK, run_profile, run_suite, working_folder

    names = _names(only)
    plan = QUICK if quick else FULL
    configure_logs("error", json_lines=False)

    async def measure() -> None:
        async with working_folder(folder) as place:
            if profile is not None:
                found = await run_profile(plan, profile, place, note)
                print_json(found) if as_json else print_profile(found)
                return
            report = await run_suite(plan, names, place, note)
            comparison: dict[str, Any] | None = None
            if peers:
                comparison = await compare(QUICK_COMPARISON if quick else FULL_COMPARISON, place, folder / "venv", note)
        if as_json:
            print_json({**report.as_json(), **({"peers": comparison} if comparison is not None else {})})
            return
        print_report(report)
        if comparison is not None:
            print_comparison(comparison)

    code = run_async(lambda: _until_signalled(measure))
    if code:
        raise typer.Exit(code)


def _names(only: list[str] | None) -> list[str]:
    from .suite import NAMES

    names = [name.strip() for text in only or [] for name in text.split(",")]
    for name in names:
        if name not in NAMES:
            raise UserError(f"--only {name}: there is no such measurement; there are: {', '.join(NAMES)}")
    return names or list(NAMES)


async def _until_signalled(measure: Callable[[], Awaitable[None]]) -> int:
    """0, or 128 and the number of the signal that ended it; then everything that was started is gone as well."""
    async with until_signalled() as ended:
        await measure()
    return ended.exit_code
