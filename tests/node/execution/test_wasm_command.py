"""The command ABI: WASI without network, sleep, links or the host's files; every folder has its bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hearthmesh.node.execution.outcome import BatchOutcome, Exit
from hearthmesh.node.execution.pool import WasmPool

NOSPC, NOTSUP, ROFS, NOTCAPABLE, NOENT, INVAL = 51, 58, 69, 76, 44, 28


async def run(pool: WasmPool, wasm: Any, *inputs: bytes, **more: Any) -> BatchOutcome:
    return await pool.run(wasm.request("command", list(inputs), abi="command", **more))


def unpack(output: bytes) -> tuple[bytes, dict[str, bytes]]:
    stdout, files = msgspec.msgpack.decode(output)
    return stdout, files


async def test_stdin_reaches_stdout(pool: WasmPool, wasm: Any) -> None:
    outcome = await run(pool, wasm, b"ehello", b"e")
    assert outcome.exits == [0, 0]
    assert [unpack(output) for output in outcome.outputs] == [(b"hello", {}), (b"", {})]


async def test_argv_holds_the_index_and_the_jobs_arguments(pool: WasmPool, wasm: Any) -> None:
    outcome = await run(pool, wasm, b"a", b"a", first=41, arguments=("--fast", "é"))
    assert [unpack(output)[0] for output in outcome.outputs] == [
        f"task\0{index}\0--fast\0é\0".encode() for index in (41, 42)
    ]


async def test_the_exit_status_is_the_programs_own(pool: WasmPool, wasm: Any) -> None:
    outcome = await run(pool, wasm, b"x\x03", b"x\xff", b"x\x00")
    assert outcome.exits == [3, 255, 0]


@pytest.mark.parametrize(
    ("attack", "limits", "exit"),
    [
        pytest.param(b"l", {"wall_us": 50_000}, Exit.WALL, id="endless loop"),
        pytest.param(b"f", {}, Exit.OUTPUT, id="stdout flood"),
        pytest.param(b"s", {}, NOTSUP, id="sleep through poll_oneoff"),
        pytest.param(b"n", {}, NOTSUP, id="network"),
        pytest.param(b"w", {"output_bytes": 8 << 20}, NOSPC, id="one file that fills /out"),
        pytest.param(b"h", {}, NOSPC, id="a sparse file of 1 TiB"),
        pytest.param(b"m", {}, NOSPC, id="many empty files in /out"),
        pytest.param(b"u", {"scratch_bytes": 1 << 20}, NOSPC, id="unlinked files that stay open"),
        pytest.param(b"y", {}, NOTSUP, id="a symlink"),
        pytest.param(b"i", {}, ROFS, id="writing to /in"),
        pytest.param(b"p\x04../etc/passwd", {}, NOTCAPABLE, id="dots out of /out"),
        pytest.param(b"p\x04/etc/passwd", {}, NOTCAPABLE, id="an absolute path"),
        pytest.param(b"p\x04a/../../x", {}, NOENT, id="dots through a folder that is not there"),
        pytest.param(b"p\x04.hidden", {}, INVAL, id="a name that is not plain"),
        pytest.param(b"p\x09x", {}, 8, id="a descriptor that is not open"),
    ],
)
async def test_an_attack_gets_its_code_and_the_next_task_runs(
    pool: WasmPool, wasm: Any, tmp_path: Path, attack: bytes, limits: dict[str, int], exit: int
) -> None:
    (tmp_path / "data").write_bytes(b"x")
    outcome = await run(pool, wasm, attack, b"eok", limits=limits, files={"data": tmp_path / "data"})
    assert outcome.exits == [exit, 0]
    assert unpack(outcome.outputs[1]) == (b"ok", {})
    assert (tmp_path / "data").read_bytes() == b"x"


async def test_stderr_is_kept_to_its_tail(pool: WasmPool, wasm: Any) -> None:
    outcome = await run(pool, wasm, b"E", limits={"stderr_bytes": 1_000})
    assert outcome.exits == [3]
    assert len(outcome.stderrs[0]) == 1_000


async def test_files_of_the_job_are_read_and_files_in_out_come_back(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    (tmp_path / "stored").write_bytes(b"payload")
    outcome = await run(pool, wasm, b"r", files={"data": tmp_path / "stored"})
    assert outcome.exits == [0]
    assert unpack(outcome.outputs[0]) == (b"", {"copy": b"payload"})


async def test_files_count_as_output(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    (tmp_path / "stored").write_bytes(b"x" * 5_000)
    outcome = await run(pool, wasm, b"r", files={"data": tmp_path / "stored"}, limits={"output_bytes": 5_000})
    assert outcome.exits == [Exit.OUTPUT]
    assert outcome.outputs == [b""]


async def test_clock_and_randomness_are_the_same_on_every_worker(make_pool: Any, wasm: Any) -> None:
    one = await run(make_pool(), wasm, b"d", b"d")
    other = await run(make_pool(), wasm, b"d", first=1)
    assert one.outputs[1] == other.outputs[0]
    assert one.fuels[1] == other.fuels[0]
    assert one.outputs[0] != one.outputs[1]


async def test_a_checkpoint_outlives_a_trap_and_ends_with_success(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    exits = [(await run(pool, wasm, b"c", checkpoint_root=root)).exits[0] for _ in range(2)]
    assert exits == [Exit.TRAP, Exit.TRAP]
    assert [path.read_bytes() for path in root.rglob("state")] == [b"ab"]
    outcome = await run(pool, wasm, b"c", checkpoint_root=root)
    assert unpack(outcome.outputs[0]) == (b"abc", {})
    assert list(root.rglob("state")) == []


async def test_each_task_has_a_checkpoint_of_its_own(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    await run(pool, wasm, b"c", b"c", first=7, checkpoint_root=tmp_path)
    assert sorted(path.parent.name for path in tmp_path.rglob("state")) == ["7", "8"]


async def test_a_planted_symlink_in_a_checkpoint_is_not_followed(pool: WasmPool, wasm: Any, tmp_path: Path) -> None:
    folder = tmp_path / "root" / (b"j" * 32).hex() / "0"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "state").symlink_to(tmp_path / "secret")
    outcome = await run(pool, wasm, b"c", checkpoint_root=tmp_path / "root")
    assert outcome.exits == [Exit.TRAP]
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (folder / "state").read_bytes() == b"a"


async def test_a_checkpoint_that_cannot_be_written_is_an_io_error_for_the_guest(
    pool: WasmPool, wasm: Any, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    outcome = await run(pool, wasm, b"eok", checkpoint_root=tmp_path / "absent")
    assert outcome.exits == [0]
    assert not (tmp_path / "absent").exists()
    outcome = await run(pool, wasm, b"c", checkpoint_root=tmp_path / "file")
    assert outcome.exits == [129]


async def test_a_task_over_its_fuel_keeps_nothing(pool: WasmPool, wasm: Any) -> None:
    used = (await run(pool, wasm, b"eok")).fuels[0]
    outcome = await run(pool, wasm, b"eok", limits={"fuel": used - 1})
    assert (outcome.exits, outcome.outputs, outcome.fuels) == ([Exit.FUEL], [b""], [used - 1])
    assert (await run(pool, wasm, b"eok", limits={"fuel": used})).exits == [0]
