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
    with pool(cores(), compiled.use if compiled.in_use() else None, fresh=True) as processes:
        yield from processes.map(play, range(count))


def each_over_all_cores(play: Callable[[int], T], numbers: Sequence[int]) -> Iterator[T]:
    """As `over_all_cores`, of these numbers, in their order, each as soon as it and those before it are there."""
    workers = min(cores(), len(numbers))
    if workers < 2:
        yield from map(play, numbers)
        return
    with pool(workers) as processes:
        yield from processes.map(play, numbers)


def pool(workers: int, begin: Callable[[], object] | None = None, *, fresh: bool = False) -> ProcessPoolExecutor:
    """Processes that end when this one has ended.

    A parent that was killed asks nobody to stop, and what it started would play on for hours. begin: what each of them
    does first.  fresh: each task has one of its own, that has nothing of this one.
    """
    return ProcessPoolExecutor(
        workers,
        mp_context=get_context("spawn") if fresh else None,
        initializer=partial(_begin, begin),
        max_tasks_per_child=1 if fresh else None,
    )


def _begin(begin: Callable[[], object] | None) -> None:
    Thread(target=_await_parents_end, daemon=True).start()
    if begin is not None:
        begin()


def _await_parents_end() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
