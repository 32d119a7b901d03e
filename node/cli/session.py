"""Which client a command speaks as."""

from __future__ import annotations

from pathlib import Path

from ..client.session import CONFIG_VARIABLE, client_config_path
from .errors import UserError


def client_path(path: Path | None) -> Path:
    """The client's settings file. Raises UserError if it is not there."""
    chosen = client_config_path(path)
    if not chosen.exists():
        raise UserError(
            f"{chosen}: no such client settings; name them with --client or {CONFIG_VARIABLE}, "
            "or make them: hearth mesh invite --new --client NAME"
        )
    return chosen
