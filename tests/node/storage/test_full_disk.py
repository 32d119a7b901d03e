"""A full file system, a real one where this process may mount a small one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.storage.errors import StorageError, StorageFull
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import Put, StoredRecord


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"may not mount a small file system: {error}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Take all room that is left."""
    with open(path, "wb", buffering=0) as file:
        for part_bytes in (65536, 4096, 1):
            try:
                while file.write(bytes(part_bytes)) == part_bytes:
                    pass
            except OSError:
                continue


async def test_a_journal_on_a_full_disk_says_so_loses_nothing_and_goes_on_once_there_is_room(
    small_disk: Path,
) -> None:
    kept: list[StoredRecord] = []
    path = small_disk / "journal.db"

    async def write(number: int) -> None:
        record = StoredRecord(b"", 1, number.to_bytes(8, "big"), bytes([number % 256]) * 5000)
        await journal.commit([Put(record)], durable=True)
        kept.append(record)

    with Journal.open(path) as journal:
        for number in range(10):
            await write(number)
        fill(small_disk / "filler")
        with pytest.raises(StorageFull, match="journal.db: no room for 5008 bytes"):
            for number in range(10, 2000):
                await write(number)
        assert list(journal.load()) == kept
        (small_disk / "filler").unlink()
        await write(5000)
    with Journal.open(path) as journal:
        assert journal.notices == []
        assert list(journal.load()) == kept


async def test_a_journal_on_a_full_disk_is_never_taken_for_damaged(small_disk: Path) -> None:
    path = small_disk / "journal.db"
    record = StoredRecord(b"", 1, b"", b"kept")
    with Journal.open(path) as journal:
        await journal.commit([Put(record)], durable=True)
    fill(small_disk / "filler")
    try:
        Journal.open(path).close()
    except StorageError as error:
        assert isinstance(error, StorageFull), error
    (small_disk / "filler").unlink()
    with Journal.open(path) as journal:
        assert list(journal.load()) == [record]
    assert list(small_disk.glob("*damaged*")) == []


def test_a_new_journal_on_a_full_disk_is_a_clear_error(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(StorageFull):
        Journal.open(small_disk / "journal.db")
    (small_disk / "filler").unlink()
    Journal.open(small_disk / "journal.db").close()


def test_a_blob_that_the_disk_has_no_room_for_leaves_nothing_behind(small_disk: Path) -> None:
    store = BlobStore(small_disk, 1 << 30, min_free_bytes=0)
    small = store.put_bytes(b"small")
    with pytest.raises(StorageFull):
        store.put_bytes(bytes(4 << 20))
    with store.writer() as writer:
        fill(small_disk / "filler")
        with pytest.raises(StorageFull):
            writer.write(bytes(100_000))
    assert list((small_disk / "tmp").iterdir()) == []
    assert store.usage().reserved_bytes == 0
    assert store.read(small) == b"small"


def test_a_full_disk_found_out_only_while_writing_leaves_nothing_behind(small_disk: Path) -> None:
    store = BlobStore(small_disk, 1 << 30, min_free_bytes=0)
    with store.writer(expected_size_bytes=1 << 20) as writer:
        fill(small_disk / "filler")
        with pytest.raises(StorageFull):
            writer.write(bytes(1 << 20))
    assert list((small_disk / "tmp").iterdir()) == []
    assert store.usage().reserved_bytes == 0
