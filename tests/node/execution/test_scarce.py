"""A machine that lacks what a task's processes need gives the task back, says why, and runs the next one."""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from hearthmesh.node.execution.native import NativeExecutor
from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest, ExecutionError, ExecutionFault, Exit
from tests.node.execution.conftest import PoolMaker, Wasm
from tests.node.execution.containers import Ask
from tests.node.execution.test_native_executor import CONFIG
from tests.node.execution.test_native_executor import ask as ask_native

# More than any runtime opens for one task.
DESCRIPTORS_MAX = 48
Runs = Callable[[BatchRequest], Awaitable[BatchOutcome]]


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
            if outcome is not None and outcome.exits == [Exit.SUCCESS]:
                return reasons
            if outcome is not None:
                assert outcome.exits == [Exit.KILLED], "what this machine lacks is no fault of the task's"
                reasons.append(str(outcome.stderrs))
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
    executor = NativeExecutor(CONFIG, tmp_path / "native")
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    request = ask_native("exit 0", checkpoint_root=tmp_path / "checkpoints")
    reasons = await run_with_ever_more(executor.run, request)
    assert any("Too many open files" in reason for reason in reasons)
    await executor.aclose()


async def test_containers_are_given_back_while_the_node_has_too_many_files_open(
    executor: OciExecutor, ask: Ask
) -> None:
    request = ask("sh", "-c", "exit 0")
    assert (await executor.run(request)).exits == [Exit.SUCCESS]
    reasons = await run_with_ever_more(executor.run, request)
    assert any("Too many open files" in reason for reason in reasons)
