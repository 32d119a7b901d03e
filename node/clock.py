"""The wall clock: the one place where a node or a client asks what time it is for people and certificates.

Timers and leases never ask it; they have the monotonic clock (`driver.monotonic_us`). It can be told to be off, so that
a test can set a node's clock without setting the machine's.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

# A century either way.
OFFSET_MAX_S = 3_155_760_000.0
BOOT_ID = "proc/sys/kernel/random/boot_id"

_offset_us = 0


def wall_us() -> int:
    """Microseconds since 1970; may jump, as any wall clock may."""
    return time.time_ns() // 1_000 + _offset_us


def wall_s() -> int:
    """Whole seconds since 1970."""
    return wall_us() // 1_000_000


def asleep_s() -> float:
    """How long the machine slept since it was started: the monotonic clock stands still meanwhile. 0 where unknown."""
    if sys.platform != "linux":
        return 0.0
    return max(0.0, (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) / 1e9)


def boot_id(root: Path = Path("/")) -> str:
    """Another after each start of the machine; empty where nothing tells it. root: whose proc/ is looked into."""
    try:
        return (root / BOOT_ID).read_text(encoding="ascii").strip()[:64]
    except (OSError, UnicodeDecodeError):
        return ""


def set_offset(offset_s: float) -> None:
    """From now on this process takes the time to be so much later than the machine says. Raises ValueError."""
    global _offset_us
    if not -OFFSET_MAX_S <= offset_s <= OFFSET_MAX_S:
        raise ValueError(f"a clock can be off by {OFFSET_MAX_S:g} s at most")
    _offset_us = round(offset_s * 1e6)
