"""Runs one task in its sandbox, watches it, and leaves no process behind, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from .bubblewrap import GO, READY, Surroundings, Tools, last_line, memory_file
from .native_archive import OVERHEAD_BYTES
from .native_duty import PERIOD_US, DutyCycle, Pace
from .native_folders import MAX_CHECKPOINT_ENTRIES, FolderError, checkpoint_size_bytes, free_bytes
from .native_process import ProcessTree
from .outcome import Exit
from .scarcity import machine_fault

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
READ_BYTES = 64 << 10
MAX_STATUS_BYTES = 16 << 10
MAX_STDERR_FLOOD_BYTES = 64 << 20  # all that a task may write there; kept is only the tail
MAX_SCRATCH_FILES = 20_000  # an empty file costs the kernel 1 kB that no tmpfs size counts


class SandboxFailed(Exception):
    """This machine could not run the task, or not to its end; one line. Another machine may."""


def lack_of(error: Exception, runtime: str) -> str | None:
    """What this machine lacked for a task, in one line for the owner; None if it is a bug of ours."""
    if isinstance(error, FolderError | SandboxFailed):
        return str(error)
    fault = machine_fault(error)
    return fault and f"the {runtime} sandbox: {fault}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is watched from outside. wall_us: counts only while the task isn't paused."""

    memory_bytes: int
    wall_us: int
    output_bytes: int
    stderr_bytes: int
    checkpoint_bytes: int
    disk_reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Ending:
    """exit: the program's status or an `Exit`.  archive: the output folder, as the task says.  note: why we
    ended it, one line, or "".  cpu_us: of all its processes, with the few milliseconds of the sandbox."""

    exit: int
    stdout: bytes
    archive: bytes
    stderr: bytes
    note: str
    cpu_us: int


# What the shell reports for a command that died of a signal is 128 + its number, as for a program's own exit.
_SIGNAL_EXITS = {
    **{
        128 + number: Exit.TRAP
        for number in (
            signal.SIGILL,
            signal.SIGTRAP,
            signal.SIGABRT,
            signal.SIGBUS,
            signal.SIGFPE,
            signal.SIGSEGV,
            signal.SIGSYS,
        )
    },
    128 + signal.SIGKILL: Exit.KILLED,
    128 + signal.SIGXCPU: Exit.WALL,
    128 + signal.SIGXFSZ: Exit.OUTPUT,
}


async def run_sandboxed(tools: Tools, sandbox: Surroundings, stdin: bytes, bounds: Bounds, pace: Pace) -> Ending:
    """Run one task to its end. Cancellation ends every process of it before it is passed on.

    pace: read, and added to, every 100 ms.
    Raises SandboxFailed if the task was never started, or was stopped for what this machine lacks.
    """
    running = _RunningSandbox(tools, sandbox, stdin, bounds, pace)
    try:
        with trio.CancelScope(shield=True):
            # bwrap, killed while it sets up, would leave its child behind, waiting for ever: let it finish.
            await running.start()
        await running.to_end()
    finally:
        with trio.CancelScope(shield=True):
            await running.end()
    return running.ending()


