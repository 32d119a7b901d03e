"""Runs share nothing, so several go over all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def over_all_cores(play: Callable[[int], T], count: int) -> Sequence[T]:
    """[play(0), play(1), ...]; `play` and its answers have to be such that they can be sent to another process."""
    workers = min(cores(), count)
    if workers < 2:
        return [play(number) for number in range(count)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(play, range(count)))
