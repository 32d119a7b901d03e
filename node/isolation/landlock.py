"""Landlock: a process gives up the files, ports and signals that it does not need, for good (linux/landlock.h).

By system call, since no C library has it: 444 makes a ruleset, 445 adds a path to it, 446 puts it on the calling
thread and all that it makes from then on.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MADE_AND_REMOVED = 0x1FF0  # remove and make whatever kind of file: bits 4 … 12
_MAKE_DIR, _MAKE_REG, _REMOVE_DIR, _REMOVE_FILE = 1 << 7, 1 << 8, 1 << 4, 1 << 5
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_ALL_NET = 0b11  # bind and connect TCP
_ALL_SCOPES = 0b11  # abstract Unix sockets, signals

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | _MAKE_DIR | _MAKE_REG | _REMOVE_DIR | _REMOVE_FILE | _REFER | _TRUNCATE
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE


class LandlockError(Exception):
    """A ruleset could not be put on; one line."""


def abi_version() -> int:
    """The kernel's Landlock ABI: 1 files, 2 renames, 3 truncate, 4 TCP, 5 devices, 6 signals and sockets; 0 without."""
    version = _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return max(0, version)


def handled(abi: int) -> tuple[int, int, int]:
    """What an ABI can forbid: bits of files, of TCP, of scopes."""
    files = EXECUTE | WRITE_FILE | READ | _MADE_AND_REMOVED
    files |= (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEVICE if abi >= 5 else 0)
    return files, _ALL_NET if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0


def ruleset_attributes(abi: int) -> bytes:
    """`struct landlock_ruleset_attr`, as long as that ABI knows it."""
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    return struct.pack("<QQQ", *handled(abi))[:size]


def restrict(read: Sequence[Path], write: Sequence[Path], abi: int) -> None:
    """From now on this thread, and what it starts, reads below `read`, writes below `write`, and nothing else.

    What is open stays open. Paths that are not there are left out. Raises LandlockError.
    """
    attributes = ruleset_attributes(abi)
    ruleset = _syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise LandlockError(f"no ruleset: {os.strerror(-ruleset)}")
    try:
        files = handled(abi)[0]
        for paths, access in ((read, READ), (write, WRITE)):
            for path in paths:
                _allow(ruleset, path, access & files)
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        answer = _syscall(_RESTRICT_SELF, ruleset, 0)
        if answer < 0:
            raise LandlockError(f"the ruleset was not taken: {os.strerror(-answer)}")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LandlockError(f"{path}: {error.strerror}") from error
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_A_FILE
        answer = _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("<Qi", access, descriptor), 0)
        if answer < 0:
            raise LandlockError(f"{path}: {os.strerror(-answer)}")
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    """What it returns, or the negative errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    answer = int(libc.syscall(ctypes.c_long(number), *words))
    return answer if answer >= 0 else -ctypes.get_errno()
