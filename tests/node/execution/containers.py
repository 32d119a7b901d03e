"""What tests of the container runtime share: an image of this machine's programs, and executors for it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from hearthmesh.node.execution.oci import OciExecutor
from hearthmesh.node.execution.oci_config import OciRuntimeConfig
from hearthmesh.node.execution.outcome import BatchRequest, Limits
from tests.node.execution.images import shell_image

LIMITS = Limits(
    memory_bytes=128 << 20, wall_us=20_000_000, output_bytes=1 << 20, stderr_bytes=4096, scratch_bytes=4 << 20
)
PATIENCE_S = 240
SPIN = "while :; do :; done"
USER = 64_950


@pytest.fixture(scope="module")
def archive() -> Iterator[tuple[Path, str]]:
    """An image's archive and digest, in a folder that an unprivileged user cannot enter."""
    folder = Path(tempfile.mkdtemp(prefix="hearthmesh-image-", dir="/var/tmp"))
    names = ("cat", "env", "head", "ln", "ls", "mkdir", "mkfifo", "perl", "seq", "sleep", "touch", "yes")
    made = shell_image(*names, environment=("COLOUR=red", "LC_ALL=C"))
    digest = made.seal()
    made.write(folder / "image.tar")
    yield folder / "image.tar", digest
    shutil.rmtree(folder)


@pytest.fixture
def state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hearthmesh-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


async def opened(images: tuple[str, ...], state: Path, **changes: Any) -> OciExecutor:
    executor = OciExecutor(OciRuntimeConfig(images=images, slots=2, uid=USER, processes=40, **changes), state)
    is_available, reason = await executor.available()
    if not is_available:
        pytest.skip(reason)
    return executor


@pytest.fixture(scope="module")
def shared_state() -> Iterator[Path]:
    """Where most tests find their image loaded."""
    folder = Path(tempfile.mkdtemp(prefix="hearthmesh-test-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def executor(archive: tuple[Path, str], shared_state: Path) -> AsyncIterator[OciExecutor]:
    executor = await opened((archive[1],), shared_state)
    with trio.fail_after(PATIENCE_S):
        yield executor
        await executor.aclose()


class Ask:
    """Requests for the module's image."""

    def __init__(self, archive: tuple[Path, str]) -> None:
        self._archive = archive

    def __call__(self, *command: str, **more: Any) -> BatchRequest:
        path, digest = self._archive
        request = BatchRequest(
            *(b"job", "oci", "command", path, b"", 0, 1, b"seed", digest), arguments=command, limits=LIMITS
        )
        return replace(request, **more)

    def sh(self, script: str, **more: Any) -> BatchRequest:
        return self("sh", "-c", script, **more)

    def perl(self, script: str, **more: Any) -> BatchRequest:
        return self("perl", "-e", script, **more)


@pytest.fixture
def ask(archive: tuple[Path, str]) -> Ask:
    return Ask(archive)


async def result(executor: OciExecutor, request: BatchRequest) -> tuple[int, str, dict[str, bytes], str]:
    """(exit, stdout, files, stderr) of a batch of one."""
    outcome = await executor.run(request)
    stdout, files = msgspec.msgpack.decode(outcome.outputs[0]) if outcome.outputs[0] else (b"", {})
    return outcome.exits[0], stdout.decode(), files, outcome.stderrs.get(0, b"").decode()
