"""What happens in the demo: the client goes and comes back, two heaters die, one returns, a third freezes for good.

Each thing happens at a share of the job's tasks, not at a time, so that it is mid-way on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import trio

from ..node.client import Client, Job
from ..node.client.job import VerifiedBatch
from ..node.jobfile import JobFile
from ..protocol.messages import JobStatus
from .demo_results import KeptBatch, ResultFolder
from .demo_scene import AWAY, DONE, HERE, Condition, Scene
from .demo_watch import Watcher
from .network import Testnet

LEAVES_AT = 0.15
KILLED_AT = 0.22
RETURNS_AT = 0.35
RESTARTED_AT = 0.4
FROZEN_AT = 0.55
# A replica counts an acceptance some moments after the client signed it.
ACCEPTED_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Course:
    """What was done to whom, and how the job stood in the end."""

    killed: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    keepers_at_first: list[str] = field(default_factory=list)
    visits: list[int] = field(default_factory=list)
    job_id: bytes = b""
    submitted_s: float = 0.0
    finished_s: float = 0.0
    status: JobStatus | None = None


class Story:
    """One course of the demo over a network that runs and is watched."""

    def __init__(
        self,
        net: Testnet,
        scene: Scene,
        watcher: Watcher,
        job: JobFile,
        results: ResultFolder,
        now_s: Callable[[], float],
    ) -> None:
        self._net = net
        self._scene = scene
        self._watcher = watcher
        self._job = job
        self._results = results
        self._now_s = now_s
        self._served_by = ""
        self.course = Course()

    async def play(self) -> Course:
        """From the submission until all results are here and all hurt is done. Raises ClientError, TestnetError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hurt)
            await self._first_visit()
            await self._reached(RETURNS_AT)
            await self._second_visit()
        return self.course

    def _tell(self, text: str) -> None:
        self._scene.tell(self._now_s(), text)

    async def _reached(self, share: float) -> None:
        while self._scene.share < share:
            await self._watcher.looked()

    # -- the client ------------------------------------------------------------------------------------------

    async def _first_visit(self) -> None:
        async with Client.connect(self._net.client_config) as mesh:
            job = await mesh.submit(self._job)
            self._scene.tasks = job.spec.tasks
            self.course.job_id, self.course.submitted_s = job.job_id, self._now_s()
            self._scene.client = HERE
            self._tell(f"the client submits {job.spec.tasks:,} tasks, job {job.id[:12]}: on disk with a majority")
            await self._collect(job, until=LEAVES_AT)
            await self._accepted(job, self._scene.held)
        self._scene.client = AWAY
        self.course.visits.append(self._results.have().total)
        self._tell(f"the client walks away with {self.course.visits[0]:,} verified results")

    async def _second_visit(self) -> None:
        have = self._results.have()
        async with Client.connect(self._net.client_config) as mesh:
            job = await mesh.job(self.course.job_id.hex())
            self._scene.client = HERE
            self._tell(f"the client is back, a new session: it asks for all but the {have.total:,} that it has")
            await self._collect(job, until=1.0)
            self.course.finished_s = self._now_s()
            self.course.visits.append(self._results.have().total - have.total)
            self.course.status = await self._accepted(job, job.spec.tasks)
        self._scene.client = DONE
        self._tell(f"the client holds all {self._scene.tasks:,} results")

    async def _collect(self, job: Job, until: float) -> None:
        """Keep verified batches until that share of the tasks is here.

        A batch is accepted when the next one is asked for, so that one is looked at before leaving, and not kept.
        """
        have = self._results.have()
        self._scene.held = have.total
        with closing(job.batches(have, self._results.signed(), self._results.given_back)) as batches:
            async for item in batches:
                if isinstance(item, JobStatus):
                    self._scene.take_progress(item.done, self._now_s())
                    continue
                if have.total >= until * job.spec.tasks:
                    return
                self._keep(item)
                for lo, hi in item.parts:
                    have.add(lo, hi)
                self._scene.held = have.total
                self._scene.take_progress(have.total, self._now_s())

    def _keep(self, batch: VerifiedBatch) -> None:
        self._results.keep(KeptBatch(batch.header.raw, batch.columns, batch.parts))
        self._served_by = self._scene.name_of(batch.source.hex())

    async def _accepted(self, job: Job, tasks: int) -> JobStatus:
        """The job's state once a replica knows that so many were accepted, or the last word before the timeout."""
        status = await job.status()
        with trio.move_on_after(ACCEPTED_TIMEOUT_S):
            while status.accepted < tasks:
                await self._watcher.looked()
                status = await job.status()
        return status

    # -- the hurt --------------------------------------------------------------------------------------------

    async def _hurt(self) -> None:
        """A keeper of the job and a worker die; the keeper comes back; the keeper that serves the client freezes."""
        await self._reached(KILLED_AT)
        keepers = self.course.keepers_at_first = self._scene.keepers()
        keeper = self._unlucky_keeper(keepers)
        worker = self._busiest(except_for=keepers)
        for name, what in ((keeper, "it keeps the job"), (worker, "in the middle of its work")):
            self._net.nodes[name].kill()
            self._scene.rooms[name].condition = Condition.KILLED
            self.course.killed.append(name)
            self._tell(f"SIGKILL {name}: {what}")
        await self._reached(RESTARTED_AT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._restart, keeper)
            await self._reached(FROZEN_AT)
            self._freeze(self._third())

    async def _restart(self, name: str) -> None:
        self._scene.rooms[name].condition = Condition.STARTING
        self._tell(f"{name} is started again, with the disk that it had")
        await self._net.restart(name, with_parent=True)
        self.course.restarted.append(name)
        self._tell(f"{name} is back among the others")

    def _freeze(self, name: str) -> None:
        self._net.nodes[name].freeze()
        self._scene.rooms[name].condition = Condition.FROZEN
        self.course.frozen.append(name)
        serving = ", with the client on the line" if name == self._served_by else ""
        self._tell(f"SIGSTOP {name}, for good: all its connections stay open{serving}")

    def _third(self) -> str:
        """The keeper that serves the client, or another one; never one that was killed."""
        fit = [name for name in (self._served_by, *self.course.keepers_at_first) if name in self._scene.rooms]
        up = [n for n in fit if n not in self.course.killed and self._scene.rooms[n].condition is Condition.UP]
        return up[0] if up else self._busiest(except_for=self.course.killed)

    def _unlucky_keeper(self, keepers: list[str]) -> str:
        """Not the one that served the client, which is to freeze later."""
        others = [name for name in keepers if name != self._served_by]
        return max(others or keepers or list(self._scene.rooms), key=lambda name: self._scene.rooms[name].total.tasks)

    def _busiest(self, except_for: list[str] | tuple[str, ...]) -> str:
        """Of those that are up: at work now, and with most tasks done."""
        rooms = [room for room in self._scene.rooms.values() if room.condition is Condition.UP]
        rooms = [room for room in rooms if room.name not in except_for] or rooms
        return max(rooms, key=lambda room: (room.running > 0, room.total.tasks)).name
