"""The pool: warm workers, cancel, duty, pause, dead workers, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import wasmtime

from hearthmesh.node.execution import wasm_child
from hearthmesh.node.execution.outcome import ExecutionError, ExecutionFault, Exit
from hearthmesh.node.execution.pool import MAX_WAITING, WasmPool
from hearthmesh.node.isolation.worker_sandbox import Confinement, WorkerFolders

LOOP = b"\2"
BUSY = b"\x08\xff"


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def is_running(pid: int) -> bool:
    return state_of(pid) not in "ZX"


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until(condition: Any) -> None:
    """Poll; the limit bounds a hang only."""
    with trio.fail_after(120):
        while not condition():
            await trio.sleep(0.01)


async def test_workers_start_when_needed_and_stay_warm(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(max_children=2)
    assert pool.pids() == []
    await pool.run(wasm.request("echo", [b"a"]))
    first = pool.pids()
    await pool.run(wasm.request("echo", [b"b"]))
    assert pool.pids() == first
    assert len(first) == 1
    assert 10 << 20 < pool.resident_bytes() < 100 << 20


async def test_batches_share_the_workers_and_wait_in_turn(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(max_children=2)
    outputs: dict[int, list[bytes]] = {}

    async def one(number: int) -> None:
        outputs[number] = (await pool.run(wasm.request("echo", [bytes([number])] * 10))).outputs

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(one, number)
    assert outputs == {number: [bytes([number])] * 10 for number in range(12)}
    assert len(pool.pids()) == 2


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that the machine lets wait is not given up after a cancel: whether it goes on is what is asked."""
    monkeypatch.setattr(wasm_child, "CANCEL_GRACE_S", 60.0)


async def test_a_cancelled_batch_stops_at_once_and_its_worker_goes_on(pool: WasmPool, wasm: Any, patient: None) -> None:
    await pool.run(wasm.request("acts", [b""]))
    pids = pool.pids()
    for _ in range(3):
        with trio.fail_after(120), trio.move_on_after(0.05) as scope:
            await pool.run(wasm.request("acts", [LOOP] * 5))
        assert scope.cancelled_caught
    assert (await pool.run(wasm.request("echo", [b"next"]))).outputs == [b"next"]
    assert pool.pids() == pids


async def test_a_batch_cancelled_in_the_queue_gives_its_turn_away(pool: WasmPool, wasm: Any) -> None:
    with trio.move_on_after(0.3):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(pool.run, wasm.request("acts", [LOOP]))
    assert (await pool.run(wasm.request("echo", [b"next"]))).outputs == [b"next"]


async def test_a_killed_worker_costs_its_batch_and_is_replaced(pool: WasmPool, wasm: Any) -> None:
    await pool.run(wasm.request("echo", [b"warm"]))
    (pid,) = pool.pids()
    lost: list[ExecutionError] = []

    async def doomed() -> None:
        with pytest.raises(ExecutionError) as caught:
            await pool.run(wasm.request("acts", [LOOP]))
        lost.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(doomed)
        before = cpu_s(pid)
        await until(lambda: cpu_s(pid) > before + 0.05)
        os.kill(pid, signal.SIGKILL)
    assert [(error.reason, error.is_ours) for error in lost] == [(ExecutionFault.CHILD_LOST, True)]
    assert (await pool.run(wasm.request("echo", [b"next"]))).outputs == [b"next"]
    assert not is_running(pid)


async def test_a_worker_killed_while_idle_is_replaced_unseen(pool: WasmPool, wasm: Any) -> None:
    await pool.run(wasm.request("echo", [b"warm"]))
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_running(pid))
    assert (await pool.run(wasm.request("echo", [b"next"]))).outputs == [b"next"]


async def asked_while_stopped(pool: WasmPool, nursery: trio.Nursery, ask: Any) -> int:
    """Stop the pool's one worker, then have it asked: it is as one that died idle, and does not show it yet."""
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: state_of(pid) == "T")
    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    return pid


