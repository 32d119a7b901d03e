"""One native batch: each task's sandbox, and what its ending means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from .bubblewrap import MIN_TMPFS_BYTES, Sandbox, Tools
from .native_archive import ArchiveFault, read_archive
from .native_config import NativeCommand, NativeRuntimeConfig
from .native_duty import Pace
from .native_folders import SandboxFolders, remove_hostile
from .native_sandbox import Bounds, Ending, run_sandboxed
from .outcome import BatchOutcome, BatchRequest, Exit

MAX_OPEN_FILES = 256  # per process
ADDRESS_SLACK_BYTES = 1 << 30  # what programs map and never touch: libraries, thread stacks, malloc arenas


@dataclass(frozen=True, slots=True)
class NativeBatch:
    """A batch on its slot. uid: whom its tasks run as, None = the node's own user."""

    request: BatchRequest
    command: NativeCommand
    config: NativeRuntimeConfig
    tools: Tools
    folders: SandboxFolders
    uid: int | None
    pace: Pace

    async def run(self) -> BatchOutcome:
        """Run task after task. Raises FolderError and SandboxFailed."""
        outcome = BatchOutcome(self.request.first, [], [], {}, [], [])
        staged = await trio.to_thread.run_sync(self.folders.stage, self.request.files, self.uid)
        try:
            for offset in range(self.request.count):
                await self._run_task(offset, staged.binds, outcome)
        finally:
            staged.close()
        return outcome

    async def _run_task(self, offset: int, files: Sequence[tuple[Path, str]], outcome: BatchOutcome) -> None:
        """Run one task and append its columns."""
        request, index = self.request, self.request.first + offset
        checkpoint = None
        if request.checkpoint_root is not None:
            checkpoint = self.folders.checkpoint(
                request.checkpoint_root, request.job_id, index, self.uid, request.limits.scratch_bytes
            )
        stdin = request.inputs[offset] if request.inputs is not None else b""
        sandbox = self._sandbox(index, files, checkpoint)
        ending = await run_sandboxed(self.tools, sandbox, stdin, self._bounds(), self.pace)
        code, output, note = interpret(ending, request.limits.output_bytes)
        if checkpoint is not None and code == Exit.SUCCESS:
            with suppress(OSError):  # a checkpoint that stays costs disk; it must not cost the result
                remove_hostile(checkpoint)
        stderr = _noted(ending.stderr, note, request.limits.stderr_bytes)
        if stderr:
            outcome.stderrs[offset] = stderr
        outcome.exits.append(int(code))
        outcome.outputs.append(output)
        outcome.fuels.append(0)
        outcome.cpu_us.append(ending.cpu_us)

    def _sandbox(self, index: int, files: Sequence[tuple[Path, str]], checkpoint: Path | None) -> Sandbox:
        request, command = self.request, self.command
        arguments = [argument.replace("{index}", str(index)) for argument in request.arguments]
        own_path = [] if command.path.is_relative_to("/usr") else [command.path]
        return Sandbox(
            argv=[str(command.path), *command.arguments, *arguments],
            environment={**request.environment, **command.environment},  # the owner's word stands above the job's
            read_only=[*((path, str(path)) for path in (*command.read_only, *own_path)), *files],
            checkpoint=checkpoint,
            scratch_bytes=request.limits.scratch_bytes,
            limits=self._resource_limits(),
            nice=self.config.nice,
            uid=self.uid,
            tag=self.folders.tag,
        )

    def _resource_limits(self) -> dict[str, int]:
        """Of each process, by prlimit's names. The wall limit is the task's: CPU time is the second belt."""
        limits = self.request.limits
        return {
            "cpu": (-(-limits.wall_us // 1_000_000) + 1) * (os.cpu_count() or 1),
            "data": limits.memory_bytes + limits.memory_bytes // 4,
            "as": limits.memory_bytes + ADDRESS_SLACK_BYTES,
            "fsize": max(limits.scratch_bytes, MIN_TMPFS_BYTES),
            "nproc": self.command.processes,
            "nofile": MAX_OPEN_FILES,
            "memlock": 0,
            "msgqueue": 0,
            "core": 0,
        }

    def _bounds(self) -> Bounds:
        limits = self.request.limits
        return Bounds(
            memory_bytes=limits.memory_bytes,
            wall_us=limits.wall_us,
            output_bytes=limits.output_bytes,
            stderr_bytes=limits.stderr_bytes,
            checkpoint_bytes=limits.scratch_bytes,
            disk_reserve_bytes=self.config.disk_reserve_bytes,
        )


def interpret(ending: Ending, output_bytes: int) -> tuple[int, bytes, str]:
    """(exit, output, note): the output as `BatchOutcome` has it, empty unless the program ended by itself."""
    if ending.exit < 0:
        return ending.exit, b"", ending.note
    try:
        files = read_archive(ending.archive, output_bytes - len(ending.stdout))
    except ArchiveFault as fault:
        return Exit.OUTPUT, b"", str(fault)
    return ending.exit, msgspec.msgpack.encode([ending.stdout, files]), ""


def _noted(stderr: bytes, note: str, limit_bytes: int) -> bytes:
    """The last bytes of stderr, with our own line after the program's."""
    if note:
        stderr += f"hearthmesh: {note}\n".encode()
    return stderr[-limit_bytes:] if limit_bytes else b""
