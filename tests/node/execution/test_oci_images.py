"""The images of the container runtime: loaded once, within bounds, and refused where they are not what they say."""

import errno
import io
import os
import sys
import tarfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from hearthmesh.node.execution import native_sandbox, oci, oci_images, sandboxed
from hearthmesh.node.execution.native_folders import free_bytes
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.oci_archive import Image
from hearthmesh.node.execution.oci_config import OciRuntimeConfig
from hearthmesh.node.execution.outcome import BatchRequest, ExecutionError
from tests.node.execution.containers import LIMITS, PATIENCE_S, USER, Ask, opened, result
from tests.node.execution.images import HIDINGS, Archive, hide_another_image, layer, programs, shell_image
from tests.node.execution.test_native_executor import living

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="podman needs Linux")


async def test_an_image_is_loaded_once_and_found_by_the_nodes_next_run(
    archive: tuple[Path, str], state: Path, ask: Ask
) -> None:
    path, digest = archive
    for program in (path, path.with_name("gone")):
        executor = await opened((digest,), state)
        assert (await result(executor, ask.sh("echo here", program=program)))[:2] == (0, "here\n")
        assert executor.images is not None and tuple(executor.images.kept()) == (digest,)
        await executor.aclose()
    executor = await opened((f"sha256:{'0' * 64}",), state)
    assert executor.images is not None and not executor.images.kept()
    assert list((state / "images").iterdir()) == []


def small_image(size_bytes: int, fill: bytes) -> Archive:
    """Of a shell, and something that takes room on the disk."""
    files = {**programs("sh"), "filler": fill * size_bytes}
    return Archive([layer(files)])


async def test_the_longest_unused_image_makes_room(state: Path, tmp_path: Path) -> None:
    digests, paths = [], []
    for number in range(4):
        made = small_image(4 << 20, bytes([65 + number]))
        digests.append(made.seal())
        paths.append(tmp_path / f"{number}.tar")
        made.write(paths[-1])
    room = 24 << 20  # for three, of more than 6 MiB each
    executor = await opened(tuple(digests), state, quota_bytes=room)

    def ask(number: int) -> BatchRequest:
        words = ("sh", "-c", "echo fine")
        return BatchRequest(
            *(b"job", "oci", "command", paths[number], b"", 0, 1, b"seed", digests[number]),
            arguments=words,
            limits=LIMITS,
        )

    assert executor.images is not None
    for number in (0, 1, 2, 0, 3):
        assert (await result(executor, ask(number)))[:2] == (0, "fine\n")
    assert set(executor.images.kept()) == {digests[0], digests[2], digests[3]}
    assert executor.images.size_bytes <= room
    assert {f"sha256:{folder.name}" for folder in (state / "images").iterdir()} == set(executor.images.kept())
    await executor.aclose()


async def test_a_kept_image_runs_while_another_is_loaded(
    state: Path, tmp_path: Path, archive: tuple[Path, str], ask: Ask
) -> None:
    """A load may take minutes; here it cannot end, for its archive is a pipe that nobody writes to."""
    endless = f"sha256:{'1' * 64}"
    executor = await opened((archive[1], endless), state)
    await executor.run(ask.sh("exit 0"))
    os.mkfifo(tmp_path / "endless.tar")
    with ExitStack() as writers:
        async with trio.open_nursery() as nursery:
            loading = ask.sh("exit 0", entry=endless, program=tmp_path / "endless.tar")
            nursery.start_soon(expect_no_image, executor, loading)
            await trio.testing.wait_all_tasks_blocked()
            try:
                with trio.fail_after(PATIENCE_S):
                    assert (await result(executor, ask.sh("echo meanwhile")))[:2] == (0, "meanwhile\n")
            finally:  # the load ends, as no image: a thread that waits for a writer cannot be cancelled
                writer = os.open(tmp_path / "endless.tar", os.O_RDWR | os.O_NONBLOCK)
                writers.callback(os.close, writer)
    await executor.aclose()


async def expect_no_image(executor: OciExecutor, request: BatchRequest) -> None:
    with pytest.raises(ExecutionError, match="the image's archive cannot be read"):
        await executor.run(request)


async def test_an_image_beyond_the_quota_is_another_nodes(state: Path, archive: tuple[Path, str], ask: Ask) -> None:
    executor = await opened((archive[1],), state, quota_bytes=1 << 20)
    with pytest.raises(ExecutionError, match="needs more than the 1048576 bytes for images") as caught:
        await executor.run(ask.sh("true"))
    assert caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


