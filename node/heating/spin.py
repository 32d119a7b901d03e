"""Processes that do nothing but keep a core busy: for measuring what a machine draws, and for heat without work."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

from ..usage import process_cpu_us

_SET_PARENT_DEATH_SIGNAL = 1
_LOOP = "while True: pass"


class SpinLoad:
    """`set` says how many cores are busy; `close` ends all of them. They end with this process, however it ends.

    Call `set` from the thread that lives as long as the process: on Linux a child's end is tied to its thread.
    """

    def __init__(self, nice: int = 19) -> None:
        self._nice = nice
        self._children: list[subprocess.Popen[bytes]] = []
        self._ended_us = 0

    @property
    def cores(self) -> int:
        return len(self._children)

    def set(self, cores: int) -> None:
        """Raises OSError if a process cannot be started."""
        while len(self._children) > cores:
            self._end(self._children.pop())
        while len(self._children) < cores:
            # -S -E: no site packages, no environment; it is there in some 10 ms.
            command = [sys.executable, "-S", "-E", "-c", f"import os; os.nice({self._nice})\n{_LOOP}"]
            self._children.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    preexec_fn=_die_with_parent,
                )
            )

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def cpu_us(self) -> int:
        """What they used since the start, those that have ended included."""
        return self._ended_us + sum(process_cpu_us(child.pid) or 0 for child in self._children)

    def close(self) -> None:
        self.set(0)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        self._ended_us += process_cpu_us(child.pid) or 0
        child.kill()
        child.wait()

    def _signal(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send_signal(number)


_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In the child, between fork and exec."""
    _libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() == 1:
        os._exit(1)
