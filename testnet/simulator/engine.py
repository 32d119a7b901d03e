"""Virtual time: whole microseconds, one heap, and nothing that happens by itself."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

MS = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

Action = Callable[..., None]


class Engine:
    """What is to happen, in order of time, and of being planned where times are equal.

    Nothing is ever taken out: whoever plans something that may become void checks that when it happens.
    """

    __slots__ = ("_heap", "_order", "now_us")

    def __init__(self, start_us: int) -> None:
        self.now_us = start_us
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, at_us: int, action: Action, *arguments: Any) -> None:
        """A time that has passed means now, after all that is planned for now."""
        self._order += 1
        heappush(self._heap, (at_us if at_us > self.now_us else self.now_us, self._order, action, arguments))

    def after(self, delay_us: int, action: Action, *arguments: Any) -> None:
        self._order += 1
        heappush(self._heap, (self.now_us + delay_us, self._order, action, arguments))

    def run(self, until_us: int, stop: Callable[[], bool] | None = None, *, check_every: int = 256) -> bool:
        """Let happen what is planned up to a time; True if `stop` ended it earlier.

        stop: asked after every `check_every` actions, so that it may be costly.
        """
        heap = self._heap
        left = check_every
        while heap and heap[0][0] <= until_us:
            self.now_us, _, action, arguments = heappop(heap)
            action(*arguments)
            left -= 1
            if left == 0:
                left = check_every
                if stop is not None and stop():
                    return True
        self.now_us = max(self.now_us, until_us)
        return stop is not None and stop()