class _RunningSandbox:
    def __init__(self, tools: Tools, sandbox: Surroundings, stdin: bytes, bounds: Bounds, pace: Pace) -> None:
        self._sandbox = sandbox
        self._bounds = bounds
        self._pace = pace
        self._verdict: Exit | None = None
        self._note = ""
        self._lack = ""
        self._is_started = False
        self._stdout = bytearray()
        self._archive = bytearray()
        self._stderr = bytearray()
        self._status = bytearray()
        self._tree: ProcessTree | None = None
        self._cpu_us = 0
        self._wait_status: int | None = None
        self._launch(tools, stdin)

    def _launch(self, tools: Tools, stdin: bytes) -> None:
        """Start bwrap from this very thread: the kernel ends it when the thread that started it ends."""
        with ExitStack() as theirs, ExitStack() as ours:
            try:
                readers = self._spawn(tools, stdin, theirs, ours)
            except OSError as error:
                raise SandboxFailed(f"cannot start {tools.bwrap}: {error}") from error
            ours.pop_all()
        self._channel, self._out, self._err, self._status_lines = map(trio.lowlevel.FdStream, readers)

    def _spawn(self, tools: Tools, stdin: bytes, theirs: ExitStack, ours: ExitStack) -> list[int]:
        """Our ends of the channel, stdout, stderr and status. theirs, ours: close each side's descriptors."""

        def closing(side: ExitStack, fd: int) -> int:
            side.callback(os.close, fd)
            return fd

        seccomp_fd = closing(theirs, memory_file("seccomp", self._sandbox.system_calls()))
        input_fd = closing(theirs, memory_file("input", stdin))
        node_end, task_end = socket.socketpair()
        readers, writers = [closing(ours, node_end.detach())], [closing(theirs, task_end.detach())]
        for _ in range(3):
            reader, writer = os.pipe()
            readers.append(closing(ours, reader))
            writers.append(closing(theirs, writer))
        channel_fd, stdout_fd, stderr_fd, status_fd = writers
        self._process = subprocess.Popen(
            self._sandbox.launch_argv(tools, seccomp_fd, input_fd, status_fd),
            stdin=channel_fd,
            stdout=stdout_fd,
            stderr=stderr_fd,
            pass_fds=(seccomp_fd, input_fd, status_fd),
            env={},
            cwd="/",
            start_new_session=True,
        )
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._process.kill()
            self._process.wait()
            raise
        return readers

    async def start(self) -> None:
        """Wait until the sandbox is set up, and let the command run."""
        with trio.move_on_after(START_TIMEOUT_S), suppress(trio.BrokenResourceError):
            tree = self._tree = await self._learn_init()
            if tree is None:
                return
            while len(self._archive) < len(READY):
                chunk = await self._channel.receive_some(READ_BYTES)
                self._archive += chunk
                if not chunk:
                    return
            del self._archive[: len(READY)]
            self._is_started = True
            await self._channel.send_all(GO)

    async def _learn_init(self) -> ProcessTree | None:
        """Learn the sandbox's first process from bwrap's first status line; None if it failed before."""
        while b"\n" not in self._status:
            chunk = await self._status_lines.receive_some(READ_BYTES)
            self._status += chunk
            if not chunk or len(self._status) > MAX_STATUS_BYTES:
                return None
        init_pid = int(json.loads(self._status.split(b"\n")[0])["child-pid"])
        try:
            tree = ProcessTree(init_pid, self._sandbox.has_container)
        except ProcessLookupError:
            return None
        if tree.parent_pid() != self._process.pid:  # it ended already, and somebody else has its number
            tree.close()
            return None
        return tree

    async def to_end(self) -> None:
        """Collect and watch until bwrap has left, which it does after every process inside."""
        if not self._is_started:
            return
        limit_bytes = self._bounds.output_bytes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect, self._out, self._stdout, limit_bytes)
            nursery.start_soon(self._collect, self._channel, self._archive, limit_bytes + OVERHEAD_BYTES)
            nursery.start_soon(self._collect, self._status_lines, self._status, MAX_STATUS_BYTES)
            nursery.start_soon(self._collect_tail, self._err)
            watching = trio.CancelScope()
            nursery.start_soon(self._watch, watching)
            await trio.lowlevel.wait_readable(self._pidfd)
            watching.cancel()

    async def _collect(self, stream: trio.lowlevel.FdStream, into: bytearray, limit_bytes: int) -> None:
        with suppress(trio.BrokenResourceError):  # a socket whose other end died with unread bytes
            while chunk := await stream.receive_some(READ_BYTES):
                into += chunk
                if len(into) > limit_bytes:
                    self._stop(Exit.OUTPUT, f"more than {self._bounds.output_bytes} bytes of output")
                    return

    async def _collect_tail(self, stream: trio.lowlevel.FdStream) -> None:
        total_bytes = 0
        while chunk := await stream.receive_some(READ_BYTES):
            self._stderr += chunk
            del self._stderr[: max(0, len(self._stderr) - max(self._bounds.stderr_bytes, 4096))]
            total_bytes += len(chunk)
            if total_bytes > MAX_STDERR_FLOOD_BYTES:
                self._stop(Exit.OUTPUT, f"more than {MAX_STDERR_FLOOD_BYTES} bytes on stderr")
                return

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Meter the task each period; pause and resume it; stop it at a bound."""
        with scope:
            duty_cycle, is_paused = DutyCycle(), False
            left_us = self._bounds.wall_us
            since_us = _now_us()
            while self._tree is not None and self._within_bounds(self._tree):
                now_us = _now_us()
                slice_us = duty_cycle.slice_us(self._pace.duty, now_us - since_us, self._cpu_us)
                since_us = now_us
                if slice_us > 0:
                    if is_paused:
                        self._tree.resume()
                    await trio.sleep(min(slice_us, left_us) / 1e6)
                    left_us -= _now_us() - now_us
                    if left_us <= 0:
                        self._stop(Exit.WALL, f"ran longer than {self._bounds.wall_us / 1e6:g} s")
                        return
                if is_paused := slice_us < PERIOD_US:
                    self._tree.pause()
                    await trio.sleep((PERIOD_US - slice_us) / 1e6)

    def _within_bounds(self, tree: ProcessTree) -> bool:
        bounds, usage = self._bounds, tree.usage()
        self._spend(usage.cpu_us)
        if usage.resident_bytes > bounds.memory_bytes and tree.proportional_bytes() > bounds.memory_bytes:
            self._stop(Exit.MEMORY, f"needs more than {bounds.memory_bytes} bytes of memory")
        elif tree.file_count() > MAX_SCRATCH_FILES:
            self._stop(Exit.OUTPUT, f"more than {MAX_SCRATCH_FILES} files in /tmp and /out")
        elif self._sandbox.checkpoint is not None:
            self._check_checkpoint(self._sandbox.checkpoint)
        return self._verdict is None and not self._lack

    def _check_checkpoint(self, folder: Path) -> None:
        bounds = self._bounds
        try:
            size_bytes, left_bytes = checkpoint_size_bytes(folder), free_bytes(folder)
        except FileNotFoundError:
            self._give_up("the node removed the checkpoint folder")
            return
        except OSError as error:  # what cannot be looked at cannot be bounded
            self._give_up(f"the node cannot look into the checkpoint folder: {error.strerror}")
            return
        if size_bytes is None:
            self._stop(Exit.OUTPUT, f"more than {MAX_CHECKPOINT_ENTRIES} files in /ckpt, or too deep")
        elif size_bytes > bounds.checkpoint_bytes:
            self._stop(Exit.OUTPUT, f"more than {bounds.checkpoint_bytes} bytes in /ckpt")
        elif left_bytes < bounds.disk_reserve_bytes:
            self._give_up("the node's disk is full")

    def _spend(self, cpu_us: int) -> None:
        """Take a reading of the task's CPU time; a later one may be coarser than the last."""
        if cpu_us > self._cpu_us:
            self._pace.cpu_us += cpu_us - self._cpu_us
            self._cpu_us = cpu_us

    def _stop(self, verdict: Exit, note: str) -> None:
        if self._verdict is None:
            self._verdict, self._note = verdict, note
        self._kill()

    def _give_up(self, lack: str) -> None:
        """End the task for what this machine lacks: that is no result of the task's."""
        self._lack = lack
        self._kill()

    def _kill(self) -> None:
        if self._tree is not None:
            self._tree.kill()
        elif self._wait_status is None:
            self._kill_bwrap()

    def _kill_bwrap(self) -> None:
        """By descriptor: Popen's own kill might reap the process, and with it what it used."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def end(self) -> None:
        """Kill what still runs, wait until the kernel has ended all of it, and take its CPU time."""
        self._kill()
        with trio.move_on_after(END_TIMEOUT_S):
            if self._tree is not None:
                await trio.lowlevel.wait_readable(self._tree.init_fd)
            await trio.lowlevel.wait_readable(self._pidfd)
        self._kill_bwrap()  # in vain, but for a bwrap that hangs
        _, self._wait_status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(self._wait_status)
        self._spend(round((usage.ru_utime + usage.ru_stime) * 1e6))
        os.close(self._pidfd)
        if self._tree is not None:
            self._tree.close()
        if not self._is_started:
            self._stderr += await self._err.receive_some(READ_BYTES)
        for stream in (self._channel, self._out, self._err, self._status_lines):
            await stream.aclose()

    def ending(self) -> Ending:
        """What became of it; only after `end`. Raises SandboxFailed."""
        if not self._is_started:
            raise SandboxFailed(last_line(bytes(self._stderr) or b"the sandbox did not start"))
        if self._lack and self._verdict is None:
            raise SandboxFailed(self._lack)
        code = self._exit_code()
        return Ending(
            exit=self._verdict if self._verdict is not None else _SIGNAL_EXITS.get(code, code),
            stdout=bytes(self._stdout),
            archive=bytes(self._archive),
            stderr=bytes(self._stderr),
            note=self._note,
            cpu_us=self._cpu_us,
        )

    def _exit_code(self) -> int:
        """Without a report from bwrap, somebody killed it."""
        for line in self._status.splitlines():
            code = json.loads(line).get("exit-code")
            if isinstance(code, int):
                return code
        return 128 + signal.SIGKILL


def _now_us() -> int:
    return round(trio.current_time() * 1e6)
