"""The journal: the protocol's records on disk, written before the messages that rest on them leave."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVarTuple

import structlog
import trio

from .errors import StorageError, StorageFailed
from .files import sync_folder
from .journal_writer import CommitRequest, CompactRequest, JournalWriter
from .lock import FileLock
from .records import StoredHeader, StoredRecord, Write, checked_size_bytes
from .schema import NO_TEXT, PAGE_BYTES, Damaged, as_storage_error, connect, prepare

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# A journal of a few thousand jobs is some 100 MB; beyond this something is wrong, and the disk is shared.
DEFAULT_MAX_SIZE_BYTES = 4 << 30
_SUFFIXES = ("", "-wal", "-shm")
Ts = TypeVarTuple("Ts")


class Journal:
    """An open journal; make one with `open`. One per file and machine: a second one gets StorageLocked.

    `notices` holds what the user should read about the opening, one line each; empty if all was well.
    Reads may be called from any thread and block for as long as the disk takes.
    """

    def __init__(self, path: Path, lock: FileLock, connection: sqlite3.Connection, notices: list[str]) -> None:
        self.path = path
        self.notices = notices
        self._lock = lock
        self._reader = connect(path)
        self._reader.execute("PRAGMA query_only = ON")
        self._reader_guard = threading.Lock()
        self._writer = JournalWriter(connection, path)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        recover: Callable[[str], None] | None = None,
        max_size_bytes: int = DEFAULT_MAX_SIZE_BYTES,
    ) -> Journal:
        """Open `path`, made with mode 0600 if it is not there, checked in full and migrated.

        A damaged file is moved to `<name>.damaged-<n>` with its log and replaced by an empty one; the message
        goes to `recover`, the log and `notices`. `max_size_bytes` bounds the database without its WAL.
        Raises StorageLocked, StorageIncompatible, StorageFull or StorageFailed.
        """
        lock = FileLock(path.with_name(path.name + ".lock"))
        try:
            notices: list[str] = []
            try:
                connection = _open_twice(path)
            except Damaged as damage:
                notices.append(_set_aside(path, str(damage)))
                log.error("journal.damaged", path=str(path), reason=str(damage), notice=notices[-1])
                if recover is not None:
                    recover(notices[-1])
                connection = _open_checked(path)
            connection.execute(f"PRAGMA max_page_count = {max(1, max_size_bytes // PAGE_BYTES)}")
            return cls(path, lock, connection, notices)
        except sqlite3.Error as error:
            lock.release()
            raise as_storage_error(error, path, PAGE_BYTES) from error
        except OSError as error:
            lock.release()
            raise StorageFailed(path, f"cannot be opened: {error.strerror}") from error
        except MemoryError as error:
            lock.release()
            raise StorageFailed(path, "cannot be opened: out of memory") from error
        except BaseException:
            lock.release()
            raise

    async def commit(self, writes: Sequence[Write], *, durable: bool) -> None:
        """Apply `writes` in one transaction, after those of earlier calls; return when they are on disk.

        Concurrent calls share a transaction. durable=False survives the death of this process, True also a
        power cut; a durable commit carries every earlier quick one with it, so an empty one is a barrier.
        If the caller is cancelled, the writes still happen.
        Raises StorageFull (nothing of this call was written; it may be tried again), StorageFailed (no commit
        will work until a restart; reads may), ValueError for records out of their bounds.
        """
        finished = trio.Event()
        errors: list[StorageError] = []

        def done(error: StorageError | None) -> None:
            if error is not None:
                errors.append(error)
            finished.set()

        self.submit(writes, done, durable=durable)
        await finished.wait()
        if errors:
            raise errors[0]

    def submit(
        self, writes: Sequence[Write], done: Callable[[StorageError | None], None], *, durable: bool = True
    ) -> None:
        """As `commit`, without waiting: `done` is called on the trio thread of the caller, with what went wrong.

        On a quick disk that is before this returns. Raises ValueError for records out of their bounds.
        """
        assert not self._closed, "commit after close"
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            _run_soon(token, done, request.error)

        request = CommitRequest(writes, checked_size_bytes(writes), durable, wake)
        if self._writer.commit_here(request):
            done(request.error)
        else:
            self._writer.submit(request)

    async def compact(self) -> None:
        """Give the room of removed records back to the file system, in small steps between commits."""
        assert not self._closed, "compact after close"
        finished = trio.Event()
        token = trio.lowlevel.current_trio_token()
        request = CompactRequest(lambda: _run_soon(token, finished.set))
        self._writer.submit(request)
        await finished.wait()
        if request.error is not None:
            raise request.error

    def load(self, kinds: Collection[int] | None = None) -> Iterator[StoredRecord]:
        """The records of the given kinds, or all, in order of their first write, as of the first step.

        Take it to its end or close it: while it is open the WAL can't be reused.
        """
        query = "SELECT (SELECT job_id FROM jobs WHERE jobs.id = job), kind, key, body FROM records"
        for job_id, kind, key, body in self._scan(query, kinds):
            yield StoredRecord(job_id, kind, key, body)

    def load_headers(self, kinds: Collection[int] | None = None) -> Iterator[StoredHeader]:
        """As `load`, without reading the bodies."""
        query = "SELECT (SELECT job_id FROM jobs WHERE jobs.id = job), kind, key, length(body) FROM records"
        for job_id, kind, key, size_bytes in self._scan(query, kinds):
            yield StoredHeader(job_id, kind, key, size_bytes)

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        """The body of one record as it was last committed, or None."""
        row = self._one(
            "SELECT body FROM records WHERE job = (SELECT id FROM jobs WHERE job_id = ?) AND kind = ? AND key = ?",
            (job_id, kind, key),
        )
        return None if row is None else bytes(row[0])

    def counts(self) -> dict[int, int]:
        """Records by kind. Walks the index: milliseconds for 100,000."""
        with self._reader_guard, _typed_errors(self.path):
            rows = self._reader.execute("SELECT kind, count(*) FROM records GROUP BY kind ORDER BY kind")
            return dict(rows.fetchall())

    def size_bytes(self) -> int:
        """What the database and its WAL take on disk."""
        total = 0
        for suffix in _SUFFIXES[:2]:
            try:
                total += os.stat(f"{self.path}{suffix}").st_size
            except FileNotFoundError:
                continue
        return total

    def close(self) -> None:
        """Finish pending commits and let go of the file; blocks until then. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with self._reader_guard:
            self._reader.close()
        self._writer.close()
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _scan(self, query: str, kinds: Collection[int] | None) -> Iterator[tuple[Any, ...]]:
        where, values = "", tuple(kinds or ())
        if kinds is not None:
            where = f" WHERE kind IN ({','.join('?' * len(values))})"
        with _typed_errors(self.path), closing(connect(self.path)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield from connection.execute(f"{query}{where} ORDER BY records.id", values)

    def _one(self, query: str, values: tuple[bytes | int, ...]) -> tuple[Any, ...] | None:
        with self._reader_guard, _typed_errors(self.path):
            row: tuple[Any, ...] | None = self._reader.execute(query, values).fetchone()
            return row


@contextmanager
def _typed_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise as_storage_error(error, path, 0) from error
    except UnicodeDecodeError as error:
        raise StorageFailed(path, NO_TEXT) from error


def _run_soon(token: trio.lowlevel.TrioToken, function: Callable[[*Ts], object], *args: *Ts) -> None:
    """Called in the writer's thread."""
    try:
        token.run_sync_soon(function, *args)
    except trio.RunFinishedError:
        pass  # who waited was cancelled and its loop has ended; the commit holds


def _open_twice(path: Path) -> sqlite3.Connection:
    """As `_open_checked`: what a moment's trouble may have caused is no reason to begin anew."""
    try:
        return _open_checked(path)
    except Damaged:
        return _open_checked(path)


def _open_checked(path: Path) -> sqlite3.Connection:
    """The write connection to a sound, current database. Raises Damaged and what `prepare` raises."""
    _make_private(path)
    connection = connect(path)
    try:
        prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """Create the file before SQLite does, with mode 0600: its WAL and shared memory inherit that."""
    wal = Path(f"{path}-wal")
    orphaned = wal.exists() and wal.stat().st_size > 0
    if orphaned and (not path.exists() or path.stat().st_size == 0):
        raise Damaged("the log is there, but the database is empty")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    sync_folder(path.parent)


def _set_aside(path: Path, reason: str) -> str:
    """Rename the database with its log so that SQLite still takes them for a pair. Returns the message."""
    number = 1
    while any(Path(f"{path}.damaged-{number}{suffix}").exists() for suffix in _SUFFIXES):
        number += 1
    for suffix in _SUFFIXES:
        try:
            os.rename(f"{path}{suffix}", f"{path}.damaged-{number}{suffix}")
        except FileNotFoundError:
            continue
    sync_folder(path.parent)
    return (
        f"{path} is damaged ({reason}); it was kept as {path.name}.damaged-{number}, "
        "and this node starts with an empty journal that the replicas refill"
    )
