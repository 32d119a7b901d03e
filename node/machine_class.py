"""What native results may depend on, in a word: the kind of processor, the C library, how many threads there are.

Two nodes that say the same compute the same with an ordinary program; that is what is claimed, and compared. Finer
would leave nobody to compare with, coarser would call honest nodes liars.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import struct
from collections.abc import Mapping
from pathlib import Path

from .execution.native_config import NativeCommand

BUILD_BYTES = 8
CANONICAL_NAN = bytes.fromhex("7ff8000000000000")
CLASS_CHARS_MAX = 64
_READ_BYTES = 1 << 20
# Levels of x86-64, by the flags that each adds and libraries choose their code by.
_LEVELS = (
    ("v2", ("cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3")),
    ("v3", ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave")),
    ("v4", ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")),
)


def machine_class() -> str:
    """Of this machine, at most 64 characters."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        cpuinfo = ""
    libc = " ".join(platform.libc_ver())
    text = f"{cpu_class(cpuinfo, platform.machine())}, {libc or 'libc'}, {len(os.sched_getaffinity(0))} threads"
    return text[:CLASS_CHARS_MAX]


def has_own_nans() -> bool:
    """Whether a NaN that this processor makes has other bits than the canonical one, as on x86-64 and not on ARM.

    Infinity less itself, as a module would have it: both use the processor's own subtraction.
    """
    infinity = math.inf
    return struct.pack(">d", infinity - infinity) != CANONICAL_NAN


def cpu_class(cpuinfo: str, architecture: str) -> str:
    """Architecture, vendor and level. cpuinfo: as /proc/cpuinfo has it."""
    first: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    if architecture not in ("x86_64", "AMD64"):
        maker = f"{first.get('CPU implementer', '')}{first.get('CPU part', '')}"
        vector = next((name for name in ("sve2", "sve") if name in first.get("Features", "").split()), "")
        return " ".join(filter(None, (architecture, maker, vector)))
    flags, level = first.get("flags", "").split(), "v1"
    for name, needed in _LEVELS:
        if not all(flag in flags for flag in needed):
            break
        level = name
    return f"x86-64-{level} {first.get('vendor_id', '')}".strip()


def builds_of(names: tuple[str, ...], commands: Mapping[str, NativeCommand]) -> tuple[bytes, ...]:
    """Of each command, in this order, a digest of its program and of what its owner always gives it. An image's is
    the beginning of its own digest, which says all that is in it."""
    return tuple(_build(commands[name]) if name in commands else _image_build(name) for name in names)


def _image_build(image: str) -> bytes:
    return bytes.fromhex(image.removeprefix("sha256:"))[:BUILD_BYTES]


def _build(command: NativeCommand) -> bytes:
    hasher = hashlib.sha256()
    for text in (*command.arguments, "", *(f"{key}={value}" for key, value in sorted(command.environment.items()))):
        hasher.update(text.encode() + b"\0")
    try:
        with command.path.open("rb") as program:
            while part := program.read(_READ_BYTES):
                hasher.update(part)
    except OSError:
        return bytes(BUILD_BYTES)
    return hasher.digest()[:BUILD_BYTES]
