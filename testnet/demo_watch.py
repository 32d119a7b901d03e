"""Asks the demo's nodes how they are, a few times a second, and shows the scene what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from ..node.control import ControlError
from .demo_scene import AWAY, Condition, Scene
from .network import Testnet
from .node import TestnetNode
from .process import Process

POLL_S = 0.4
ASK_TIMEOUT_S = 2.0


class Watcher:
    """Polls until cancelled. Nodes that are killed or frozen are left alone."""

    def __init__(self, net: Testnet, scene: Scene, now_s: Callable[[], float]) -> None:
        self._net = net
        self._scene = scene
        self._now_s = now_s
        self._event_counts: dict[str, tuple[int, int]] = {}
        self._looked = trio.Event()
        self._scope = trio.CancelScope()
        # The nodes' worker processes and their own, to see in the end that none is left.
        self.processes: dict[Process, None] = {}

    async def looked(self) -> None:
        """Wait for the next round: what was asked of those that answer is then in the scene."""
        await self._looked.wait()

    def stop(self) -> None:
        """Ask no more: who leaves has other readings than who works."""
        self._scope.cancel()

    async def run(self) -> None:
        with self._scope:
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            for node in self._net.nodes.values():
                nursery.start_soon(self._look_forever, node)
            while True:
                await trio.sleep(POLL_S)
                if self._scene.client == AWAY:
                    self._scene.take_progress(self._scene.computed(), self._now_s())
                self._looked.set()
                self._looked = trio.Event()

    async def _look_forever(self, node: TestnetNode) -> None:
        """Each by itself: one that froze with a question on its way must not hold up the others."""
        while True:
            if self._scene.rooms[node.name].condition in (Condition.STARTING, Condition.UP):
                await self._look_at(node)
            await trio.sleep(POLL_S)

    async def _look_at(self, node: TestnetNode) -> None:
        try:
            status = await node.status(timeout_s=ASK_TIMEOUT_S)
            pid = status["pid"]
            known_pid, after = self._event_counts.get(node.name, (pid, 0))
            events, following = await node.events(after if known_pid == pid else 0, timeout_s=ASK_TIMEOUT_S)
        except ControlError:
            return
        self._event_counts[node.name] = pid, following
        self._note_processes(pid)
        if self._scene.rooms[node.name].condition in (Condition.KILLED, Condition.FROZEN):
            return
        self._scene.take_status(node.name, status, self._now_s())
        for event in events:
            self._scene.take_event(node.name, event, self._now_s())

    def _note_processes(self, pid: int) -> None:
        for each in (pid, *_children(pid)):
            process = Process.of(each)
            if process is not None:
                self.processes[process] = None

    def left_behind(self) -> list[int]:
        """Process ids of nodes and their workers that are still there."""
        return [process.pid for process in self.processes if process.state != "gone"]


def _children(pid: int) -> list[int]:
    """Of its main thread, which is the one that starts workers. Empty if the process has gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
