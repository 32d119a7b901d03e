"""Runs share nothing, so several go over all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import TypeVar

from . import compiled

T = TypeVar("T")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def over_all_cores(play: Callable[[int], T], count: int) -> Sequence[T]:
    """[play(0), play(1), ...]; `play` and its answers have to be such that they can be sent to another process."""
    return list(each_over_all_cores(play, range(count)))


def each_in_a_new_process(play: Callable[[int], T], count: int) -> Iterator[T]:
    """As `over_all_cores`, each in a new process, and as soon as it and those before it are there.

    Such a process plays compiled modules if this one does.
    """
    begin = partial(_begin, compiled.in_use())
    context = get_context("spawn")
    with ProcessPoolExecutor(cores(), mp_context=context, initializer=begin, max_tasks_per_child=1) as pool:
        yield from pool.map(play, range(count))


def each_over_all_cores(play: Callable[[int], T], numbers: Sequence[int]) -> Iterator[T]:
    """As `over_all_cores`, of these numbers, in their order, each as soon as it and those before it are there."""
    workers = min(cores(), len(numbers))
    if workers < 2:
        yield from map(play, numbers)
        return
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        yield from pool.map(play, numbers)


def end_with_parent() -> None:
    """To be called in a process of a pool: it ends when its parent has ended.

    A parent that was killed asks nobody to stop, and what it started would play on for hours.
    """
    Thread(target=_await_parents_end, daemon=True).start()


def _begin(use_compiled: bool) -> None:
    if use_compiled:
        compiled.use()
    end_with_parent()


def _await_parents_end() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
