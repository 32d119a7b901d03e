"""One sandbox's processes, from outside: what they use, and pausing, resuming and ending all of them.

The processes are read in the sandbox's own /proc, seen through its first process: it lists them and no
others, however many the machine runs. Numbers there are the sandbox's; signals go to the process group,
which a task cannot leave (`setsid` and `setpgid` are refused), and to the first process, with whose end the
kernel ends every other one of its namespace. Where a container runs within the sandbox, its processes are in
namespaces and groups of their own: each is signalled by itself.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MAX_READ_BYTES = 16 << 10
MAX_PASSES = 16  # over the processes, until all are signalled; a stopped one starts no other
_OPEN_PROCESS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_us: of the living and the reaped, in steps of a clock tick.  resident_bytes: shared pages counted
    once a process.  processes: living ones.  Of a sandbox with a container, the last two are the container's."""

    cpu_us: int
    resident_bytes: int
    processes: int


class ProcessTree:
    """The processes of one sandbox. init_pid: its first process, as we see it, which leads the process group.
    has_container: the task's are in a process namespace below it; others are ours.
    Holds a descriptor of the first process, so that a reused number can never be hit; `close` it."""

    def __init__(self, init_pid: int, has_container: bool = False) -> None:
        """Raises ProcessLookupError if the first process is gone already."""
        self._has_container = has_container
        self._group = init_pid
        self.init_fd = os.pidfd_open(init_pid)
        self._folder = f"/proc/{init_pid}"
        self._root = f"{self._folder}/root"

    def close(self) -> None:
        os.close(self.init_fd)

    def parent_pid(self) -> int:
        """Of the first process, as we see it; 0 once it is gone."""
        fields = _read(f"{self._folder}/stat").rpartition(b")")[2].split()
        return int(fields[1]) if len(fields) > 1 else 0

    def kill(self) -> None:
        """End every process, paused or not."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init_fd, signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._has_container:
            self._signal_each(number)
            return
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)

    def _signal_each(self, number: int) -> None:
        """All but the first, which is ours and outlives them. What is forked meanwhile is met in the next pass."""
        reached = {"1"}
        for _ in range(MAX_PASSES):
            others = [name for name in self._numbers() if name not in reached]
            if not others:
                return
            for name in others:
                reached.add(name)
                _send(f"{self._root}/proc/{name}", number)

    def usage(self) -> Usage:
        """What the tree uses now; zeros once it is gone."""
        ticks = pages = count = 0
        for number in self._numbers():
            fields = _read(f"{self._root}/proc/{number}/stat").rpartition(b")")[2].split()
            if len(fields) < 22:
                continue
            ticks += sum(int(field) for field in fields[11:15])
            if self._is_tasks(number):
                pages += int(fields[21])
                count += 1
        return Usage(ticks * TICK_US, pages * PAGE_BYTES, count)

    def proportional_bytes(self) -> int:
        """Memory with shared pages divided among those who share them: exact, and dear, so read it rarely."""
        total_kib = 0
        for number in filter(self._is_tasks, self._numbers()):
            for line in _read(f"{self._root}/proc/{number}/smaps_rollup").splitlines():
                if line.startswith(b"Pss:"):
                    total_kib += int(line.split()[1])
        return total_kib << 10

    def file_count(self) -> int:
        """Inodes in the sandbox's /tmp and /out, which no size bounds."""
        count = 0
        for folder in ("tmp", "out"):
            try:
                status = os.statvfs(f"{self._root}/{folder}")
            except OSError:
                continue
            count += status.f_files - status.f_ffree
        return count

    def _is_tasks(self, number: str) -> bool:
        """Whether a process is in the container, where there is one."""
        if not self._has_container:
            return True
        try:
            return os.readlink(f"{self._root}/proc/{number}/ns/pid") != os.readlink(f"{self._folder}/ns/pid")
        except OSError:  # it ended
            return False

    def _numbers(self) -> list[str]:
        try:
            return [name for name in os.listdir(f"{self._root}/proc") if name.isdigit()]
        except OSError:
            return []


def _send(folder: str, number: int) -> None:
    """A signal to a process by its folder in /proc, whose number is not ours to see."""
    try:
        process = os.open(folder, _OPEN_PROCESS)
    except OSError:
        return
    try:
        signal.pidfd_send_signal(process, number)
    except OSError:  # it ended meanwhile
        return
    finally:
        os.close(process)


def _read(path: str) -> bytes:
    """The file's beginning; empty if the process went away meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.read(fd, MAX_READ_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
