"""A job's files on their way into the client's store: refused where they cannot fit, told of, and taken back."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio

from hearthmesh.crypto.certificates import NO_QUOTA, Quota
from hearthmesh.crypto.identity import Identity
from hearthmesh.node.bench.modules import HASH, module_path
from hearthmesh.node.client import ClientError, JobRequest
from hearthmesh.node.client.confidential import build_confidential
from hearthmesh.node.client.copying import Copying, check_room, copy, no_word
from hearthmesh.node.client.request import JobInputs, build_spec
from hearthmesh.node.client.session import submit_timeout_s
from hearthmesh.node.jobfile import JobFile, load_job_file
from hearthmesh.node.python.guest.hearth_values import pack
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.protocol.inputs import INPUT_BYTES_MAX
from hearthmesh.protocol.records import JobSpec

MB = 1 << 20
MESH, PIN = bytes(32), b"pin"
MODULE = module_path(HASH).read_bytes()


def sparse(path: Path, size_bytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return path


def builder(asked: JobRequest, store: BlobStore, confidential: bool) -> Callable[..., JobSpec]:
    if confidential:
        return partial(build_confidential, asked, Identity.from_seed(bytes(32)), MESH, (), store, PIN)
    return partial(build_spec, asked, MESH, store, PIN)


def job(folder: Path, text: str) -> JobFile:
    (folder / "job.toml").write_text(f'program = "module.wasm"\n{text}\n')
    return load_job_file(folder / "job.toml")


def request(path: Path, confidential: bool = False) -> JobRequest:
    return JobRequest(program=b"\0asm", tasks=1, files={"data": path}, confidential=confidential)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 64 * MB, min_free_bytes=0)


def test_files_that_the_quota_has_no_room_for_are_refused_by_name(store: BlobStore, tmp_path: Path) -> None:
    large = sparse(tmp_path / "large", 65 * MB)
    complaint = r"68 MB together, the largest part is .*/large: there is room for 67 MB .*quota\); make several jobs"
    with pytest.raises(ClientError, match=complaint):
        check_room(request(large), store, NO_QUOTA)
    assert check_room(request(sparse(tmp_path / "less", 63 * MB)), store, NO_QUOTA) == 63 * MB + 4
    digest = store.put_bytes(b"x" * 2 * MB)
    assert check_room(request(tmp_path / "less"), store, NO_QUOTA), "what is idle makes room"
    store.pin(digest, b"somebody")
    with pytest.raises(ClientError, match="its quota"):
        check_room(request(tmp_path / "less"), store, NO_QUOTA)


def test_files_that_the_disk_has_no_room_for_are_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "blobs", 1 << 60)
    with pytest.raises(ClientError, match=r"the disk's free space\); put client.state on a larger disk"):
        check_room(request(sparse(tmp_path / "huge", 1 << 43)), store, NO_QUOTA)


def test_files_beyond_the_submitters_quota_at_a_node_are_refused(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(
        ClientError, match="a node takes at most 10 MB of this submitter .* or ask the mesh's authority"
    ):
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

        build = builder(asked, store, confidential)
        await trio.to_thread.run_sync(partial(build, told=Copying(48 * MB, cancel_at_the_third)))
    assert scope.cancelled_caught
    assert told[-1][1] == 48 * MB and told[-1][0] < 8 * MB
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    assert store.usage().reserved_bytes == 0


@pytest.mark.parametrize("confidential", [False, True])
async def test_who_gives_a_submission_up_gets_back_what_it_alone_brought(
    store: BlobStore, tmp_path: Path, confidential: bool
) -> None:
    inputs = [bytes([number]) * INPUT_BYTES_MAX for number in range(24)]
    asked = JobRequest(
        program=MODULE,
        inputs=inputs,
        files={"a": sparse(tmp_path / "large", 2 * MB), "b": b"b", "c": b"c"},
        confidential=confidential,
    )
    idle, shared = store.put_bytes(b"b"), store.put_bytes(b"c")
    store.pin(shared, b"another")
    told: list[tuple[int, int]] = []
    with trio.CancelScope() as scope:

        def cancel_at_the_tenth(done_bytes: int, total_bytes: int) -> None:
            told.append((done_bytes, total_bytes))
            if done_bytes >= 10 * MB:
                trio.from_thread.run_sync(scope.cancel)

        await copy(asked, builder(asked, store, confidential), store, PIN, NO_QUOTA, cancel_at_the_tenth)
    assert scope.cancelled_caught
    assert told[-1] == (pytest.approx(10 * MB, abs=MB), 2 * MB + 24 * INPUT_BYTES_MAX + 2 + len(MODULE))
    assert sorted(store.digests()) == sorted((idle, shared))
    usage = store.usage()
    assert (usage.reserved_bytes, usage.pinned_bytes, usage.idle_bytes) == (0, 4096, 4096)
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []


@pytest.mark.parametrize("confidential", [False, True])
async def test_a_submission_that_fails_half_way_leaves_nothing(
    store: BlobStore, tmp_path: Path, confidential: bool
) -> None:
    files = {"a": sparse(tmp_path / "large", 2 * MB), "b": tmp_path / "none"}
    asked = JobRequest(program=MODULE, tasks=1, files=files, confidential=confidential)
    with pytest.raises(ClientError, match="none: cannot be read"):
        await copy(asked, builder(asked, store, confidential), store, PIN, NO_QUOTA)
    assert store.digests() == []


async def test_what_was_given_up_comes_again_and_is_told_of_to_its_end(store: BlobStore) -> None:
    asked = JobRequest(program=MODULE, inputs=[bytes([number]) * INPUT_BYTES_MAX for number in range(3)])
    assert store.take_back(PIN, ()) == 0
    told: list[tuple[int, int]] = []
    build = builder(asked, store, False)
    spec = await copy(asked, build, store, PIN, NO_QUOTA, lambda done, total: told.append((done, total)))
    assert sorted(store.digests()) == sorted(spec.blob_digests())
    total = 3 * INPUT_BYTES_MAX + len(MODULE)
    assert told == [(MB, total), (2 * MB, total), (min(3 * MB, total), total), (total, total)]
    assert store.take_back(PIN, spec.blob_digests()[:1]) == 3
    assert store.digests() == [spec.program]


def test_inputs_that_cannot_fit_are_refused_before_they_are_read(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(70):
        sparse(tmp_path / "in" / str(number), MB - 8)
    (tmp_path / "module.wasm").write_bytes(MODULE)
    (tmp_path / "lines").write_bytes(b"a line\n" * 100)
    complaint = r"73 MB together, the largest part is the inputs: there is room for 67 MB"
    with pytest.raises(ClientError, match=complaint):
        check_room(JobRequest.from_file(job(tmp_path, 'inputs_from = "in"'), now_us=0), store, NO_QUOTA)
    with pytest.raises(ClientError, match=complaint):
        check_room(JobRequest(program=MODULE, inputs=[bytes(MB - 8)] * 70), store, NO_QUOTA)
    lines = JobRequest.from_file(job(tmp_path, 'inputs_lines = "lines"'), now_us=0)
    assert check_room(lines, store, NO_QUOTA) == len(MODULE) + 700
    packed = JobInputs(job(tmp_path, 'inputs_lines = "lines"'), pack)
    assert list(packed) == [pack(b"a line")] * 100 == list(packed)


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
