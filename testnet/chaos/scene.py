"""What a disturbance has in hand: the network, the customer, and the diary in which everything done to them stands."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from random import Random

import trio

from ..errors import TestnetError
from ..history.lines import History, HistoryError, read_history
from ..network import Testnet
from ..node import TestnetNode
from ..process import Process, inside, spawn
from ..provision import history_folder
from .client import DONE, NO_MESH, results_of
from .diary import Diary
from .joiners import joiner_name
from .places import Networks, SmallDisk

POLL_S = 0.1
GONE_S = 10.0
# A node that does not see a death by then never will; the history says whether it had to.
NOTICED_S = 30.0
# For many new members to be known, on a machine that they fill.
JOINED_S = 60.0
# A customer that cannot have the mesh tries again, as a person would; not for ever.
CLIENT_TRIES_MAX = 20
CLIENT_PAUSE_S = 0.5
# Of the customer's program, on one core of an ordinary machine; and so long that a task still is one of many.
ROUNDS_A_S = 7_000_000 / 0.03
TASK_S_MAX = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of one run. tasks: of all jobs together.  rounds: of the task's program; 7 million are about 30 ms of CPU.

    pause_s: how long a frozen or parted node stays so.
    """

    nodes: int = 5
    jobs: int = 2
    tasks: int = 300
    rounds: int = 7_000_000
    pause_s: float = 60.0
    limit_s: float = 600.0
    seed: int = 1

    @property
    def tasks_a_job(self) -> int:
        return max(1, self.tasks // self.jobs)

    def lasting(self, seconds: float, cores: int) -> Settings:
        """With enough work for so long: longer tasks, and more where they would be too long. cores: the machine's."""
        rounds = seconds * min(cores, self.nodes) * ROUNDS_A_S
        longer = max(self.rounds, ceil(min(rounds / self.tasks, TASK_S_MAX * ROUNDS_A_S)))
        return replace(self, rounds=longer, tasks=max(self.tasks, ceil(rounds / longer)))


class Scene:
    """One run's; made by `run.py`, which also ends what is started here. stack: for what a disturbance borrows."""

    def __init__(self, folder: Path, net: Testnet, settings: Settings, diary: Diary, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.net = net
        self.settings = settings
        self.diary = diary
        self.stack = stack
        self.rng = Random(settings.seed)
        self.client_namespace = ""
        self.networks: Networks | None = None
        self.disk: SmallDisk | None = None
        self.client_tries = 0
        self.notes: list[str] = []
        # Results that the customer had when all was mended.
        self.mended: int | None = None
        self._client: Process | None = None
        self._nonce = os.urandom(8).hex()

    # -- the customer --------------------------------------------------------------------------------------

    def start_client(self) -> None:
        """Raises TestnetError."""
        settings = self.settings
        command = [sys.executable, "-P", "-m", "hearthmesh.testnet.chaos.client"]
        command += [os.fspath(self.net.client_config), os.fspath(self.folder)]
        command += [str(settings.jobs), str(settings.tasks_a_job), str(settings.rounds), self._nonce, str(os.getpid())]
        if self.client_namespace:
            command = inside(self.client_namespace, command)
        self.client_tries += 1
        try:
            self._client = spawn(command, self.folder / "client.log")
        except OSError as error:
            raise TestnetError(f"the client cannot be started: {error.strerror}") from error

    async def kill_client(self) -> None:
        """SIGKILL, with whatever it was about to keep."""
        assert self._client is not None
        self.diary.fault("kill-client")
        self._client.send(signal.SIGKILL)
        await self._client.wait_gone(GONE_S)

    async def end_client(self) -> None:
        if self._client is not None:
            self._client.send(signal.SIGKILL)
            await self._client.wait_gone(GONE_S)

    async def client_done(self) -> list[str]:
        """Wait for its end. Returns the ids of its jobs, all of which it has accepted. Raises TestnetError."""
        while True:
            assert self._client is not None
            code = await _ended(self._client)
            if (self.folder / DONE).exists():
                done: list[str] = json.loads((self.folder / DONE).read_bytes())
                return done
            if code != NO_MESH or self.client_tries >= CLIENT_TRIES_MAX:
                raise TestnetError(f"the client ended with code {code}: {self._last_line('client.log')}")
            self.notes.append(f"the client was started again: {self._last_line('client.log')}")
            await trio.sleep(CLIENT_PAUSE_S)
            self.start_client()

    def _last_line(self, log: str) -> str:
        try:
            lines = (self.folder / log).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return "nothing"
        return next((line for line in reversed(lines) if line.strip()), "nothing")

    def results_here(self) -> int:
        """Tasks whose results the customer has on its disk, over all jobs."""
        return results_of(self.folder, self.settings.jobs)

    async def work_on(self, share: float = 0.1) -> None:
        """Wait until so much of the results is with the customer; sooner if that one ends."""
        wanted = max(1, round(self.settings.jobs * self.settings.tasks_a_job * share))
        while self.results_here() < wanted and self._client is not None and self._client.state == "running":
            await trio.sleep(POLL_S)

    # -- who is who ----------------------------------------------------------------------------------------

    def node_id(self, name: str) -> str:
        """As histories have it."""
        return self.net.node(name).node_id

    def replicas(self) -> list[str]:
        """Names of those that keep the first job, by rank. Raises TestnetError before one is kept."""
        names = {self.node_id(name): name for name in self.net.nodes}
        for line in self.history().find("kept"):
            return [names[node] for node in line["replicas"]]
        raise TestnetError("no job is kept yet")

    def workers(self) -> list[str]:
        """Names of those that keep nothing of the first job."""
        keepers = self.replicas()
        return [name for name in self.net.nodes if name not in keepers]

    def busy(self, names: Sequence[str]) -> str:
        """The one of them that has most tasks in hand by its history: to kill it costs something."""
        held: dict[str, int] = dict.fromkeys(map(self.node_id, names), 0)
        for line in self.history().lines:
            if line.node in held and line.event in ("lease", "result", "release"):
                count = line["hi"] - line["lo"]
                held[line.node] += count if line.event == "lease" else -count
        return max(names, key=lambda name: held[self.node_id(name)])

    def history(self) -> History:
        """What all have written so far."""
        try:
            return read_history(history_folder(self.net.folder))
        except HistoryError:
            return History()

    # -- hurting and mending -------------------------------------------------------------------------------

    async def kill(self, *names: str) -> None:
        """SIGKILL, all at once."""
        for name in names:
            self.diary.fault("kill", self.node_id(name))
            self.net.node(name).kill()
        for name in names:
            await self.net.node(name).wait_gone()

    async def start(self, *names: str) -> None:
        """Those that were killed come back with their state, all at once; returns when they are linked."""
        if names:
            # Those that still run are left alone.
            await self.net.start(with_parent=True)
        for name in names:
            self.diary.mend("kill", self.node_id(name))

    async def start_alone(self, name: str) -> None:
        """As `start`, while others stay dead."""
        await self.net.restart(name, with_parent=True)
        self.diary.mend("kill", self.node_id(name))

    async def noticed(self, *names: str) -> None:
        """Wait until somebody calls each of them dead."""
        missed = {self.node_id(name) for name in names}

        def is_noticed() -> bool:
            dead = {line["peer"] for line in self.history().find("peer") if line["status"] == "dead"}
            return missed <= dead

        await until(is_noticed, NOTICED_S)

    async def join_and_leave(self, count: int, bootstrap: Sequence[str]) -> str:
        """New members run at once; when some node of ours has told that each of them is there, they leave in order.

        Returns whom the nodes did not let in, or did not see leave; empty if all is well.
        """
        command = [sys.executable, "-P", "-m", "hearthmesh.testnet.chaos.joiners", os.fspath(self.net.folder)]
        process = spawn([*command, str(count), str(os.getpid()), *bootstrap], self.folder / "joiners.log")
        names = [joiner_name(number) for number in range(count)]
        try:
            lacking = await self._missing_of(names, "alive", process)
            if lacking:
                return (
                    f"new members were not let in: {', '.join(lacking)} (their log: {self._last_line('joiners.log')})"
                )
            process.send(signal.SIGTERM)
            lacking = await self._missing_of(names, "left", process)
            if lacking:
                return f"members were not seen to leave: {', '.join(lacking)}"
            await process.wait_gone(GONE_S)
        finally:
            with trio.CancelScope(shield=True):
                process.send(signal.SIGKILL)
                await process.wait_gone(GONE_S)
        self.notes.append(f"{count} new members joined, and left")
        return ""

    async def _missing_of(self, names: Sequence[str], status: str, process: Process) -> list[str]:
        """Wait until a node of the network has called each of them that. Returns those of whom none did."""
        nodes = {self.node_id(name): None for name in self.net.nodes}
        missing = list(names)
        with trio.move_on_after(JOINED_S):
            while missing and (status != "alive" or process.state == "running"):
                history = self.history()
                ids = {line.name: line.node for line in history.find("begin")}
                told = {
                    line["peer"]: None
                    for line in history.find("peer")
                    if line.node in nodes and line["status"] == status
                }
                missing = [name for name in names if ids.get(name) not in told]
                await trio.sleep(POLL_S)
        return missing

    def freeze(self, name: str) -> None:
        self.diary.fault("freeze", self.node_id(name))
        self.net.node(name).freeze()

    def thaw(self, name: str) -> None:
        self.net.node(name).thaw()
        self.diary.mend("freeze", self.node_id(name))

    def node(self, name: str) -> TestnetNode:
        return self.net.node(name)


async def until(has_happened: Callable[[], bool], limit_s: float) -> bool:
    """Whether it did, in time."""
    with trio.move_on_after(limit_s):
        while not has_happened():
            await trio.sleep(POLL_S)
        return True
    return False


async def _ended(process: Process) -> int:
    """The exit code of a child of ours; negative: the signal that ended it."""
    handle = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(handle)
        found = os.waitid(os.P_PIDFD, handle, os.WEXITED)
    finally:
        os.close(handle)
    assert found is not None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
