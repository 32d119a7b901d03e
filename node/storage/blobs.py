"""The blob store: immutable bytes under their SHA-256, within a quota, safe against kills and power cuts."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import structlog
import trio

from .blob_index import BlobEntry, BlobIndex, footprint_bytes
from .errors import BlobMismatch, BlobMissing, StorageFull
from .files import as_typed, free_bytes, sync_folder, typed_errors

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

DIGEST_BYTES = 32
DEFAULT_MIN_FREE_BYTES = 256 << 20
# Reads and writes up to this size take less time than the 50-80 us of a hop to another thread and back.
INLINE_BYTES = 64 << 10
# One `read` returns no more than this; what is larger is streamed from `open`.
MAX_READ_BYTES = 256 << 20
VERIFY_CHUNK_BYTES = 1 << 20
# A file's time is brought up to date only when it is older than this: the order of use survives a restart
# roughly, and reading costs no writes.
USE_GRAIN_S = 3600.0
# Damaged files that are kept for a look at them; they are not part of the quota.
MAX_DAMAGED_KEPT = 16
# What bounds the room in a store, as people are told.
QUOTA = "its quota"

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class BlobUsage:
    """Bytes are whole blocks, as the quota counts them."""

    quota_bytes: int
    pinned_bytes: int
    idle_bytes: int
    reserved_bytes: int
    blobs: int


class BlobStore:
    """Blobs under `root`: `sha256/<2 hex>/<64 hex>.<size>`, `tmp/` and `damaged/`.

    Every method may be called from any thread and blocks for as long as the disk takes; the `async` ones do
    what is slow in a worker thread. Only idle blobs are evicted, the least recently used first, and only
    when a new one would break the quota.

    Pins are kept in memory. Whoever opens the store pins what the journal says is needed (open leases,
    results not yet acknowledged, jobs held as a replica) before the first `put_bytes`, `writer` or
    `reserve`: until then everything is idle.

    `notices` holds what the opening found wrong, one line each.
    """

    def __init__(
        self,
        root: Path,
        quota_bytes: int,
        *,
        min_free_bytes: int = DEFAULT_MIN_FREE_BYTES,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.root = root
        self.notices: list[str] = []
        self._min_free_bytes = min_free_bytes
        self._now_s = now_s
        self._guard = threading.Lock()
        self._index = BlobIndex(quota_bytes)
        self._numbers = itertools.count()
        self._shards = root / "sha256"
        self._tmp = root / "tmp"
        self._damaged = root / "damaged"
        with typed_errors(root):
            self._make_folders()
            self._remove_leftovers()
            self._scan()

    def put_bytes(self, blob: bytes | memoryview, *, durable: bool = True) -> bytes:
        """Store `blob` and return its digest; nothing is written if it is here already.

        durable: on disk even after a power cut, when this returns.
        Raises QuotaExceeded, StorageFull or StorageFailed, and leaves nothing behind then.
        """
        digest = hashlib.sha256(blob).digest()
        if self._keep_existing(digest, durable):
            return digest
        with BlobWriter(self, durable=durable, reservation=self.reserve(len(blob)), hashed=digest) as writer:
            writer.write(blob)
            return writer.finish()

    def writer(
        self,
        *,
        expected_digest: bytes | None = None,
        expected_size_bytes: int | None = None,
        reservation: Reservation | None = None,
        durable: bool = True,
    ) -> BlobWriter:
        """A blob that arrives in pieces: `with store.writer(...) as w: w.write(...); digest = w.finish()`.

        What differs from the expectation raises BlobMismatch, at the first byte too many. With an expected
        size, or a `reservation` (which the writer takes over), room is certain; without, it is claimed as the
        blob grows. Raises QuotaExceeded or StorageFull.
        """
        if reservation is None and expected_size_bytes is not None:
            reservation = self.reserve(expected_size_bytes)
        return BlobWriter(
            self,
            durable=durable,
            reservation=reservation or Reservation(self),
            expected_digest=expected_digest,
            expected_size_bytes=expected_size_bytes,
        )

    def reserve(self, size_bytes: int) -> Reservation:
        """Make and keep room for one blob, evicting idle ones if need be.

        Raises QuotaExceeded if the blobs in use leave too little, StorageFull if the disk would be left with
        less than its floor; nothing is evicted then.
        """
        reservation = Reservation(self)
        reservation.grow(size_bytes)
        return reservation

    def has(self, digest: bytes) -> bool:
        with self._guard:
            return digest in self._index

    def size_bytes(self, digest: bytes) -> int:
        """Raises BlobMissing."""
        with self._guard:
            return self._index.entry(digest).size_bytes

    def path(self, digest: bytes) -> Path:
        """The blob's read-only file. Hold a pin while it is used. Raises BlobMissing."""
        return self._file(digest, self._use(digest).size_bytes)

    def open(self, digest: bytes) -> BinaryIO:
        """The blob as a file object, which stays readable even if the blob is evicted. Raises BlobMissing."""
        path = self.path(digest)
        try:
            return open(path, "rb")
        except FileNotFoundError:
            self._lost(digest)
            raise BlobMissing(digest) from None
        except OSError as error:
            raise as_typed(error, path, 0) from error

    def read(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """`length` bytes from `offset`, or fewer at the blob's end; at most MAX_READ_BYTES.

        Raises BlobMissing, ValueError.
        """
        size_bytes = self.size_bytes(digest)
        if offset < 0 or (length is not None and length < 0):
            raise ValueError(f"offset {offset}, length {length}")
        wanted = max(0, size_bytes - offset) if length is None else min(length, max(0, size_bytes - offset))
        if wanted > MAX_READ_BYTES:
            raise ValueError(f"{wanted} bytes in one read, the limit is {MAX_READ_BYTES}")
        with self.open(digest) as file, typed_errors(self.root):
            part = os.pread(file.fileno(), wanted, offset)
        if len(part) != wanted:
            self._set_aside(digest, "it was cut short")
            raise BlobMissing(digest)
        return part

    def verify(self, digest: bytes) -> bool:
        """Read the blob and compare it with its name; a damaged one is set aside and reported, its pins stay.

        Raises BlobMissing.
        """
        hasher = hashlib.sha256()
        with self.open(digest) as file, typed_errors(self.root):
            while part := file.read(VERIFY_CHUNK_BYTES):
                hasher.update(part)
        if hasher.digest() == digest:
            return True
        self._set_aside(digest, "its content does not match its digest")
        return False

    def discard(self, digest: bytes) -> bool:
        """Remove a blob that is of no more use. False, and nothing done, if it is pinned or not here."""
        with self._guard:
            if digest not in self._index or self._index.is_pinned(digest):
                return False
            self._unlink(digest, self._index.drop(digest))
            return True

    def digests(self) -> list[bytes]:
        with self._guard:
            return self._index.digests()

    def usage(self) -> BlobUsage:
        with self._guard:
            index = self._index
            return BlobUsage(index.quota_bytes, index.pinned_bytes, index.idle_bytes, index.reserved_bytes, len(index))

    def room(self) -> tuple[int, str]:
        """Bytes that can still be kept, all idle blobs evicted, and what bounds them: the quota or the disk.

        The disk's number may be below 0. Raises StorageFailed.
        """
        with self._guard:
            index = self._index
            quota = index.quota_bytes - index.pinned_bytes - index.reserved_bytes
            with typed_errors(self.root):
                disk = free_bytes(self.root) - index.reserved_bytes - self._min_free_bytes
        return (quota, QUOTA) if quota < disk else (disk, "the disk's free space")

    def pin(self, digest: bytes, owner: bytes) -> bool:
        """Keep the blob from eviction until `unpin`, once per call. False if it has yet to arrive."""
        with self._guard:
            self._index.pin(digest, owner)
            return digest in self._index

    def unpin(self, digest: bytes, owner: bytes) -> None:
        """Take one pin back. Raises ValueError if `owner` has none on this blob."""
        with self._guard:
            self._index.unpin(digest, owner)

    def unpin_owner(self, owner: bytes) -> int:
        """Take back all pins of `owner`. Returns on how many blobs it had some."""
        with self._guard:
            return self._index.unpin_owner(owner)

    def take_back(self, owner: bytes, before: Container[bytes]) -> int:
        """As `unpin_owner`, and remove what nobody else pins, but for what was here before. Returns how many went."""
        with self._guard:
            owned = self._index.owned(owner)
            self._index.unpin_owner(owner)
        return sum(self.discard(digest) for digest in owned if digest not in before)

    async def put_bytes_async(self, blob: bytes | memoryview, *, durable: bool = True) -> bytes:
        """As `put_bytes`, in a thread where it would hold the loop up."""
        if not durable and len(blob) <= INLINE_BYTES:
            return self.put_bytes(blob, durable=False)
        return await trio.to_thread.run_sync(partial(self.put_bytes, blob, durable=durable))

    async def read_async(self, digest: bytes, offset: int = 0, length: int | None = None) -> bytes:
        """As `read`, in a thread where it would hold the loop up."""
        wanted = self.size_bytes(digest) - offset if length is None else length
        if wanted <= INLINE_BYTES:
            return self.read(digest, offset, length)
        return await trio.to_thread.run_sync(self.read, digest, offset, length)

    async def verify_async(self, digest: bytes) -> bool:
        """As `verify`, in a thread."""
        return await trio.to_thread.run_sync(self.verify, digest)

    # Below: for this module's writers and reservations.

    def _claim(self, cost_bytes: int) -> None:
        """Reserve `cost_bytes` more, and remove the files that had to make room."""
        with self._guard:
            # Evicted blobs would add to this, but a disk that full is somebody else's: leave the floor alone.
            free = free_bytes(self.root) - self._index.reserved_bytes - self._min_free_bytes
            if cost_bytes > free:
                raise StorageFull(self.root, cost_bytes, max(0, free))
            for digest, entry in self._index.reserve(cost_bytes):
                self._unlink(digest, entry)

    def _release(self, cost_bytes: int) -> None:
        with self._guard:
            self._index.release(cost_bytes)

    def _temporary(self) -> Path:
        return self._tmp / f"{next(self._numbers)}"

    def _keep_existing(self, digest: bytes, durable: bool) -> bool:
        """True if the blob is here, and as safe as asked for."""
        try:
            entry = self._use(digest)
        except BlobMissing:
            return False
        if durable and not entry.durable:
            with typed_errors(self.root):
                self._settle(digest, entry)
        return self.has(digest)

    def _adopt(self, temporary: Path, digest: bytes, size_bytes: int, reservation: Reservation, durable: bool) -> None:
        """Move a finished (and, if `durable`, synced) file to its place; the reservation becomes the blob.

        If an equal blob is there, the file goes away and that one is made as safe as asked for.
        """
        path = self._file(digest, size_bytes)
        with self._guard:
            reservation.close_locked(self._index)
            known = self._index.use(digest) if digest in self._index else None
            if known is None:
                if not path.parent.exists():
                    path.parent.mkdir(mode=0o700)
                    sync_folder(self._shards)
                os.replace(temporary, path)
                entry = BlobEntry(size_bytes, self._now_s(), durable=False)
                self._index.add(digest, entry)
            else:
                os.unlink(temporary)
        if known is not None:
            if durable and not known.durable:
                self._settle(digest, known)
        elif durable:
            sync_folder(path.parent)
            entry.durable = True

    def _settle(self, digest: bytes, entry: BlobEntry) -> None:
        """Put the file and its name on disk; a blob that was evicted meanwhile is left evicted."""
        path = self._file(digest, entry.size_bytes)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._lost(digest)
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
        entry.durable = True

    def _use(self, digest: bytes) -> BlobEntry:
        with self._guard:
            entry = self._index.use(digest)
            now_s = self._now_s()
            if now_s - entry.used_s < USE_GRAIN_S:
                return entry
            entry.used_s = now_s
            try:
                os.utime(self._file(digest, entry.size_bytes), (now_s, now_s))
            except OSError as error:
                log.debug("blob.time_not_kept", digest=digest.hex(), reason=error.strerror)
            return entry

    def _file(self, digest: bytes, size_bytes: int) -> Path:
        name = digest.hex()
        return self._shards / name[:2] / f"{name}.{size_bytes}"

    def _unlink(self, digest: bytes, entry: BlobEntry) -> None:
        try:
            os.unlink(self._file(digest, entry.size_bytes))
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("blob.not_removed", digest=digest.hex(), reason=error.strerror)

    def _lost(self, digest: bytes) -> None:
        """Drop a blob whose file was removed by somebody else."""
        with self._guard:
            if digest in self._index:
                entry = self._index.entry(digest)
                if not self._file(digest, entry.size_bytes).exists():
                    self._index.drop(digest)
                    log.error("blob.lost", digest=digest.hex())

    def _set_aside(self, digest: bytes, reason: str) -> None:
        with self._guard:
            if digest in self._index:
                entry = self._index.drop(digest)
                self._move_to_damaged(self._file(digest, entry.size_bytes))
        log.error("blob.damaged", digest=digest.hex(), reason=reason)

    def _move_to_damaged(self, path: Path) -> None:
        try:
            os.replace(path, self._damaged / path.name)
        except FileNotFoundError:
            return
        kept = sorted(self._damaged.iterdir(), key=lambda file: file.stat().st_ctime_ns)
        for file in kept[:-MAX_DAMAGED_KEPT]:
            file.unlink()

    def _make_folders(self) -> None:
        for folder in (self.root, self._shards, self._tmp, self._damaged):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(self.root)

    def _remove_leftovers(self) -> None:
        for file in self._tmp.iterdir():
            file.unlink()

    def _scan(self) -> None:
        """Fill the index from the files, oldest use first; what can't be a whole blob is set aside."""
        found: list[tuple[float, bytes, int]] = []
        for shard in self._shards.iterdir():
            for file in os.scandir(shard):
                match = _NAME.fullmatch(file.name)
                if match is None or match[1][:2] != shard.name or not file.is_file(follow_symlinks=False):
                    self.notices.append(f"{file.path} is no blob; it was left alone")
                    continue
                stats = file.stat(follow_symlinks=False)
                if stats.st_size == int(match[2]):
                    found.append((stats.st_mtime, bytes.fromhex(match[1]), stats.st_size))
                    continue
                self._move_to_damaged(Path(file.path))
                self.notices.append(f"blob {match[1]} has {stats.st_size} of {match[2]} bytes; it was set aside")
                log.error("blob.damaged", digest=match[1], reason="its size is wrong")
        for used_s, digest, size_bytes in sorted(found):
            if digest not in self._index:
                self._index.add(digest, BlobEntry(size_bytes, used_s, durable=False))


class Reservation:
    """Room for one blob. Hand it to `BlobStore.writer`, or `release` it; also a context manager."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.size_bytes = 0
        self._cost_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Make it hold `size_bytes` in all. Raises QuotaExceeded or StorageFull, keeping what it had."""
        cost_bytes = footprint_bytes(size_bytes)
        if cost_bytes > self._cost_bytes:
            self._store._claim(cost_bytes - self._cost_bytes)
            self._cost_bytes = cost_bytes
        self.size_bytes = max(self.size_bytes, size_bytes)

    def release(self) -> None:
        """Give the room back; does nothing if its blob was stored, or at a second call."""
        cost_bytes, self._cost_bytes = self._cost_bytes, 0
        self._store._release(cost_bytes)

    def close_locked(self, index: BlobIndex) -> None:
        """`release` for the store, which holds its lock."""
        cost_bytes, self._cost_bytes = self._cost_bytes, 0
        index.release(cost_bytes)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class BlobWriter:
    """One blob on its way in, made by `BlobStore.writer`. Leaving the context without `finish` removes it."""

    def __init__(
        self,
        store: BlobStore,
        *,
        durable: bool,
        reservation: Reservation,
        expected_digest: bytes | None = None,
        expected_size_bytes: int | None = None,
        hashed: bytes | None = None,
    ) -> None:
        self._store = store
        self._durable = durable
        self._reservation = reservation
        self._expected_digest = expected_digest
        self._expected_size_bytes = expected_size_bytes
        self._hashed = hashed
        self._hasher = hashlib.sha256()
        self._open = True
        self.size_bytes = 0
        self._path = store._temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._handle = os.open(self._path, flags, 0o444)
        except OSError as error:
            reservation.release()
            raise as_typed(error, self._path, 0) from error

    def write(self, part: bytes | memoryview) -> None:
        """Append. Raises BlobMismatch, QuotaExceeded, StorageFull, StorageFailed; that ends the writer."""
        assert self._open, "write to a closed blob writer"
        try:
            size_bytes = self.size_bytes + len(part)
            if self._expected_size_bytes is not None and size_bytes > self._expected_size_bytes:
                raise BlobMismatch(f"{self._expected_size_bytes} bytes", f"at least {size_bytes}")
            if size_bytes > self._reservation.size_bytes:
                self._reservation.grow(size_bytes)
            with typed_errors(self._path, len(part)):
                view = memoryview(part)
                while len(view) > 0:
                    view = view[os.write(self._handle, view) :]
            if self._hashed is None:
                self._hasher.update(part)
            self.size_bytes = size_bytes
        except BaseException:
            self.abort()
            raise

    def finish(self) -> bytes:
        """Store the blob and return its digest; on disk, if it is durable. Raises as `write`."""
        assert self._open, "finish of a closed blob writer"
        try:
            digest = self._hashed or self._hasher.digest()
            self._check(digest)
            with typed_errors(self._path):
                used_s = self._store._now_s()
                os.utime(self._handle, (used_s, used_s))
                if self._durable:
                    os.fsync(self._handle)
                self._store._adopt(self._path, digest, self.size_bytes, self._reservation, self._durable)
                self._close()
            return digest
        except BaseException:
            self.abort()
            raise

    def _check(self, digest: bytes) -> None:
        if self._expected_size_bytes is not None and self.size_bytes != self._expected_size_bytes:
            raise BlobMismatch(f"{self._expected_size_bytes} bytes", f"{self.size_bytes}")
        if self._expected_digest is not None and digest != self._expected_digest:
            raise BlobMismatch(f"blob {self._expected_digest.hex()}", digest.hex())

    async def write_async(self, part: bytes | memoryview) -> None:
        """As `write`, in a thread where it would hold the loop up."""
        if len(part) <= INLINE_BYTES:
            self.write(part)
        else:
            await trio.to_thread.run_sync(self.write, part)

    async def finish_async(self) -> bytes:
        """As `finish`, in a thread."""
        return await trio.to_thread.run_sync(self.finish)

    def abort(self) -> None:
        """Throw away what was written, unless it was finished; a second call does nothing."""
        if self._open:
            self._close()
            try:
                os.unlink(self._path)
            except FileNotFoundError:
                pass
            self._reservation.release()

    def _close(self) -> None:
        self._open = False
        os.close(self._handle)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
