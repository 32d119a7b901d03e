"""The files a command sees: a small tree in memory, the same on every machine.

wasmtime's own WASI has no quota for a preopened folder and shows real times and inode numbers. Here the tree
is ours: /in is read-only, /out and /ckpt share one quota of bytes, entries have a limit, a checkpoint's file
reaches the disk when the guest syncs or closes it. There are no links, no times and no way out.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .outcome import is_file_name

MAX_ENTRIES = 4_096
MAX_DEPTH = 16
MAX_NAME_CHARS = 255
ENTRY_BYTES = 256
ASIDE_SUFFIX = ".new~"  # never a guest's name: "~" is not allowed in one


class Errno(Exception):
    """A WASI error number on its way to the guest."""

    SUCCESS, ACCES, BADF, EXIST, FAULT, FBIG, INVAL, IO = 0, 2, 8, 20, 21, 22, 28, 29
    ISDIR, MFILE, NAMETOOLONG, NOENT, NOSPC, NOTDIR, NOTEMPTY, NOTSUP = 31, 33, 37, 44, 51, 54, 55, 58
    ROFS, SPIPE, NOTCAPABLE = 69, 70, 76

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Quota:
    """Bytes that a task's files may hold together, with ENTRY_BYTES for each file or folder."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes

    def charge(self, size_bytes: int) -> None:
        """Raises Errno.NOSPC when the quota is used up; a negative size gives back."""
        if size_bytes > self._left:
            raise Errno(Errno.NOSPC)
        self._left -= size_bytes


class File:
    """Bytes of one file. Unlinked, it holds its quota until the last descriptor is closed."""

    def __init__(self, inode: int, content: bytearray | mmap.mmap | bytes, quota: Quota | None) -> None:
        self.inode = inode
        self.content = content
        self.opens = 0
        self.linked = True
        self.dirty = False
        self._quota = quota

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def writable(self) -> bool:
        return self._quota is not None

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.content[offset : offset + length]) if offset < len(self.content) else b""

    def write(self, offset: int, payload: bytes) -> None:
        """Raises Errno.NOSPC, and has written nothing then."""
        end = offset + len(payload)
        if end > self.size:
            self.resize(end)
        assert isinstance(self.content, bytearray)
        self.content[offset:end] = payload
        self.dirty = True

    def resize(self, size: int) -> None:
        """Cut, or grow with zeros. Raises Errno.NOSPC."""
        if self._quota is None:
            raise Errno(Errno.ROFS)
        assert isinstance(self.content, bytearray)
        self._quota.charge(size - self.size)
        if size < self.size:
            del self.content[size:]
        else:
            self.content.extend(bytes(size - self.size))
        self.dirty = True

    def release(self) -> None:
        """Give the quota back once nobody can reach the bytes."""
        if not self.linked and self.opens == 0 and self._quota is not None:
            self._quota.charge(-self.size - ENTRY_BYTES)
            self.content = bytearray()
            self._quota = None


class Folder:
    """Names to files and folders. `flat` ones take no folders; `strict_names` only plain file names."""

    def __init__(self, inode: int, writable: bool, flat: bool = False, strict_names: bool = False) -> None:
        self.inode = inode
        self.writable = writable
        self.flat = flat
        self.strict_names = strict_names
        self.entries: dict[str, File | Folder] = {}