@pytest.mark.parametrize("checks", [False, True], ids=["run", "check"])
async def test_a_warm_worker_that_dies_before_it_begins_is_replaced_unseen(
    pool: WasmPool, wasm: Any, checks: bool
) -> None:
    await pool.run(wasm.request("echo", [b"warm"]))
    answers: list[object] = []

    async def ask() -> None:
        if checks:
            answers.append((await pool.check_module(*wasm.file("echo"))).abis)
        else:
            answers.extend((await pool.run(wasm.request("echo", [b"next"]))).outputs)

    async with trio.open_nursery() as nursery:
        pid = await asked_while_stopped(pool, nursery, ask)
        os.kill(pid, signal.SIGKILL)
    assert answers == [("function",) if checks else b"next"]
    assert not is_running(pid)
    assert len(pool.pids()) == 1


async def test_a_request_that_loses_two_workers_is_not_asked_again(pool: WasmPool, wasm: Any) -> None:
    await pool.run(wasm.request("echo", [b"warm"]))
    lost: list[ExecutionError] = []

    async def doomed() -> None:
        with pytest.raises(ExecutionError) as caught:
            await pool.run(wasm.request("acts", [LOOP]))
        lost.append(caught.value)

    async with trio.open_nursery() as nursery:
        pid = await asked_while_stopped(pool, nursery, doomed)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.pids() != [pid])
        (second,) = pool.pids()
        os.kill(second, signal.SIGKILL)
    assert [error.reason for error in lost] == [ExecutionFault.CHILD_LOST]
    assert pool.pids() == []
    assert (await pool.run(wasm.request("echo", [b"next"]))).outputs == [b"next"]


async def test_closing_replaces_no_worker(make_pool: Any, wasm: Any) -> None:
    pool = make_pool()
    await pool.run(wasm.request("echo", [b"warm"]))
    lost: list[ExecutionError] = []

    async def doomed() -> None:
        with pytest.raises(ExecutionError) as caught:
            await pool.run(wasm.request("acts", [LOOP]))
        lost.append(caught.value)

    async with trio.open_nursery() as nursery:
        await asked_while_stopped(pool, nursery, doomed)
        await pool.aclose()
    assert [error.reason for error in lost] == [ExecutionFault.CHILD_LOST]
    assert pool.pids() == []


async def test_idle_workers_end_after_a_while(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(idle_s=0.05)
    await pool.run(wasm.request("echo", [b"x"]))
    (pid,) = pool.pids()
    await until(lambda: pool.pids() == [])
    await until(lambda: not is_running(pid))
    assert (await pool.run(wasm.request("echo", [b"y"]))).outputs == [b"y"]


@pytest.mark.parametrize("duty", [0.3, 0.7])
async def test_the_duty_cycle_holds_for_a_long_task(pool: WasmPool, wasm: Any, duty: float) -> None:
    await pool.run(wasm.request("acts", [b""]))
    (pid,) = pool.pids()
    pool.set_duty(duty)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.run, wasm.request("acts", [LOOP]))
        start = cpu_s(pid)
        await until(lambda: cpu_s(pid) > start)
        start, begun = cpu_s(pid), trio.current_time()
        await until(lambda: cpu_s(pid) >= start + 0.6)
        share = (cpu_s(pid) - start) / (trio.current_time() - begun)
        nursery.cancel_scope.cancel()
    assert share < duty * 1.15 + 0.02


