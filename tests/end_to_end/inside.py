"""Nodes inside the test's own process, for configurations that the testnet does not make."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from hearthmesh.crypto.certificates import MeshDefinition, Role, issue
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.config import (
    ClientConfig,
    ClientSettings,
    HeaterSettings,
    MeshPaths,
    NativeSettings,
    NodeConfig,
    NodeSettings,
    OciSettings,
    StorageSettings,
)
from hearthmesh.node.meshfile import save_mesh_file
from hearthmesh.node.service import Node, run_node
from hearthmesh.node.storage.folder import StateFolder

SERVING = Role.WORKER | Role.REPLICA | Role.RELAY


@dataclass
class Inside:
    """A mesh in a folder; `start` adds nodes to a nursery."""

    folder: Path
    nursery: trio.Nursery
    authority: Identity = field(default_factory=Identity.generate)
    bootstrap: tuple[str, ...] = ()
    stops: list[trio.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mesh = MeshDefinition("inside", (self.authority.node_id,))
        self.paths = MeshPaths(definition=self.folder / "mesh.toml")
        save_mesh_file(self.folder / "mesh.toml", self.mesh)

    def admit(self, name: str, roles: Role, state: Path | None = None) -> StateFolder:
        folder = StateFolder(state or self.folder / name)
        folder.create()
        identity = Identity.generate()
        identity.save(folder.identity_key)
        now_s = int(time.time())
        certificate = issue(self.authority, self.mesh, identity.node_id, roles, now_s - 60, now_s + 3600, name)
        folder.certificate.write_bytes(certificate.to_bytes())
        return folder

    async def start(
        self,
        name: str,
        roles: Role = SERVING,
        *,
        native: NativeSettings | None = None,
        oci: OciSettings | None = None,
        listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",),
        relay_service: bool = False,
        relay_through: tuple[str, ...] = (),
        state: Path | None = None,
    ) -> Node:
        settings = NodeSettings(
            state=self.admit(name, roles, state).root,
            listen=listen,
            bootstrap=self.bootstrap,
            preset="local",
            relay_service=relay_service,
            relay_through=relay_through,
        )
        config = NodeConfig(
            mesh=self.paths,
            node=settings,
            heater=HeaterSettings(kind="none", cores=2),
            native=native or NativeSettings(),
            oci=oci or OciSettings(),
            storage=StorageSettings(min_free_gb=0.0),
        )
        stop = trio.Event()
        self.stops.append(stop)
        node: Node = await self.nursery.start(partial(run_node, config, stop=stop))
        if not self.bootstrap:
            self.bootstrap = tuple(node.links.addresses)
        return node

    def client(self) -> ClientConfig:
        folder = self.admit("client", Role.SUBMITTER)
        settings = ClientSettings(state=folder.root, bootstrap=self.bootstrap, preset="local")
        return ClientConfig(mesh=self.paths, client=settings)


@asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[Inside]:
    """Stops all nodes in order at the end."""
    async with trio.open_nursery() as nursery:
        mesh = Inside(folder, nursery)
        yield mesh
        for stop in mesh.stops:
            stop.set()


async def until_linked(node: Node, links: int) -> None:
    with trio.fail_after(120):
        while len(node.mesh.connected) < links:
            await node.driver.changed()
