"""Running a command's async part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> T:
    """In trio. Ctrl-C arrives at a checkpoint, so that no machine is left half-way through an event."""
    import trio

    return trio.run(function, restrict_keyboard_interrupt_to_checkpoints=True)
