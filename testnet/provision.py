"""A test network's folder: an authority of its own, a key and certificate for each node, and a client.

mesh/            the authority
nodes/NAME/      node.toml (written once, then the user's), state/, node.log
client/          client.toml, state/
history/         what they did, a file each, if it was asked for
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..crypto.certificates import Role
from ..crypto.identity import Identity
from ..node.cli.authority import Authority, AuthorityFolder
from ..node.cli.members import make_identity
from ..node.config import (
    ClientConfig,
    ClientSettings,
    ExecutionSettings,
    MeshPaths,
    NodeConfig,
    NodeSettings,
    StorageSettings,
    load_client_config,
)
from ..node.settings.write import literal, replace_file, write_settings
from ..node.storage.folder import StateFolder
from .ports import HOST
from .registry import NodeEntry
from .rooms import RoomPlan

NODE_ROLES = Role.WORKER | Role.SUBMITTER | Role.REPLICA | Role.RELAY
CERTIFICATE_DAYS = 365.0
# Enough for one of them to be alive; more only make the files long.
BOOTSTRAP_MAX = 4
RELAYS_MAX = 3
NODE_HEADING = """\
A node of a test network; docs/config.md has every key. This file is written once, so change it as you like:
hearth testnet restart NAME. Where it listens, and whom it dials, comes from the command line that starts it."""
CLIENT_HEADING = """\
The test network's client. What you change here stays, but for `bootstrap`: the nodes' addresses of today."""


def node_folder(folder: Path, name: str) -> Path:
    return folder / "nodes" / name


def client_settings_path(folder: Path) -> Path:
    return folder / "client" / "client.toml"


def provision(folder: Path, plans: Mapping[str, RoomPlan]) -> dict[str, NodeEntry]:
    """Make everything but the settings, which hold ports. Raises UserError, OSError, StorageError."""
    authorities = AuthorityFolder(folder / "mesh")
    authorities.create("testnet", 1, None)
    signer = authorities.authority(1, _no_passphrase)
    entries = {}
    for name in plans:
        identity = _admit(authorities, signer, node_folder(folder, name) / "state", name, NODE_ROLES)
        entries[name] = NodeEntry(identity.peer_id, relay=plans[name].relay, hidden=plans[name].hidden)
    _admit(authorities, signer, folder / "client" / "state", "client", Role.SUBMITTER)
    for name, plan in plans.items():
        path = node_folder(folder, name) / "node.toml"
        write_settings(path, node_config(folder, name, plan), heading=NODE_HEADING, defaults=False)
    return entries


def admit_node(folder: Path, name: str, plan: RoomPlan) -> Path:
    """One more member of a network that is there, for whoever runs it. Returns the path of its settings.

    Raises UserError, OSError, StorageError.
    """
    authorities = AuthorityFolder(folder / "mesh")
    signer = authorities.authority(1, _no_passphrase)
    _admit(authorities, signer, node_folder(folder, name) / "state", name, NODE_ROLES)
    path = node_folder(folder, name) / "node.toml"
    write_settings(path, node_config(folder, name, plan), heading=NODE_HEADING, defaults=False)
    return path


def history_folder(folder: Path) -> Path:
    """Where nodes and the client append their histories, if it is there."""
    return folder / "history"


def node_config(folder: Path, name: str, plan: RoomPlan) -> NodeConfig:
    """With paths that are relative to the node's folder, so that the whole can be moved."""
    return NodeConfig(
        mesh=MeshPaths(definition=Path("../../mesh/mesh.toml")),
        node=NodeSettings(
            name=name,
            state=Path("state"),
            listen=(f"/ip4/{HOST}/tcp/0",),
            preset="local",
            zone=plan.zone,
            stealing=plan.stealing,
            relay_service=plan.relay,
            history=Path(f"../../history/{name}.jsonl") if history_folder(folder).is_dir() else None,
        ),
        heater=plan.heater(),
        storage=StorageSettings(blob_quota_gb=4.0, min_free_gb=0.05),
        execution=ExecutionSettings(),
    )


def addresses_of(name: str, entries: Mapping[str, NodeEntry]) -> list[str]:
    """What a node's command line says of where it listens and whom it dials; its settings stay as they are."""
    own = entries[name]
    others = {other: entry for other, entry in entries.items() if other != name}
    relays = bootstrap({other: entry for other, entry in others.items() if entry.relay}, RELAYS_MAX)
    arguments = [] if own.hidden else ["--listen", f"/ip4/{own.host}/tcp/{own.port}"]
    for address in relays if own.hidden else ():
        arguments += ["--relay-through", address]
    if own.clock_offset_s:
        arguments += ["--clock-offset", str(own.clock_offset_s)]
    for address in bootstrap(others):
        arguments += ["--bootstrap", address]
    return arguments


def write_client_config(folder: Path, entries: Mapping[str, NodeEntry]) -> None:
    """Of settings that are there, and may be the user's, only the addresses are changed, if they are others now.

    Raises ConfigError, OSError.
    """
    path, addresses = client_settings_path(folder), bootstrap(entries, len(entries))
    if not path.exists():
        history = Path("../history/client.jsonl") if history_folder(folder).is_dir() else None
        settings = ClientSettings(state=Path("state"), bootstrap=addresses, preset="local", history=history)
        config = ClientConfig(mesh=MeshPaths(definition=Path("../mesh/mesh.toml")), client=settings)
        write_settings(path, config, heading=CLIENT_HEADING, defaults=False)
    elif load_client_config(path).client.bootstrap != addresses:
        array = f"bootstrap = {literal(addresses)}"
        text = re.sub(
            r"(?m)^[ \t]*bootstrap\s*=\s*\[[^\]]*\]", lambda _: array, path.read_text(encoding="utf-8"), count=1
        )
        replace_file(path, text)


def bootstrap(entries: Mapping[str, NodeEntry], most: int = BOOTSTRAP_MAX) -> tuple[str, ...]:
    """Addresses of those that have a port."""
    known: Sequence[NodeEntry] = [entry for entry in entries.values() if entry.port]
    return tuple(f"/ip4/{entry.host}/tcp/{entry.port}/p2p/{entry.peer_id}" for entry in known[:most])


def _admit(folder: AuthorityFolder, signer: Authority, state_path: Path, name: str, roles: Role) -> Identity:
    state = StateFolder(state_path)
    identity = make_identity(state)
    certificate, _ = folder.invite(signer, identity.node_id, name, roles, CERTIFICATE_DAYS)
    state.certificate.write_bytes(certificate.to_bytes())
    return identity


def _no_passphrase(path: Path) -> str:
    raise AssertionError(f"{path} was written without a passphrase")
