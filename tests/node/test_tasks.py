"""What becomes of a batch's outcome on its way to the machine, and of what tasks leave behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import wasmtime

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.outcome import Executor
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.service import remove_old_checkpoints
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.tasks import CAREFUL_US, STDERR_BATCH_BYTES_MAX, NodeBlobs, TaskRunner, _careful_us, _tails
from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.events import Event, ExecutionFailed, TaskFinished
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import JobSpec, RecordKind, sign_record
from tests.node.execution.test_native_executor import CONFIG as NATIVE
from tests.node.execution.test_scarce import descriptors
from tests.node.execution.test_wasm_function import CANONICAL, GIVEN, NANS
from tests.protocol.arena import identity


def test_tails_of_a_talkative_batch_fit_one_delivery() -> None:
    said = _tails(dict.fromkeys(range(1024), b"x" * 4095 + b"!"), 1000)
    assert len(said) == 1000
    assert sum(map(len, said.values())) <= STDERR_BATCH_BYTES_MAX
    assert all(text.endswith(b"!") for text in said.values())


def test_a_single_tail_is_kept_whole() -> None:
    assert _tails({3: b"y" * 4096, 4: b""}, 5) == {3: b"y" * 4096}


def test_only_old_checkpoints_go(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "7").mkdir(parents=True)
    for path in (tmp_path / "old" / "7", tmp_path / "old"):
        os.utime(path, (1, 1))
    assert remove_old_checkpoints(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert remove_old_checkpoints(tmp_path / "absent") == 0


Ends = trio.MemoryReceiveChannel[Event]


@asynccontextmanager
async def running(
    folder: Path, state: JobState, executors: dict[str, Executor], module: bytes = b""
) -> AsyncIterator[tuple[TaskRunner, Ends]]:
    """A runner of one job's tasks, all of whose blobs are here, and where it says how they ended."""
    store = BlobStore(folder / "blobs", 1 << 28)
    store.put_bytes(module)
    send, receive = trio.open_memory_channel[Event](2)
    async with trio.open_nursery() as nursery:
        yield (
            TaskRunner(
                nursery,
                send.send_nowait,
                lambda _job_id: state,
                NodeBlobs(store, None, 1 << 20),  # type: ignore[arg-type]  # all that there is, is here
                executors,
                NoHeater(HeaterSettings(cores=1), 0),
                lambda: 0,
                disk_full=lambda reason: pytest.fail(reason),
                inline_output_bytes=1 << 14,
                inline_batch_bytes=1 << 16,
                checkpoints=folder / "ckpt",
            ),
            receive,
        )
        nursery.cancel_scope.cancel()


def job_of(module: bytes) -> JobState:
    """One task of a WebAssembly module."""
    spec = JobSpec(
        *(1, bytes(32), b"", "job", "wasm", "function", hashlib.sha256(module).digest(), len(module)),
        *("", "hearth_task", (), 1),
        inline_inputs=(GIVEN,),
    )
    return JobState(sign_record(identity(9), RecordKind.SPEC, spec))


async def test_who_judges_is_given_the_same_nans_that_every_machine_is(tmp_path: Path) -> None:
    module = bytes(wasmtime.wat2wasm(NANS))
    state = job_of(module)
    pool = WasmPool(ChildConfig(tmp_path / "cache", memory_bytes=1 << 30), 1)
    outputs = []
    async with running(tmp_path, state, {"wasm": pool}, module) as (runner, ends):
        for number, canonical in enumerate((False, True)):
            runner.start(Execute(number + 1, state.job_id, 0, 1, 0, canonical_nans=canonical))
            with trio.fail_after(30):
                ended = await ends.receive()
            assert isinstance(ended, TaskFinished) and ended.exits == (0,)
            outputs.append(bytes(ended.outputs[0]))
        await pool.aclose()
    assert outputs[0][8:] == GIVEN[8:] and outputs[1] == 2 * CANONICAL


@pytest.mark.parametrize("left", [0, 1, 2, 3])
async def test_a_node_with_too_many_files_open_gives_its_task_back_and_runs_the_next(tmp_path: Path, left: int) -> None:
    module = bytes(wasmtime.wat2wasm(NANS))
    state = job_of(module)
    pool = WasmPool(ChildConfig(tmp_path / "cache", memory_bytes=1 << 30), 1)
    async with running(tmp_path, state, {"wasm": pool}, module) as (runner, ends):
        with trio.fail_after(60):
            with descriptors(left):
                runner.start(Execute(1, state.job_id, 0, 1, 0))
                ended = await ends.receive()
            assert isinstance(ended, ExecutionFailed) and not ended.permanent
            assert "Too many open files" in ended.reason
            runner.start(Execute(2, state.job_id, 0, 1, 0))
            ended = await ends.receive()
        assert isinstance(ended, TaskFinished) and ended.exits == (0,)
        await pool.aclose()


async def test_where_checkpoints_cannot_be_kept_the_task_is_given_back_and_the_node_lives(tmp_path: Path) -> None:
    """What stands where their folder should be is a file: the disk is as its owner, or a fault, left it."""
    spec = JobSpec(*(1, bytes(32), b"", "job", "native", "command", b"", 0), *("sh", "", ("exit 0",), 1))
    state = JobState(sign_record(identity(9), RecordKind.SPEC, spec))
    executor = NativeExecutor(NATIVE, tmp_path / "native")
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    (tmp_path / "ckpt").write_bytes(b"")
    async with running(tmp_path, state, {"native": executor}) as (runner, ends):
        with trio.fail_after(60):
            runner.start(Execute(1, state.job_id, 0, 1, 0))
            runner.save(1)
            ended = await ends.receive()
            assert isinstance(ended, ExecutionFailed) and not ended.permanent and "exists" in ended.reason
            runner.drop_checkpoint(state.job_id, 0)
            (tmp_path / "ckpt").unlink()
            runner.start(Execute(2, state.job_id, 0, 1, 0))
            ended = await ends.receive()
        assert isinstance(ended, TaskFinished) and ended.exits == (0,)
        await executor.aclose()


@pytest.mark.parametrize(
    ("wall_us", "careful_us"),
    [(1_000_000, 10_000_000), (CAREFUL_US // 4, CAREFUL_US), (2 * CAREFUL_US, 2 * CAREFUL_US)],
)
def test_a_careful_run_has_more_time_but_not_without_end(wall_us: int, careful_us: int) -> None:
    assert _careful_us(wall_us) == careful_us
