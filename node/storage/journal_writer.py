"""The journal's only writer: a thread that merges whatever waits into one transaction.

On a quick disk the caller itself may commit while the thread has nothing to do: handing a commit to a thread and back
costs as much as an fsync there, and twice the latency.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from .errors import StorageError, StorageFailed, StorageFull
from .records import Write
from .schema import PAGE_BYTES, as_storage_error
from .transaction import ARRIVALS, Transaction

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# What one transaction may hold: long enough that its cost is per byte, short enough that nobody waits for it.
GROUP_BYTES = 8 << 20
# The WAL is copied into the database once it has grown by this much; SQLite's own default is 4 MB as well.
CHECKPOINT_BYTES = 4 << 20
# SQLite checkpoints by itself, within a commit, only if ours can't keep up.
CHECKPOINT_BACKSTOP_PAGES = 8 * CHECKPOINT_BYTES // PAGE_BYTES
# The caller commits itself only while commits take less than this on average: its loop stands still meanwhile.
HERE_MAX_S = 0.004
# Nor what is large, nor for a while after one that took long.
HERE_BYTES_MAX = 256 << 10
HERE_STALL_S = 0.02
HERE_PAUSE_S = 5.0
_AVERAGE_WEIGHT = 0.1
# Pages that compaction moves before it looks for commits again (some milliseconds).
COMPACT_PAGES = 256


@dataclass(slots=True, eq=False)
class CommitRequest:
    """Writes that stand or fall together; `done` is called once, in the writer's thread, after that
    (not for `commit_here`, which returns then)."""

    writes: Sequence[Write]
    size_bytes: int
    durable: bool
    done: Callable[[], None]
    error: StorageError | None = None


@dataclass(slots=True, eq=False)
class CompactRequest:
    """Give free pages back to the file system, in slices between commits; `done` as for a CommitRequest."""

    done: Callable[[], None]
    error: StorageError | None = None


class _Stop:
    """The last thing in the queue."""


@dataclass(slots=True)
class _Inbox:
    """What was taken from the queue in one go."""

    commits: list[CommitRequest] = field(default_factory=list)
    compactions: list[CompactRequest] = field(default_factory=list)
    stop: bool = False


class JournalWriter:
    """Owns the write connection. `submit` may be called from any thread; its order is kept."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._jobs: dict[bytes, int] = dict(connection.execute("SELECT job_id, id FROM jobs").fetchall())
        self._last_number = max(self._jobs.values(), default=0)
        # Requests that are not done, and who may use the connection: both under the guard.
        self._guard = threading.Lock()
        self._pending = 0
        self._commit_s = HERE_MAX_S
        self._here_from_s = 0.0
        self._queue: queue.SimpleQueue[CommitRequest | CompactRequest | _Stop] = queue.SimpleQueue()
        self._compactions: list[CompactRequest] = []
        self._failed: StorageFailed | None = None
        self._full_sync = True
        self._unsynced = False  # a quick commit may still be in memory only
        self._wal_bytes = 0  # estimate of what was written since the last checkpoint
        for statement in ARRIVALS:
            connection.execute(statement)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_BACKSTOP_PAGES}")
        self._thread = threading.Thread(target=self._run, name="hearth-journal", daemon=True)
        self._thread.start()

    def submit(self, request: CommitRequest | CompactRequest) -> None:
        with self._guard:
            self._pending += 1
        self._queue.put(request)

    def commit_here(self, request: CommitRequest) -> bool:
        """Commit in the calling thread, if that is quick; `done` is not called. False: `submit` it."""
        if self._commit_s > HERE_MAX_S or time.perf_counter() < self._here_from_s:
            return False
        if request.size_bytes > HERE_BYTES_MAX or self._wal_bytes >= CHECKPOINT_BYTES:
            return False
        with self._guard:
            if self._pending:
                return False
            request.error = self._timed_commit([request])
        return True

    def close(self) -> None:
        """Finish what was submitted, then close the connection; blocks until both are done."""
        self._queue.put(_Stop())
        self._thread.join()

    def _run(self) -> None:
        stop = False
        while not stop:
            inbox = self._take()
            stop = inbox.stop
            if inbox.commits:
                self._commit_group(inbox.commits)
            self._compactions += inbox.compactions
            if self._wal_bytes >= CHECKPOINT_BYTES:
                self._checkpoint("PASSIVE")
            if self._compactions and not inbox.commits:
                self._compact_slice()
            # Only now: until here the connection is this thread's.
            self._note_done(len(inbox.commits))
        self._finish_compactions(None)
        self._connection.close()

    def _take(self) -> _Inbox:
        """Wait for work unless a compaction is under way, then take all there is, up to a group's size."""
        inbox = _Inbox()
        size_bytes = 0
        block = not self._compactions
        while size_bytes < GROUP_BYTES and not inbox.stop:
            try:
                item = self._queue.get(block=block)
            except queue.Empty:
                break
            block = False
            if isinstance(item, CommitRequest):
                inbox.commits.append(item)
                size_bytes += item.size_bytes
            elif isinstance(item, CompactRequest):
                inbox.compactions.append(item)
            else:
                inbox.stop = True
        return inbox

    def _note_done(self, requests: int) -> None:
        with self._guard:
            self._pending -= requests

    def _timed_commit(self, requests: list[CommitRequest]) -> StorageError | None:
        began_s = time.perf_counter()
        error = self._commit(requests)
        ended_s = time.perf_counter()
        took_s = ended_s - began_s
        if took_s > HERE_STALL_S:
            self._here_from_s = ended_s + HERE_PAUSE_S
        self._commit_s += _AVERAGE_WEIGHT * (took_s - self._commit_s)
        return error

    def _commit_group(self, requests: list[CommitRequest]) -> None:
        error = self._timed_commit(requests)
        if isinstance(error, StorageFull) and len(requests) > 1:
            # One of them may be too big for what is left: the others shall not fail with it.
            for request in requests:
                request.error = self._commit([request])
        else:
            for request in requests:
                request.error = error
        for request in requests:
            request.done()

    def _commit(self, requests: list[CommitRequest]) -> StorageError | None:
        """One transaction; None once it is on disk, else why it left no trace."""
        if self._failed is not None:
            return self._failed
        size_bytes = sum(request.size_bytes for request in requests)
        durable = any(request.durable for request in requests)
        transaction = Transaction(self._connection, self._jobs, self._last_number)
        try:
            self._set_sync(durable)
            before = self._connection.total_changes
            transaction.run([write for request in requests for write in request.writes])
            wrote = self._connection.total_changes != before
            if durable and self._unsynced and not wrote:
                self._sync_wal()
        except (sqlite3.Error, OSError) as error:
            return self._give_up(error, size_bytes)
        self._last_number = transaction.last_number
        for job_id, number in transaction.changed_jobs.items():
            if number is None:
                self._jobs.pop(job_id, None)
            else:
                self._jobs[job_id] = number
        self._unsynced = not durable and (wrote or self._unsynced)
        self._wal_bytes += size_bytes + PAGE_BYTES if wrote else 0
        return None

    def _set_sync(self, durable: bool) -> None:
        if durable != self._full_sync:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full_sync = durable

    def _sync_wal(self) -> None:
        """Put earlier, quick commits on disk when a durable one had nothing of its own to write."""
        handle = os.open(self._path.with_name(self._path.name + "-wal"), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fdatasync(handle)
        finally:
            os.close(handle)

    def _give_up(self, error: sqlite3.Error | OSError, size_bytes: int) -> StorageError:
        """Roll back and say why. A full disk may be tried again, any other fault is final."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as second:
            log.warning("journal.rollback_failed", path=str(self._path), reason=str(second))
        if isinstance(error, sqlite3.Error):
            outcome = as_storage_error(error, self._path, size_bytes)
        else:
            outcome = StorageFailed(self._path, f"cannot be synced: {error.strerror}")
        if isinstance(outcome, StorageFailed):
            # After a failed write or fsync nobody knows what the disk holds; a restart reads it anew.
            self._failed = outcome
            log.error("journal.failed", path=str(self._path), reason=outcome.reason)
        else:
            log.error("journal.full", path=str(self._path), free_bytes=outcome.free_bytes)
        return outcome

    def _checkpoint(self, mode: str) -> None:
        """Copy the WAL into the database. Failing is harmless: the WAL keeps what it has."""
        self._wal_bytes = 0
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            log.warning("journal.checkpoint_failed", path=str(self._path), reason=str(error))

    def _compact_slice(self) -> None:
        """Move some free pages to the file's end and cut them off; answer once none are left."""
        try:
            self._set_sync(True)
            self._connection.execute(f"PRAGMA incremental_vacuum({COMPACT_PAGES})").fetchall()
            (free_pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        except sqlite3.Error as error:
            self._finish_compactions(self._give_up(error, COMPACT_PAGES * PAGE_BYTES))
            return
        if not free_pages:
            self._checkpoint("TRUNCATE")
            self._finish_compactions(None)

    def _finish_compactions(self, error: StorageError | None) -> None:
        finished, self._compactions = self._compactions, []
        for compaction in finished:
            compaction.error = error
            compaction.done()
        self._note_done(len(finished))
