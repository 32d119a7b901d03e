"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .errors import UserError

PASSPHRASE_VARIABLE = "HEARTH_PASSPHRASE"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ClientPath = Annotated[
    Path | None,
    typer.Option(
        "--client",
        "--mesh",
        metavar="CLIENT.TOML",
        help="Who we are and in which mesh. Otherwise $HEARTH_CLIENT, otherwise ~/.config/hearth/client.toml.",
        show_default=False,
    ),
]
JobName = Annotated[
    str | None, typer.Argument(metavar="[JOB]", help="The job's id, or the beginning of it.", show_default=False)
]
Last = Annotated[bool, typer.Option("--last", help="The job that was submitted last from here.")]


def ask_passphrase(path: Path) -> str:
    """Of an encrypted key: from $HEARTH_PASSPHRASE, or typed. Raises UserError."""
    return _passphrase(f"Passphrase of {path}: ", again=False, why=f"{path}: the key is encrypted")


def new_passphrase() -> str:
    """For a key about to be written. Raises UserError."""
    return _passphrase("New passphrase: ", again=True, why="--encrypt needs a passphrase")


def _passphrase(prompt: str, *, again: bool, why: str) -> str:
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UserError(f"{why}; set {PASSPHRASE_VARIABLE}, or run it in a terminal")
    from getpass import getpass

    typed = getpass(prompt)
    if again and getpass("Again: ") != typed:
        raise UserError("the two passphrases differ; nothing was written")
    return typed
