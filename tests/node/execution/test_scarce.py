"""A machine that lacks what a task's processes need gives the task back, says why, and runs the next one."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.native_folders import checkpoint_size_bytes
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit
from tests.node.execution.conftest import PoolMaker, Wasm
from tests.node.execution.containers import Ask
from tests.node.execution.test_native_executor import CONFIG, until
from tests.node.execution.test_native_executor import ask as ask_native
from tests.node.execution.test_native_executor import state as _state

# More than any runtime opens for one task.
DESCRIPTORS_MAX = 48
# Where not even the thread that is to start it can be, that is the reason.
NO_PROCESS = ("Resource temporarily unavailable", "no thread can be started")
Runs = Callable[[BatchRequest], Awaitable[BatchOutcome]]

state = _state


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """This process can open so many files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(open_files()) + 256, hard))
    try:
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                break
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def native(state: Path, **changes: Any) -> NativeExecutor:
    executor = NativeExecutor(replace(CONFIG, **changes), state)
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    return executor


async def run_with_ever_more(run: Runs, request: BatchRequest) -> list[str]:
    """Why each run failed, with 0, 1, … descriptors, until one succeeds. Nothing is left of any."""
    reasons: list[str] = []
    for left in range(DESCRIPTORS_MAX):
        files, processes = open_files(), children()
        with trio.fail_after(60):
            with descriptors(left):
                try:
                    outcome = await run(request)
                except ExecutionError as error:
                    assert error.reason in (ExecutionFault.UNAVAILABLE, ExecutionFault.CHILD_LOST), str(error)
                    assert error.is_ours
                    reasons.append(str(error))
                    outcome = None
            if outcome is not None:
                assert outcome.exits == [Exit.SUCCESS], "what this machine lacks is no result of the task's"
                return reasons
        assert open_files() == files and children() == processes, f"left behind with {left} descriptors"
    raise AssertionError("it never had enough descriptors")


async def test_wasm_tasks_are_given_back_while_the_node_has_too_many_files_open(
    wasm: Wasm, make_pool: PoolMaker
) -> None:
    pool = make_pool(idle_s=0)
    request = wasm.request("echo", [b"x"])
    assert (await pool.run(request)).outputs == [b"x"]
    await pool.aclose()
    fresh = make_pool(idle_s=0)
    reasons = await run_with_ever_more(fresh.run, request)
    assert any("Too many open files" in reason for reason in reasons)
    assert (await fresh.run(request)).outputs == [b"x"]


async def test_native_tasks_are_given_back_while_the_node_has_too_many_files_open(tmp_path: Path) -> None:
    executor = await native(tmp_path / "native")
    request = ask_native("exit 0", checkpoint_root=tmp_path / "checkpoints")
    reasons = await run_with_ever_more(executor.run, request)
    assert any("Too many open files" in reason for reason in reasons)
    await executor.aclose()


