"""One batch of sandboxed tasks: each task's sandbox, and what its ending means."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
import trio

from .bubblewrap import MIN_TMPFS_BYTES, Sandbox, Surroundings, Tools
from .native_archive import ArchiveFault, read_archive
from .native_config import NativeCommand
from .native_duty import Pace
from .native_folders import SandboxFolders, remove_hostile
from .native_sandbox import Bounds, Ending, lack_of, run_sandboxed
from .outcome import BatchOutcome, BatchRequest, Exit, Limits

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_OPEN_FILES = 256  # per process
ADDRESS_SLACK_BYTES = 1 << 30  # what programs map and never touch: libraries, thread stacks, malloc arenas


@dataclass(frozen=True, slots=True)
class TaskFolders:
    """What one task has of the host's disk. files: (host path, path inside)."""

    files: Sequence[tuple[Path, str]]
    checkpoint: Path | None


class TaskMaker(Protocol):
    """How a runtime surrounds its tasks."""

    def surroundings(
        self, request: BatchRequest, arguments: Sequence[str], folders: TaskFolders, uid: int | None
    ) -> Surroundings:
        """Of one task. arguments: the job's, with what stands for the task filled in."""
        ...

    def interpret(self, ending: Ending, output_bytes: int) -> tuple[int, bytes, str]:
        """(exit, output, note): the output as `BatchOutcome` has it, empty unless the program ended by itself.
        Raises SandboxFailed."""
        ...


@dataclass(frozen=True, slots=True)
class NativeTask:
    """A program of the owner's list, in a sandbox. nice: 0 … 19.  tag: names the node's sandboxes."""

    command: NativeCommand
    nice: int
    tag: str

    def surroundings(
        self, request: BatchRequest, arguments: Sequence[str], folders: TaskFolders, uid: int | None
    ) -> Sandbox:
        """See `TaskMaker`."""
        command = self.command
        own_path = [] if command.path.is_relative_to("/usr") else [command.path]
        return Sandbox(
            argv=[str(command.path), *command.arguments, *arguments],
            environment={**request.environment, **command.environment},  # the owner's word stands above the job's
            read_only=[*((path, str(path)) for path in (*command.read_only, *own_path)), *folders.files],
            checkpoint=folders.checkpoint,
            scratch_bytes=request.limits.scratch_bytes,
            limits={
                **process_limits(request.limits, command.processes),
                "as": request.limits.memory_bytes + ADDRESS_SLACK_BYTES,
            },
            nice=self.nice,
            uid=uid,
            tag=self.tag,
        )

    def interpret(self, ending: Ending, output_bytes: int) -> tuple[int, bytes, str]:
        """See `TaskMaker`."""
        return interpret(ending, output_bytes)


def process_limits(limits: Limits, processes: int) -> Mapping[str, int]:
    """Of each process, by prlimit's names. The wall limit is the task's: CPU time is the second belt."""
    return {
        "cpu": (-(-limits.wall_us // 1_000_000) + 1) * (os.cpu_count() or 1),
        "data": limits.memory_bytes + limits.memory_bytes // 4,
        "fsize": max(limits.scratch_bytes, MIN_TMPFS_BYTES),
        "nproc": processes,
        "nofile": MAX_OPEN_FILES,
        "memlock": 0,
        "msgqueue": 0,
        "core": 0,
    }


@dataclass(frozen=True, slots=True)
class SandboxedBatch:
    """A batch on its slot. uid: whom its tasks run as, None = the node's own user.  disk_reserve_bytes: a task with
    a checkpoint folder is stopped when its disk has less left."""

    request: BatchRequest
    maker: TaskMaker
    tools: Tools
    folders: SandboxFolders
    uid: int | None
    pace: Pace
    disk_reserve_bytes: int

    async def run(self) -> BatchOutcome:
        """Run task after task. Raises FolderError and SandboxFailed.

        Where this machine fails after some tasks had ended, these stay: the rest is given back, and begins elsewhere or
        here.
        """
        outcome = BatchOutcome(self.request.first, [], [], {}, [], [])
        request = self.request
        staged = await trio.to_thread.run_sync(self.folders.stage, request.files, self.uid, request.private)
        try:
            for offset in range(self.request.count):
                try:
                    await self._run_task(offset, staged.binds, outcome)
                except Exception as error:  # boundary: what this machine lacks ends the batch, a bug of ours does not
                    reason = lack_of(error, request.runtime)
                    if reason is None or not outcome.exits:
                        raise
                    if request.private is not None:
                        reason = type(error).__name__  # the sandbox's words may name a confidential job's files
                    log.warning("batch.cut-short", job=request.job_id.hex()[:16], ran=offset, reason=reason)
                    outcome.give_back(request.count)
                    break
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
        arguments = [argument.replace("{index}", str(index)) for argument in request.arguments]
        sandbox = self.maker.surroundings(request, arguments, TaskFolders(files, checkpoint), self.uid)
        ending = await run_sandboxed(self.tools, sandbox, stdin, self._bounds(), self.pace)
        code, output, note = self.maker.interpret(ending, request.limits.output_bytes)
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

    def _bounds(self) -> Bounds:
        limits = self.request.limits
        return Bounds(
            memory_bytes=limits.memory_bytes,
            wall_us=limits.wall_us,
            output_bytes=limits.output_bytes,
            stderr_bytes=limits.stderr_bytes,
            checkpoint_bytes=limits.scratch_bytes,
            disk_reserve_bytes=self.disk_reserve_bytes,
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