async def test_a_paused_task_uses_nothing_then_goes_on_and_its_wall_limit_waits(pool: WasmPool, wasm: Any) -> None:
    await pool.run(wasm.request("acts", [b""]))
    (pid,) = pool.pids()
    exits: list[int] = []

    async def run() -> None:
        exits.extend((await pool.run(wasm.request("acts", [LOOP], limits={"wall_us": 1_000_000}))).exits)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        start = cpu_s(pid)
        await until(lambda: cpu_s(pid) > start + 0.03)
        pool.set_duty(0.0)
        paused = trio.current_time()
        await until(lambda: trio.current_time() > paused + 0.1)
        held = cpu_s(pid)
        await until(lambda: trio.current_time() > paused + 1.3)
        assert cpu_s(pid) - held < 0.1
        assert exits == []
        pool.set_duty(1.0)
    assert exits == [Exit.WALL]


async def test_a_paused_task_can_be_cancelled(pool: WasmPool, wasm: Any, patient: None) -> None:
    await pool.run(wasm.request("acts", [b""]))
    pids = pool.pids()
    pool.set_duty(0.0)
    with trio.fail_after(120), trio.move_on_after(0.1):
        await pool.run(wasm.request("acts", [BUSY] * 100))
    pool.set_duty(1.0)
    await pool.run(wasm.request("acts", [b""]))
    assert pool.pids() == pids


async def test_closing_ends_what_runs_and_what_waits(make_pool: Any, wasm: Any) -> None:
    pool = make_pool()
    await pool.run(wasm.request("acts", [b""]))
    (pid,) = pool.pids()
    reasons: list[ExecutionFault] = []

    async def doomed() -> None:
        with pytest.raises(ExecutionError) as caught:
            await pool.run(wasm.request("acts", [LOOP]))
        reasons.append(caught.value.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(doomed)
        start = cpu_s(pid)
        await until(lambda: cpu_s(pid) > start + 0.02)
        await pool.aclose()
    assert sorted(reasons) == [ExecutionFault.CHILD_LOST, ExecutionFault.UNAVAILABLE]
    assert pool.pids() == []
    assert not is_running(pid)
    with pytest.raises(ExecutionError):
        await pool.run(wasm.request("acts", [b""]))


async def test_the_queue_has_an_end(pool: WasmPool, wasm: Any) -> None:
    refused: list[ExecutionFault] = []
    request = wasm.request("acts", [LOOP])

    async def one() -> None:
        try:
            await pool.run(request)
        except ExecutionError as error:
            refused.append(error.reason)

    async with trio.open_nursery() as nursery:
        for _ in range(MAX_WAITING + 3):
            nursery.start_soon(one)
        await until(lambda: len(refused) == 2)
        nursery.cancel_scope.cancel()
    assert refused == [ExecutionFault.UNAVAILABLE] * 2


async def test_a_task_that_needs_more_than_a_worker_has_is_refused(pool: WasmPool, wasm: Any) -> None:
    with pytest.raises(ExecutionError) as caught:
        await pool.run(wasm.request("echo", [b"x"], limits={"memory_bytes": 3 << 30}))
    assert caught.value.reason is ExecutionFault.TOO_BIG


async def test_a_module_that_compiles_for_too_long_is_refused_and_its_worker_killed(
    make_pool: Any, wasm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm_child, "BUSY_PATIENCE", 10_000)  # however busy this machine is
    body = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 3)) (local.get 0)))" * 200
    functions = "".join(f"(func (param i32) {body})" for _ in range(4_000))
    pool = make_pool(compile_timeout_s=0.3)
    request = wasm.request(f"(module {functions})")
    with pytest.raises(ExecutionError) as caught, trio.fail_after(120):
        await pool.run(request)
    assert caught.value.reason is ExecutionFault.TOO_BIG
    assert "compiling" in caught.value.detail
    assert pool.pids() == []


def slow_component() -> bytes:
    body = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 3)) (local.get 0)))" * 200
    functions = "".join(f"(func (param i32) {body})" for _ in range(4_000))
    return bytes(wasmtime.wat2wasm(f"(component (core module {functions}))"))


