"""A test network's folder: an authority of its own, a key and certificate for each node, and a client.

mesh/            the authority
nodes/NAME/      node.toml, state/, node.log
client/          client.toml, state/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
)
from ..node.settings.write import write_settings
from ..node.storage.folder import StateFolder
from .ports import HOST
from .registry import NodeEntry
from .rooms import RoomPlan

NODE_ROLES = Role.WORKER | Role.SUBMITTER | Role.REPLICA | Role.RELAY
CERTIFICATE_DAYS = 365.0
# Enough for one of them to be alive; more only make the files long.
BOOTSTRAP_MAX = 4


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
        entries[name] = NodeEntry(identity.peer_id)
    _admit(authorities, signer, folder / "client" / "state", "client", Role.SUBMITTER)
    for name, plan in plans.items():
        write_settings(node_folder(folder, name) / "room.toml", plan)
    return entries


def node_config(folder: Path, name: str, entries: Mapping[str, NodeEntry], plan: RoomPlan) -> NodeConfig:
    """With paths that are relative to the node's folder, so that the whole can be moved."""
    others = {other: entry for other, entry in entries.items() if other != name}
    return NodeConfig(
        mesh=MeshPaths(definition=Path("../../mesh/mesh.toml")),
        node=NodeSettings(
            name=name,
            state=Path("state"),
            listen=(f"/ip4/{HOST}/tcp/{entries[name].port}",),
            bootstrap=bootstrap(others),
            preset="local",
            zone=plan.zone,
        ),
        heater=plan.heater(),
        storage=StorageSettings(blob_quota_gb=4.0, min_free_gb=0.05),
        execution=ExecutionSettings(),
    )


def write_node_config(folder: Path, name: str, entries: Mapping[str, NodeEntry], plan: RoomPlan) -> None:
    config = node_config(folder, name, entries, plan)
    if not config.node.bootstrap:
        config = replace(config, node=replace(config.node, mdns=False))
    write_settings(node_folder(folder, name) / "node.toml", config)


def write_client_config(folder: Path, entries: Mapping[str, NodeEntry]) -> None:
    config = ClientConfig(
        mesh=MeshPaths(definition=Path("../mesh/mesh.toml")),
        client=ClientSettings(state=Path("state"), bootstrap=bootstrap(entries, len(entries)), preset="local"),
    )
    write_settings(client_settings_path(folder), config)


def bootstrap(entries: Mapping[str, NodeEntry], most: int = BOOTSTRAP_MAX) -> tuple[str, ...]:
    """Addresses of those that have a port."""
    known: Sequence[NodeEntry] = [entry for entry in entries.values() if entry.port]
    return tuple(f"/ip4/{HOST}/tcp/{entry.port}/p2p/{entry.peer_id}" for entry in known[:most])


def _admit(folder: AuthorityFolder, signer: Authority, state_path: Path, name: str, roles: Role) -> Identity:
    state = StateFolder(state_path)
    identity = make_identity(state)
    certificate, _ = folder.invite(signer, identity.node_id, name, roles, CERTIFICATE_DAYS)
    state.certificate.write_bytes(certificate.to_bytes())
    return identity


def _no_passphrase(path: Path) -> str:
    raise AssertionError(f"{path} was written without a passphrase")
