"""Events that wait for the machine, served in turns of equal cost, so that nobody's pile makes others wait.

Deficit round robin: each who has something waiting gets `QUANTUM` of cost a round; what is dearer than that waits until
it has saved enough. In one's own pile all stays in order.

Source: Shreedhar and Varghese, Efficient Fair Queuing Using Deficit Round Robin (1996).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

# A few small messages, or one with as many signatures.
QUANTUM = 8


class _Pile(Generic[T]):
    __slots__ = ("deficit", "items")

    def __init__(self) -> None:
        self.items: deque[tuple[T, int]] = deque()
        self.deficit = 0


class FairQueue(Generic[T]):
    """`own` items go first: a node's own events are as many as it lets itself have."""

    def __init__(self) -> None:
        self._own: deque[T] = deque()
        self._piles: dict[bytes, _Pile[T]] = {}
        self._round: deque[bytes] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._own) + self._count

    def push_own(self, item: T) -> None:
        self._own.append(item)

    def push(self, who: bytes, item: T, cost: int) -> None:
        """cost: in units of about a message; 0 only for what peers cannot cause at will."""
        pile = self._piles.get(who)
        if pile is None:
            pile = self._piles[who] = _Pile()
            pile.deficit = QUANTUM
            self._round.append(who)
        pile.items.append((item, cost))
        self._count += 1

    def pop(self) -> T:
        """Raises IndexError if there is nothing."""
        if self._own:
            return self._own.popleft()
        while True:
            who = self._round[0]
            pile = self._piles[who]
            item, cost = pile.items[0]
            if cost > pile.deficit and len(self._round) > 1:
                pile.deficit += QUANTUM
                self._round.rotate(-1)
                continue
            pile.items.popleft()
            pile.deficit = max(0, pile.deficit - cost)
            self._count -= 1
            if not pile.items:
                # Whoever has nothing waiting saves nothing.
                del self._piles[who]
                self._round.popleft()
            return item
