"""What runs where: the slots of all nodes, and what became of each task. Policies act through it alone.

Work is counted in seconds of a slot at full duty. What was executed is in finished tasks, in progress that is kept, or
lost: a policy cannot make work, and cannot hide any (`balance_s`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .town import WATTS_PER_SLOT, Floats, Ints, Town
from .work import Work

NOBODY = -1
# Of what a checkpoint is: memory of a task.
CHECKPOINT_BYTES = 64_000_000
_DONE_S = 1e-6


@dataclass
class Counts:
    """executed_s: work done, useful or not.  lost_s: of it, what was thrown away.  moved_bytes: inputs, programs,
    checkpoints.  lost_tasks: starts that were for nothing.  moves: checkpoints that went to another node.
    """

    executed_s: float = 0.0
    lost_s: float = 0.0
    moved_bytes: float = 0.0
    lost_tasks: int = 0
    moves: int = 0


@dataclass
class Floor:
    """task: of each slot, NOBODY if it is free.  left_s: of its task.  duty, running: of each node.

    done_at_s: of each task, infinity until it is done.  progress_s: of each task, as of its last checkpoint.
    """

    town: Town
    work: Work
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        total, nodes = int(self.town.slots.sum()), len(self.town)
        self.owner: NDArray[np.intp] = np.repeat(np.arange(nodes), self.town.slots)
        self.begin: Ints = np.concatenate([[0], np.cumsum(self.town.slots)[:-1]])
        self.task = np.full(total, NOBODY, dtype=np.int64)
        self.left_s: Floats = np.zeros(total)
        self.duty = np.ones(nodes)
        self.running = np.zeros(nodes, dtype=np.int64)
        self.done_at_s = np.full(self.work.tasks, np.inf)
        self.progress_s: Floats = np.zeros(self.work.tasks)
        self.ran_on = np.full(self.work.tasks, NOBODY, dtype=np.int32)
        self.finished = 0
        self._program_at = np.zeros((len(self.work.jobs), nodes), dtype=bool)
        self._program_bytes = self.work.of("program_bytes")
        self._input_bytes = self.work.of("input_bytes")
        self._checkpointable = self.work.of("checkpointable").astype(bool)

    @property
    def free(self) -> Ints:
        return self.town.slots - self.running

    def can_checkpoint(self, tasks: Ints) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self._checkpointable[self.work.job_of[tasks]]
        return found

    def start(self, nodes: Ints, tasks: Ints, local: NDArray[np.bool_] | None = None) -> None:
        """Each task on a free slot of the node beside it. local: whose input lies there already."""
        if not len(nodes):
            return
        order = np.argsort(nodes, kind="stable")
        nodes, tasks = nodes[order], tasks[order]
        rank = np.arange(len(nodes)) - np.searchsorted(nodes, nodes, side="left")
        assert (rank < self.free[nodes]).all(), "more tasks than slots"
        slots = self._slots(nodes, rank)
        self.task[slots] = tasks
        self.left_s[slots] = self.work.length_s[tasks] - self.progress_s[tasks]
        np.add.at(self.running, nodes, 1)
        self._fetch(nodes, tasks, local[order] if local is not None else None)

    def _slots(self, nodes: Ints, rank: Ints) -> NDArray[np.intp]:
        """The rank-th free slot of each node."""
        free = np.flatnonzero(self.task == NOBODY)
        first = np.searchsorted(self.owner[free], nodes, side="left")
        found: NDArray[np.intp] = free[first + rank]
        return found

    def _fetch(self, nodes: Ints, tasks: Ints, local: NDArray[np.bool_] | None) -> None:
        jobs = self.work.job_of[tasks]
        bytes_of = self._input_bytes[jobs] + CHECKPOINT_BYTES * (self.progress_s[tasks] > 0)
        if local is not None:
            bytes_of = np.where(local, 0.0, bytes_of)
        pairs = np.unique(jobs.astype(np.int64) * len(self.town) + nodes)
        job, node = pairs // len(self.town), pairs % len(self.town)
        fresh = ~self._program_at[job, node]
        self._program_at[job, node] = True
        self.counts.moved_bytes += float(bytes_of.sum() + self._program_bytes[job[fresh]].sum())
        moved = (self.progress_s[tasks] > 0) & (self.ran_on[tasks] != nodes)
        self.counts.moves += int(moved.sum())
        self.ran_on[tasks] = nodes

    def busy(self) -> NDArray[np.intp]:
        return np.flatnonzero(self.task != NOBODY)

    def done_s(self, slots: NDArray[np.intp]) -> Floats:
        """Work of the tasks there that is done, beyond what is kept of them."""
        tasks = self.task[slots]
        found: Floats = self.work.length_s[tasks] - self.progress_s[tasks] - self.left_s[slots]
        return found

    def kill(self, slots: NDArray[np.intp]) -> Ints:
        """Throw away what was done since the last checkpoint; the tasks, which have to be run again."""
        self.counts.lost_s += float(self.done_s(slots).sum())
        self.counts.lost_tasks += len(slots)
        return self._vacate(slots)

    def checkpoint(self, slots: NDArray[np.intp]) -> Ints:
        """Stop, and keep what was done; the tasks. Only those that can."""
        tasks = self.task[slots]
        assert self.can_checkpoint(tasks).all(), "a task that cannot be checkpointed"
        self.progress_s[tasks] += self.done_s(slots)
        return self._vacate(slots)

    def _vacate(self, slots: NDArray[np.intp]) -> Ints:
        tasks = self.task[slots].copy()
        self.task[slots] = NOBODY
        self.left_s[slots] = 0.0
        self.running -= np.bincount(self.owner[slots], minlength=len(self.town))
        return tasks

    def run(self, now_s: float, step_s: float) -> Floats:
        """Let a step pass; watts of work of each node, as the mean of it."""
        busy = self.busy()
        nodes = self.owner[busy]
        duty = self.duty[nodes]
        spent_s = np.minimum(self.left_s[busy], step_s * duty)
        self.left_s[busy] -= spent_s
        self.counts.executed_s += float(spent_s.sum())
        over = self.left_s[busy] <= _DONE_S
        ended = busy[over]
        if len(ended):
            self.done_at_s[self.task[ended]] = now_s + spent_s[over] / duty[over]
            self.finished += len(ended)
            self._vacate(ended)
        by_node_s = np.bincount(nodes, weights=spent_s, minlength=len(self.town))
        return np.asarray(by_node_s * (WATTS_PER_SLOT / step_s), dtype=np.float64)

    def balance_s(self) -> float:
        """What was executed and is nowhere to be found; 0 but for rounding."""
        done = np.isfinite(self.done_at_s)
        kept_s = float(self.work.length_s[done].sum() + self.progress_s[~done].sum())
        return self.counts.executed_s - kept_s - float(self.done_s(self.busy()).sum()) - self.counts.lost_s
