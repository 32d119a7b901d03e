"""`hearth demo`: a house of heaters, a real computation, and everything that may go wrong, in under a minute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..node.cli.errors import JOB_FAILED
from ..node.cli.options import Json
from ..node.cli.output import console, note, print_json, say
from ..node.cli.running import run_async, until_signalled

if TYPE_CHECKING:
    from .demo_view import View

DEFAULT_FOLDER = Path(".demo")


def demo(
    nodes: Annotated[int, typer.Option("-n", "--nodes", help="Number of heaters, 5 to 16.")] = 8,
    folder: Annotated[Path, typer.Option(help="Where everything of it is meanwhile.")] = DEFAULT_FOLDER,
    keep: Annotated[bool, typer.Option("--keep", help="Leave logs, states and results in the folder.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Lines of text, as where there is no terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Heaters compute a value at risk, while two of them are killed and one freezes; exit code 0 only if it verifies.

    The client walks away and comes back; one of the killed heaters is started again. In the end every result is
    checked against its signed proof, and the answer against that of a single node.

    \b
    Examples:
      hearth demo
      hearth demo --keep --folder /tmp/house       and look around there afterwards
      hearth demo --json
    """
    code = run_async(lambda: _demo(nodes, folder, keep, plain, as_json))
    if code:
        raise typer.Exit(code)


async def _demo(nodes: int, folder: Path, keep: bool, plain: bool, as_json: bool) -> int:
    """Exit code: 0, 1 if it did not verify, 128 and more if a signal ended it."""

    from .demo_run import Demo

    verified = False
    async with until_signalled() as ended:
        run = Demo(folder, nodes, _view(plain, as_json))
        failed = True
        try:
            outcome = await run.run()
            verified, failed = outcome.verified, not outcome.verified
            if as_json:
                print_json(outcome.to_value())
            else:
                say("\n" + outcome.text())
        finally:
            if keep or (failed and not ended.signal):
                run.release()
                note(f"logs, states and results are in {folder.absolute()}")
            else:
                run.remove_all()
    return ended.exit_code or (0 if verified else JOB_FAILED)


def _view(plain: bool, as_json: bool) -> View:
    from .demo_view import LineView, LiveView, NoView

    if as_json:
        return NoView()
    return LineView() if plain or not sys.stdout.isatty() else LiveView(console())
