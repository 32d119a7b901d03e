"""A new member's folder: key, certificate, mesh definition and settings, ready to be carried to its machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...crypto.identity import Identity
from ...crypto.mesh import MeshDefinition
from ..config import ClientConfig, NodeConfig
from ..meshfile import save_mesh_file
from ..storage.folder import StateFolder
from .errors import UserError
from .template import settings_template

NODE_HEADING = """A node of Hearthmesh. Start it: hearth node --config node.toml
What is commented out stands at its default, or is an example and says so. Paths are relative to this file."""
CLIENT_HEADING = """A client of Hearthmesh. Use it: export HEARTH_CLIENT=…/client.toml; hearth peers
What is commented out stands at its default, or is an example and says so. Paths are relative to this file."""


def make_identity(state: StateFolder, passphrase: str | None = None) -> Identity:
    """A new key in a new state folder. Raises UserError, IdentityError, StorageError."""
    if state.identity_key.exists():
        raise UserError(f"{state.identity_key}: is there already; a key is never overwritten")
    state.create()
    identity = Identity.generate()
    identity.save(state.identity_key, passphrase)
    return identity


def write_node_settings(folder: Path, name: str, bootstrap: Sequence[str], *, definition: str = "mesh.toml") -> Path:
    """A commented node.toml. Raises UserError if there is one."""
    values: dict[str, dict[str, Any]] = {
        "mesh": {"definition": definition},
        "node": {"name": name, "listen": ("/ip4/0.0.0.0/tcp/4001",), "mdns": True, "bootstrap": tuple(bootstrap)},
        "heater": {"kind": "none", "setpoint_c": 20.0},
    }
    return _write(folder / "node.toml", settings_template(NodeConfig, values, NODE_HEADING))


def write_client_settings(folder: Path, bootstrap: Sequence[str], *, definition: str = "mesh.toml") -> Path:
    """A commented client.toml; without addresses it looks for peers on the local network."""
    values: dict[str, dict[str, Any]] = {
        "mesh": {"definition": definition},
        "client": {"bootstrap": tuple(bootstrap), "mdns": not bootstrap},
    }
    return _write(folder / "client.toml", settings_template(ClientConfig, values, CLIENT_HEADING))


def write_mesh(folder: Path, mesh: MeshDefinition) -> None:
    """Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_mesh_file(folder / "mesh.toml", mesh)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path}: is there already; it was left as it is") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return path