class CheckpointFolder:
    """One task's checkpoint on this node's disk: flat, plain names, each file replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, most_bytes: int) -> dict[str, bytes]:
        """All regular files; none where nothing was saved.

        What is over the bound, or is no regular file of a plain name, is left out.
        """
        found: dict[str, bytes] = {}
        if not self.path.is_dir():
            return found
        for entry in sorted(self.path.iterdir())[:MAX_ENTRIES]:
            if not is_file_name(entry.name) or not stat.S_ISREG(entry.lstat().st_mode):
                continue
            size = entry.lstat().st_size + ENTRY_BYTES
            if size <= most_bytes:
                most_bytes -= size
                found[entry.name] = entry.read_bytes()
        return found

    def save(self, name: str, content: bytes) -> None:
        """Durable when it returns: written aside, synced, renamed, folder synced."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.path / (name + ASIDE_SUFFIX)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / name)
        self._sync()

    def rename(self, old: str, new: str) -> None:
        os.replace(self.path / old, self.path / new)
        self._sync()

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _sync(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class FileTree:
    """A task's whole view: the preopened folders by guest path, in order of descriptor (3, 4, 5)."""

    def __init__(
        self, inputs: Mapping[str, mmap.mmap | bytes], scratch_bytes: int, checkpoint: CheckpointFolder | None
    ) -> None:
        self._next_inode = 1
        self._entries = 0
        self._quota = Quota(scratch_bytes)
        self.checkpoint = checkpoint
        self.inputs = Folder(self._inode(), writable=False)
        self.output = Folder(self._inode(), writable=True, strict_names=True)
        for name in sorted(inputs):
            self.inputs.entries[name] = File(self._inode(), inputs[name], None)
        self.preopened: list[tuple[str, Folder]] = [("/in", self.inputs), ("/out", self.output)]
        if checkpoint is not None:
            self.saved = Folder(self._inode(), writable=True, flat=True, strict_names=True)
            for name, content in checkpoint.load(scratch_bytes).items():
                file = self.create(self.saved, name)
                file.write(0, content)
                file.dirty = False
            self.preopened.append(("/ckpt", self.saved))

    def output_files(self) -> Iterator[tuple[str, bytes]]:
        """Regular files at the top of /out, by name."""
        for name, entry in sorted(self.output.entries.items()):
            if isinstance(entry, File):
                yield name, bytes(entry.content)

    def find(self, folder: Folder, path: str) -> File | Folder:
        """Raises Errno: NOENT, NOTDIR, NOTCAPABLE (a path that leaves `folder`)."""
        parent, name = self.parent(folder, path)
        if name in ("", "."):
            return parent
        if name not in parent.entries:
            raise Errno(Errno.NOENT)
        return parent.entries[name]

    def parent(self, folder: Folder, path: str) -> tuple[Folder, str]:
        """The folder that holds the last component of `path`, and that component ("" for `folder` itself)."""
        if path.startswith("/"):
            raise Errno(Errno.NOTCAPABLE)
        walked, last = [folder], ""
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if last:
                below = walked[-1].entries.get(last)
                if below is None:
                    raise Errno(Errno.NOENT)
                if not isinstance(below, Folder):
                    raise Errno(Errno.NOTDIR)
                walked.append(below)
                last = ""
            if part == "..":
                if len(walked) == 1:
                    raise Errno(Errno.NOTCAPABLE)
                walked.pop()
            else:
                last = part
        if last and path.endswith("/") and isinstance(walked[-1].entries.get(last), File):
            raise Errno(Errno.NOTDIR)
        return walked[-1], last

    def create(self, folder: Folder, name: str) -> File:
        self._admit(folder, name)
        file = File(self._inode(), bytearray(), self._quota)
        folder.entries[name] = file
        return file

    def create_folder(self, folder: Folder, name: str, path: str) -> None:
        if folder.flat or path.count("/") >= MAX_DEPTH:
            raise Errno(Errno.NOTSUP)
        self._admit(folder, name)
        folder.entries[name] = Folder(self._inode(), writable=True)

    def remove(self, folder: Folder, name: str) -> None:
        """Unlink a file, or an empty folder."""
        entry = folder.entries[name]
        if not folder.writable:
            raise Errno(Errno.ROFS)
        if isinstance(entry, Folder):
            if entry.entries:
                raise Errno(Errno.NOTEMPTY)
            self._quota.charge(-ENTRY_BYTES)
        else:
            if self.is_saved(folder):
                self._on_disk(lambda checkpoint: checkpoint.remove(name))
            entry.linked = False
            entry.release()
        del folder.entries[name]
        self._entries -= 1

    def rename(self, old_folder: Folder, old: str, new_folder: Folder, new: str) -> None:
        """Files only between folders of one preopened tree; a checkpoint's rename is durable."""
        entry = old_folder.entries.get(old)
        if entry is None:
            raise Errno(Errno.NOENT)
        if not (old_folder.writable and new_folder.writable):
            raise Errno(Errno.ROFS)
        if self.is_saved(old_folder) != self.is_saved(new_folder) or isinstance(entry, Folder):
            raise Errno(Errno.NOTSUP)
        if old_folder is new_folder and old == new:
            return
        self._check_name(new_folder, new)
        replaced = new_folder.entries.get(new)
        if isinstance(replaced, Folder):
            raise Errno(Errno.ISDIR)
        if self.is_saved(new_folder):
            self.sync(entry)
            self._on_disk(lambda checkpoint: checkpoint.rename(old, new))
        if replaced is not None:
            replaced.linked = False
            replaced.release()
            self._entries -= 1
        del old_folder.entries[old]
        new_folder.entries[new] = entry

    def sync(self, file: File) -> None:
        """Put a file on the disk, if it is a checkpoint's and changed. Raises Errno: NOSPC, IO."""
        if self.checkpoint is None or not file.dirty:
            return
        name = next((name for name, entry in self.saved.entries.items() if entry is file), None)
        if name is None:
            return
        self._on_disk(lambda checkpoint: checkpoint.save(name, bytes(file.content)))
        file.dirty = False

    def is_saved(self, folder: Folder) -> bool:
        return self.checkpoint is not None and folder is self.saved

    def _on_disk(self, action: Callable[[CheckpointFolder], None]) -> None:
        assert self.checkpoint is not None
        try:
            action(self.checkpoint)
        except OSError as error:
            raise Errno(Errno.NOSPC if error.errno in (errno.ENOSPC, errno.EDQUOT) else Errno.IO) from error

    def _admit(self, folder: Folder, name: str) -> None:
        if not folder.writable:
            raise Errno(Errno.ROFS)
        self._check_name(folder, name)
        if self._entries >= MAX_ENTRIES:
            raise Errno(Errno.NOSPC)
        self._quota.charge(ENTRY_BYTES)
        self._entries += 1

    def _check_name(self, folder: Folder, name: str) -> None:
        if len(name) > MAX_NAME_CHARS:
            raise Errno(Errno.NAMETOOLONG)
        if folder.strict_names and not is_file_name(name):
            raise Errno(Errno.INVAL)

    def _inode(self) -> int:
        self._next_inode += 1
        return self._next_inode