async def test_a_component_that_takes_too_much_of_a_processor_is_refused_and_not_compiled_again(
    make_pool: Any, wasm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm_child, "BUSY_PATIENCE", 10_000)  # however busy this machine is
    pool = make_pool(compile_timeout_s=0.2)
    request = wasm.request(slow_component())
    with pytest.raises(ExecutionError) as caught, trio.fail_after(120):
        await pool.run(request)
    assert caught.value.reason is ExecutionFault.TOO_BIG and not caught.value.is_ours
    assert "compiling the component takes more than 0.4 s of a processor" in caught.value.detail
    assert pool.pids() == []
    with pytest.raises(ExecutionError) as again:
        await pool.run(request)
    assert (again.value.reason, again.value.detail) == (caught.value.reason, caught.value.detail)
    assert pool.pids() == [], "no worker was asked"


async def test_a_component_that_a_busy_machine_has_no_time_for_is_this_nodes_fault(make_pool: Any, wasm: Any) -> None:
    pool, caught = make_pool(compile_timeout_s=0.2, confinement=Confinement()), []

    async def run() -> None:
        with pytest.raises(ExecutionError) as error:
            await pool.run(wasm.request(slow_component()))
        caught.append(error.value)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            (worker,) = pool.pids()
            os.kill(worker, signal.SIGSTOP)
        await run()
    assert all(error.is_ours for error in caught) and pool.pids() == []
    assert "compiling the component takes more than 1.2 s here" in caught[0].detail
    assert caught[1].detail == caught[0].detail, "not tried again for a while"


async def test_a_module_whose_compilation_ends_a_warm_worker_is_refused(make_pool: Any, wasm: Any) -> None:
    body = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 3)) (local.get 0)))" * 400_000
    pool = make_pool(memory_bytes=200 << 20)
    await pool.prewarm(*wasm.file("echo"))
    with pytest.raises(ExecutionError) as caught:
        await pool.check_module(*wasm.file(f"(module (func (param i32) {body}))"))
    assert caught.value.reason is ExecutionFault.TOO_BIG
    assert "memory" in caught.value.detail
    assert pool.pids() == []


async def test_prewarming_leaves_a_warm_worker(pool: WasmPool, wasm: Any) -> None:
    await pool.prewarm(*wasm.file("echo"))
    pids = pool.pids()
    await pool.run(wasm.request("echo", [b"x"]))
    assert pool.pids() == pids