async def without_descriptors_once(sign: Path, run: Callable[[], Awaitable[None]]) -> None:
    """From when the file is there until `run` has ended no file can be opened."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(sign.exists)
            with descriptors(0):
                await until(lambda: not nursery.child_tasks)


async def test_a_native_task_is_given_back_where_its_checkpoint_cannot_be_looked_at_any_more(state: Path) -> None:
    executor = await native(state)
    script = "test -e /ckpt/half && exit 0; : >/ckpt/half; exec sleep 60"
    request = ask_native(script, checkpoint_root=state / "checkpoints")
    half = executor.checkpoint_folder(state / "checkpoints", request.job_id, 0) / "half"

    async def given_back() -> None:
        with pytest.raises(ExecutionError, match="cannot look into the checkpoint folder: Too many open") as caught:
            await executor.run(request)
        assert caught.value.is_ours

    files, processes = open_files(), children()
    await without_descriptors_once(half, given_back)
    assert open_files() == files and children() == processes
    assert (await executor.run(request)).exits == [Exit.SUCCESS], "it goes on from what was there"
    await executor.aclose()


@pytest.mark.parametrize("private", [False, True])
async def test_native_tasks_that_had_ended_stay_where_the_machine_fails_at_a_later_one(
    state: Path, private: bool
) -> None:
    executor = await native(state)
    # The second holds the slot until there is nothing left to look into its checkpoint with.
    script = 'echo "$1"; test "$1" != 1 || { : >/ckpt/half; exec sleep 60; }'
    request = replace(
        ask_native(script, checkpoint_root=state / "checkpoints"), arguments=(script, "sh", "{index}"), count=4
    )
    if private:
        request = replace(request, private=state)
    half = executor.checkpoint_folder(state / "checkpoints", request.job_id, 1) / "half"
    outcomes: list[BatchOutcome] = []

    async def run() -> None:
        outcomes.append(await executor.run(request))

    with capture_logs() as logs:
        await without_descriptors_once(half, run)
    (outcome,), (said,) = outcomes, logs
    assert (said["event"], said["ran"]) == ("batch.cut-short", 1)
    assert ("Too many open files" in said["reason"]) is not private, "it may name what is confidential"
    assert outcome.exits == [Exit.SUCCESS] + 3 * [Exit.CANCELLED] and outcome.outputs[1:] == 3 * [b""]
    assert msgspec.msgpack.decode(outcome.outputs[0]) == [b"0\n", {}] and len(outcome.fuels) == len(outcome.cpu_us) == 4
    await executor.aclose()


def test_a_checkpoint_is_not_measured_too_small_for_want_of_descriptors(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "big").write_bytes(bytes(1 << 20))
    for left in range(3):
        with descriptors(left), pytest.raises(OSError, match="Too many open files"):
            checkpoint_size_bytes(tmp_path)
    with descriptors(8):
        size_bytes = checkpoint_size_bytes(tmp_path)
    assert size_bytes is not None and size_bytes >= 1 << 20


async def test_a_native_task_is_given_back_where_the_disk_falls_below_the_owners_reserve(state: Path) -> None:
    executor = await native(state, disk_reserve_bytes=1 << 62)
    request = ask_native("exec sleep 60", checkpoint_root=state / "checkpoints")
    with pytest.raises(ExecutionError, match="the node's disk is full") as caught:
        await executor.run(request)
    assert caught.value.is_ours
    await executor.aclose()


async def test_containers_are_given_back_while_the_node_has_too_many_files_open(
    executor: OciExecutor, ask: Ask
) -> None:
    request = ask("sh", "-c", "exit 0")
    assert (await executor.run(request)).exits == [Exit.SUCCESS]
    reasons = await run_with_ever_more(executor.run, request)
    assert any("Too many open files" in reason for reason in reasons)


@contextmanager
def full_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own with neither a block nor an inode left; what fills it is named `full…`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=24,mode=0755", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {made.stderr.decode().strip()}")
    try:
        with pytest.raises(OSError, match="No space left"):
            (folder / "full").write_bytes(bytes(1 << 20))
        with pytest.raises(OSError, match="No space left"):
            for number in range(64):
                (folder / f"full-{number}").touch()
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_room(folder: Path) -> None:
    for path in folder.glob("full*"):
        path.unlink()


async def test_a_module_runs_where_the_disk_has_no_room_for_it_compiled(
    wasm: Wasm, make_pool: PoolMaker, tmp_path: Path
) -> None:
    with full_disk(tmp_path / "disk") as disk:
        make_room(disk)
        (disk / "cache").mkdir(mode=0o700)
        with pytest.raises(OSError, match="No space left"):
            (disk / "full").write_bytes(bytes(1 << 20))
        pool = make_pool(cache_dir=disk / "cache")
        assert (await pool.run(wasm.request("echo", [b"x"]))).outputs == [b"x"]
        await pool.aclose()


async def test_where_not_even_the_cache_has_a_folder_tasks_are_given_back(
    wasm: Wasm, make_pool: PoolMaker, tmp_path: Path
) -> None:
    with full_disk(tmp_path / "disk") as disk:
        pool = make_pool(cache_dir=disk / "cache")
        before = open_files()
        with pytest.raises(ExecutionError, match="No space left") as caught:
            await pool.run(wasm.request("echo", [b"x"]))
        assert caught.value.is_ours and open_files() == before
        make_room(disk)
        assert (await pool.run(wasm.request("echo", [b"x"]))).outputs == [b"x"]
        await pool.aclose()


async def test_a_native_task_is_given_back_where_its_checkpoint_has_no_room(tmp_path: Path) -> None:
    executor = await native(tmp_path / "native")
    with full_disk(tmp_path / "disk") as disk:
        request = ask_native("exit 0", checkpoint_root=disk / "checkpoints")
        with pytest.raises(ExecutionError, match="No space left") as caught:
            await executor.run(request)
        assert caught.value.is_ours
        make_room(disk)
        assert (await executor.run(request)).exits == [Exit.SUCCESS]
    await executor.aclose()


@contextmanager
def processes() -> Iterator[Callable[[int | None], None]]:
    """This process in a control group of its own; call it with how many more it may start, None for as many as ever."""
    parents = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
    parent = next((each for each in parents if (each / "cgroup.procs").exists()), None)
    mine = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    before = next((path for _, names, path in mine if names == "pids" or (parent == parents[1] and not names)), None)
    if parent is None or before is None:
        pytest.skip("no control groups are mounted here")
    group = parent / f"hearth-test-{os.getpid()}"
    try:
        group.mkdir()
        if not (group / "pids.max").exists():
            raise FileNotFoundError("no pids.max")
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        if group.exists():
            group.rmdir()
        pytest.skip(f"no control group of processes can be made here: {error}")

    def allow(left: int | None) -> None:
        # None at all is none whatever ends meanwhile, as an idle thread may.
        used = int((group / "pids.current").read_text()) if left else 0
        (group / "pids.max").write_text("max" if left is None else str(used + left))

    try:
        yield allow
    finally:
        allow(None)
        (parent / before.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


async def run_with_ever_more_processes(
    run: Runs, request: BatchRequest, allow: Callable[[int | None], None]
) -> list[str]:
    """As `run_with_ever_more`, of processes and threads."""
    reasons: list[str] = []
    for left in range(DESCRIPTORS_MAX):
        files = open_files()
        allow(left)
        with trio.fail_after(60):
            try:
                outcome = await run(request)
            except ExecutionError as error:
                assert error.is_ours, str(error)
                reasons.append(str(error))
                outcome = None
            finally:
                allow(None)
        if outcome is not None and outcome.exits == [Exit.SUCCESS]:
            return reasons
        assert open_files() == files and not children(), f"left behind with {left} processes"
    raise AssertionError("it never had enough processes")


async def test_wasm_tasks_are_given_back_while_no_process_can_be_started(wasm: Wasm, make_pool: PoolMaker) -> None:
    pool = make_pool(idle_s=0)
    request = wasm.request("echo", [b"x"])
    with processes() as allow:
        reasons = await run_with_ever_more_processes(pool.run, request, allow)
        assert any(reason.endswith(NO_PROCESS) for reason in reasons), reasons
        assert (await pool.run(request)).outputs == [b"x"]
        await pool.aclose()


async def test_native_tasks_are_given_back_while_no_process_can_be_started(tmp_path: Path) -> None:
    executor = await native(tmp_path / "native")
    with processes() as allow:
        reasons = await run_with_ever_more_processes(executor.run, ask_native("exit 0"), allow)
        assert reasons
        assert (await executor.run(ask_native("exit 0"))).exits == [Exit.SUCCESS]
    await executor.aclose()
