"""Many nodes as real processes on one machine, everything under one folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from ..node.secrecy.folder import remove_secrets
from .errors import TestnetError
from .node import TERM_PATIENCE_S, TestnetNode
from .ports import HOST, ReservedPort
from .process import inside, spawn
from .provision import addresses_of, client_settings_path, history_folder, provision, write_client_config
from .registry import Registry
from .rooms import RoomPlan, plan_rooms

ANSWER_TIMEOUT_S = 60.0
LINK_TIMEOUT_S = 60.0
POLL_S = 0.1
# A node is linked with this many links, or to everybody in a smaller network.
LINKS_WANTED = 2
NAMESPACE_PORT = 4001

Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, of: int) -> None:
    """Tells nobody."""


class Testnet:
    """Make one with `Testnet.create`, find one with `Testnet(folder)`; `running` gives one that ends with its block."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """An existing one. Raises TestnetError."""
        self._with_parent = False
        self.folder = folder
        self.client_config = client_settings_path(folder)
        self._registry = Registry(folder)
        self.nodes = {name: TestnetNode(self, name, self._registry) for name in self._registry.nodes()}

    @classmethod
    def create(
        cls,
        folder: Path,
        n: int | None = None,
        rooms: Mapping[str, RoomPlan] | Path | None = None,
        *,
        history: bool = False,
    ) -> Testnet:
        """Keys, certificates and rooms of a new network; nothing runs yet. Raises TestnetError, ConfigError.

        history: nodes and the client log what they do, for `hearth testnet history`.
        """
        plans = plan_rooms(n, rooms)
        registry = Registry(folder)
        if registry.exists():
            raise TestnetError(f"{folder}: holds a test network already; down --wipe removes it")
        try:
            if (folder / "mesh").exists():  # an earlier attempt ended half-way, before anything could run
                _remove_known(folder)
            folder.mkdir(parents=True, exist_ok=True)
            if history:
                history_folder(folder).mkdir(exist_ok=True)
            with registry.changing():
                registry.write(provision(folder, plans))
        except OSError as error:
            raise TestnetError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
        return cls(folder)

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self, *, with_parent: bool = False, progress: Progress = no_progress) -> None:
        """Start all nodes that do not run; returns when they are linked. On failure all are stopped again.

        with_parent: they are killed when this process ends, however it ends. Raises TestnetError.
        """
        with self._registry.changing():
            try:
                names = [name for name, node in self.nodes.items() if node.state in ("stopped", "dead")]
                await self._start(names, with_parent, progress)
                await self._wait_linked(list(self.nodes), progress)
            except BaseException:  # boundary: whatever went wrong, Ctrl-C included, nothing stays behind
                with trio.CancelScope(shield=True):
                    await self._end_all(0.0)
                raise

    async def restart(self, name: str, *, with_parent: bool = False, progress: Progress = no_progress) -> None:
        """Stop a node if it runs, then start it with its state, at its old address where that is free."""
        node = self.node(name)
        with self._registry.changing():
            process = node.process
            with_parent = with_parent or self._with_parent
            if process is not None:
                await node.end()
            await self._start([name], with_parent, progress)
            others_run = any(other.state == "running" for other in self.nodes.values() if other is not node)
            if others_run:
                await self._wait_linked([name], progress)

    async def down(self, *, patience_s: float = TERM_PATIENCE_S) -> dict[str, str]:
        """Stop all nodes. Returns how each ended: "left", "killed", "was gone"."""
        with self._registry.changing():
            return await self._end_all(patience_s)

    def wipe(self) -> None:
        """Remove what `create` made and the nodes wrote. Raises TestnetError, also while a node runs."""
        alive = [name for name, node in self.nodes.items() if node.pid is not None]
        if alive:
            raise TestnetError(f"{self.folder}: {', '.join(alive)} still run; take the network down first")
        try:
            for node in self.nodes.values():
                node.state_folder.remove_control_socket()
                remove_secrets(node.state_folder.root)
            _remove_known(self.folder)
        except OSError as error:
            raise TestnetError(f"{error.filename}: cannot be removed: {error.strerror}") from error

    async def _end_all(self, patience_s: float) -> dict[str, str]:
        how: dict[str, str] = {}

        async def end(node: TestnetNode) -> None:
            how[node.name] = await node.end(patience_s)

        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(end, node)
        return {name: how[name] for name in self.nodes}

    async def _start(self, names: Sequence[str], with_parent: bool, progress: Progress) -> None:
        self._with_parent = with_parent
        entries = self._registry.nodes()
        # A network of its own has all ports to itself.
        apart = [name for name in names if entries[name].host != HOST and not entries[name].hidden]
        entries |= {name: msgspec.structs.replace(entries[name], port=NAMESPACE_PORT) for name in apart}
        here = [name for name in names if entries[name].host == HOST and not entries[name].hidden]
        ports = {name: ReservedPort(entries[name].port) for name in here}
        try:
            for name, reserved in ports.items():
                entries[name] = msgspec.structs.replace(entries[name], port=reserved.port)
            self._registry.write(entries)
            write_client_config(self.folder, entries)
            for name in names:
                self._spawn(name, addresses_of(name, entries), with_parent)
            await self._wait_answering(names, progress)
        finally:
            for reserved in ports.values():
                reserved.release()

    def _spawn(self, name: str, addresses: Sequence[str], with_parent: bool) -> None:
        node = self.nodes[name]
        command = [sys.executable, "-P", "-m", "hearthmesh.node", "node", "--config", os.fspath(node.config_path)]
        command += addresses
        if with_parent:
            command += ["--with-parent", str(os.getpid())]
        if node.entry.namespace:
            command = inside(node.entry.namespace, command)
        try:
            process = spawn(command, node.log_path)
        except OSError as error:
            raise TestnetError(f"{name}: cannot be started: {error.strerror}") from error
        self._registry.update(name, node.entry.with_process(process))

    # -- waiting -------------------------------------------------------------------------------------------

    async def _wait_answering(self, names: Sequence[str], progress: Progress) -> None:
        waiting = list(names)
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            while waiting:
                for name in list(waiting):
                    if self.nodes[name].state == "dead":
                        raise TestnetError(f"{name} ended while it started: {self._last_words(name)}")
                    if await self.nodes[name].status_or_none() is not None:
                        waiting.remove(name)
                progress("answer", len(names) - len(waiting), len(names))
                if waiting:
                    await trio.sleep(POLL_S)
        if waiting:
            name = waiting[0]
            raise TestnetError(f"{name} does not answer within {ANSWER_TIMEOUT_S:g} s: {self._last_words(name)}")

    async def _wait_linked(self, names: Sequence[str], progress: Progress) -> None:
        """Until each of them has its links and all that run are connected to each other."""
        unlinked: list[str] = list(names)
        with trio.move_on_after(LINK_TIMEOUT_S):
            while True:
                statuses = await self.statuses()
                unlinked = self._unlinked(names, statuses)
                progress("linked", len(names) - len(unlinked), len(names))
                if not unlinked:
                    return
                await trio.sleep(POLL_S)
        raise TestnetError(
            f"{', '.join(unlinked)}: not linked within {LINK_TIMEOUT_S:g} s: {self._last_words(unlinked[0])}"
        )

    def _unlinked(self, names: Iterable[str], statuses: Mapping[str, dict[str, Any] | None]) -> list[str]:
        running = {s["peer_id"]: [link["peer"] for link in s["links"]] for s in statuses.values() if s}
        wanted = min(LINKS_WANTED, len(running) - 1)
        reached = _reachable(running)
        missing = []
        for name in names:
            status = statuses[name]
            if status is None or status["peer_id"] not in reached:
                missing.append(name)
            elif sum(peer in running for peer in running[status["peer_id"]]) < wanted:
                missing.append(name)
        return missing

    async def statuses(self) -> dict[str, dict[str, Any] | None]:
        """Each node's own word, None where it gives none; asked all at once."""
        found: dict[str, dict[str, Any] | None] = {}

        async def ask(node: TestnetNode) -> None:
            found[node.name] = await node.status_or_none()

        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                nursery.start_soon(ask, node)
        return {name: found[name] for name in self.nodes}

    def _last_words(self, name: str) -> str:
        node = self.nodes[name]
        tail = [line for line in node.log_tail() if line.strip()]
        return f"{tail[-1].strip() if tail else 'its log is empty'} (log: {node.log_path})"

    # -- partitions ----------------------------------------------------------------------------------------

    async def partition(self, *groups: Sequence[str]) -> list[list[str]]:
        """Cut the network into groups that cannot talk; nodes not named form one more. Clients reach all.

        Returns the groups. Raises TestnetError, ControlError.
        """
        split = self._split(groups)
        for group in split:
            others = [self.nodes[name].peer_id for other in split if other is not group for name in other]
            for name in group:
                if self.nodes[name].state == "running":
                    await self.nodes[name].block(others)
        return split

    async def heal(self) -> None:
        """End all partitions. Raises ControlError."""
        for node in self.nodes.values():
            if node.state == "running":
                await node.block(None)

    def _split(self, groups: Sequence[Sequence[str]]) -> list[list[str]]:
        split = [[self.node(name).name for name in group] for group in groups if group]
        named = [name for group in split for name in group]
        if len(set(named)) != len(named):
            raise TestnetError("a node can be in one group only")
        rest = [name for name in self.nodes if name not in named]
        if rest:
            split.append(rest)
        if len(split) < 2:
            raise TestnetError(f"nobody is left to be parted from; the nodes are {', '.join(self.nodes)}")
        return split

    # -- places and clocks ---------------------------------------------------------------------------------

    def move(
        self, name: str, *, host: str | None = None, namespace: str | None = None, state: str | None = None
    ) -> None:
        """Where a node that does not run shall live from its next start on; see `NodeEntry`. Its state is not moved."""
        changes = {"host": host, "namespace": namespace, "state": state}
        self._change(name, **{key: value for key, value in changes.items() if value is not None})
        self.nodes[name] = TestnetNode(self, name, self._registry)

    async def set_clock(self, name: str, offset_s: float) -> None:
        """A node's wall clock jumps: from now on, in later lives too, it is so much later than this machine's.

        Raises ControlError.
        """
        self._change(name, clock_offset_s=offset_s)
        if self.node(name).state == "running":
            await self.node(name).set_clock(offset_s)

    def _change(self, name: str, **changes: Any) -> None:
        with self._registry.changing():
            self._registry.update(name, msgspec.structs.replace(self.node(name).entry, **changes))

    def node(self, name: str) -> TestnetNode:
        """Raises TestnetError."""
        found = self.nodes.get(name)
        if found is None:
            raise TestnetError(f'there is no node "{name}"; there are: {", ".join(self.nodes)}')
        return found


