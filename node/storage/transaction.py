"""One transaction of the journal: records in, as few SQL statements out as will do."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from .records import Delete, Forget, Put, StoredRecord, Write
from .schema import record_checksum

# Rows of one INSERT. A statement releases the GIL, and a busy trio thread gives it back only after a switch
# interval: 64 rows in one statement wait once, in 64 statements 64 times.
ROWS_A_STATEMENT = 64

_UPSERT_HEAD = "INSERT INTO records (job, kind, key, body, checksum) VALUES "
_UPSERT_TAIL = " ON CONFLICT (job, kind, key) DO UPDATE SET body = excluded.body, checksum = excluded.checksum"
# Rows of jobs that are new, with their jobs: still one statement, for which a connection needs ARRIVALS.
_ARRIVE_HEAD = "INSERT INTO arriving (job_id, job, kind, key, body, checksum) VALUES "
ARRIVALS = (
    "PRAGMA temp_store = MEMORY",
    """CREATE TEMP VIEW arriving AS
        SELECT NULL AS job_id, NULL AS job, NULL AS kind, NULL AS key, NULL AS body, NULL AS checksum""",
    f"""CREATE TEMP TRIGGER arrive INSTEAD OF INSERT ON arriving BEGIN
        INSERT OR IGNORE INTO jobs (id, job_id) VALUES (NEW.job, NEW.job_id);
        {_UPSERT_HEAD} (NEW.job, NEW.kind, NEW.key, NEW.body, NEW.checksum) {_UPSERT_TAIL};
    END""",
)

Row: TypeAlias = tuple[bytes, int, int, bytes, bytes, int]


class Transaction:
    """Applies writes in order and commits. `jobs` maps job ids to their numbers and is only read.

    last_number: above all numbers in use; a new job gets the next one.
    After `run`, `changed_jobs` says what to do to `jobs`: a new number, or None where the job is gone. If
    `run` raises sqlite3.Error the caller rolls back and drops this object.
    """

    def __init__(self, connection: sqlite3.Connection, jobs: Mapping[bytes, int], last_number: int) -> None:
        self._execute = connection.execute
        self._jobs = jobs
        self._rows: list[Row] = []
        self._rows_of_new_jobs = False
        self.last_number = last_number
        self.changed_jobs: dict[bytes, int | None] = {}

    def run(self, writes: Sequence[Write]) -> None:
        """Commit the writes, all or none; an empty sequence does nothing."""
        if not writes:
            return
        if len(writes) <= ROWS_A_STATEMENT and all(isinstance(write, Put) for write in writes):
            self._write_all(writes)
            self._flush()  # a single statement is a transaction by itself
            return
        self._execute("BEGIN IMMEDIATE")
        self._write_all(writes)
        self._flush()
        self._execute("COMMIT")

    def _write_all(self, writes: Sequence[Write]) -> None:
        for write in writes:
            match write:
                case Put(record):
                    self._put(record)
                case Delete(job_id, kind, key):
                    self._delete(job_id, kind, key)
                case Forget(job_id):
                    self._forget(job_id)

    def _put(self, record: StoredRecord) -> None:
        number = self._number(record.job_id)
        if number is None:
            self.last_number += 1
            number = self.changed_jobs[record.job_id] = self.last_number
            self._rows_of_new_jobs = True
        checksum = record_checksum(record.job_id, record.kind, record.key, record.body)
        self._rows.append((record.job_id, number, record.kind, record.key, record.body, checksum))

    def _delete(self, job_id: bytes, kind: int, key: bytes) -> None:
        number = self._number(job_id)
        if number is not None:
            self._flush()
            self._execute("DELETE FROM records WHERE job = ? AND kind = ? AND key = ?", (number, kind, key))

    def _forget(self, job_id: bytes) -> None:
        number = self._number(job_id)
        if number is not None:
            self._flush()
            self._execute("DELETE FROM records WHERE job = ?", (number,))
            self._execute("DELETE FROM jobs WHERE id = ?", (number,))
            self.changed_jobs[job_id] = None

    def _number(self, job_id: bytes) -> int | None:
        if job_id in self.changed_jobs:
            return self.changed_jobs[job_id]
        return self._jobs.get(job_id)

    def _flush(self) -> None:
        for start in range(0, len(self._rows), ROWS_A_STATEMENT):
            rows = self._rows[start : start + ROWS_A_STATEMENT]
            if self._rows_of_new_jobs:
                statement = _ARRIVE_HEAD + ",".join(["(?,?,?,?,?,?)"] * len(rows))
                self._execute(statement, [value for row in rows for value in row])
            else:
                statement = _UPSERT_HEAD + ",".join(["(?,?,?,?,?)"] * len(rows)) + _UPSERT_TAIL
                self._execute(statement, [value for row in rows for value in row[1:]])
        self._rows.clear()
        self._rows_of_new_jobs = False
