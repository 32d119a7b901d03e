"""Compiled modules on this node's own disk.

A compiled module is native code that wasmtime runs unchecked, so one is taken only from a folder of mode
0700 that we own, only if we wrote it (its digest guards against damage), and never from a peer.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from .outcome import ExecutionError, ExecutionFault

_DIGEST_BYTES = 32
_SUFFIX = ".native"


class CompiledCache:
    """Files named by `key`; the least recently used go when more than `max_bytes` are held."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = os.lstat(folder)
        except OSError as error:
            raise ExecutionError(ExecutionFault.UNAVAILABLE, f"cache folder {folder}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ExecutionError(ExecutionFault.UNAVAILABLE, f"cache folder {folder} is not a folder of ours")
        if stat.S_IMODE(found.st_mode) != 0o700:
            os.chmod(folder, 0o700)
            for entry in self._entries():  # somebody else could have written them
                entry.unlink(missing_ok=True)

    def load(self, key: str) -> bytes | None:
        """The compiled bytes, or None where they are absent, damaged or not ours."""
        path = self._folder / (key + _SUFFIX)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                return None
            digest, compiled = file.read(_DIGEST_BYTES), file.read()
        if hashlib.sha256(compiled).digest() != digest:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
        return compiled

    def store(self, key: str, compiled: bytes) -> None:
        """Write atomically. A full disk is no error: the module is compiled again next time."""
        if len(compiled) > self._max_bytes:
            return
        temporary = self._folder / f".{key}.{os.getpid()}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(hashlib.sha256(compiled).digest())
                file.write(compiled)
            os.replace(temporary, self._folder / (key + _SUFFIX))
            self._evict()
        except OSError:
            temporary.unlink(missing_ok=True)

    def _entries(self) -> list[Path]:
        return [entry for entry in self._folder.iterdir() if entry.name.endswith(_SUFFIX)]

    def _evict(self) -> None:
        known = []
        for entry in self._entries():
            try:
                found = entry.stat()
            except FileNotFoundError:  # another worker evicted it
                continue
            known.append((found.st_mtime_ns, found.st_size, entry))
        total = sum(size for _, size, _ in known)
        for _, size, entry in sorted(known):
            if total <= self._max_bytes:
                return
            entry.unlink(missing_ok=True)
            total -= size