@asynccontextmanager
async def running(
    folder: Path,
    n: int | None = None,
    rooms: Mapping[str, RoomPlan] | Path | None = None,
    *,
    patience_s: float = TERM_PATIENCE_S,
    progress: Progress = no_progress,
) -> AsyncIterator[Testnet]:
    """A test network for the length of a block; its nodes die with this process. Its files stay in the folder."""
    net = Testnet(folder) if Registry(folder).exists() else Testnet.create(folder, n, rooms)
    await net.start(with_parent=True, progress=progress)
    try:
        yield net
    finally:
        with trio.CancelScope(shield=True):
            await net.down(patience_s=patience_s)


def _reachable(links: Mapping[str, Iterable[str]]) -> dict[str, None]:
    """Nodes connected with the first one, over links that either side reports."""
    both: dict[str, list[str]] = {node: [] for node in links}
    for node, peers in links.items():
        for peer in peers:
            if peer in both:
                both[node].append(peer)
                both[peer].append(node)
    reached: dict[str, None] = {}
    waiting = list(links)[:1]
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached[node] = None
            waiting.extend(both[node])
    return reached


def _remove_known(folder: Path) -> None:
    """Only what a test network makes; the folder itself if that was all."""
    for name in ("nodes", "client", "mesh", "history"):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    for name in ("testnet.json", "testnet.lock"):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
