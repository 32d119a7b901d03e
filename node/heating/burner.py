"""Heat without work, and load to measure a machine by: processes that use so much CPU time, and make nothing of it."""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from ..usage import TaskUsage
from . import burn_child

_SET_PARENT_DEATH_SIGNAL = 1


class Burner:
    """`set` says how many cores' worth is burnt; `close` ends it. All of it ends with this process, however it ends.

    Call `set` from the thread that lives as long as the process: on Linux a child's end is tied to its thread.
    """

    def __init__(self, *, yielding: bool = True) -> None:
        """yielding: it takes only what no other process wants."""
        self._how = [] if yielding else [burn_child.PLAIN]
        self._children: list[subprocess.Popen[bytes]] = []
        self._usage = TaskUsage(lambda: [child.pid for child in self._children])
        self._told = b""

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def set(self, load: float) -> None:
        """load: in cores, >= 0; none at all ends the processes. Raises OSError if one cannot be started."""
        self._reap()
        # What is burnt changes each period; processes come and go as seldom as may be, and share it equally.
        wanted = math.ceil(load - 1e-9)
        while self._children and wanted == 0:
            self._end(self._children.pop())
        while len(self._children) < wanted:
            self._children.append(self._started())
            self._told = b""
        duty = round(burn_child.FULL * min(1.0, load / len(self._children))) if self._children else 0
        # The least there is, rather than none, where a little is asked for.
        told = bytes([max(1, duty)])
        if self._children and told != self._told:
            self._told = told
            for child in self._children:
                self._tell(child, told)

    def cpu_us(self) -> int:
        """What they used since the start, those that have ended included. Never falls."""
        return self._usage.total_us()

    def close(self) -> None:
        self.set(0.0)

    def _started(self) -> subprocess.Popen[bytes]:
        # By its file, without site packages or environment: it is there in some 10 ms.
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(burn_child.__file__)), *self._how],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            preexec_fn=partial(_die_with, os.getpid()),
        )

    def _reap(self) -> None:
        """Whoever was killed is replaced."""
        for child in [child for child in self._children if child.poll() is not None]:
            self._children.remove(child)
            self._end(child)

    def _tell(self, child: subprocess.Popen[bytes], told: bytes) -> None:
        assert child.stdin is not None
        try:
            os.set_blocking(child.stdin.fileno(), False)
            child.stdin.write(told)
        except OSError:
            self._told = b""  # it died, or a watchdog stopped it: told again at the next period

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        self._usage.total_us()
        child.kill()
        child.wait()
        assert child.stdin is not None
        child.stdin.close()


_libc = ctypes.CDLL(None)


def _die_with(parent: int) -> None:
    """In the child, between fork and exec. parent: its process id, which is 1 in a container."""
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
