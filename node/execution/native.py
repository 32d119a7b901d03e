"""The native runtime: commands that the owner listed, each task in a bubblewrap sandbox of its own.

Needs Linux with user namespaces, bubblewrap, util-linux and GNU tar. The work of a program has no exact count
here, so fuel is always 0 and `cpu_us` is the measure.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from .bubblewrap import SandboxUnavailable, Tools, kill_orphans
from .native_batch import NativeBatch
from .native_config import NativeCommand, NativeRuntimeConfig
from .native_duty import Pace
from .native_folders import FolderError, SandboxFolders
from .native_sandbox import SandboxFailed
from .outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit, Limits
from .seccomp import UnsupportedMachine

PROBE_LIMITS = Limits(memory_bytes=64 << 20, wall_us=10_000_000, scratch_bytes=0)


class NativeExecutor:
    """Runs native batches, one task after the other, `config.slots` batches at a time.

    state: the node's folder for this runtime. Where the node is root and its tasks' user cannot reach that
    folder, /var/tmp/hearthmesh-… takes its place, and that of checkpoints.
    """

    def __init__(self, config: NativeRuntimeConfig, state: Path) -> None:
        self._config = config
        self._state = state
        self._uid_base = config.uid_base if os.geteuid() == 0 else None
        self._pace = Pace()
        self._ready: tuple[Tools, SandboxFolders] | None = None
        self._unavailable = ""
        self._probing = trio.Lock()
        self._slots = list(range(config.slots))
        self._slot_free = trio.Semaphore(config.slots)
        self._scopes: dict[trio.CancelScope, None] = {}
        self._is_closed = False

    async def available(self) -> tuple[bool, str]:
        """Whether this machine can run native tasks, and one line that says why not ("" if it can).

        The first call tries a sandbox, and ends what an earlier process of this node may have left; later
        ones answer from memory.
        """
        async with self._probing:
            if self._ready is None and not self._unavailable:
                try:
                    self._ready = await self._probe()
                except (SandboxUnavailable, SandboxFailed, UnsupportedMachine, FolderError) as error:
                    self._unavailable = str(error)
        return not self._unavailable, self._unavailable

    def commands(self) -> tuple[str, ...]:
        """The names that jobs may use here: those whose program is there."""
        return tuple(name for name, command in sorted(self._config.commands.items()) if _is_program(command.path))

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

    def forget_secrets(self, job_id: bytes) -> None:
        """See `Executor.forget_secrets`: each task's processes end with it."""

    def forget(self, checkpoint_root: Path, job_id: bytes) -> None:
        """Remove what is left of a job's checkpoints (a task that succeeds removes its own). Raises OSError."""
        if self._ready is not None:
            self._ready[1].forget(checkpoint_root, job_id)

    async def run(self, request: BatchRequest) -> BatchOutcome:
        """Run one batch to its end, once a slot is free.

        Raises ExecutionError, UNAVAILABLE, if this node does not offer the command or what the job needs.
        Cancelling stops the running task at once, with every process of it; its checkpoint stays.
        """
        command = self._allowed(request)
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                tools, folders = await self._set_up()
                async with self._slot() as slot:
                    return await self._batch(request, command, tools, folders, slot).run()
            except (FolderError, SandboxFailed) as error:
                raise _unavailable(str(error)) from error
            finally:
                del self._scopes[scope]
        raise ExecutionError(ExecutionFault.CHILD_LOST, "the node stopped its native runtime")

    async def aclose(self) -> None:
        """Stop everything that runs and leave no process behind."""
        self._is_closed = True
        for scope in list(self._scopes):
            scope.cancel()
        with trio.CancelScope(shield=True):
            for _ in range(self._config.slots):
                await self._slot_free.acquire()
        for _ in range(self._config.slots):
            self._slot_free.release()

    def _allowed(self, request: BatchRequest) -> NativeCommand:
        if self._is_closed:
            raise _unavailable("the native runtime is closed")
        command = self._config.commands.get(request.entry)
        if command is None:
            offered = ", ".join(sorted(self._config.commands)) or "none"
            raise _unavailable(f"the command {request.entry[:80]!r} is not offered here (offered: {offered})")
        if not _is_program(command.path):
            raise _unavailable(f"{command.path} is not a program on this node")
        if request.limits.memory_bytes > command.memory_bytes:
            raise _unavailable(
                f"{request.entry} gets at most {command.memory_bytes} bytes of memory here, "
                f"and the job wants {request.limits.memory_bytes}"
            )
        for name in request.environment:
            if name not in command.job_environment:
                raise _unavailable(f"jobs may not set the variable {name[:80]!r} for {request.entry} here")
        return command

    async def _set_up(self) -> tuple[Tools, SandboxFolders]:
        await self.available()
        if self._ready is None:
            raise _unavailable(self._unavailable)
        return self._ready

    async def _probe(self) -> tuple[Tools, SandboxFolders]:
        tools, folders = Tools.find(), SandboxFolders(self._state, self._uid_base)
        kill_orphans(folders.tag)
        true = NativeCommand(Path(Tools.locate("true")))
        request = BatchRequest(bytes(32), "native", "command", Path(), b"", 0, 1, bytes(32), limits=PROBE_LIMITS)
        outcome = await self._batch(request, true, tools, folders, slot=0).run()
        if outcome.exits != [Exit.SUCCESS]:
            raise SandboxUnavailable(f"a sandboxed `true` ended with {outcome.exits[0]}")
        return tools, folders

    def _batch(
        self, request: BatchRequest, command: NativeCommand, tools: Tools, folders: SandboxFolders, slot: int
    ) -> NativeBatch:
        uid = None if self._uid_base is None else self._uid_base + slot
        return NativeBatch(request, command, self._config, tools, folders, uid, self._pace)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[int]:
        async with self._slot_free:
            slot = self._slots.pop()
            try:
                yield slot
            finally:
                self._slots.append(slot)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _unavailable(detail: str) -> ExecutionError:
    return ExecutionError(ExecutionFault.UNAVAILABLE, detail)