async def test_what_a_node_that_was_killed_while_loading_had_copied_is_removed(
    state: Path, archive: tuple[Path, str]
) -> None:
    left = state / "files-left"
    left.mkdir(mode=0o750)
    (left / "image.tar").write_bytes(b"a copy")
    executor = await opened((archive[1],), state)
    assert not left.exists()
    await executor.aclose()


async def test_an_archive_is_not_copied_into_the_disks_reserve(
    state: Path, archive: tuple[Path, str], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    size_bytes = archive[0].stat().st_size
    executor = await opened((archive[1],), state, disk_reserve_bytes=1 << 20)
    monkeypatch.setattr(oci_images, "free_bytes", lambda _: (1 << 20) + size_bytes - 1)
    monkeypatch.setattr(executor.images, "_folders", None)  # nobody gets so far as to copy
    with pytest.raises(ExecutionError, match="could not be loaded: the node's disk is full") as caught:
        await executor.run(ask.sh("true"))
    assert caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


async def test_an_image_nested_deeper_than_a_path_is_refused_since_it_cannot_be_measured(
    state: Path, tmp_path: Path, ask: Ask
) -> None:
    """Podman takes 4,053 bytes of path within the image; from the root of the disk it is too long to look into."""
    inner = "/".join(["a" * 120] * 33) + f"/{'b' * 60}"
    made = Archive([layer(programs("sh")), deep_layer(inner, b"x" * (1 << 20))])
    digest = made.seal()
    made.write(tmp_path / "image.tar")
    executor = await opened((digest,), state)
    with pytest.raises(ExecutionError, match="it has folders that the node cannot look into") as caught:
        await executor.run(ask.sh("true", entry=digest, program=tmp_path / "image.tar"))
    assert caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


def deep_layer(path: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo(path)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_is_closed_to_the_node_is_not_taken_for_empty(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError):
        oci_images._measure(tmp_path)


async def test_an_image_is_on_the_disk_before_it_is_called_complete(
    state: Path, archive: tuple[Path, str], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a note must not stand beside files that are empty."""
    steps: list[tuple[str, list[str]]] = []
    sync, fsync, rename = os.sync, os.fsync, os.rename

    def syncing() -> None:
        sync()
        steps.append(("sync", sorted(path.name for path in state.glob("images/*/kept/*"))))

    def fsyncing(fd: int) -> None:
        steps.append(("fsync", [Path(os.readlink(f"/proc/self/fd/{fd}")).name]))
        fsync(fd)

    def renaming(source: Path | str, target: Path | str, **folders: int) -> None:
        if not folders:  # which are of a removal
            steps.append(("rename", [Path(target).name]))
        rename(source, target, **folders)

    executor = await opened((archive[1],), state)
    for name, wrapped in (("sync", syncing), ("fsync", fsyncing), ("rename", renaming)):
        monkeypatch.setattr(os, name, wrapped)
    await executor.run(ask.sh("true"))
    name = archive[1].removeprefix("sha256:")
    assert steps == [("rename", ["rootfs"]), ("sync", ["rootfs"]), ("fsync", ["kept.json"]), ("rename", [name])]
    await executor.aclose()


@pytest.mark.parametrize("slow", ["the sandbox's start", "the container"])
async def test_what_a_busy_machine_was_too_slow_for_is_tried_again(
    state: Path, archive: tuple[Path, str], slow: str
) -> None:
    await (await opened((archive[1],), state)).aclose()  # which skips where containers do not run at all
    executor = OciExecutor(OciRuntimeConfig(images=(archive[1],), uid=USER), state)
    with pytest.MonkeyPatch.context() as busy:
        if slow == "the container":
            busy.setattr(oci, "PROBE_LIMITS", replace(sandboxed.PROBE_LIMITS, wall_us=1))
        else:
            busy.setattr(native_sandbox, "START_TIMEOUT_S", 0.0)
        is_available, reason = await executor.available()
        assert not is_available and reason
    assert await executor.available() == (False, reason)  # from memory, for a minute
    with pytest.MonkeyPatch.context() as later:
        now = trio.current_time()
        later.setattr(trio, "current_time", lambda: now + sandboxed.RETRY_S)
        assert await executor.available() == (True, "")
    await executor.aclose()


async def test_a_load_that_does_not_start_is_this_nodes_fault_and_the_node_goes_on(
    state: Path, archive: tuple[Path, str], ask: Ask
) -> None:
    executor = await opened((archive[1],), state)
    assert executor.images is not None
    tools = executor.images._tools
    executor.images._tools = replace(tools, bwrap="/bin/false")
    with pytest.raises(ExecutionError, match="the sandbox did not start") as caught:
        await executor.run(ask.sh("true"))
    assert caught.value.is_ours
    executor.images._tools = tools
    assert (await result(executor, ask.sh("echo fine")))[:2] == (0, "fine\n")
    await executor.aclose()


async def test_a_disk_that_fails_while_an_image_loads_is_this_nodes_fault(
    state: Path, archive: tuple[Path, str], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(folder: Path) -> int:
        if folder.name == "store":
            raise OSError(errno.EIO, "Input/output error")
        return free_bytes(folder)

    executor = await opened((archive[1],), state)
    monkeypatch.setattr(oci_images, "free_bytes", failing)
    with pytest.raises(ExecutionError, match="could not be loaded: its disk: Input/output error") as caught:
        await executor.run(ask.sh("true"))
    assert caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


async def test_an_archive_of_another_image_is_the_jobs_fault(state: Path, tmp_path: Path, ask: Ask) -> None:
    wanted, other = shell_image("cat"), shell_image("ls")
    digest, _ = wanted.seal(), other.seal()
    other.write(tmp_path / "other.tar")
    executor = await opened((digest,), state)
    with pytest.raises(ExecutionError, match="the archive holds sha256:.*, and the job names") as caught:
        await executor.run(ask.sh("true", entry=digest, program=tmp_path / "other.tar"))
    assert not caught.value.is_ours
    await executor.aclose()


async def test_a_changed_layer_is_refused_and_leaves_nothing(state: Path, tmp_path: Path, ask: Ask) -> None:
    made = shell_image("cat")
    digest = made.seal()
    largest = max(made.blobs, key=lambda each: len(made.blobs[each]))
    made.blobs[largest] = made.blobs[largest].replace(b"/lib", b"/bil")
    made.write(tmp_path / "changed.tar")
    executor = await opened((digest,), state)
    with pytest.raises(ExecutionError, match="layer 0 is another blob than the manifest says") as caught:
        await executor.run(ask.sh("true", entry=digest, program=tmp_path / "changed.tar"))
    assert not caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


@pytest.mark.parametrize("hide", HIDINGS.values(), ids=HIDINGS)
async def test_an_image_behind_an_allowed_ones_name_never_runs_and_is_not_kept(
    state: Path, tmp_path: Path, ask: Ask, hide: Callable[[bytes], bytes]
) -> None:
    """The digest in the archive is the allowed one; podman alone would find the other index, and its layers."""
    allowed = Archive([layer({**programs("sh"), "who": b"the allowed one\n"})])
    digest = allowed.seal()
    allowed.write(tmp_path / "image.tar")
    other = layer({**programs("sh"), "who": b"another\n"})
    hide_another_image(tmp_path / "image.tar", allowed, other, hide)
    executor = await opened((digest,), state)
    request = ask.sh("read x </who; echo $x", entry=digest, program=tmp_path / "image.tar")
    with pytest.raises(ExecutionError, match="no OCI archive") as caught:
        await executor.run(request)
    assert not caught.value.is_ours
    assert list((state / "images").iterdir()) == []
    await executor.aclose()


async def test_what_an_earlier_version_kept_is_loaded_anew(state: Path, archive: tuple[Path, str]) -> None:
    """It read archives less strictly, and may have been given another image."""
    earlier = state / "images" / archive[1].removeprefix("sha256:")
    earlier.mkdir(parents=True)
    note = (Image(archive[1], archive[1], (), ("/bin/sh",)), 4096)
    (earlier / "image.json").write_bytes(msgspec.json.encode(note))
    executor = await opened((archive[1],), state)
    assert executor.images is not None and not executor.images.kept()
    assert not earlier.exists()
    await executor.aclose()


async def test_files_of_an_images_other_users_are_the_tasks_own(state: Path, tmp_path: Path, ask: Ask) -> None:
    made = Archive([layer(programs("sh", "cat")), layer({"srv/data": b"of another user"}, owner=33, mode=0o600)])
    digest = made.seal()
    made.write(tmp_path / "image.tar")
    executor = await opened((digest,), state)
    request = ask.sh("cat /srv/data", entry=digest, program=tmp_path / "image.tar")
    assert (await result(executor, request))[:2] == (0, "of another user")
    await executor.aclose()


async def test_cancelling_a_load_leaves_nothing(state: Path, archive: tuple[Path, str], ask: Ask) -> None:
    executor = await opened((archive[1],), state)
    for moment in range(6):
        with trio.move_on_after(moment / 20):
            await executor.run(ask("sleep", "42.0030"))
        assert [path.name for path in (state / "images").iterdir() if path.name.startswith("loading-")] == []
        assert living("42.0030") == []
    await executor.aclose()
