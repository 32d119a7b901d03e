"""What a worker process does to itself before it takes a request: limits, Landlock, and its system-call filter.

Once and for good: no later call loosens any of it. Imports nothing of trio.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

from ..execution.seccomp import UnsupportedMachine, worker_filter_program
from . import landlock

MAX_OPEN_FILES = 512
MAX_FILE_BYTES = 1 << 30
MAX_ADDRESS_BYTES = 256 << 30
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2


class ConfinementFailed(Exception):
    """A layer that was expected could not be put on; one line."""


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def limit(memory_bytes: int, nice: int) -> None:
    """Die with the parent, dump no core, take no rights, use no more than this."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_AS, MAX_ADDRESS_BYTES),
        (resource.RLIMIT_DATA, memory_bytes),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if nice > 0:
        os.nice(nice)


def confine(read: Sequence[Path], write: Sequence[Path], landlock_abi: int, seccomp: bool) -> None:
    """Put on the layers that the parent found this machine to have; the thread must still be the only one.

    Raises ConfinementFailed.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise ConfinementFailed("the worker has threads already, which would go without")
    if landlock_abi:
        try:
            landlock.restrict([*read, Path("/proc/self")], write, landlock_abi)
        except landlock.LandlockError as error:
            raise ConfinementFailed(f"Landlock: {error}") from error
    if seccomp:
        _filter_calls()


def _filter_calls() -> None:
    try:
        program = worker_filter_program(os.getpid())
    except UnsupportedMachine as error:
        raise ConfinementFailed(str(error)) from error
    filter_program = _FilterProgram(len(program) // 8, program)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filter_program), 0, 0) != 0:
        raise ConfinementFailed(f"the system-call filter was not taken: {os.strerror(ctypes.get_errno())}")
