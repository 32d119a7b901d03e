"""A process that is surely ours: its id with its start time, so that a reused id is never signalled."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from ..node.clock import boot_id
from .errors import TestnetError


@dataclass(frozen=True, slots=True)
class Process:
    """started_ticks: since the boot that `boot` names, as the kernel writes it in /proc/PID/stat."""

    pid: int
    started_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; None if there is none."""
        found = _stat(pid)
        return None if found is None else cls(pid, found[1], boot_id())

    @property
    def state(self) -> str:
        """ "running", "frozen" or "gone"; who died, to the last thread, and was not waited for is gone."""
        found = _stat(self.pid)
        if found is None or found[1] != self.started_ticks or self.boot != boot_id():
            return "gone"
        if found[0] in "ZX" and found[2] <= 1:
            return "gone"
        return "frozen" if found[0] in "Tt" else "running"

    def send(self, number: signal.Signals) -> bool:
        """Signal it; False if it is gone. Raises TestnetError if it is another user's."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if self.state == "gone":
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        except PermissionError:
            raise TestnetError(f"process {self.pid} is another user's, who alone can signal it") from None
        finally:
            os.close(handle)

    async def wait_gone(self, timeout_s: float) -> bool:
        """Whether it ended in time; a child of ours is waited for."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.state != "gone":
                with trio.move_on_after(timeout_s):
                    await trio.lowlevel.wait_readable(handle)
            ended = self.state == "gone" or bool(select.select([handle], [], [], 0)[0])
        finally:
            os.close(handle)
        if ended:
            self.reap()
        return ended

    def reap(self) -> None:
        """Free the entry of an ended child of ours; nothing for anybody else's."""
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return


def spawn(command: Sequence[str], log: Path) -> Process:
    """Start a process in a session of its own, its output appended to `log`. Raises OSError."""
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        command[0],
        list(command),
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.fspath(log), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
    )
    process = Process.of(pid)
    assert process is not None, "a child that nobody waited for has its entry"
    return process


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """The command, to be run in another namespace, as `--net=/proc/PID/ns/net`. Needs root and util-linux."""
    nsenter = shutil.which("nsenter")
    if nsenter is None:
        raise FileNotFoundError(errno.ENOENT, "nsenter (util-linux) is not installed", "nsenter")
    return [nsenter, namespace, "--", *command]


def _stat(pid: int) -> tuple[str, int, int] | None:
    """The first thread's state letter, the start time, and how many threads there are, it included.

    Source: proc(5), fields 3, 22 and 20.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19]), int(fields[17])
