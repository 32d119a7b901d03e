"""The native runtime: commands that the owner listed, each task in a bubblewrap sandbox of its own.

Needs Linux with user namespaces, bubblewrap, util-linux and GNU tar. The work of a program has no exact count
here, so fuel is always 0 and `cpu_us` is the measure.
"""

from __future__ import annotations

import os
from pathlib import Path

import trio

from .bubblewrap import Tools, kill_orphans
from .native_batch import NativeTask, SandboxedBatch
from .native_config import NativeCommand, NativeRuntimeConfig
from .native_folders import SandboxFolders
from .outcome import BatchOutcome, BatchRequest
from .sandboxed import PROBE_LIMITS, SandboxedExecutor, check_probe, unavailable


class NativeExecutor(SandboxedExecutor):
    """Runs native batches. state: see `SandboxedExecutor`."""

    def __init__(self, config: NativeRuntimeConfig, state: Path) -> None:
        super().__init__("native", state, config.slots, config.uid_base if os.geteuid() == 0 else None)
        self._config = config

    def commands(self) -> tuple[str, ...]:
        """The names that jobs may use here: those whose program is there."""
        return tuple(name for name, command in sorted(self._config.commands.items()) if _is_program(command.path))

    def forget_secrets(self, job_id: bytes) -> None:
        """See `Executor.forget_secrets`: each task's processes end with it."""

    def _check(self, request: BatchRequest) -> None:
        command = self._config.commands.get(request.entry)
        if command is None:
            offered = ", ".join(sorted(self._config.commands)) or "none"
            raise unavailable(f"the command {request.entry[:80]!r} is not offered here (offered: {offered})")
        if not _is_program(command.path):
            raise unavailable(f"{command.path} is not a program on this node")
        if request.limits.memory_bytes > command.memory_bytes:
            raise unavailable(
                f"{request.entry} gets at most {command.memory_bytes} bytes of memory here, "
                f"and the job wants {request.limits.memory_bytes}"
            )
        for name in request.environment:
            if name not in command.job_environment:
                raise unavailable(f"jobs may not set the variable {name[:80]!r} for {request.entry} here")

    async def _probe(self) -> tuple[Tools, SandboxFolders]:
        tools, folders = Tools.find(), SandboxFolders(self._state, self._uid_base)
        kill_orphans(folders.tag)
        await trio.to_thread.run_sync(folders.clear)
        true = NativeCommand(Path(Tools.locate("true")))
        request = BatchRequest(bytes(32), "native", "command", Path(), b"", 0, 1, bytes(32), limits=PROBE_LIMITS)
        outcome = await self._batch(request, true, tools, folders, slot=0).run()
        check_probe("a sandboxed `true`", outcome)
        return tools, folders

    async def _run_batch(self, request: BatchRequest, tools: Tools, folders: SandboxFolders, slot: int) -> BatchOutcome:
        return await self._batch(request, self._config.commands[request.entry], tools, folders, slot).run()

    def _batch(
        self, request: BatchRequest, command: NativeCommand, tools: Tools, folders: SandboxFolders, slot: int
    ) -> SandboxedBatch:
        uid = None if self._uid_base is None else self._uid_base + slot
        maker = NativeTask(command, self._config.nice, folders.tag)
        return SandboxedBatch(request, maker, tools, folders, uid, self._pace, self._config.disk_reserve_bytes)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
