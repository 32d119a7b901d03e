"""One core's share of heat without work, in a process of its own: it uses the CPU time that it is told to, for nothing.

Each byte on its input is a duty, 0 … 200 of 200; the end of its input is its own end. It closes its loop on its own CPU
time, and takes what nobody else wants (SCHED_IDLE): a task that comes gets its core at once. With the argument "plain",
for measuring, it is a process like others.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable

PERIOD_S = 0.05
FULL = 200
PLAIN = "plain"


def burn(
    wait: Callable[[float | None], bytes | None],
    now_s: Callable[[], float] = time.monotonic,
    cpu_s: Callable[[], float] = time.process_time,
) -> None:
    """Until `wait` returns nothing. wait: bytes that came within so many seconds, None if there came none; without a
    limit where it is given None.
    """
    duty, rest_s = 0.0, None
    while True:
        told = wait(rest_s)
        if told == b"":
            return
        if told:
            duty = min(1.0, told[-1] / FULL)
        if duty == 0.0:
            rest_s = None
            continue
        end_s, enough_s = now_s() + PERIOD_S, cpu_s() + duty * PERIOD_S
        while cpu_s() < enough_s and now_s() < end_s:
            pass
        rest_s = max(0.0, end_s - now_s())


def _from_input(limit_s: float | None) -> bytes | None:
    ready, _, _ = select.select([0], [], [], limit_s)
    return os.read(0, 4096) if ready else None


def main() -> None:
    if PLAIN not in sys.argv:
        _yield_to_all()
    burn(_from_input)


def _yield_to_all() -> None:
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:
        os.nice(19)


if __name__ == "__main__":
    main()
