"""Servers of other projects, in processes of their own: there before a test goes on."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

LIMIT_S = 120.0
AGAIN_S = 0.02


def wait_for(process: subprocess.Popen[bytes], listens: Callable[[], bool]) -> None:
    """Until it listens. One that ends instead, or never does, fails the test and does not hold it up."""
    end_s = time.monotonic() + LIMIT_S
    while not listens():
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < end_s, f"the server does not listen after {LIMIT_S:g} s"
        time.sleep(AGAIN_S)
