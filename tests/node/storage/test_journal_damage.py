"""A damaged, foreign or outdated file never costs the user a traceback, nor silently its content."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import FrameType

import pytest

from hearthmesh.node.storage import schema
from hearthmesh.node.storage.errors import StorageFailed, StorageIncompatible
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import Put, StoredRecord

JOB = b"\x11" * 32
V1 = Path(__file__).with_name("journal_v1.sql")


@pytest.fixture
async def filled(tmp_path: Path) -> Path:
    """A journal of 200 records that was closed in order."""
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        records = [StoredRecord(JOB, 1, n.to_bytes(8, "big"), b"needle%04d" % n * 50) for n in range(200)]
        await journal.commit([Put(record) for record in records], durable=True)
    return path


def overwrite(path: Path, offset: int, patch: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(patch)


def flip_a_body(path: Path) -> None:
    overwrite(path, path.read_bytes().index(b"needle0100") + 3, b"D")


def break_the_header(path: Path) -> None:
    overwrite(path, 0, b"not SQLite any more")


def break_a_page(path: Path) -> None:
    overwrite(path, 4096 * 6, b"\xff" * 4096)


def break_the_index(path: Path) -> None:
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'records_by_key'").fetchone()
    connection.close()
    overwrite(path, 4096 * (page - 1), b"\xff" * 4096)


def break_the_free_list(path: Path) -> None:
    """Only SQLite's own check sees this one, before a later write goes wrong."""
    overwrite(path, 36, (5).to_bytes(4, "big"))


def give_a_table_a_name_that_is_no_text(path: Path) -> None:
    """SQLite's complaint has the name in it, and Python cannot make words of that."""
    at = path.read_bytes().index(b"jobsjobs")
    overwrite(path, at, b"\x8fobsjobs\x02CREATE")


def rename_a_column(path: Path) -> None:
    """Where it is declared, so that SQLite finds nothing wrong."""
    overwrite(path, path.read_bytes().index(b"job_id BLOB"), b"job_ie")


def call_it_an_older_version(path: Path) -> None:
    """One bit of the header."""
    overwrite(path, 60, (1).to_bytes(4, "big"))


