"""One worker process, seen from its parent: start, ask, cancel, end. The process itself is `wasm_worker`."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from ..isolation.worker_sandbox import Confinement, WorkerFolders, worker_argv
from .outcome import ExecutionError, ExecutionFault
from .wasm_abi import COMPONENT_HEAD
from .wasm_control import PAGE_BYTES, ControlPage
from .wasm_wire import (
    HEADER,
    MAX_FRAME_BYTES,
    Failed,
    FromWorker,
    ToWorker,
    decode_from_worker,
    encode,
)

RECEIVE_BYTES = 1 << 16
COMPONENT_PATIENCE = 2  # times compile_timeout_s: one holds a whole Python, some 20 s of a laptop's core
BUSY_PATIENCE = 3  # times the processor time of a compilation, where the processor is busy
INFO_BYTES = 4096
INFO_TIMEOUT_S = 20.0
INFO_AGAIN_S = 0.02
CANCEL_GRACE_S = 0.5
STALL_S = 30.0
"""A running worker beats at every tick of 5 ms; one that is silent for so long is stuck in a call of ours."""
_CHILD_PID = re.compile(rb'"child-pid": ([0-9]+)')
_WORKER = "hearthmesh.node.execution.wasm_worker"
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG")


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """Settings of each worker process.

    memory_bytes: all that it may hold, guest, compiler and itself (RLIMIT_DATA).
    compile_timeout_s: of processor time; after this it is killed and the module refused (see `COMPONENT_PATIENCE`).
    confinement: layers around it.  folders: what it may use of the disk then, beside cache_dir.  tag: names the
    node's sandboxes.
    """

    cache_dir: Path
    memory_bytes: int = 2 << 30
    cache_bytes: int = 512 << 20
    compile_timeout_s: float = 120.0
    nice: int = 0
    confinement: Confinement = Confinement()
    folders: WorkerFolders = WorkerFolders()
    tag: str = "hearth-wasm"


class LostIdle(ExecutionError):
    """A child that had taken requests before ended before it began this one; most likely it was dead already."""


class CompilesTooLong(ExecutionError):
    """TOO_BIG, or UNAVAILABLE where this machine is too busy for it."""


class WasmChild:
    """Takes one request at a time. After `alive` is false it is of no more use; `end` reaps it."""

    def __init__(self, config: ChildConfig, duty: float, secret: bytes = b"") -> None:
        """Starts the process, in about 2 ms; it loads itself in the background.

        secret: the confidential job that it is for, and for no other; empty for jobs that are not.
        """
        self.secret = secret
        # It ends with its batch.
        self.is_spent = False
        self._config = config
        self._batch = 0
        self._received = bytearray()
        self.alive = True
        self.idle_since_s = 0.0
        self._worker_pid = 0
        self._worker_fd = -1
        self._info_fd = -1
        self._info = b""
        with ExitStack() as theirs, ExitStack() as ours:
            try:
                self._start(duty, theirs, ours)
            except OSError as error:
                raise ExecutionError(ExecutionFault.UNAVAILABLE, f"no worker process: {error.strerror}") from error
            ours.pop_all()

    def _start(self, duty: float, theirs: ExitStack, ours: ExitStack) -> None:
        """theirs, ours: close each side's descriptors. Raises OSError."""
        self._socket, their_socket = socket.socketpair()
        ours.callback(self._socket.close)
        theirs.callback(their_socket.close)
        self._socket.setblocking(False)
        page_number = os.memfd_create("hearth-pace", os.MFD_CLOEXEC)
        theirs.callback(os.close, page_number)
        os.ftruncate(page_number, PAGE_BYTES)
        self.page = ControlPage(page_number)
        ours.callback(self.page.close)
        self.page.set_duty(duty)
        passed, info_number = [their_socket.fileno(), page_number], -1
        if self._config.confinement.bwrap:
            self._info_fd, info_number = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, self._info_fd)
            theirs.callback(os.close, info_number)
            passed.append(info_number)
        # Not trio.open_process: its thread would end one day, and the parent-death signal is tied to that thread.
        self._process = subprocess.Popen(
            self._command(their_socket.fileno(), page_number, info_number),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        )

    @property
    def pid(self) -> int:
        """The worker's own; that of bubblewrap until it has said which it started."""
        self._learn_worker()
        return self._worker_pid or self._process.pid

    def resident_bytes(self) -> int:
        """What the process said it holds, after its last batch."""
        return self.page.resident_bytes()

    def is_running(self) -> bool:
        """False once the process has ended, though nobody has asked it anything since."""
        self._learn_worker()
        if self._worker_fd >= 0 and _is_readable(self._worker_fd):
            return False
        return self.alive and self._process.poll() is None

    def _learn_worker(self) -> None:
        """Whom bubblewrap started, once it has said so; nothing to learn without it.

        It says it in several writes, and would die of a pipe that was closed between them: `end` closes it.
        """
        if self._info_fd < 0 or self._worker_fd >= 0:
            return
        said = None
        with suppress(BlockingIOError):
            said = os.read(self._info_fd, INFO_BYTES)
        self._info += said or b""
        found = _CHILD_PID.search(self._info)
        if found is None and said is None:
            return
        if found is not None:
            try:
                self._worker_fd, self._worker_pid = os.pidfd_open(int(found[1])), int(found[1])
                return
            except ProcessLookupError:
                pass
            except OSError:  # the node has too many files open: another time
                return
        if found is not None or not said:  # it has ended since, or failed before
            self._close_info()

    def _close_info(self) -> None:
        if self._info_fd >= 0:
            os.close(self._info_fd)
            self._info_fd = -1

    def next_batch(self) -> int:
        """The number that the next request must have."""
        self._batch += 1
        return self._batch

    async def ask(self, message: ToWorker) -> FromWorker:
        """Send one request and wait for its answer.

        Cancelled, it stops the guest at once and leaves the child ready, or dead where it does not answer.
        Raises ExecutionError: what the child answers, CHILD_LOST, TOO_BIG (compiling took too long or too much);
        LostIdle where nothing of the request was run and a fresh child may do better.
        """
        try:
            frame = encode(message)
        except ValueError as error:
            raise ExecutionError(ExecutionFault.TOO_BIG, str(error)) from error
        sent = False
        try:
            with trio.move_on_after(self._config.compile_timeout_s) as sending:
                await self._send(frame)
            if sending.cancelled_caught:
                raise EOFError("it takes no request")
            sent = True
            answer = await self._answer(message)
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._drain(message.batch, answers=sent)
            raise
        except (OSError, EOFError, ValueError) as error:
            raise await self._lost(message.batch, error) from error
        if isinstance(answer, Failed):
            try:
                reason = ExecutionFault(answer.reason)
            except ValueError:
                reason = ExecutionFault.CHILD_LOST
            raise ExecutionError(reason, answer.detail[:500])
        return answer

    async def _answer(self, message: ToWorker) -> FromWorker:
        """Wait while the module is compiled, for so long at most; then as long as the heart beats.

        A task that holds up even the ticker is killed with its child.
        """
        batch, before = message.batch, -1
        started_s, used_s = trio.current_time(), self._processor_s()
        while True:
            look_s = STALL_S if self.page.loaded_batch() == batch else min(STALL_S, self._config.compile_timeout_s)
            with trio.move_on_after(look_s):
                return await self._receive(batch)
            if self.page.loaded_batch() == batch:
                beat = self.page.heartbeat()
                if beat == before:
                    self.kill()
                    raise EOFError("it made no progress")
                before = beat
                continue
            error = self._compiles_for_too_long(message, started_s, used_s)
            if error is not None:
                self.kill()
                raise error

    def _compiles_for_too_long(self, message: ToWorker, started_s: float, used_s: float) -> CompilesTooLong | None:
        """used_s: the processor time of the child when it began.

        The limit is in processor time, so that it is the job's fault where it is reached; where the processor is too
        busy to reach it, another node may be quicker.
        """
        is_component = _is_component(message.program)
        what = "component" if is_component else "module"
        limit_s = self._config.compile_timeout_s * (COMPONENT_PATIENCE if is_component else 1)
        if self._processor_s() - used_s >= limit_s:
            detail = f"compiling the {what} takes more than {limit_s:g} s of a processor"
            return CompilesTooLong(ExecutionFault.TOO_BIG, detail)
        if trio.current_time() - started_s >= limit_s * BUSY_PATIENCE:
            detail = f"compiling the {what} takes more than {limit_s * BUSY_PATIENCE:g} s here"
            return CompilesTooLong(ExecutionFault.UNAVAILABLE, detail)
        return None

    def _processor_s(self) -> float:
        """What the worker has used of processors so far; 0 if that cannot be known."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _drain(self, batch: int, answers: bool) -> None:
        """After a cancel: stop the guest, then wait for the answer. A compiler can only be killed."""
        self.page.cancel(batch)
        try:
            with trio.move_on_after(CANCEL_GRACE_S):
                if answers:
                    await self._receive(batch)
                    return
        except (OSError, EOFError, ValueError):  # dead already: the caller was cancelled anyway
            pass
        self.kill()

    async def _lost(self, batch: int, error: Exception) -> ExecutionError:
        loaded = self.page.loaded_batch() == batch
        self.kill()
        await self.end()
        code = self._process.returncode
        if self._config.confinement.bwrap and code is not None and code > 128:
            code = 128 - code  # bubblewrap reports a signal as a shell does
        how = f"signal {-code}" if code is not None and code < 0 else f"exit {code}"
        detail = f"the worker process ended ({how}; {error or type(error).__name__})"
        if not loaded and self._batch > 1:
            return LostIdle(ExecutionFault.CHILD_LOST, detail)
        if not loaded and code in (-signal.SIGABRT, -signal.SIGSEGV):
            return ExecutionError(ExecutionFault.TOO_BIG, "the module's compilation needs more memory than there is")
        return ExecutionError(ExecutionFault.CHILD_LOST, detail)

    async def _send(self, frame: bytes) -> None:
        # Not trio's sockets: each of their calls ends with a turn of all other tasks.
        view = memoryview(frame)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket.fileno())

    async def _receive(self, batch: int) -> FromWorker:
        """The next answer to `batch`; what was received stays in place when this is cancelled."""
        while True:
            while len(self._received) < HEADER.size:
                await self._fill()
            (length,) = HEADER.unpack_from(self._received)
            if length > MAX_FRAME_BYTES:
                raise ValueError("its frame is too long")
            while len(self._received) < HEADER.size + length:
                await self._fill()
            answer = decode_from_worker(bytes(memoryview(self._received)[HEADER.size : HEADER.size + length]))
            del self._received[: HEADER.size + length]
            if answer.batch in (batch, 0):
                return answer

    async def _fill(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket.fileno())
            try:
                received = self._socket.recv(RECEIVE_BYTES)
                break
            except BlockingIOError:
                continue
        if not received:
            raise EOFError("it closed its socket")
        self._received += received

    def kill(self) -> None:
        """At once, or as soon as it is known. `end` must follow."""
        self.alive = False
        self._learn_worker()
        if self._worker_fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._worker_fd, signal.SIGKILL)
        elif self._info_fd < 0 and self._process.returncode is None:
            self._process.kill()

    async def end(self) -> None:
        """Kill if need be, and reap: no process and no descriptor is left after this."""
        with trio.CancelScope(shield=True):
            # bwrap, killed while it sets up, would leave its child behind, waiting for ever: let it say whom it has.
            with trio.move_on_after(INFO_TIMEOUT_S):
                self._learn_worker()
                while self._info_fd >= 0 and self._worker_fd < 0:
                    await trio.lowlevel.wait_readable(self._info_fd)
                    self._learn_worker()
                    if self._worker_fd < 0:
                        await trio.sleep(INFO_AGAIN_S)
            if self._worker_fd < 0:
                self._close_info()
            self.kill()
            if self._worker_fd >= 0:
                await trio.lowlevel.wait_readable(self._worker_fd)
                os.close(self._worker_fd)
                self._worker_fd = -1
            self._close_info()
            await _exited(self._process)
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket.fileno())
            self._socket.close()
        self.page.close()

    def _command(self, socket_number: int, page_number: int, info_number: int) -> list[str]:
        config = self._config
        confinement, folders = config.confinement, config.folders
        layers = {
            "landlock_abi": confinement.landlock_abi,
            "seccomp": confinement.seccomp,
            "read": [os.fspath(path) for path in folders.read],
            "write": [os.fspath(path) for path in folders.write],
        }
        arguments: list[object] = [
            socket_number,
            page_number,
            config.cache_dir,
            config.memory_bytes,
            config.cache_bytes,
            config.nice,
            msgspec.json.encode(layers).decode(),
        ]
        command = [sys.executable, "-P", "-m", _WORKER, *map(str, arguments)]
        if not confinement.bwrap:
            return command
        config.cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with_cache = WorkerFolders(folders.read, (*folders.write, config.cache_dir))
        return worker_argv(confinement.bwrap, with_cache, config.tag, info_number, command)


def _is_component(program: str) -> bool:
    try:
        with open(program, "rb") as file:
            return file.read(len(COMPONENT_HEAD)) == COMPONENT_HEAD
    except OSError:
        return False


def _is_readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


async def _exited(process: subprocess.Popen[bytes]) -> None:
    """Wait for a killed child without blocking the loop."""
    if process.poll() is not None:
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        process.wait()
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
    process.wait()
