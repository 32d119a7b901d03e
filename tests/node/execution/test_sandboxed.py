"""Whether a machine can run tasks in sandboxes is tried again, whatever it was that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from hearthmesh.node.execution.bubblewrap import SandboxUnavailable, Tools
from hearthmesh.node.execution.native_folders import FolderError, SandboxFolders
from hearthmesh.node.execution.native_sandbox import SandboxFailed
from hearthmesh.node.execution.outcome import BatchOutcome, BatchRequest
from hearthmesh.node.execution.sandboxed import RETRY_S, SandboxedExecutor
from hearthmesh.node.execution.seccomp import UnsupportedMachine


class Trial(SandboxedExecutor):
    """Fails as it is told, once."""

    def __init__(self, state: Path, failure: Exception) -> None:
        super().__init__("trial", state, 1, None)
        self._failures = [failure]

    async def _probe(self) -> tuple[Tools, SandboxFolders]:
        if self._failures:
            raise self._failures.pop()
        return Tools(*["/bin/true"] * 6), SandboxFolders(self._state, None)

    def _check(self, request: BatchRequest) -> None:
        raise AssertionError

    async def _run_batch(self, request: BatchRequest, tools: Tools, folders: SandboxFolders, slot: int) -> BatchOutcome:
        raise AssertionError


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (SandboxUnavailable("podman is not installed"), "podman is not installed"),
        (UnsupportedMachine("no filter for riscv64"), "no filter for riscv64"),
        (SandboxFailed("too slow"), "too slow"),
        (FolderError("the disk is full"), "the disk is full"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "the trial sandbox could not be tried: Too many open files"),
    ],
)
async def test_a_sandbox_that_does_not_start_is_said_and_tried_again_after_a_minute(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, failure: Exception, why: str
) -> None:
    executor = Trial(tmp_path, failure)
    assert await executor.available() == (False, why)
    await trio.sleep(RETRY_S - 1)
    assert await executor.available() == (False, why)
    await trio.sleep(1)
    assert await executor.available() == (True, "")
