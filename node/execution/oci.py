"""The container runtime: images that the owner listed by digest, each task in a podman container of its own.

Needs what the native runtime needs, and podman 4, crun and conmon; no registry, no daemon, no subordinate ids. As
there, fuel is always 0 and `cpu_us` is the measure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from .bubblewrap import Tools, kill_orphans, last_line
from .native_batch import SandboxedBatch, TaskFolders, interpret, process_limits
from .native_folders import FolderError, SandboxFolders
from .native_sandbox import Ending, SandboxFailed
from .oci_config import OciRuntimeConfig
from .oci_enclosure import (
    NOT_STARTED,
    Container,
    Enclosure,
    find_podman,
    host_rootfs,
    image_rootfs,
    write_settings,
)
from .oci_images import ImageStore
from .outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit
from .sandboxed import PROBE_LIMITS, SandboxedExecutor, check_probe, unavailable

# Podman's words for a program that is not in the image, or no program.
_NO_PROGRAM = (126, 127)
_BASE = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class ContainerTask:
    """A container of one image. See `Container`."""

    enclosure: Enclosure
    rootfs: Sequence[str]
    environment: Mapping[str, str]
    command: Sequence[str]
    processes: int

    def surroundings(
        self, request: BatchRequest, arguments: Sequence[str], folders: TaskFolders, uid: int | None
    ) -> Container:
        """See `TaskMaker`."""
        return Container(
            enclosure=self.enclosure,
            rootfs=self.rootfs,
            command=arguments or self.command,
            environment={**_BASE, **self.environment, **request.environment},
            read_only=folders.files,
            checkpoint=folders.checkpoint,
            scratch_bytes=request.limits.scratch_bytes,
            limits=process_limits(request.limits, self.processes),
        )

    def interpret(self, ending: Ending, output_bytes: int) -> tuple[int, bytes, str]:
        """See `TaskMaker`."""
        if ending.archive.startswith(NOT_STARTED):
            if ending.exit not in _NO_PROGRAM:
                raise SandboxFailed(f"podman: {last_line(ending.stderr)}")
            return Exit.MISSING, b"", "it could not be started in the image"
        return interpret(ending, output_bytes)


class OciExecutor(SandboxedExecutor):
    """Runs batches of container tasks. state: see `SandboxedExecutor`; its `images` are the images kept."""

    def __init__(self, config: OciRuntimeConfig, state: Path) -> None:
        super().__init__("oci", state, config.slots, config.uid if os.geteuid() == 0 else None)
        self._config = config
        self._images: ImageStore | None = None
        self._enclosure: Enclosure | None = None

    @property
    def images(self) -> ImageStore | None:
        """None until it is known that containers run here."""
        return self._images

    def forget_secrets(self, job_id: bytes) -> None:
        """See `Executor.forget_secrets`: it runs no confidential jobs."""

    async def run_on_host(self, request: BatchRequest) -> BatchOutcome:
        """One batch in a container of the machine's own programs instead of an image's: for trials.
        Raises ExecutionError, FolderError, SandboxFailed."""
        tools, folders = await self._set_up()
        return await self._batch(request, self._trial(), tools, folders).run()

    def _check(self, request: BatchRequest) -> None:
        if request.private is not None:
            raise ExecutionError(ExecutionFault.INVALID_MODULE, "a confidential job has no image: it would be on disks")
        if request.entry not in self._config.images:
            raise unavailable(f"the image {request.entry[:80]!r} is not allowed here")
        if request.limits.memory_bytes > self._config.memory_bytes:
            raise unavailable(
                f"containers get at most {self._config.memory_bytes} bytes of memory here, "
                f"and the job wants {request.limits.memory_bytes}"
            )

    async def _probe(self) -> tuple[Tools, SandboxFolders]:
        find_podman()
        tools, folders = Tools.find(), SandboxFolders(self._state, self._uid_base)
        kill_orphans(folders.tag)
        await trio.to_thread.run_sync(folders.clear)
        settings = folders.home / "podman"
        enclosure = self._enclosure = Enclosure(settings, self._config.nice, self._uid_base, folders.tag)
        images = ImageStore(self._config, tools, folders, enclosure, self._pace)
        try:
            await trio.to_thread.run_sync(write_settings, settings)
            await trio.to_thread.run_sync(images.open)
        except OSError as error:
            raise FolderError(f"{folders.home}: {error.strerror}") from error
        request = BatchRequest(
            *(bytes(32), "oci", "command", Path(), b"", 0, 1, bytes(32)),
            arguments=(Tools.locate("true"),),
            limits=PROBE_LIMITS,
        )
        outcome = await self._batch(request, self._trial(), tools, folders).run()
        check_probe("`true` in a container", outcome)
        self._images = images
        return tools, folders

    async def _run_batch(self, request: BatchRequest, tools: Tools, folders: SandboxFolders, slot: int) -> BatchOutcome:
        assert self._images is not None
        async with self._images.using(request) as loaded:
            environment = dict(pair.split("=", 1) for pair in loaded.image.environment if "=" in pair)
            if not (request.arguments or loaded.image.command):
                raise ExecutionError(ExecutionFault.INVALID_MODULE, "the image has no command, and the job names none")
            task = self._task(image_rootfs(loaded.rootfs), environment, loaded.image.command)
            return await self._batch(request, task, tools, folders).run()

    def _trial(self) -> ContainerTask:
        assert self._enclosure is not None
        return self._task(host_rootfs(self._enclosure.settings), {}, ())

    def _task(self, rootfs: Sequence[str], environment: Mapping[str, str], command: Sequence[str]) -> ContainerTask:
        assert self._enclosure is not None
        return ContainerTask(self._enclosure, rootfs, environment, command, self._config.processes)

    def _batch(
        self, request: BatchRequest, task: ContainerTask, tools: Tools, folders: SandboxFolders
    ) -> SandboxedBatch:
        reserve_bytes = self._config.disk_reserve_bytes
        return SandboxedBatch(request, task, tools, folders, self._uid_base, self._pace, reserve_bytes)
