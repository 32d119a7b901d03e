"""What becomes of a batch's outcome on its way to the machine, and of what tasks leave behind."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import trio
import wasmtime

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.heating.heater import NoHeater
from hearthmesh.node.service import remove_old_checkpoints
from hearthmesh.node.storage.blobs import BlobStore
from hearthmesh.node.tasks import CAREFUL_US, STDERR_BATCH_BYTES_MAX, NodeBlobs, TaskRunner, _careful_us, _tails
from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.events import Event, TaskFinished
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.records import JobSpec, RecordKind, sign_record
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


async def test_who_judges_is_given_the_same_nans_that_every_machine_is(tmp_path: Path) -> None:
    module = bytes(wasmtime.wat2wasm(NANS))
    spec = JobSpec(
        *(1, bytes(32), b"", "job", "wasm", "function", hashlib.sha256(module).digest(), len(module)),
        *("", "hearth_task", (), 1),
        inline_inputs=(GIVEN,),
    )
    state = JobState(sign_record(identity(9), RecordKind.SPEC, spec))
    store = BlobStore(tmp_path / "blobs", 1 << 28)
    store.put_bytes(module)
    send, receive = trio.open_memory_channel[Event](2)
    pool = WasmPool(ChildConfig(tmp_path / "cache", memory_bytes=1 << 30), 1)
    outputs = []
    async with trio.open_nursery() as nursery:
        runner = TaskRunner(
            nursery,
            send.send_nowait,
            lambda _job_id: state,
            NodeBlobs(store, None, 1 << 20),  # type: ignore[arg-type]  # all that there is, is here
            {"wasm": pool},
            NoHeater(HeaterSettings(cores=1), 0),
            lambda: 0,
            disk_full=lambda reason: pytest.fail(reason),
            inline_output_bytes=1 << 14,
            inline_batch_bytes=1 << 16,
            checkpoints=tmp_path / "ckpt",
        )
        for number, canonical in enumerate((False, True)):
            runner.start(Execute(number + 1, state.job_id, 0, 1, 0, canonical_nans=canonical))
            with trio.fail_after(30):
                ended = await receive.receive()
            assert isinstance(ended, TaskFinished) and ended.exits == (0,)
            outputs.append(bytes(ended.outputs[0]))
        await pool.aclose()
        nursery.cancel_scope.cancel()
    assert outputs[0][8:] == GIVEN[8:] and outputs[1] == 2 * CANONICAL


@pytest.mark.parametrize(
    ("wall_us", "careful_us"),
    [(1_000_000, 10_000_000), (CAREFUL_US // 4, CAREFUL_US), (2 * CAREFUL_US, 2 * CAREFUL_US)],
)
def test_a_careful_run_has_more_time_but_not_without_end(wall_us: int, careful_us: int) -> None:
    assert _careful_us(wall_us) == careful_us
