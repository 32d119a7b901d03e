"""One node of a test network: a real process, which can be asked, killed, frozen, restarted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..crypto.identity import node_id_from_text
from ..node.control import ControlError, ask
from ..node.storage.folder import StateFolder
from .errors import TestnetError
from .process import Process
from .provision import node_folder
from .registry import NodeEntry, Registry

if TYPE_CHECKING:
    from .network import Testnet

LOG_TAIL_BYTES = 64 * 1024
TERM_PATIENCE_S = 12.0
KILL_PATIENCE_S = 10.0
SIGNAL_PATIENCE_S = 5.0
# Bounds a hang only: on a machine that many nodes share an answer of one that runs may take long.
ANSWER_PATIENCE_S = 60.0


class TestnetNode:
    """Get it from `Testnet.nodes`."""

    __test__ = False

    def __init__(self, net: Testnet, name: str, registry: Registry) -> None:
        self._net = net
        self._registry = registry
        self.name = name
        self.folder = node_folder(net.folder, name)
        self.config_path = self.folder / "node.toml"
        self.log_path = self.folder / "node.log"
        elsewhere = registry.nodes()[name].state
        self.state_folder = StateFolder(Path(elsewhere) if elsewhere else self.folder / "state")

    @property
    def entry(self) -> NodeEntry:
        return self._registry.nodes()[self.name]

    @property
    def peer_id(self) -> str:
        return self.entry.peer_id

    @property
    def node_id(self) -> str:
        """In hex, as histories have it."""
        return node_id_from_text(self.peer_id).hex()

    @property
    def process(self) -> Process | None:
        """Its process, which may have ended; None if it was not started or stopped in order."""
        return self.entry.process

    @property
    def pid(self) -> int | None:
        process = self.process
        return process.pid if process is not None and process.state != "gone" else None

    @property
    def state(self) -> str:
        """ "running", "frozen", "dead" (it ended unasked or was killed) or "stopped"."""
        process = self.process
        if process is None:
            return "stopped"
        state = process.state
        return "dead" if state == "gone" else state

    # -- asking --------------------------------------------------------------------------------------------

    async def ask(self, request: dict[str, Any], *, timeout_s: float = ANSWER_PATIENCE_S) -> dict[str, Any]:
        """Over its control socket. Raises ControlError."""
        return await ask(self.state_folder.control_socket, request, timeout_s=timeout_s)

    async def status(self, *, timeout_s: float = ANSWER_PATIENCE_S) -> dict[str, Any]:
        """See `hearth node status --json`. Raises ControlError."""
        return await self.ask({"do": "status"}, timeout_s=timeout_s)

    async def status_or_none(self, *, timeout_s: float = 2.0) -> dict[str, Any] | None:
        """None if it does not answer: it starts, is frozen or gone."""
        if self.state != "running":
            return None
        try:
            return await self.status(timeout_s=timeout_s)
        except ControlError:
            return None

    async def events(self, after: int = 0, *, timeout_s: float = ANSWER_PATIENCE_S) -> tuple[list[dict[str, Any]], int]:
        """What happened in it after event number `after`, and the number to ask with next. Raises ControlError."""
        answer = await self.ask({"do": "events", "after": after}, timeout_s=timeout_s)
        return answer["events"], answer["next"]

    async def block(self, peer_ids: Sequence[str] | None) -> None:
        """Drop and refuse links to these peers; None: to nobody. Raises ControlError."""
        await self.ask({"do": "block", "peers": None if peer_ids is None else list(peer_ids), "others": False})

    async def set_clock(self, offset_s: float) -> None:
        """See `Testnet.set_clock`."""
        await self.ask({"do": "clock", "offset_s": offset_s})

    def log_tail(self, lines: int = 20) -> list[str]:
        """The last lines of its log. Raises TestnetError."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TestnetError(f"{self.log_path}: cannot be read: {error.strerror}") from error

    # -- hurting -------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: like a power cut, but for the disk's cache. Raises TestnetError if it does not run."""
        self._signal(signal.SIGKILL)
        self._see(lambda: self.state == "dead")

    def freeze(self) -> None:
        """SIGSTOP: it falls silent with all connections open. Raises TestnetError if it does not run."""
        self._signal(signal.SIGSTOP)
        self._see(lambda: self.state != "running")

    def thaw(self) -> None:
        """SIGCONT. Raises TestnetError if it does not run."""
        self._signal(signal.SIGCONT)

    async def stop(self) -> str:
        """Let it leave in order. Returns how it ended: "left", "killed" (it did not leave in time) or "was gone"."""
        with self._registry.changing():
            return await self.end()

    async def restart(self) -> None:
        """Stop it if it runs, and start it again with its state; returns when it is linked. Raises TestnetError."""
        await self._net.restart(self.name)

    async def wait_gone(self, timeout_s: float = KILL_PATIENCE_S) -> None:
        """After `kill`. Raises TestnetError."""
        process = self.process
        if process is not None and not await process.wait_gone(timeout_s):
            raise TestnetError(f"{self.name}: process {process.pid} is still there after {timeout_s:g} s")

    async def end(self, patience_s: float = TERM_PATIENCE_S) -> str:
        """As `stop`, under a lock of the registry that the caller holds."""
        process = self.process
        how = "was gone"
        if process is not None and process.state != "gone":
            how = "left"
            frozen = process.state == "frozen"
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)
            # Who was frozen comes back to a mesh that gave it up; it need not take part in an orderly leave.
            if not await process.wait_gone(min(2.0, patience_s) if frozen else patience_s):
                how = "killed"
                process.send(signal.SIGKILL)
                if not await process.wait_gone(KILL_PATIENCE_S):
                    raise TestnetError(f"{self.name}: process {process.pid} does not end; end it by hand")
        elif process is not None:
            process.reap()
        self.state_folder.remove_control_socket()
        self._registry.update(self.name, self.entry.with_process(None))
        return how

    def _see(self, has_happened: Callable[[], bool]) -> None:
        """The kernel ends or stops a busy thread a moment after the signal; whoever looks next shall see it."""
        deadline_s = time.monotonic() + SIGNAL_PATIENCE_S
        while not has_happened() and time.monotonic() < deadline_s:
            time.sleep(0.001)

    def _signal(self, number: signal.Signals) -> None:
        process = self.process
        try:
            sent = process is not None and process.send(number)
        except TestnetError as error:
            raise TestnetError(f"{self.name}: {error}") from None
        if not sent:
            raise TestnetError(f"{self.name}: it does not run ({self.state}); hearth testnet ps shows who does")
