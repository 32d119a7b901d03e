"""The images that a node keeps unpacked: each in a folder of its own, within a quota, the longest unused goes first.

Podman unpacks an archive once, as the user that containers run as; what is kept then is the image's files and a note
about it. While an image is loaded, podman has a whole copy for each layer, and some more: that alone is bounded by
the quota too, so the disk holds at most twice as much, and a copy of the archive where podman's user cannot read it.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import msgspec
import trio

from .bubblewrap import Tools, last_line
from .native_duty import Pace
from .native_folders import FolderError, SandboxFolders, free_bytes, remove_hostile
from .native_sandbox import Bounds, Ending, SandboxFailed, run_sandboxed
from .oci_archive import Image, ImageFault, check_layers, read_image
from .oci_config import OciRuntimeConfig
from .oci_enclosure import Enclosure, Loading
from .outcome import BatchRequest, ExecutionError, ExecutionFault
from .sandboxed import unavailable

LOAD_WALL_US = 900_000_000
LOAD_MEMORY_BYTES = 1 << 30
LOOK_S = 0.5
MAX_FILES = 1_000_000
_NOTE = "kept.json"  # `image.json` was that of versions that read archives less strictly
_ROOTFS = "rootfs"
_LOADING = "loading-"
_GONE = (errno.ENOENT, errno.ENOTDIR)
_CLOSED = (errno.EACCES, errno.ENAMETOOLONG)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class _Kept:
    image: Image
    folder: Path
    size_bytes: int
    used_at: int  # counts uses, so that the longest unused is known
    users: int = 0


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """image: what the archive said.  rootfs: its files."""

    image: Image
    rootfs: Path


class ImageStore:
    """The images of one node. folders: where they lie, in `images` of its home."""

    def __init__(
        self, config: OciRuntimeConfig, tools: Tools, folders: SandboxFolders, enclosure: Enclosure, pace: Pace
    ) -> None:
        self._config = config
        self._tools = tools
        self._folders = folders
        self._enclosure = enclosure
        self._pace = pace
        self._root = folders.home / "images"
        self._kept: dict[str, _Kept] = {}
        self._loading = trio.Lock()
        self._uses = 0

    def open(self) -> None:
        """Find what an earlier run has loaded; remove what it had not finished, and what is not allowed any more.
        Blocks. Raises OSError."""
        self._root.mkdir(mode=0o711, exist_ok=True)
        notes = []
        for folder in sorted(self._root.iterdir()):
            try:
                note = folder / _NOTE
                image, size_bytes = msgspec.json.decode(note.read_bytes(), type=tuple[Image, int])
                notes.append((note.stat().st_mtime_ns, image, folder, size_bytes))
            except (OSError, ValueError, msgspec.MsgspecError):
                remove_hostile(folder)
        for _, image, folder, size_bytes in sorted(notes, key=lambda each: each[0]):
            if image.digest in self._config.images and folder.name == _folder_name(image.digest):
                self._kept[image.digest] = _Kept(image, folder, size_bytes, self._next_use())
            else:
                remove_hostile(folder)

    @property
    def size_bytes(self) -> int:
        """Of all images kept."""
        return sum(kept.size_bytes for kept in self._kept.values())

    def kept(self) -> Collection[str]:
        """The digests of those that need not be loaded."""
        return tuple(self._kept)

    @asynccontextmanager
    async def using(self, request: BatchRequest) -> AsyncIterator[LoadedImage]:
        """The image that the request names, which stays while it is used; loaded from its archive if it must be.

        Raises ExecutionError: INVALID_MODULE where the archive is no image or another one, UNAVAILABLE where this
        node has no room or podman fails. Raises FolderError, SandboxFailed.
        """
        if request.entry in self._kept:
            kept = self._use(request.entry)
        else:
            async with self._loading:
                if request.entry not in self._kept:
                    self._kept[request.entry] = await self._load(request)
                kept = self._use(request.entry)
        try:
            yield LoadedImage(kept.image, kept.folder / _ROOTFS)
        finally:
            kept.users -= 1

    def _use(self, digest: str) -> _Kept:
        kept = self._kept[digest]
        kept.users += 1
        kept.used_at = self._next_use()
        with suppress(OSError):  # only tells later runs which was used last
            os.utime(kept.folder / _NOTE)
        return kept

    async def _load(self, request: BatchRequest) -> _Kept:
        image = await self._read(request)
        try:
            folder = Path(tempfile.mkdtemp(prefix=_LOADING, dir=self._root))
        except OSError as error:
            raise FolderError(f"cannot make a folder for an image: {error.strerror}") from error
        try:
            size_bytes = await self._unpack(request, image, folder)
            final = self._root / _folder_name(image.digest)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._keep, image, folder, final, size_bytes)
            return _Kept(image, final, size_bytes, self._next_use())
        except OSError as error:
            raise FolderError(f"cannot keep an image: {error.strerror}") from error
        finally:
            with trio.CancelScope(shield=True), suppress(OSError):
                await trio.to_thread.run_sync(remove_hostile, folder)

    async def _read(self, request: BatchRequest) -> Image:
        """Raises ExecutionError."""
        image = await self._in_thread(read_image, request.program)
        if image.digest != request.entry:
            detail = f"the archive holds {image.digest}, and the job names {request.entry}"
            raise ExecutionError(ExecutionFault.INVALID_MODULE, detail)
        await self._in_thread(check_layers, request.program, self._look)
        return image

    def _look(self, unpacked_bytes: int) -> None:
        """In the thread that unpacks layers to check them. Raises ExecutionError, trio.Cancelled."""
        trio.from_thread.check_cancelled()
        if unpacked_bytes > self._config.quota_bytes:
            raise unavailable(f"the image needs more than the {self._config.quota_bytes} bytes for images")

    async def _in_thread(self, read: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """What is read of an archive. Raises ExecutionError."""
        try:
            return await trio.to_thread.run_sync(read, *arguments)
        except ImageFault as fault:
            raise ExecutionError(ExecutionFault.INVALID_MODULE, str(fault)) from fault
        except OSError as error:
            raise unavailable(f"the image's archive cannot be read: {error.strerror}") from error

    async def _unpack(self, request: BatchRequest, image: Image, folder: Path) -> int:
        """The image's files are in the folder's `rootfs`. Returns what they take on the disk. Raises as `using`."""
        uid = self._enclosure.uid
        self._check_disk(request.program)
        folder.chmod(0o711)
        store = folder / "store"
        for path in (store, store / "tmp"):
            path.mkdir(mode=0o700)
            if uid is not None:
                os.chown(path, uid, uid)
        staged = await trio.to_thread.run_sync(self._folders.stage, {"image.tar": request.program}, uid)
        try:
            surroundings = Loading(self._enclosure, store, staged.binds[0], image.config)
            bounds = Bounds(LOAD_MEMORY_BYTES, LOAD_WALL_US, 1 << 20, 4096, 0, 0)
            ending, stopped = await self._run(surroundings, bounds, store)
        finally:
            staged.close()
        if stopped:
            raise unavailable(f"the image could not be loaded: {stopped}")
        assert ending is not None
        if ending.exit < 0:
            raise unavailable(f"the image could not be loaded: {ending.note or 'podman was ended'}")
        if ending.exit != 0:
            raise ExecutionError(
                ExecutionFault.INVALID_MODULE, f"podman takes no such image: {last_line(ending.stderr)}"
            )
        size_bytes, _ = await trio.to_thread.run_sync(_measure, store / _ROOTFS)
        await self._make_room(size_bytes)
        return size_bytes

    def _check_disk(self, archive: Path) -> None:
        """Before the archive may be copied for podman's user. Raises ExecutionError, OSError."""
        if free_bytes(self._root) - archive.stat().st_size < self._config.disk_reserve_bytes:
            raise unavailable("the image could not be loaded: the node's disk is full")

    async def _run(self, surroundings: Loading, bounds: Bounds, store: Path) -> tuple[Ending | None, str]:
        """The ending, or why it was stopped before: for want of room. Raises SandboxFailed."""
        ending, stopped, failure = None, "", None
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal stopped
                while not stopped:
                    await trio.sleep(LOOK_S)
                    stopped = await self._want_of_room(store)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                ending = await run_sandboxed(self._tools, surroundings, b"", bounds, self._pace)
                stopped = stopped or await self._want_of_room(store)
            except SandboxFailed as error:  # a nursery would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return ending, stopped

    async def _want_of_room(self, store: Path) -> str:
        """Why an image that is being unpacked cannot have what it takes; "" if it can."""
        try:
            size_bytes, files = await trio.to_thread.run_sync(_measure, store)
            left_bytes = free_bytes(store)
        except OSError as error:
            if error.errno in _CLOSED:
                return "it has folders that the node cannot look into"
            return f"its disk: {error.strerror}"
        if files > MAX_FILES:
            return f"more than {MAX_FILES} files"
        if left_bytes < self._config.disk_reserve_bytes:
            return "the node's disk is full"
        if size_bytes > self._config.quota_bytes:
            return f"it needs more than the {self._config.quota_bytes} bytes for images"
        return ""

    async def _make_room(self, size_bytes: int) -> None:
        """Remove the longest unused until so much more may be kept. Raises ExecutionError if all are in use."""
        while size_bytes + self.size_bytes > self._config.quota_bytes:
            idle = [kept for kept in self._kept.values() if not kept.users]
            if not idle:
                raise unavailable("all images that are kept are in use, and there is no room for another")
            oldest = min(idle, key=lambda kept: kept.used_at)
            del self._kept[oldest.image.digest]
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(remove_hostile, oldest.folder)

    def _keep(self, image: Image, folder: Path, final: Path, size_bytes: int) -> None:
        """The note says that all of the image is there, so all of it is on the disk before. Blocks. Raises OSError."""
        remove_hostile(final)
        kept = folder / "kept"
        kept.mkdir(mode=0o711)
        os.rename(folder / "store" / _ROOTFS, kept / _ROOTFS)
        os.sync()
        with (kept / _NOTE).open("wb") as note:
            note.write(msgspec.json.encode((image, size_bytes)))
            note.flush()
            os.fsync(note.fileno())
        os.rename(kept, final)

    def _next_use(self) -> int:
        self._uses += 1
        return self._uses


def _folder_name(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _measure(folder: Path) -> tuple[int, int]:
    """(bytes on disk, entries) of a folder that is being written to: what went meanwhile counts nothing.
    Raises OSError: EACCES or ENAMETOOLONG where something cannot be looked into."""
    size_bytes = entries = 0
    stack = [folder]
    while stack:
        with _passing_over_what_went(), os.scandir(stack.pop()) as found:
            for entry in found:
                with _passing_over_what_went():
                    size_bytes += entry.stat(follow_symlinks=False).st_blocks * 512
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(Path(entry.path))
    return size_bytes, entries


@contextmanager
def _passing_over_what_went() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
