"""Checkpoints of confidential tasks: in memory while a task runs, on disk only sealed under the job's key.

They are sealed when a batch ends, however it ends; a node that is killed loses what its task saved since.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ...crypto.bounded import DecodeError, decode_bounded
from ...crypto.envelope import Envelope
from ...crypto.sealing import SealError
from ...protocol.secrecy.keys import binding_of

ENTRIES_MAX = 1_000
DEPTH_MAX = 8
CHECKPOINT_BYTES_MAX = 256 << 20
_SUFFIX = ".sealed"
_Packed = dict[Annotated[str, Meta(max_length=1024)], bytes]


def seal_checkpoints(
    envelope: Envelope, salt: bytes, memory: Path, disk: Path, first: int, count: int, limit_bytes: int
) -> None:
    """Of tasks [first, first + count): what each left in memory goes to the disk, what it did not is removed there.

    limit_bytes: of one task; what is longer is not kept. Raises OSError, ValueError (a file's name is no text).
    """
    for index in range(first, first + count):
        kept = disk / f"{index}{_SUFFIX}"
        packed = _pack(memory / str(index), min(limit_bytes, CHECKPOINT_BYTES_MAX))
        if not packed:
            kept.unlink(missing_ok=True)
            continue
        disk.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = kept.with_name(f".{kept.name}.new")
        with fresh.open("wb") as file:
            file.write(envelope.seal(msgspec.msgpack.encode(packed), binding_of(salt, "checkpoint", index)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(kept)


def open_checkpoints(envelope: Envelope, salt: bytes, memory: Path, disk: Path, first: int, count: int) -> None:
    """Before tasks [first, first + count) run: what an earlier run of them sealed lies in memory again.

    What cannot be opened is as if it were not there. Raises OSError.
    """
    if not disk.is_dir():
        return
    for index in range(first, first + count):
        try:
            sealed = (disk / f"{index}{_SUFFIX}").read_bytes()
            packed = envelope.open(sealed, binding_of(salt, "checkpoint", index))
            files = decode_bounded(packed, _Packed, max_bytes=len(packed), max_items=ENTRIES_MAX)
        except (FileNotFoundError, SealError, DecodeError):
            continue
        for name, content in files.items():
            target = memory / str(index) / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(content)


def _pack(folder: Path, limit_bytes: int) -> dict[str, bytes]:
    """Regular files below a folder that a task wrote and writes no more; nothing of one that is beyond the bounds."""
    found: dict[str, bytes] = {}
    left, entries = limit_bytes, 0
    for at, folders, names in os.walk(folder):
        place = Path(at)
        if len(place.relative_to(folder).parts) >= DEPTH_MAX:
            folders.clear()
        for name in names:
            path = place / name
            status = path.lstat()
            entries, left = entries + 1, left - status.st_size
            if entries > ENTRIES_MAX or left < 0:
                return {}
            if stat.S_ISREG(status.st_mode):
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found
