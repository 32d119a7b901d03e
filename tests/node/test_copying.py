"""A job's files on their way into the client's store: refused where they cannot fit, told of, and taken back."""

from functools import partial
from pathlib import Path

import pytest
import trio

from hearthmesh.crypto.certificates import NO_QUOTA, Quota
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.client import ClientError, JobRequest
from hearthmesh.node.client.confidential import build_confidential
from hearthmesh.node.client.copying import Copying, check_room, no_word
from hearthmesh.node.client.request import build_spec
from hearthmesh.node.client.session import submit_timeout_s
from hearthmesh.node.storage.blobs import BlobStore

MB = 1 << 20
MESH, PIN = bytes(32), b"pin"


def sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def request(path: Path, confidential: bool = False) -> JobRequest:
    return JobRequest(program=b"\0asm", tasks=1, files={"data": path}, confidential=confidential)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 64 * MB, min_free_bytes=0)


def test_files_that_the_quota_has_no_room_for_are_refused_by_name(store: BlobStore, tmp_path: Path) -> None:
    large = sparse(tmp_path / "large", 65 * MB)
    with pytest.raises(ClientError, match=r"68 MB together, the largest is .*/large: there is room for 67 MB .*quota"):
        check_room(request(large), store, NO_QUOTA)
    assert check_room(request(sparse(tmp_path / "less", 63 * MB)), store, NO_QUOTA) == 63 * MB + 4
    digest = store.put_bytes(b"x" * 2 * MB)
    assert check_room(request(tmp_path / "less"), store, NO_QUOTA), "what is idle makes room"
    store.pin(digest, b"somebody")
    with pytest.raises(ClientError, match="its quota"):
        check_room(request(tmp_path / "less"), store, NO_QUOTA)


def test_files_that_the_disk_has_no_room_for_are_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", 1 << 60)
    with pytest.raises(ClientError, match="the disk's free space"):
        check_room(request(sparse(tmp_path / "huge", 1 << 43)), store, NO_QUOTA)


def test_files_beyond_the_submitters_quota_at_a_node_are_refused(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="a node takes at most 10 MB of this submitter"):
        check_room(request(sparse(tmp_path / "large", 20 * MB)), store, Quota(bytes=10_000_000))


def test_a_file_that_is_named_twice_counts_once_and_a_missing_one_is_left_to_who_reads_it(
    store: BlobStore, tmp_path: Path
) -> None:
    large = sparse(tmp_path / "large", 40 * MB)
    both = JobRequest(program=b"\0asm", tasks=1, files={"a": large, "b": large, "c": tmp_path / "none"})
    assert check_room(both, store, NO_QUOTA) == 40 * MB + 4


@pytest.mark.parametrize("confidential", [False, True])
async def test_a_copy_that_nobody_waits_for_any_more_ends_and_leaves_nothing(
    store: BlobStore, tmp_path: Path, confidential: bool
) -> None:
    asked = request(sparse(tmp_path / "large", 48 * MB), confidential)
    told: list[tuple[int, int]] = []
    with trio.CancelScope() as scope:

        def cancel_at_the_third(done_bytes: int, total_bytes: int) -> None:
            told.append((done_bytes, total_bytes))
            if len(told) == 3:
                trio.from_thread.run_sync(scope.cancel)

        build = partial(build_spec, asked, MESH, store, PIN)
        if confidential:
            build = partial(build_confidential, asked, Identity.from_seed(bytes(32)), MESH, (), store, PIN)
        await trio.to_thread.run_sync(partial(build, told=Copying(48 * MB, cancel_at_the_third)))
    assert scope.cancelled_caught
    assert told[-1][1] == 48 * MB and told[-1][0] < 8 * MB
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    assert store.usage().reserved_bytes == 0


def test_replicas_have_the_longer_the_more_they_have_to_fetch(store: BlobStore, tmp_path: Path) -> None:
    small = build_spec(JobRequest(program=b"\0asm", tasks=1), MESH, store, PIN)
    large = build_spec(request(sparse(tmp_path / "large", 50_000_000)), MESH, store, PIN)
    assert round(submit_timeout_s(small)) == 60 and round(submit_timeout_s(large)) == 70


async def test_a_copy_is_told_of_to_its_end(store: BlobStore, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    asked = request(sparse(tmp_path / "large", 5 * MB))
    copying = Copying(5 * MB, lambda done, total: told.append((done, total)))
    await trio.to_thread.run_sync(partial(build_spec, asked, MESH, store, PIN, told=copying))
    assert told == [(number * MB, 5 * MB) for number in range(1, 6)]
    await trio.to_thread.run_sync(Copying(1, no_word), 2)
