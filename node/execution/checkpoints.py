"""A task's checkpoint folder as one blob, so that another node goes on from there.

Canonical MessagePack of [[path, bytes], …], sorted by path. What comes from another node is hostile: paths stay
within the folder, and sizes, numbers and depth are bounded before anything is written.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ...crypto.bounded import DecodeError, decode_bounded
from .native_folders import MAX_CHECKPOINT_DEPTH, MAX_CHECKPOINT_ENTRIES, remove_hostile
from .wasm_files import ASIDE_SUFFIX

# Counted for each file beside its bytes, as in a task's scratch space.
ENTRY_BYTES = 256
_NEW_SUFFIX = ".incoming"
# Beside a folder that began as another node's checkpoint.
_FOREIGN_SUFFIX = ".foreign"


class CheckpointError(Exception):
    """A checkpoint that cannot be packed or taken. The text is for the log."""


def state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """(path, size, time of change) of each file; empty where there is none. Changes with each checkpoint."""
    found: list[tuple[str, int, int]] = []
    try:
        for path, entry in _files(folder):
            found.append((path, entry.st_size, entry.st_mtime_ns))
    except OSError:
        return ()  # being written just now
    return tuple(sorted(found))


def pack_folder(folder: Path, limit_bytes: int) -> bytes:
    """Regular files only. Raises CheckpointError if there is none, or more than the bound."""
    files: list[tuple[str, bytes]] = []
    left = limit_bytes
    try:
        for path, entry in _files(folder):
            left -= entry.st_size + ENTRY_BYTES
            if left < 0 or len(files) >= MAX_CHECKPOINT_ENTRIES:
                raise CheckpointError(f"more than {limit_bytes} bytes or {MAX_CHECKPOINT_ENTRIES} files")
            files.append((path, _read(folder / path, entry.st_size)))
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}") from error
    if not files:
        raise CheckpointError("there is none")
    return msgspec.msgpack.encode(sorted(files))


def unpack_folder(packed: bytes, folder: Path, limit_bytes: int) -> None:
    """Replace the folder's content. Raises CheckpointError for what is no checkpoint, OSError."""
    try:
        files = decode_bounded(packed, list[tuple[str, bytes]], max_bytes=limit_bytes + 1024)
    except DecodeError as error:
        raise CheckpointError(f"not a checkpoint: {error}") from error
    if len(files) > MAX_CHECKPOINT_ENTRIES or sum(len(content) + ENTRY_BYTES for _, content in files) > limit_bytes:
        raise CheckpointError(f"more than {limit_bytes} bytes or {MAX_CHECKPOINT_ENTRIES} files")
    paths = [path for path, _ in files]
    if len(set(paths)) != len(paths) or not all(map(_is_inside, paths)):
        raise CheckpointError("a path that leads out of the folder, or twice to one place")
    incoming = folder.with_name(folder.name + _NEW_SUFFIX)
    remove_hostile(incoming)
    try:
        incoming.mkdir(parents=True, mode=0o700)
        for path, content in files:
            target = incoming / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(target, "xb") as file:
                file.write(content)
        remove_hostile(folder)
        os.replace(incoming, folder)
    except FileExistsError as error:
        raise CheckpointError("a file that is a folder, too") from error
    except NotADirectoryError as error:
        raise CheckpointError("a file that is a folder, too") from error
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def mark_foreign(folder: Path) -> None:
    """What will be in the folder is another node's word, also after a restart. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
    folder.with_name(folder.name + _FOREIGN_SUFFIX).touch()


def drop_foreign(folders: Iterable[Path]) -> None:
    """Remove those folders that are marked. Raises OSError."""
    for folder in folders:
        mark = folder.with_name(folder.name + _FOREIGN_SUFFIX)
        if mark.exists():
            remove_hostile(folder)
            if folder.exists():
                raise OSError(errno.EBUSY, "what another node left cannot be removed")
            mark.unlink()


def put_aside(folder: Path) -> Path | None:
    """Take a folder out of its place, at once; where it is now, None if there was none. Raises OSError."""
    folder.with_name(folder.name + _FOREIGN_SUFFIX).unlink(missing_ok=True)
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.gone")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return None
    return aside


def remove_aside(aside: Path) -> None:
    """Remove what was put aside, and its job's folder if nothing else is in it."""
    remove_hostile(aside)
    with suppress(OSError):
        aside.parent.rmdir()


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") and len(part.encode()) <= 255 and "\0" not in part for part in parts)
    return plain and len(parts) <= MAX_CHECKPOINT_DEPTH


def _files(folder: Path, inside: str = "", depth: int = 1) -> Iterator[tuple[str, os.stat_result]]:
    """Links and devices are no part of a checkpoint; nor is what is too deep, or is being written aside."""
    if not folder.is_dir() or depth > MAX_CHECKPOINT_DEPTH:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name)[: MAX_CHECKPOINT_ENTRIES + 1]:
            about = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                yield from _files(folder / entry.name, f"{inside}{entry.name}/", depth + 1)
            elif stat.S_ISREG(about.st_mode) and not entry.name.endswith(ASIDE_SUFFIX):
                yield f"{inside}{entry.name}", about


def _read(path: Path, size_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        return file.read(size_bytes)
