"""The journal keeps what it acknowledged, in order, whatever is merged with what."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.node.storage import journal_writer
from hearthmesh.node.storage.errors import StorageFull, StorageLocked
from hearthmesh.node.storage.journal import Journal
from hearthmesh.node.storage.records import (
    MAX_BODY_BYTES,
    Delete,
    Forget,
    Put,
    StoredHeader,
    StoredRecord,
    Write,
)

JOB, OTHER = b"\x11" * 32, b"\x22" * 32


def put(key: int, body: bytes = b"body", job_id: bytes = JOB, kind: int = 1) -> Put:
    return Put(StoredRecord(job_id, kind, key.to_bytes(8, "big"), body))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as opened:
        yield opened


async def test_a_new_journal_is_empty_private_and_has_no_notices(journal: Journal) -> None:
    assert list(journal.load()) == []
    assert journal.counts() == {}
    assert journal.notices == []
    await journal.commit([put(1)], durable=True)
    assert {file.name: file.stat().st_mode & 0o777 for file in journal.path.parent.iterdir()} == dict.fromkeys(
        ["journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"], 0o600
    )


async def test_records_load_in_order_of_their_first_write(journal: Journal) -> None:
    await journal.commit([put(3), put(1)], durable=True)
    await journal.commit([put(2), put(3, b"replaced")], durable=False)
    assert list(journal.load()) == [put(3, b"replaced").record, put(1).record, put(2).record]


async def test_a_removed_record_that_returns_is_last(journal: Journal) -> None:
    await journal.commit([put(1), put(2)], durable=True)
    await journal.commit([Delete(JOB, 1, (1).to_bytes(8, "big")), put(1, b"again")], durable=True)
    assert list(journal.load()) == [put(2).record, put(1, b"again").record]


async def test_kinds_filter_and_headers_carry_sizes(journal: Journal) -> None:
    await journal.commit([put(1, b"x" * 100_000, kind=7), put(2, kind=8), put(3, kind=9)], durable=True)
    assert list(journal.load([8, 9])) == [put(2, kind=8).record, put(3, kind=9).record]
    assert list(journal.load([])) == []
    assert list(journal.load_headers([7])) == [StoredHeader(JOB, 7, (1).to_bytes(8, "big"), 100_000)]
    assert journal.counts() == {7: 1, 8: 1, 9: 1}


async def test_read_finds_one_record_from_any_thread(journal: Journal) -> None:
    await journal.commit([put(1, b"here"), put(1, b"node-wide", b"")], durable=False)
    key = (1).to_bytes(8, "big")
    assert await trio.to_thread.run_sync(journal.read, JOB, 1, key) == b"here"
    assert journal.read(b"", 1, key) == b"node-wide"
    assert journal.read(OTHER, 1, key) is None
    assert journal.read(JOB, 2, key) is None


async def test_forget_removes_one_job_only_and_it_can_come_back_in_the_same_commit(journal: Journal) -> None:
    await journal.commit([put(1), put(2, job_id=OTHER), put(3, job_id=b"")], durable=True)
    await journal.commit([put(4), Forget(JOB), put(5), Forget(OTHER)], durable=True)
    assert list(journal.load()) == [put(3, job_id=b"").record, put(5).record]
    await journal.commit([put(6), put(7, job_id=OTHER)], durable=True)
    assert journal.counts() == {1: 4}


async def test_concurrent_commits_all_arrive(journal: Journal) -> None:
    async with trio.open_nursery() as nursery:
        for task in range(50):
            nursery.start_soon(commit_one_by_one, journal, range(task * 10, task * 10 + 10))
    assert sorted(record.key for record in journal.load()) == [n.to_bytes(8, "big") for n in range(500)]


async def commit_one_by_one(journal: Journal, keys: Sequence[int]) -> None:
    for key in keys:
        await journal.commit([put(key)], durable=key % 3 == 0)


async def test_a_cancelled_commit_still_happens(journal: Journal) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await journal.commit([put(1)], durable=True)
    assert scope.cancelled_caught
    await journal.commit([], durable=True)
    assert list(journal.load()) == [put(1).record]


async def test_a_body_of_the_greatest_size_fits_and_one_byte_more_is_refused(journal: Journal) -> None:
    body = bytes(range(256)) * (MAX_BODY_BYTES // 256)
    await journal.commit([put(1, body)], durable=True)
    assert journal.read(JOB, 1, (1).to_bytes(8, "big")) == body
    with pytest.raises(ValueError, match="body of"):
        await journal.commit([put(1, body + b"x")], durable=True)


@pytest.mark.parametrize(
    "write",
    [
        put(1, job_id=b"short"),
        put(1, kind=-1),
        put(1, kind=1 << 16),
        Put(StoredRecord(JOB, 1, b"k" * 65, b"")),
        Delete(b"short", 1, b""),
        Forget(b""),
    ],
)
async def test_a_record_out_of_bounds_is_refused_before_it_is_written(journal: Journal, write: Write) -> None:
    with pytest.raises(ValueError):
        await journal.commit([put(1), write], durable=True)
    assert list(journal.load()) == []


async def test_records_survive_closing(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        await journal.commit([put(1), put(2, job_id=b"")], durable=False)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert list(journal.load()) == [put(1).record, put(2, job_id=b"").record]


async def test_a_second_journal_on_the_same_file_is_refused(journal: Journal) -> None:
    with pytest.raises(StorageLocked, match="in use by process"):
        Journal.open(journal.path)


async def test_compaction_gives_room_back_while_commits_go_on(journal: Journal) -> None:
    await journal.commit([put(key, b"x" * 100_000) for key in range(100)], durable=True)
    await journal.commit([Forget(JOB)], durable=True)
    full_bytes = journal.size_bytes()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.compact)
        nursery.start_soon(commit_one_by_one, journal, range(20))
    await journal.compact()
    assert journal.size_bytes() < full_bytes // 50
    assert journal.counts() == {1: 20}


async def test_what_does_not_fit_fails_alone_and_the_rest_stays(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db", max_size_bytes=1 << 20) as journal:
        outcomes: dict[int, bool] = {}
        async with trio.open_nursery() as nursery:
            for key in range(40):
                nursery.start_soon(try_to_commit, journal, key, 1_500_000 if key == 20 else 1000, outcomes)
        assert outcomes == {key: key != 20 for key in range(40)}
        assert journal.counts() == {1: 39}


async def test_a_full_journal_keeps_what_it_acknowledged_and_takes_more_after_room_was_made(
    tmp_path: Path,
) -> None:
    outcomes: dict[int, bool] = {}
    with Journal.open(tmp_path / "journal.db", max_size_bytes=1 << 20) as journal:
        for key in range(40):
            await try_to_commit(journal, key, 50_000, outcomes)
        kept = [key for key, written in outcomes.items() if written]
        assert 0 < len(kept) < 40
        assert [int.from_bytes(record.key, "big") for record in journal.load()] == kept
        await journal.commit([Forget(JOB)], durable=True)
        await journal.commit([put(99, job_id=OTHER)], durable=True)
    with Journal.open(tmp_path / "journal.db") as journal:
        assert list(journal.load()) == [put(99, job_id=OTHER).record]


async def test_a_quick_disk_is_written_by_the_caller_and_a_slow_one_by_the_thread(journal: Journal) -> None:
    done: list[int] = []
    journal.submit([put(1)], lambda error: done.append(1))
    assert done == [1]
    journal._writer._commit_s = 1.0
    journal.submit([put(2, b"of the thread")], lambda error: done.append(2))
    assert done == [1]
    journal._writer._commit_s = 0.0
    # However quick the disk is by now: what came first is written first.
    journal.submit([put(2, b"after it")], lambda error: done.append(3))
    await journal.commit([put(4)], durable=True)
    assert done == [1, 2, 3]
    assert journal.read(JOB, 1, (2).to_bytes(8, "big")) == b"after it"


async def test_what_does_not_fit_is_refused_to_the_caller_too(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db", max_size_bytes=1 << 20) as journal:
        errors: list[object] = []
        journal.submit([put(1, b"x" * 1_500_000)], errors.append)
        journal.submit([put(2)], errors.append)
        await journal.commit([], durable=True)
        assert [type(error) for error in errors] == [StorageFull, type(None)]
        assert journal.counts() == {1: 1}


async def try_to_commit(journal: Journal, key: int, size_bytes: int, outcomes: dict[int, bool]) -> None:
    try:
        await journal.commit([put(key, b"x" * size_bytes)], durable=True)
        outcomes[key] = True
    except StorageFull:
        outcomes[key] = False


keys = st.integers(0, 5)
job_ids = st.sampled_from([JOB, OTHER, b""])
writes = st.one_of(
    st.builds(put, keys, st.binary(max_size=40), job_ids, st.integers(1, 2)),
    st.builds(lambda key, job, kind: Delete(job, kind, key.to_bytes(8, "big")), keys, job_ids, st.integers(1, 2)),
    st.builds(Forget, st.sampled_from([JOB, OTHER])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(writes, max_size=70), st.booleans()), max_size=8), st.booleans())
def test_a_journal_equals_a_dict_that_saw_the_same_writes(
    commits: list[tuple[list[Write], bool]], at_once: bool
) -> None:
    expected: dict[tuple[bytes, int, bytes], StoredRecord] = {}
    for write in (write for group, _ in commits for write in group):
        match write:
            case Put(record):
                expected[record.job_id, record.kind, record.key] = record
            case Delete(job_id, kind, key):
                expected.pop((job_id, kind, key), None)
            case Forget(job_id):
                expected = {place: record for place, record in expected.items() if place[0] != job_id}

    async def replay(journal: Journal) -> None:
        async with trio.open_nursery() as nursery:
            for group, durable in commits:
                if at_once:
                    nursery.start_soon(lambda g=group, d=durable: journal.commit(g, durable=d))
                else:
                    await journal.commit(group, durable=durable)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        with Journal.open(path) as journal:
            trio.run(replay, journal)
            if not at_once:  # trio starts tasks in no fixed order
                assert list(journal.load()) == list(expected.values())
            seen = list(journal.load())
        with Journal.open(path) as journal:
            assert list(journal.load()) == seen
            assert journal.notices == []


async def test_the_caller_never_commits_while_the_thread_copies_the_log(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = journal._writer
    inside, go_on = threading.Event(), threading.Event()
    checkpoint = journal_writer.JournalWriter._checkpoint

    def slow(self: journal_writer.JournalWriter, mode: str) -> None:
        self._wal_bytes = 0
        inside.set()
        go_on.wait(10)
        checkpoint(self, mode)

    monkeypatch.setattr(journal_writer.JournalWriter, "_checkpoint", slow)
    writer._wal_bytes = journal_writer.CHECKPOINT_BYTES
    done: list[int] = []
    journal.submit([put(1)], lambda error: done.append(1))
    assert await trio.to_thread.run_sync(inside.wait, 10)
    journal.submit([put(2)], lambda error: done.append(2))
    assert 2 not in done
    go_on.set()
    await journal.commit([], durable=True)
    assert done == [1, 2]


async def test_what_is_large_or_comes_after_a_stall_is_written_by_the_thread(journal: Journal) -> None:
    done: list[int] = []
    large = [put(number, bytes(100_000)) for number in range(4)]
    journal.submit(large, lambda error: done.append(1))
    assert done == []
    await journal.commit([], durable=True)
    journal._writer._here_from_s = math.inf
    journal.submit([put(9)], lambda error: done.append(2))
    assert done == [1]
    await journal.commit([], durable=True)
    assert done == [1, 2]


async def test_numbers_of_jobs_are_not_used_twice_after_a_job_was_forgotten(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.db") as journal:
        await journal.commit([put(1), put(1, job_id=OTHER)], durable=True)
        await journal.commit([Forget(OTHER), put(2, job_id=b"n" * 32)], durable=True)
        await journal.commit([put(3, job_id=OTHER)], durable=True)
    with Journal.open(tmp_path / "journal.db") as journal:
        await journal.commit([put(4, job_id=b"m" * 32)], durable=True)
        assert [record.job_id for record in journal.load()] == [JOB, b"n" * 32, OTHER, b"m" * 32]
