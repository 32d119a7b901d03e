"""The machine's timers: one time a key, the earliest first."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from ..protocol.effects import TimerKey

# What was set anew or cancelled stays in the heap until it is on top; with more of it than live timers and these, the
# heap is made anew.
STALE_MAX = 256


class Timers:
    """A heap whose entries count only while they are what their key was set to last. Each call costs O(log n)."""

    def __init__(self) -> None:
        self._at_us: dict[TimerKey, int] = {}
        self._heap: list[tuple[int, int, TimerKey]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._at_us)

    def set(self, key: TimerKey, at_us: int) -> None:
        """In place of what the key was set to before; of equal times, the one that was set first fires first."""
        self._at_us[key] = at_us
        self._count += 1
        heappush(self._heap, (at_us, self._count, key))
        if len(self._heap) > 2 * len(self._at_us) + STALE_MAX:
            latest = {each[2]: each for each in sorted(self._heap, key=lambda each: each[1])}
            self._heap = [each for key, each in latest.items() if self._at_us.get(key) == each[0]]
            heapify(self._heap)

    def cancel(self, key: TimerKey) -> None:
        self._at_us.pop(key, None)

    def next_us(self) -> int | None:
        """When the earliest is due; None if there is none."""
        while self._heap and self._at_us.get(self._heap[0][2]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_us: int) -> TimerKey | None:
        """The earliest that is due, which is set no more; None if none is."""
        at_us = self.next_us()
        if at_us is None or at_us > now_us:
            return None
        key = heappop(self._heap)[2]
        del self._at_us[key]
        return key