def make_text_of_a_key(path: Path) -> None:
    """One bit of a row's header; SQLite finds nothing wrong with it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE records SET key = CAST(key AS TEXT) WHERE id = 7")
    connection.close()


def cut_in_half(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096)


def empty_beside_its_log(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"frames of a lost database")
    path.write_bytes(b"")


def lose_beside_its_log(path: Path) -> None:
    path.with_name(path.name + "-wal").write_bytes(b"frames of a lost database")
    path.unlink()


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_body,
        break_the_header,
        break_a_page,
        break_the_index,
        break_the_free_list,
        give_a_table_a_name_that_is_no_text,
        rename_a_column,
        call_it_an_older_version,
        make_text_of_a_key,
        cut_in_half,
        empty_beside_its_log,
        lose_beside_its_log,
    ],
)
async def test_a_damaged_journal_is_set_aside_with_a_message_and_an_empty_one_works(filled: Path, harm: object) -> None:
    assert callable(harm)
    harm(filled)
    harmed = {file.name: file.read_bytes() for file in filled.parent.glob("journal.db*") if "lock" not in file.name}
    told: list[str] = []
    with Journal.open(filled, recover=told.append) as journal:
        assert told == journal.notices
        assert "journal.db is damaged (" in told[0] and "kept as journal.db.damaged-1" in told[0]
        assert list(journal.load()) == []
        await journal.commit([Put(StoredRecord(JOB, 1, b"", b"anew"))], durable=True)
    for name, content in harmed.items():
        assert filled.with_name(name.replace(".db", ".db.damaged-1")).read_bytes() == content
    with Journal.open(filled) as journal:
        assert journal.notices == []
        assert journal.read(JOB, 1, b"") == b"anew"


async def test_an_interrupt_while_a_journal_is_checked_does_not_set_it_aside(filled: Path) -> None:
    """SQLite has no word for what Python raises in a function of ours: it is an error like that in a statement."""

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code is schema.record_checksum.__code__:
            raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with pytest.raises(StorageFailed, match="user-defined function raised exception"):
            Journal.open(filled)
    finally:
        sys.setprofile(None)
    with Journal.open(filled) as journal:
        assert journal.notices == [] and len(list(journal.load())) == 200


OPENED_WITH_LITTLE_MEMORY = """
import os, sqlite3, sys
from pathlib import Path
from hearthmesh.node.storage.errors import StorageFailed
from hearthmesh.node.storage.journal import Journal
for kilobytes in range(100, 3000, 100):
    child = os.fork()
    if not child:
        sqlite3.connect(":memory:").execute(f"PRAGMA hard_heap_limit = {kilobytes * 1024}")
        try:
            Journal.open(Path(sys.argv[1])).close()
        except StorageFailed as error:
            print("no:", error, flush=True)
        else:
            print("opened", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


async def test_a_journal_for_which_memory_is_short_is_not_set_aside(tmp_path: Path) -> None:
    """SQLite's own check calls a page that it cannot have a fault of the file."""
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        large = [Put(StoredRecord(JOB, 1, bytes([number]), bytes(200_000))) for number in range(4)]
        await journal.commit(large, durable=True)
    command = [sys.executable, "-c", OPENED_WITH_LITTLE_MEMORY, str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].startswith("no:") and told[-1] == "opened"
    with Journal.open(path) as journal:
        assert journal.notices == [] and len(list(journal.load())) == 4
    assert list(tmp_path.glob("*damaged*")) == []


async def test_each_damaged_journal_keeps_its_own_name(filled: Path) -> None:
    for number in (1, 2, 3):
        break_the_header(filled)
        with Journal.open(filled) as journal:
            assert f"damaged-{number}," in journal.notices[0]
    assert len(list(filled.parent.glob("journal.db.damaged-?"))) == 3


async def test_a_torn_log_loses_only_its_tail(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        for number in range(20):
            await journal.commit([Put(StoredRecord(JOB, 1, bytes([number]), b"x" * 3000))], durable=True)
        copy = tmp_path / "copy"
        copy.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{journal.path}{suffix}", copy)
    log = copy / "journal.db-wal"
    with open(log, "r+b") as file:
        file.truncate(log.stat().st_size - 5000)
    with Journal.open(copy / "journal.db") as journal:
        keys = [record.key[0] for record in journal.load()]
        assert keys == list(range(len(keys))) and 10 < len(keys) < 20
        assert journal.notices == []


def test_a_journal_of_version_1_is_migrated_with_all_its_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    write_v1(path)
    expected = [
        StoredRecord(b"", 1, b"", b"incarnation 4"),
        StoredRecord(b"\x11" * 32, 10, b"\x00", b"spec"),
        StoredRecord(b"\x22" * 32, 10, b"\x00", b""),
        StoredRecord(b"\x11" * 32, 11, b"\x00\x01", b"result"),
    ]
    for _ in range(2):  # the second time there is nothing to migrate
        with Journal.open(path) as journal:
            assert list(journal.load()) == expected
            assert journal.notices == []
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA_VERSION,)
    connection.close()


def write_v1(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(V1.read_text())
    connection.close()


def test_migrating_and_making_anew_give_the_same_tables(tmp_path: Path) -> None:
    write_v1(tmp_path / "old.db")
    tables = []
    for name in ("old.db", "new.db"):
        Journal.open(tmp_path / name).close()
        connection = sqlite3.connect(tmp_path / name)
        tables.append(connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall())
        connection.close()
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("PRAGMA user_version = 99", "written by a newer version .schema 99, this one knows 2.; upgrade"),
        ("PRAGMA application_id = 7", "not a Hearthmesh journal"),
    ],
)
async def test_a_newer_or_foreign_database_is_refused_and_left_alone(filled: Path, statement: str, reason: str) -> None:
    connection = sqlite3.connect(filled)
    connection.execute(statement)
    connection.commit()
    connection.close()
    before = filled.read_bytes()
    with pytest.raises(StorageIncompatible, match=reason):
        Journal.open(filled)
    assert filled.read_bytes() == before


def test_a_folder_in_the_journal_s_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(StorageFailed, match="journal.db: "):
        Journal.open(tmp_path / "journal.db")


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="No such file"):
        Journal.open(tmp_path / "nowhere" / "journal.db")