async def test_nothing_is_left_open(make_pool: Any, wasm: Any) -> None:
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    pool = make_pool(max_children=2)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(pool.run, wasm.request("echo", [b"x"]))
    await pool.aclose()
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("layers", ["Confinement()", "detect()"], ids=["bare", "confined"])
def test_workers_die_with_their_parent(tmp_path: Path, wasm: Any, layers: str) -> None:
    """The parent is killed while its worker loops for ever."""
    path, digest = wasm.file("acts")
    script = f"""
import trio
from dataclasses import replace
from pathlib import Path
from hearthmesh.node.execution.outcome import BatchRequest
from hearthmesh.node.execution.pool import WasmPool
from hearthmesh.node.execution.wasm_child import ChildConfig
from hearthmesh.node.isolation.layers import detect
from hearthmesh.node.isolation.worker_sandbox import Confinement, WorkerFolders

async def main():
    folder = Path({str(tmp_path)!r})
    pool = WasmPool(ChildConfig(folder / "cache", confinement={layers}, folders=WorkerFolders((folder,))), 1)
    def request(first):
        return BatchRequest(b"j" * 32, "wasm", "function", Path({str(path)!r}), bytes.fromhex({digest.hex()!r}),
                            0, 1, b"s" * 32, inputs=[first])
    await pool.run(request(b""))
    print(pool.pids()[0], flush=True)
    await pool.run(request(b"\\2"))

trio.run(main)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        trio.run(until, lambda: cpu_s(pid) > 0.1)
        parent.kill()
    trio.run(until, lambda: not is_running(pid))


async def test_a_worker_killed_at_any_moment_of_its_start_leaves_nothing(make_pool: Any, wasm: Any) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for wait_s in (0.0, 0.001, 0.003, 0.01, 0.03):
        pool = make_pool(tag=f"hearth-start-{os.getpid()}")
        with trio.move_on_after(wait_s):
            await pool.run(wasm.request("echo", [b"x"]))
        await pool.aclose()
    assert [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if bears(pid)] == []
    gc.collect()
    assert sorted(os.listdir("/proc/self/fd")) == before


def bears(pid: int) -> bool:
    """Whether it is a sandbox of the test above."""
    try:
        return f"hearth-start-{os.getpid()}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_a_worker_runs_without_any_layer(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(confinement=Confinement())
    assert (await pool.run(wasm.request("echo", [b"x"]))).outputs == [b"x"]


async def test_a_layer_that_cannot_be_put_on_is_this_nodes_fault(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(confinement=Confinement(landlock_abi=1), folders=WorkerFolders((Path("/proc/self/fd/0/no"),)))
    with pytest.raises(ExecutionError, match="sandbox: Landlock: /proc/self/fd/0/no") as caught:
        await pool.run(wasm.request("echo", [b"x"]))
    assert caught.value.reason is ExecutionFault.UNAVAILABLE


def test_the_parent_does_not_load_wasmtime_and_the_worker_loads_no_trio() -> None:
    script = "import sys, {}; print([name for name in ('wasmtime', 'trio', 'libp2p') if name in sys.modules])"
    loaded = [
        subprocess.check_output([sys.executable, "-c", script.format(f"hearthmesh.node.execution.{name}")], text=True)
        for name in ("pool", "wasm_worker")
    ]
    assert loaded == ["['trio']\n", "['wasmtime']\n"]


async def test_a_worker_that_does_not_read_is_given_up(make_pool: Any, wasm: Any) -> None:
    pool = make_pool(max_children=1, compile_timeout_s=3.0)
    await pool.run(wasm.request("echo", [b"a"]))
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    # More than the socket takes; nothing of it was run, so a fresh worker runs it unseen.
    inputs = [bytes(60_000)] * 64
    with trio.fail_after(60):
        assert (await pool.run(wasm.request("echo", inputs))).outputs == inputs
    assert pid not in pool.pids()


def secret_of(wasm: Any, job: int, folder: Path) -> Any:
    private = folder / str(job)
    private.mkdir(exist_ok=True)
    return replace(wasm.request("echo", [b"s"]), job_id=bytes([job]) * 32, private=private)


async def test_a_worker_that_ran_a_confidential_job_runs_no_other(make_pool: Any, wasm: Any, tmp_path: Path) -> None:
    pool = make_pool(max_children=2)
    await pool.run(wasm.request("echo", [b"a"]))
    (plain,) = pool.pids()
    await pool.run(secret_of(wasm, 1, tmp_path))
    (secret,) = [pid for pid in pool.pids() if pid != plain]
    await pool.run(secret_of(wasm, 1, tmp_path))
    await pool.run(wasm.request("echo", [b"b"]))
    assert pool.pids() == sorted([plain, secret])
    await pool.run(secret_of(wasm, 2, tmp_path))
    assert secret not in pool.pids() or plain not in pool.pids()
    assert len(pool.pids()) == 2
    pool.forget_secrets(bytes([2]) * 32)
    await until(lambda: len(pool.pids()) == 1)


async def test_a_confidential_program_is_not_kept_compiled(make_pool: Any, wasm: Any, tmp_path: Path) -> None:
    pool = make_pool(max_children=1, cache_dir=tmp_path / "compiled")
    await pool.run(secret_of(wasm, 1, tmp_path))
    assert not list(tmp_path.rglob("*.native"))
    await pool.run(wasm.request("echo", [b"a"]))
    assert list(tmp_path.rglob("*.native"))
