"""What runtimes that start a sandbox for each task have in common: slots, pace, checkpoints, and an orderly end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from .bubblewrap import SandboxUnavailable, Tools
from .native_duty import Pace
from .native_folders import FolderError, SandboxFolders
from .native_sandbox import SandboxFailed, lack_of
from .outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit, Limits
from .seccomp import UnsupportedMachine

RETRY_S = 60.0
PROBE_LIMITS = Limits(memory_bytes=64 << 20, wall_us=10_000_000, scratch_bytes=0)


class SandboxedExecutor(ABC):
    """Runs batches, one task after the other, `slots` batches at a time.

    kind: its name in messages.  state: the node's folder for this runtime. Where the node is root and its tasks'
    user cannot reach that folder, /var/tmp/hearthmesh-… takes its place, and that of checkpoints.  uid_base: the
    lowest uid that tasks run as; None where they run as the node itself.
    """

    def __init__(self, kind: str, state: Path, slots: int, uid_base: int | None) -> None:
        self._kind = kind
        self._state = state
        self._uid_base = uid_base
        self._slot_count = slots
        self._pace = Pace()
        self._ready: tuple[Tools, SandboxFolders] | None = None
        self._unavailable = ""
        self._probe_at = -math.inf  # by trio's clock
        self._probing = trio.Lock()
        self._slots = list(range(slots))
        self._slot_free = trio.Semaphore(slots)
        self._scopes: dict[trio.CancelScope, None] = {}
        self._is_closed = False

    @abstractmethod
    async def _probe(self) -> tuple[Tools, SandboxFolders]:
        """Try a sandbox, and end what an earlier process of this node may have left. Raises SandboxUnavailable,
        SandboxFailed, UnsupportedMachine, FolderError."""

    @abstractmethod
    def _check(self, request: BatchRequest) -> None:
        """Raises ExecutionError, UNAVAILABLE, if this node does not offer what the job needs."""

    @abstractmethod
    async def _run_batch(self, request: BatchRequest, tools: Tools, folders: SandboxFolders, slot: int) -> BatchOutcome:
        """Raises FolderError, SandboxFailed and ExecutionError."""

    async def available(self) -> tuple[bool, str]:
        """Whether this machine can run such tasks, and one line that says why not ("" if it can).

        The first call tries a sandbox; later ones answer from memory, and where it failed try again after RETRY_S:
        a machine is busy for a while, and what is lacking may be installed.
        """
        async with self._probing:
            if self._ready is None and trio.current_time() >= self._probe_at:
                try:
                    self._ready, self._unavailable = await self._probe(), ""
                except (SandboxUnavailable, UnsupportedMachine, SandboxFailed, FolderError) as error:
                    self._unavailable, self._probe_at = str(error), trio.current_time() + RETRY_S
                except OSError as error:  # the machine's, as when the node has too many files open
                    self._unavailable = f"the {self._kind} sandbox could not be tried: {error.strerror}"
                    self._probe_at = trio.current_time() + RETRY_S
        return not self._unavailable, self._unavailable

    def set_duty(self, fraction: float) -> None:
        """Share of one core, 0 … 1, that each running task may use from now on; 0 pauses.

        A pause does not count against a task's wall limit.
        """
        self._pace.duty = min(1.0, max(0.0, fraction))

    @property
    def cpu_us(self) -> int:
        """CPU time of all tasks since the start, of running ones up to 100 ms ago."""
        return self._pace.cpu_us

    def checkpoint_folder(self, root: Path, job_id: bytes, index: int) -> Path:
        if self._ready is not None:
            root = self._ready[1].checkpoint_root(root, self._uid_base)
        return root / job_id.hex() / str(index)

    def forget(self, checkpoint_root: Path, job_id: bytes) -> None:
        """Remove what is left of a job's checkpoints (a task that succeeds removes its own). Raises OSError."""
        if self._ready is not None:
            self._ready[1].forget(checkpoint_root, job_id)

    async def run(self, request: BatchRequest) -> BatchOutcome:
        """Run one batch to its end, once a slot is free.

        Raises ExecutionError, UNAVAILABLE, if this node does not offer what the job needs.
        Cancelling stops the running task at once, with every process of it; its checkpoint stays.
        """
        if self._is_closed:
            raise unavailable(f"the {self._kind} runtime is closed")
        self._check(request)
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                tools, folders = await self._set_up()
                async with self._slot() as slot:
                    return await self._run_batch(request, tools, folders, slot)
            except ExecutionError:
                raise
            except Exception as error:  # boundary: what this machine lacks gives the task back, a bug of ours does not
                reason = lack_of(error, self._kind)
                if reason is None:
                    raise
                raise unavailable(reason) from error
            finally:
                del self._scopes[scope]
        raise ExecutionError(ExecutionFault.CHILD_LOST, f"the node stopped its {self._kind} runtime")

    async def aclose(self) -> None:
        """Stop everything that runs and leave no process behind."""
        self._is_closed = True
        for scope in list(self._scopes):
            scope.cancel()
        with trio.CancelScope(shield=True):
            for _ in range(self._slot_count):
                await self._slot_free.acquire()
        for _ in range(self._slot_count):
            self._slot_free.release()

    async def _set_up(self) -> tuple[Tools, SandboxFolders]:
        await self.available()
        if self._ready is None:
            raise unavailable(self._unavailable)
        return self._ready

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[int]:
        async with self._slot_free:
            slot = self._slots.pop()
            try:
                yield slot
            finally:
                self._slots.append(slot)


def check_probe(what: str, outcome: BatchOutcome) -> None:
    """what: the program that was tried. Raises SandboxFailed where it had no time or was killed, SandboxUnavailable
    where it failed."""
    code = outcome.exits[0]
    if code == Exit.SUCCESS:
        return
    why = outcome.stderrs.get(0, b"no message").decode("utf-8", "replace").strip().replace("\n", "; ")
    message = f"{what} ended with {code}: {why}"
    if code in (Exit.WALL, Exit.KILLED):
        raise SandboxFailed(message)
    raise SandboxUnavailable(message)


def unavailable(detail: str) -> ExecutionError:
    """It is this node that cannot run it; another may."""
    return ExecutionError(ExecutionFault.UNAVAILABLE, detail)
