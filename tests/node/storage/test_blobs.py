"""The blob store holds exactly what it was given, and refuses what it can't hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio

from hearthmesh.node.storage.blobs import INLINE_BYTES, MAX_DAMAGED_KEPT, BlobStore
from hearthmesh.node.storage.errors import BlobMismatch, BlobMissing, QuotaExceeded, StorageFull

OWNER, OTHER = b"lease 1", b"lease 2"
KIB, MIB = 1 << 10, 1 << 20
ABSENT = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1 * MIB, min_free_bytes=0)


def blob(number: int, size_bytes: int = 100 * KIB) -> bytes:
    return bytes([number]) * size_bytes


def digest_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def leftovers(store: BlobStore) -> list[Path]:
    return list((store.root / "tmp").iterdir())


@pytest.mark.parametrize("size_bytes", [0, 1, 4096, 300_000])
@pytest.mark.parametrize("durable", [False, True])
def test_what_was_put_is_read_back(store: BlobStore, size_bytes: int, durable: bool) -> None:
    content = os.urandom(size_bytes)
    digest = store.put_bytes(content, durable=durable)
    assert digest == digest_of(content)
    assert store.has(digest)
    assert store.size_bytes(digest) == size_bytes
    assert store.read(digest) == content
    assert store.path(digest).read_bytes() == content
    assert store.path(digest).stat().st_mode & 0o222 == 0
    assert store.verify(digest)
    with store.open(digest) as file:
        assert file.read() == content


def test_a_range_is_read_and_cut_at_the_end(store: BlobStore) -> None:
    digest = store.put_bytes(b"0123456789")
    assert store.read(digest, 3, 4) == b"3456"
    assert store.read(digest, 8, 100) == b"89"
    assert store.read(digest, 100, 1) == b""
    for offset, length in [(-1, 1), (0, -1)]:
        with pytest.raises(ValueError):
            store.read(digest, offset, length)


def test_a_blob_that_is_not_here_is_missing_to_every_question(store: BlobStore) -> None:
    assert not store.has(ABSENT)
    for question in (store.size_bytes, store.path, store.open, store.read, store.verify):
        with pytest.raises(BlobMissing):
            question(ABSENT)
    assert store.discard(ABSENT) is False


def test_equal_blobs_are_kept_once(store: BlobStore) -> None:
    first = store.put_bytes(blob(1), durable=False)
    before = store.usage()
    assert store.put_bytes(blob(1), durable=True) == first
    with store.writer() as writer:
        writer.write(blob(1))
        assert writer.finish() == first
    assert store.usage() == before
    assert leftovers(store) == []


def test_a_blob_in_pieces_is_the_same_blob(store: BlobStore) -> None:
    content = os.urandom(200_000)
    with store.writer(expected_digest=digest_of(content), expected_size_bytes=len(content)) as writer:
        for start in range(0, len(content), 7000):
            writer.write(memoryview(content)[start : start + 7000])
        assert writer.finish() == digest_of(content)
    assert store.read(digest_of(content)) == content
    assert store.usage().reserved_bytes == 0


def test_a_writer_left_without_finish_leaves_nothing(store: BlobStore) -> None:
    with store.writer(expected_size_bytes=MIB) as writer:
        writer.write(blob(1))
        assert len(leftovers(store)) == 1
    assert leftovers(store) == []
    assert store.usage().reserved_bytes == 0
    assert store.digests() == []


@pytest.mark.parametrize(
    ("size_bytes", "digest", "sent"),
    [(10, None, b"x" * 11), (10, None, b"x" * 9), (None, digest_of(b"other"), b"content")],
)
def test_a_blob_that_is_not_the_announced_one_is_thrown_away(
    store: BlobStore, size_bytes: int | None, digest: bytes | None, sent: bytes
) -> None:
    with pytest.raises(BlobMismatch):
        with store.writer(expected_digest=digest, expected_size_bytes=size_bytes) as writer:
            writer.write(sent)
            writer.finish()
    assert leftovers(store) == []
    assert store.digests() == []
    assert store.usage().reserved_bytes == 0


def test_the_least_recently_used_blob_goes_first_and_only_when_needed(store: BlobStore) -> None:
    digests = [store.put_bytes(blob(number)) for number in range(10)]
    assert all(store.has(digest) for digest in digests)
    store.read(digests[0])
    store.put_bytes(blob(10))
    assert [store.has(digest) for digest in digests] == [True, False] + [True] * 8


def test_a_pinned_blob_is_never_evicted(store: BlobStore) -> None:
    pinned = [store.put_bytes(blob(number)) for number in range(9)]
    for digest in pinned:
        assert store.pin(digest, OWNER)
    for number in range(10, 20):
        store.put_bytes(blob(number))
    assert all(store.has(digest) for digest in pinned)
    with pytest.raises(QuotaExceeded) as caught:
        store.put_bytes(blob(20, 200 * KIB))
    assert (caught.value.needed, caught.value.free, caught.value.pinned) == (200 * KIB, 124 * KIB, 900 * KIB)
    assert store.has(digest_of(blob(19))), "a refusal evicts nothing"
    assert store.unpin_owner(OWNER) == 9
    store.put_bytes(blob(20, 200 * KIB))


def test_pins_count_by_owner(store: BlobStore) -> None:
    digest = store.put_bytes(blob(1))
    store.pin(digest, OWNER)
    store.pin(digest, OWNER)
    store.pin(digest, OTHER)
    store.unpin(digest, OWNER)
    store.unpin(digest, OTHER)
    assert store.discard(digest) is False
    store.unpin(digest, OWNER)
    with pytest.raises(ValueError, match="holds no pin"):
        store.unpin(digest, OWNER)
    assert store.discard(digest) is True
    assert not store.has(digest)


def test_a_pin_that_comes_before_its_blob_holds_it_on_arrival(store: BlobStore) -> None:
    early = digest_of(blob(1))
    assert store.pin(early, OWNER) is False
    store.put_bytes(blob(1))
    for number in range(2, 20):
        store.put_bytes(blob(number))
    assert store.has(early)


def test_reserved_room_is_there_when_the_blob_comes(store: BlobStore) -> None:
    store.put_bytes(blob(1))
    with store.reserve(1 * MIB) as reservation:
        assert not store.has(digest_of(blob(1))), "made room at once"
        with pytest.raises(QuotaExceeded):
            store.put_bytes(b"x")
        with store.writer(reservation=reservation) as writer:
            writer.write(blob(2, 1 * MIB))
            writer.finish()
    assert store.usage().idle_bytes == 1 * MIB
    assert store.usage().reserved_bytes == 0


def test_a_writer_that_outgrows_the_quota_stops(store: BlobStore) -> None:
    with store.writer() as writer:
        with pytest.raises(QuotaExceeded):
            for number in range(20):
                writer.write(blob(number))
    assert leftovers(store) == []
    assert store.usage().reserved_bytes == 0


def test_a_disk_at_its_floor_is_left_alone(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    floor = free.f_bavail * free.f_frsize + (1 << 30)
    store = BlobStore(tmp_path, 1 * MIB, min_free_bytes=floor)
    with pytest.raises(StorageFull):
        store.put_bytes(b"x")
    assert leftovers(store) == []


def test_a_flipped_bit_is_found_and_the_blob_set_aside(store: BlobStore) -> None:
    digest = store.put_bytes(blob(1))
    store.pin(digest, OWNER)
    path = store.path(digest)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    assert store.verify(digest) is False
    assert not store.has(digest)
    assert (store.root / "damaged" / path.name).read_bytes() == content
    assert store.usage().pinned_bytes == 0
    store.put_bytes(blob(1))
    assert store.verify(digest) and store.discard(digest) is False, "the pin waited for it"


def test_a_blob_cut_short_under_us_is_missing_rather_than_wrong(store: BlobStore) -> None:
    digest = store.put_bytes(blob(1))
    os.truncate(store.path(digest), 10)
    with pytest.raises(BlobMissing):
        store.read(digest)
    assert not store.has(digest)


def test_a_blob_removed_under_us_is_missing_and_can_come_back(store: BlobStore) -> None:
    digest = store.put_bytes(blob(1))
    store.path(digest).unlink()
    with pytest.raises(BlobMissing):
        store.read(digest)
    store.put_bytes(blob(1))
    assert store.read(digest) == blob(1)


def test_only_so_many_damaged_blobs_are_kept(store: BlobStore) -> None:
    for number in range(MAX_DAMAGED_KEPT + 5):
        digest = store.put_bytes(blob(number, 10))
        os.truncate(store.path(digest), 5)
        assert store.verify(digest) is False
    assert len(list((store.root / "damaged").iterdir())) == MAX_DAMAGED_KEPT


def test_opening_clears_what_a_crash_left_and_reports_what_it_can_not_trust(store: BlobStore) -> None:
    whole, torn = store.put_bytes(blob(1)), store.put_bytes(blob(2))
    torn_path, shard = store.path(torn), store.path(whole).parent
    os.truncate(torn_path, 4096)
    (store.root / "tmp" / "7").write_bytes(b"half a blob")
    (shard / "notes.txt").write_text("not ours")
    again = BlobStore(store.root, 1 * MIB, min_free_bytes=0)
    assert again.digests() == [whole]
    assert again.usage().idle_bytes == 100 * KIB
    assert leftovers(again) == []
    assert sorted(again.notices) == sorted(
        [
            f"{shard / 'notes.txt'} is no blob; it was left alone",
            f"blob {torn.hex()} has 4096 of 102400 bytes; it was set aside",
        ]
    )
    assert (shard / "notes.txt").exists()


def test_reading_costs_no_write_within_an_hour_but_the_order_of_use_survives(tmp_path: Path) -> None:
    now_s = 1_000_000.0
    store = BlobStore(tmp_path, 1 * MIB, min_free_bytes=0, now_s=lambda: now_s)
    digests = []
    for number in range(3):
        digests.append(store.put_bytes(blob(number)))
        now_s += 10
    times = [store.path(digest).stat().st_mtime for digest in digests]
    store.read(digests[0])
    assert [store.path(digest).stat().st_mtime for digest in digests] == times
    now_s += 4000
    store.read(digests[1])
    assert BlobStore(tmp_path, 1 * MIB).digests() == [digests[0], digests[2], digests[1]]


def test_a_lowered_quota_evicts_only_when_the_next_blob_comes(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 1 * MIB, min_free_bytes=0)
    digests = [store.put_bytes(blob(number)) for number in range(10)]
    smaller = BlobStore(tmp_path, 250 * KIB, min_free_bytes=0)
    assert len(smaller.digests()) == 10
    smaller.pin(digests[9], OWNER)
    smaller.put_bytes(b"x")
    assert smaller.usage().pinned_bytes + smaller.usage().idle_bytes <= 250 * KIB
    assert smaller.has(digests[9])


async def test_the_asynchronous_ways_agree_with_the_others(store: BlobStore) -> None:
    for size_bytes in (10, INLINE_BYTES, INLINE_BYTES + 1, 300_000):
        content = os.urandom(size_bytes)
        for durable in (False, True):
            digest = await store.put_bytes_async(content, durable=durable)
        assert await store.read_async(digest) == content
        assert await store.read_async(digest, 5, 3) == content[5:8]
        assert await store.verify_async(digest)
        other = os.urandom(size_bytes)
        with store.writer() as writer:
            await writer.write_async(other)
            assert await writer.finish_async() == digest_of(other)
    with pytest.raises(BlobMissing):
        await store.read_async(ABSENT)


async def test_threads_that_put_read_and_evict_at_once_keep_the_books_right(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, 40 * KIB, min_free_bytes=0)

    def work(seed: int) -> None:
        for turn in range(60):
            content = blob((seed + turn * 7) % 20, 4 * KIB)
            digest = store.put_bytes(content, durable=turn % 10 == 0)
            try:
                assert store.read(digest) == content
            except BlobMissing:
                continue  # evicted by another thread between the two

    async with trio.open_nursery() as nursery:
        for seed in range(4):
            nursery.start_soon(trio.to_thread.run_sync, work, seed)
    usage = store.usage()
    assert (usage.reserved_bytes, usage.pinned_bytes) == (0, 0)
    assert usage.idle_bytes == usage.blobs * 4 * KIB <= 40 * KIB
    assert sorted(store.digests()) == sorted(BlobStore(tmp_path, 40 * KIB).digests())
    assert all(store.verify(digest) for digest in store.digests())
