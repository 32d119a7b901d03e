"""Whether the sandboxes of this machine hold: forbidden things are tried inside of them, natively."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from ..execution.bubblewrap import last_line
from ..execution.native import NativeExecutor
from ..execution.native_config import NativeCommand, NativeRuntimeConfig
from ..execution.native_folders import FolderError
from ..execution.native_sandbox import SandboxFailed
from ..execution.oci import OciExecutor
from ..execution.oci_config import OciRuntimeConfig
from ..execution.outcome import BatchOutcome, BatchRequest, ExecutionError, Limits
from . import attempts
from .worker_sandbox import Confinement, WorkerFolders, interpreter_paths, worker_argv

TIMEOUT_S = 60.0
_LIMITS = Limits(memory_bytes=256 << 20, wall_us=30_000_000, scratch_bytes=1 << 20)
_SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True, slots=True)
class Attempt:
    """what: the thing tried.  was_refused: whether the sandbox held.  how: the error's name, or what was got."""

    what: str
    was_refused: bool
    how: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """One sandbox's attempts; without any, why they could not be made."""

    sandbox: str
    attempts: tuple[Attempt, ...]
    skipped: str = ""

    @property
    def held(self) -> bool:
        """Whether the attempts were made, and all were refused."""
        return not self.skipped and all(attempt.was_refused for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class _Bait:
    """What the attempts are made at."""

    folder: Path
    secret: Path
    scratch: Path
    port: int

    def asked(self, folder: str, execute: bool) -> str:
        return json.dumps(
            {"secret": str(self.secret), "folder": folder, "node": os.getpid(), "port": self.port, "execute": execute}
        )


async def try_worker(confinement: Confinement) -> SelfTest:
    """As a guest that got out of wasmtime would: a process confined as a wasm worker is."""
    with _bait() as bait:
        layers = {
            "landlock_abi": confinement.landlock_abi,
            "seccomp": confinement.seccomp,
            "write": str(bait.scratch),
        }
        command = [sys.executable, "-P", "-m", "hearthmesh.node.isolation.confined_attempts"]
        command += [json.dumps(layers), bait.asked(str(bait.scratch), execute=True)]
        info_fd = os.open("/dev/null", os.O_WRONLY)
        try:
            if confinement.bwrap:
                folders = WorkerFolders(write=(bait.scratch,))
                command = worker_argv(confinement.bwrap, folders, "hearth-trial", info_fd, command)
            with trio.fail_after(TIMEOUT_S):
                ran = await trio.run_process(
                    command, capture_stdout=True, capture_stderr=True, check=False, pass_fds=(info_fd,)
                )
        except (OSError, trio.TooSlowError) as error:
            return SelfTest("wasm", (), f"the attempts did not end: {error or 'no answer'}")
        finally:
            os.close(info_fd)
    if ran.returncode != 0:
        return SelfTest("wasm", (), f"the attempts did not end: {last_line(ran.stderr)}")
    return SelfTest("wasm", _read(ran.stdout))


async def try_native() -> SelfTest:
    """As a native task: in the sandbox of one."""
    python = _SYSTEM_PYTHON if _SYSTEM_PYTHON.exists() else Path(os.path.realpath(sys.executable))
    with _bait() as bait:
        command = NativeCommand(
            python, ("-I", "/in/attempts.py"), read_only=interpreter_paths() if python != _SYSTEM_PYTHON else ()
        )
        executor = NativeExecutor(NativeRuntimeConfig({"python": command}), bait.folder / "native")
        try:
            outcome = await executor.run(_request(bait, "native", ()))
        except ExecutionError as error:
            return SelfTest("native", (), error.detail)
        finally:
            await executor.aclose()
    return _result("native", outcome)


async def try_oci() -> SelfTest:
    """As a container's task: in one that is made of this machine's own programs."""
    if not _SYSTEM_PYTHON.exists():
        return SelfTest("oci", (), f"there is no {_SYSTEM_PYTHON} to make the attempts")
    with _bait() as bait:
        executor = OciExecutor(OciRuntimeConfig(), bait.folder / "oci")
        try:
            outcome = await executor.run_on_host(_request(bait, "oci", (str(_SYSTEM_PYTHON), "-I", "/in/attempts.py")))
        except (ExecutionError, FolderError, SandboxFailed) as error:
            return SelfTest("oci", (), error.detail if isinstance(error, ExecutionError) else str(error))
        finally:
            await executor.aclose()
    return _result("oci", outcome)


def _request(bait: _Bait, runtime: str, command: tuple[str, ...]) -> BatchRequest:
    return BatchRequest(
        job_id=bytes(32),
        runtime=runtime,
        abi="command",
        program=Path(),
        program_digest=b"",
        first=0,
        count=1,
        seed=bytes(32),
        entry="python",
        arguments=(*command, bait.asked("/tmp", execute=False)),
        files={"attempts.py": Path(attempts.__file__)},
        limits=_LIMITS,
    )


def _result(sandbox: str, outcome: BatchOutcome) -> SelfTest:
    if outcome.exits != [0]:
        why = last_line(outcome.stderrs.get(0, b"no message"))
        return SelfTest(sandbox, (), f"no Python could run there: exit {outcome.exits[0]}, {why}")
    return SelfTest(sandbox, _read(msgspec.msgpack.decode(outcome.outputs[0])[0]))


def _read(answer: bytes) -> tuple[Attempt, ...]:
    return tuple(Attempt(*row) for row in msgspec.json.decode(answer, type=list[tuple[str, bool, str]]))


@contextmanager
def _bait() -> Iterator[_Bait]:
    folder = Path(tempfile.mkdtemp(prefix="hearth-doctor-", dir="/var/tmp"))
    try:
        folder.chmod(0o711)
        scratch = folder / "scratch"
        scratch.mkdir()
        secret = folder / "secret"
        secret.write_text("for the owner's eyes")
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as box:
            port = server.getsockname()[1]
            box.bind(("127.0.0.1", port))
            yield _Bait(folder, secret, scratch, port)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
