"""A mesh of real processes for one measurement: nodes that play one part each, and the folder they live in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from ...crypto.certificates import MeshDefinition, Role, issue
from ...crypto.identity import Identity
from ..cli.errors import UserError
from ..client import Client
from ..config import (
    ClientConfig,
    ClientSettings,
    ExecutionSettings,
    HeaterSettings,
    MeshPaths,
    NodeConfig,
    NodeSettings,
)
from ..control import ControlError, ask
from ..meshfile import save_mesh_file
from ..settings.write import write_settings
from ..storage.folder import StateFolder
from .processes import Usage, read_usage

START_TIMEOUT_S = 60.0
POLL_S = 0.05
TERM_PATIENCE_S = 4.0
CERTIFICATE_S = 86_400
# What a heater's node may do, as `hearth mesh invite` gives it.
EVERY_ROLE = Role.WORKER | Role.SUBMITTER | Role.REPLICA | Role.RELAY


class BenchNode:
    """One process. It dies with this one, however this one ends."""

    def __init__(
        self, name: str, folder: Path, peer_id: str, config: Path, profile: Path | None, unmetered: bool
    ) -> None:
        self.name = name
        self.state = StateFolder(folder)
        self.peer_id = peer_id
        self.log = config.with_suffix(".log")
        self.profile = profile
        package = __package__.removesuffix(".bench")
        assert profile is None or not unmetered, "a process is of one of these programs"
        program = [f"{__package__}.unmetered"] if unmetered else [package]
        if profile is not None:
            program = [f"{__package__}.profiled", os.fspath(profile)]
        arguments = ["node", "--config", os.fspath(config), "--with-parent", str(os.getpid())]
        with self.log.open("ab") as log:
            # Not trio.open_process: its thread would end one day, and the parent-death signal is tied to that thread.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid

    async def status(self) -> dict[str, Any] | None:
        """None if it does not answer (yet). Raises UserError if it ended."""
        if self._process.poll() is not None:
            raise UserError(f"the benchmark's node {self.name} ended: {self._last_words()}", code=1)
        try:
            return await ask(self.state.control_socket, {"do": "status"})
        except ControlError:
            return None

    def usage(self) -> Usage:
        """Raises UserError if it ended."""
        try:
            return read_usage(self.pid)
        except ProcessLookupError:
            raise UserError(f"the benchmark's node {self.name} ended: {self._last_words()}", code=1) from None

    def tell_to_end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    async def wait_ended(self, deadline_s: float) -> None:
        """Killed at the deadline (trio's clock); waited for in any case."""
        while self._process.poll() is None and trio.current_time() < deadline_s:
            await trio.sleep(POLL_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"exit code {self._process.returncode}, and its log is empty"


class BenchMesh:
    """Use `running`."""

    def __init__(self, folder: Path, preset: str) -> None:
        self.folder = folder
        self.preset = preset
        self.nodes: dict[str, BenchNode] = {}
        self._authority = Identity.generate()
        self._mesh = MeshDefinition("bench", (self._authority.node_id,))
        self._bootstrap: tuple[str, ...] = ()
        save_mesh_file(folder / "mesh.toml", self._mesh)

    async def start(self, parts: Mapping[str, Role], *, profile: str | None = None, unmetered: bool = False) -> None:
        """Start nodes, by name and roles; returns when each is linked with all. profile: who runs under cProfile.
        unmetered: whether they keep no account of their peers; not together with a profile.

        Raises UserError.
        """
        for name, roles in parts.items():
            self.nodes[name] = self._spawn(name, roles, profiled=name == profile, unmetered=unmetered)
            if not self._bootstrap:
                status = await self._wait(self.nodes[name], links=0)
                self._bootstrap = tuple(_with_peer(address, status["peer_id"]) for address in status["addresses"])
        for node in self.nodes.values():
            await self._wait(node, links=len(self.nodes) - 1)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Somebody with no capacity, in this process. Raises ClientError."""
        state, _ = self._member("client", Role.SUBMITTER)
        config = ClientConfig(
            mesh=MeshPaths(definition=self.folder / "mesh.toml"),
            client=ClientSettings(state=state, bootstrap=self._bootstrap, preset=self.preset),
        )
        async with Client.connect(config) as client:
            yield client

    def usages(self) -> dict[str, Usage]:
        return {name: node.usage() for name, node in self.nodes.items()}

    def _spawn(self, name: str, roles: Role, *, profiled: bool, unmetered: bool) -> BenchNode:
        state, peer_id = self._member(name, roles)
        config = NodeConfig(
            mesh=MeshPaths(definition=self.folder / "mesh.toml"),
            node=NodeSettings(
                name=name,
                state=state,
                listen=("/ip4/127.0.0.1/tcp/0",),
                bootstrap=self._bootstrap,
                preset=self.preset,
                log_level="warning",
            ),
            heater=HeaterSettings(kind="none", cores=1),
            execution=ExecutionSettings(wasm=bool(roles & Role.WORKER)),
        )
        path = self.folder / f"{name}.toml"
        write_settings(path, config)
        profile = self.folder / f"{name}.profile" if profiled else None
        return BenchNode(name, state, peer_id, path, profile, unmetered)

    def _member(self, name: str, roles: Role) -> tuple[Path, str]:
        folder = StateFolder(self.folder / name)
        folder.create()
        identity, now_s = Identity.generate(), int(time.time())
        identity.save(folder.identity_key)
        certificate = issue(
            self._authority, self._mesh, identity.node_id, roles, now_s - 60, now_s + CERTIFICATE_S, name
        )
        folder.certificate.write_bytes(certificate.to_bytes())
        return folder.root, identity.peer_id

    async def _wait(self, node: BenchNode, *, links: int) -> dict[str, Any]:
        with trio.move_on_after(START_TIMEOUT_S):
            while True:
                status = await node.status()
                if status is not None and len(status["links"]) >= links:
                    return status
                await trio.sleep(POLL_S)
        raise UserError(f"the benchmark's node {node.name} has no {links} links after {START_TIMEOUT_S:g} s", code=1)

    async def end(self) -> None:
        """End all nodes. Safe to repeat."""
        for node in self.nodes.values():
            node.tell_to_end()
        deadline_s = trio.current_time() + TERM_PATIENCE_S
        for node in self.nodes.values():
            await node.wait_ended(deadline_s)
            node.state.remove_control_socket()


@asynccontextmanager
async def running(
    folder: Path,
    parts: Mapping[str, Role],
    *,
    preset: str = "lan",
    profile: str | None = None,
    unmetered: bool = False,
) -> AsyncIterator[BenchMesh]:
    """A mesh for the length of a block; its processes and files are gone afterwards. Raises UserError, OSError.

    preset: by default the one that nodes have by default.
    """
    place = folder / f"mesh-{os.getpid()}-{os.urandom(3).hex()}"
    place.mkdir(parents=True)
    mesh = None
    try:
        mesh = BenchMesh(place.absolute(), preset)
        await mesh.start(parts, profile=profile, unmetered=unmetered)
        yield mesh
    finally:
        with trio.CancelScope(shield=True):
            if mesh is not None:
                await mesh.end()
        shutil.rmtree(place, ignore_errors=True)


def _with_peer(address: str, peer_id: str) -> str:
    return address if "/p2p/" in address else f"{address}/p2p/{peer_id}"
