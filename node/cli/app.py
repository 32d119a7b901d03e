"""The commands together, and the boundary at which every error becomes one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.main import get_command

from ..bench.command import bench
from . import errors
from .calibrate import calibrate
from .doctor import doctor
from .heat_commands import app as heat_app
from .job_commands import register as register_job_commands
from .node_commands import app as node_app
from .revoke_commands import app as mesh_app

# Commands of the layer above node/: found by name, since imports run down only.
_TESTNET, _DEMO, _SIMULATOR = "...testnet.commands", "...testnet.demo", "...testnet.simulator.commands"
# typer brings its own copy of click, or uses the installed one: reach its classes through what typer exports.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Hearthmesh: cold rooms pull work, and the work's heat warms them.",
    epilog="Every command has --help with examples, and --json. Errors are one line and exit code 2.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hearth {version('hearthmesh')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before the command."""


app.add_typer(mesh_app, name="mesh")
app.add_typer(node_app, name="node")
app.add_typer(heat_app, name="heat")
app.command("calibrate")(calibrate)
app.command("doctor")(doctor)
register_job_commands(app)
app.add_typer(importlib.import_module(_TESTNET, __package__).app, name="testnet")
app.add_typer(importlib.import_module(_SIMULATOR, __package__).app, name="sim")
app.command("demo")(importlib.import_module(_DEMO, __package__).demo)
app.command("bench")(bench)


def run(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code; prints at most one line for an error, never a traceback."""
    try:
        code = get_command(app).main(list(arguments), prog_name="hearth", standalone_mode=False)
        sys.stdout.flush()
    except _ClickException as error:
        return _usage_error(error)
    except typer.Abort:
        return errors.INTERRUPTED
    except BaseException as error:  # boundary: of the process; what is not the user's is shown as ours
        if os.environ.get("HEARTH_DEBUG"):
            raise
        return _report(error)
    return code if isinstance(code, int) else errors.SUCCESS


def _usage_error(error: BaseException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "hearth"
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{error}\n")
        return errors.BAD_INPUT
    message = getattr(error, "format_message", lambda: str(error))()
    first = " ".join(str(message).split()).rstrip(".")
    sys.stderr.write(f"hearth: {first[:1].lower()}{first[1:]}; see {path} --help\n")
    return errors.BAD_INPUT


def _is_pacified() -> bool:
    """Whether Typer has met a closed pipe. It ends with 1 then, which is our code for a job that failed."""
    return type(sys.stdout).__name__ == "PacifyFlushWrapper"


def _report(error: BaseException) -> int:
    if isinstance(error, SystemExit) and not _is_pacified():
        return error.code if isinstance(error.code, int) else errors.BAD_INPUT
    line, code = errors.explain(BrokenPipeError() if isinstance(error, SystemExit) else error)
    if code == errors.BROKEN_PIPE or errors.is_full(error):
        # Nobody takes our output any more; the interpreter must not try to flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if line:
        sys.stderr.write(f"hearth: {line}\n")
    return code
