"""The journal's tables, their versions, and how a file is told to be sound."""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from itertools import chain
from pathlib import Path

from .errors import StorageFailed, StorageFull, StorageIncompatible
from .files import free_bytes

APPLICATION_ID = 0x48524D4A  # "HRMJ": tells `file` and us whose database this is
PAGE_BYTES = 4096

# One entry a version, applied in order, each in its own transaction. An entry never changes once released.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, job_id BLOB NOT NULL UNIQUE)",
        # The id grows with each first write, so new rows go to the table's end and `ORDER BY id` is free.
        """CREATE TABLE records (
            id INTEGER PRIMARY KEY, job INTEGER NOT NULL, kind INTEGER NOT NULL, key BLOB NOT NULL,
            body BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX records_by_key ON records (job, kind, key)",
    ),
    (
        "ALTER TABLE records ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0",
        """UPDATE records SET checksum = record_checksum(
            (SELECT job_id FROM jobs WHERE jobs.id = records.job), kind, key, body)""",
    ),
)
SCHEMA_VERSION = len(MIGRATIONS)

# SQLite names what it cannot read in its errors, and Python cannot tell them then.
NO_TEXT = "a name in it is no text"

_FULL_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# What `quick_check` says of a page that it could not have, for want of memory or by a disk that fails.
_UNREAD = ("failed to get page", "unable to get the page")
# All that our statements rest on. The text that made a table may differ where an older SQLite altered it.
_SHAPE = """
    SELECT tables.name, columns.* FROM (SELECT 'jobs' AS name UNION ALL SELECT 'records') AS tables,
        pragma_table_info(tables.name) AS columns
    UNION ALL
    SELECT indices.name, parts.seqno, parts.name, indices."unique", indices.partial, 0, 0
        FROM pragma_index_list('records') AS indices, pragma_index_info(indices.name) AS parts"""


class Damaged(Exception):
    """The file is ours, or was, and its content can't be trusted; `str()` is the reason."""


def record_checksum(job_id: bytes, kind: int, key: bytes, body: bytes) -> int:
    """CRC-32 over all that a row says: SQLite's own check sees torn pages, not flipped bits in a value."""
    return zlib.crc32(body, zlib.crc32(key, zlib.crc32(job_id, kind)))


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode that any one thread at a time may use; the file must exist."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=10.0,
        cached_statements=128,
    )
    connection.create_function("record_checksum", 4, record_checksum, deterministic=True)
    return connection


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check the database and bring it to SCHEMA_VERSION; an empty file becomes an empty journal.

    Reads the whole file once. Raises Damaged, StorageIncompatible (nothing was written then), StorageFailed, or
    a sqlite3.Error for `as_storage_error`.
    """
    try:
        version = _version(connection, path)
        _check_pages(connection, path)
        _check_tables(connection, version)
        if version == 0:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for number in range(version, SCHEMA_VERSION):
            _migrate(connection, number)
        _check_records(connection)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    except UnicodeDecodeError as error:
        raise Damaged(NO_TEXT) from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    owner = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if owner != APPLICATION_ID and (owner, version, tables) != (0, 0, 0):
        raise StorageIncompatible(path, "is a database, but not a Hearthmesh journal; choose another folder")
    if version > SCHEMA_VERSION:
        raise StorageIncompatible(
            path,
            f"was written by a newer version (schema {version}, this one knows {SCHEMA_VERSION}); upgrade",
        )
    return version


def _migrate(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in MIGRATIONS[number]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict == "ok":
        return
    reason = str(verdict).replace("\n", " ")
    if any(words in reason for words in _UNREAD):
        raise StorageFailed(path, f"cannot be read: {reason}")
    raise Damaged(reason)


def _check_tables(connection: sqlite3.Connection, version: int) -> None:
    """SQLite finds nothing wrong with a name or a type that was written over."""
    with closing(sqlite3.connect(":memory:")) as sound:
        sound.create_function("record_checksum", 4, record_checksum, deterministic=True)
        for statement in chain.from_iterable(MIGRATIONS[:version]):
            sound.execute(statement)
        expected = sound.execute(_SHAPE).fetchall()
    found = connection.execute(_SHAPE).fetchall()
    if sorted(found, key=repr) != sorted(expected, key=repr):
        raise Damaged(f"its tables are not those of version {version}")


def _check_records(connection: sqlite3.Connection) -> None:
    orphan = connection.execute("SELECT id FROM records WHERE job NOT IN (SELECT id FROM jobs) LIMIT 1").fetchone()
    if orphan is not None:
        raise Damaged(f"record {orphan[0]} belongs to no job")
    flipped = connection.execute(
        "SELECT records.id FROM records JOIN jobs ON jobs.id = records.job"
        " WHERE CASE WHEN typeof(job_id) = 'blob' AND typeof(key) = 'blob' AND typeof(body) = 'blob'"
        " AND typeof(kind) = 'integer' THEN checksum != record_checksum(job_id, kind, key, body) ELSE 1 END LIMIT 1"
    ).fetchone()
    if flipped is not None:
        raise Damaged(f"record {flipped[0]} fails its checksum")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def is_damage(error: sqlite3.Error) -> bool:
    """True if SQLite found the file's content wrong, rather than the disk or the call."""
    return _code(error) & 0xFF in _DAMAGE_CODES


def as_storage_error(error: sqlite3.Error, path: Path, needed_bytes: int) -> StorageFull | StorageFailed:
    """The typed form of what SQLite raised; anything but a lack of room counts as a broken disk."""
    if _code(error) in _FULL_CODES:
        return StorageFull(path, needed_bytes, free_bytes(path.parent))
    return StorageFailed(path, f"{getattr(error, 'sqlite_errorname', 'SQLITE_ERROR')}: {error}")


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR))
