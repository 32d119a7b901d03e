"""Tasks as they would run: their time is virtual, and what they put out is a function of the task alone."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ...protocol.effects import Execute
from ...protocol.events import ExecutionFailed, ExecutionSaved, TaskFinished
from ...protocol.intervals import IntervalSet
from ...protocol.verification.lanes import numbers_of
from .engine import MS

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

# After which an execution fails where each does.
BROKEN_US = MS


def output_of(job_id: bytes, index: int) -> bytes:
    """What every honest machine puts out for a task: 16 bytes."""
    return sha256(job_id + index.to_bytes(8, "big")).digest()[:16]


def exit_of(job_id: bytes, index: int) -> int:
    """With which code a task ends: one in 32 with 1, wherever it runs."""
    return int(sha256(b"exit" + job_id + index.to_bytes(8, "big")).digest()[0] < 8)


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
    done_us: int = 0


class Executor:
    """A machine's cores. One task at a time for each execution.

    broken: every execution fails, at once, and could succeed elsewhere.  energy_uj: of all that ever ran here, also
    of what was cancelled or died.  told_uj: what executions that ended well were said to have cost.  moved_uj: of tasks
    that were saved, up to their checkpoints.  saved: how many were.
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
        self.moved_uj = 0
        self.saved = 0
        # Checkpoints on this machine's disk: CPU time that they stand for.
        self._checkpoints: dict[tuple[bytes, int], int] = {}

    def start(self, life: Life, run: Execute) -> None:
        if self.broken:
            self._world.engine.after(BROKEN_US, self._fail, life, run)
            return
        if self._machine.liar is not None and not self._machine.liar.runs(run):
            return
        mean_us = self._world.mean_task_us(run.job_id)
        cpu_us = tuple(task_us(run.job_id, index, mean_us) for index in range(run.first, run.first + run.count))
        if self._machine.liar is not None:
            cpu_us = self._machine.liar.cpu_us(cpu_us)
        if run.checkpoint:
            self._checkpoints[run.job_id, run.first] = self._world.checkpoints[run.checkpoint]
        done_us = self._checkpoints.get((run.job_id, run.first), 0) if run.count == 1 and not run.copy else 0
        if done_us:
            cpu_us = (max(1, cpu_us[0] - done_us),)
        sink = self._machine.sink
        duty = sink.duty if sink is not None else 1.0
        now_us = self._world.engine.now_us
        running = Running(run, now_us, now_us + int(sum(cpu_us) / duty), cpu_us, done_us)
        self.running[run.execution_id] = running
        self._world.engine.at(running.ends_us, self._finish, life, running)

    def _fail(self, life: Life, run: Execute) -> None:
        self._world.checkers.failed(life, run)
        life.feed(ExecutionFailed(run.execution_id, "no such runtime", False, 0))

    def save(self, life: Life, execution_id: int) -> None:
        """Stop a task at its next checkpoint, if it makes one before it ends."""
        running = self.running.get(execution_id)
        view = life.mesh.worker.view(running.run.job_id) if running is not None else None
        if running is None or view is None:
            return
        length_us, cpu_us = running.ends_us - running.started_us, sum(running.cpu_us)
        spent_us = cpu_us * (self._world.engine.now_us - running.started_us) // max(1, length_us)
        every_us = view.spec.checkpoint_us
        at_us = (running.done_us + spent_us) // every_us * every_us + every_us
        more_us = at_us - running.done_us
        if more_us < cpu_us:
            self._world.engine.at(running.started_us + length_us * more_us // cpu_us, self._save, life, running, at_us)

    def _save(self, life: Life, running: Running, at_us: int) -> None:
        run = running.run
        if not life.runs or self.running.get(run.execution_id) is not running:
            return
        if self._machine.frozen:
            self._world.engine.after(100_000, self._save, life, running, at_us)
            return
        del self.running[run.execution_id]
        self.saved += 1
        spent_uj = round((at_us - running.done_us) * self._watts)
        self.moved_uj += spent_uj
        self.energy_uj += spent_uj
        self._checkpoints[run.job_id, run.first] = at_us
        digest = sha256(b"checkpoint" + run.job_id + run.first.to_bytes(8, "big") + at_us.to_bytes(8, "big")).digest()
        self._world.checkpoints[digest] = at_us
        self._world.checkers.saved(life, run)
        life.feed(ExecutionSaved(run.execution_id, digest, 1_000, digest))

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
        if run.copy:
            tasks = self._world.orders[run.job_id].spec.tasks
            copies = self._world.copies_run.setdefault(run.job_id, IntervalSet())
            copies.add(*numbers_of(run.first, run.first + run.count, run.copy, tasks))
        energy_mj = round(sum(running.cpu_us) * self._watts / 1000)
        self.energy_uj += energy_mj * 1000
        self.told_uj += energy_mj * 1000
        useful = self._machine.sink is not None and self._machine.sink.useful
        outputs = tuple(self._world.output_of(run.job_id, index) for index in range(run.first, run.first + run.count))
        exits = tuple(self._world.exit_of(run.job_id, index) for index in range(run.first, run.first + run.count))
        if self._machine.liar is not None:
            told = self._machine.liar.outputs(run, outputs)
            if told != outputs:
                self._machine.liar.lied_us = self._machine.liar.lied_us or self._world.engine.now_us
            outputs, exits = told, self._machine.liar.exits(exits)
        event = TaskFinished(
            run.execution_id,
            exits=exits,
            outputs=outputs,
            externals={},
            stderrs={offset: b"failed" for offset, code in enumerate(exits) if code},
            fuels=(1,) * run.count,
            cpu_us=running.cpu_us,
            energy_mj=energy_mj,
            useful_mj=energy_mj if useful else 0,
            measured=False,
        )
        self._world.checkers.finished(life, run, event)
        life.feed(event, run.first * 31 + run.count & 0xFFFF_FFFF)
        self._world.checkers.ended(life, run, event)
