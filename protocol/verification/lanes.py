"""Numbers of task copies. Copy c of task i is number c * tasks + i, so each (task, copy) is granted, leased and
counted as a task of its own; copy 0 is the task itself, and its numbers are the tasks' indices."""

from __future__ import annotations

# Copy 0 and fifteen more: what nobody settles within so many is left to the user.
COPIES_MAX = 16


def lane_of(number: int, tasks: int) -> int:
    """The copy that a number belongs to."""
    return number // tasks


def is_within_lane(lo: int, hi: int, tasks: int) -> bool:
    """Whether [lo, hi) is a non-empty range of one copy of a job with so many tasks."""
    return 0 <= lo < hi and lo // tasks == (hi - 1) // tasks < COPIES_MAX


def tasks_of(lo: int, hi: int, tasks: int) -> tuple[int, int]:
    """The tasks [lo, hi) that numbers of one copy stand for."""
    shift = lo // tasks * tasks
    return lo - shift, hi - shift


def numbers_of(lo: int, hi: int, copy: int, tasks: int) -> tuple[int, int]:
    """The numbers of one copy of tasks [lo, hi)."""
    return copy * tasks + lo, copy * tasks + hi
