"""Tasks as they would run: their time is virtual, and what they put out is a function of the task alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ...protocol.effects import Execute
from ...protocol.events import ExecutionFailed, TaskFinished

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World


def output_of(job_id: bytes, index: int) -> bytes:
    """What every honest machine puts out for a task: 16 bytes."""
    return sha256(job_id + index.to_bytes(8, "big")).digest()[:16]


def task_us(job_id: bytes, index: int, mean_us: int) -> int:
    """A task's CPU time: the same wherever it runs, from half of the mean to three halves."""
    share = sha256(b"time" + job_id + index.to_bytes(8, "big")).digest()[0]
    return max(1, mean_us // 2 + mean_us * share // 255)


@dataclass(slots=True)
class Running:
    run: Execute
    started_us: int
    ends_us: int
    cpu_us: tuple[int, ...]


class Executor:
    """A machine's cores. One task at a time for each execution.

    broken: every execution fails, at once, and could succeed elsewhere.  energy_uj: of all that ever ran here, also
    of what was cancelled or died.  told_uj: what executions that ended well were said to have cost.
    """

    def __init__(self, machine: Machine, world: World) -> None:
        self._machine = machine
        self._world = world
        self.running: dict[int, Running] = {}
        self.broken = False
        self.tasks_run = 0
        self.energy_uj = 0
        self.told_uj = 0
        self.lost_uj = 0

    def start(self, life: Life, run: Execute) -> None:
        if self.broken:
            self._world.engine.after(1_000, life.feed, ExecutionFailed(run.execution_id, "no such runtime", False, 0))
            return
        if self._machine.liar is not None and not self._machine.liar.runs(run):
            return
        mean_us = self._world.mean_task_us(run.job_id)
        cpu_us = tuple(task_us(run.job_id, index, mean_us) for index in range(run.first, run.first + run.count))
        sink = self._machine.sink
        duty = sink.duty if sink is not None else 1.0
        now_us = self._world.engine.now_us
        running = Running(run, now_us, now_us + int(sum(cpu_us) / duty), cpu_us)
        self.running[run.execution_id] = running
        self._world.engine.at(running.ends_us, self._finish, life, running)

    def cancel(self, execution_id: int) -> None:
        running = self.running.pop(execution_id, None)
        if running is not None:
            self._waste(running)

    def stop(self) -> None:
        """The process ended, and its children with it."""
        for execution_id in list(self.running):
            self.cancel(execution_id)

    def _waste(self, running: Running) -> None:
        spent_us = sum(running.cpu_us) * (self._world.engine.now_us - running.started_us)
        spent_us //= max(1, running.ends_us - running.started_us)
        self.lost_uj += round(spent_us * self._watts)
        self.energy_uj += round(spent_us * self._watts)

    @property
    def _watts(self) -> float:
        return self._machine.sink.watts_per_slot if self._machine.sink is not None else 0.0

    def load_w(self) -> float:
        """Heat that is made now."""
        total = 0.0
        for running in self.running.values():
            length_us = max(1, running.ends_us - running.started_us)
            total += self._watts * min(1.0, sum(running.cpu_us) / length_us)
        return total

    def _finish(self, life: Life, running: Running) -> None:
        run = running.run
        if not life.runs or self.running.get(run.execution_id) is not running:
            return
        if self._machine.frozen:
            self._world.engine.after(100_000, self._finish, life, running)
            return
        del self.running[run.execution_id]
        self.tasks_run += run.count
        energy_mj = round(sum(running.cpu_us) * self._watts / 1000)
        self.energy_uj += energy_mj * 1000
        self.told_uj += energy_mj * 1000
        useful = self._machine.sink is not None and self._machine.sink.useful
        outputs = tuple(self._world.output_of(run.job_id, index) for index in range(run.first, run.first + run.count))
        if self._machine.liar is not None:
            told = self._machine.liar.outputs(run, outputs)
            if told != outputs:
                self._machine.liar.lied_us = self._machine.liar.lied_us or self._world.engine.now_us
            outputs = told
        event = TaskFinished(
            run.execution_id,
            exits=(0,) * run.count,
            outputs=outputs,
            externals={},
            stderrs={},
            fuels=(1,) * run.count,
            cpu_us=running.cpu_us,
            energy_mj=energy_mj,
            useful_mj=energy_mj if useful else 0,
            measured=False,
        )
        self._world.checkers.finished(life, run, event)
        life.feed(event, run.first * 31 + run.count & 0xFFFF_FFFF)
