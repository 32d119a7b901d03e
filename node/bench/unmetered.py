"""`hearth`, without the accounts that a node keeps of its peers, and their turns: what those cost is the difference.

For measurements alone: any peer could use up such a node.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from ..fair_queue import FairQueue
from ..intake import Intake

T = TypeVar("T")


class NoAccounts(Intake):
    """Whoever sends may send more."""

    def charge(self, peer: bytes, size_bytes: int, signatures: int, now_us: int) -> None:
        pass

    def overdrawn_us(self, peer: bytes, now_us: int) -> int:
        return 0

    def takes_gossip(self, author: bytes, now_us: int) -> bool:
        return True


class OneLine(FairQueue[T], Generic[T]):
    """First come, first served."""

    def __init__(self) -> None:
        self._line: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def push_own(self, item: T) -> None:
        self._line.append(item)

    def push(self, who: bytes, item: T, cost: int) -> None:
        self._line.append(item)

    def pop(self) -> T:
        return self._line.popleft()


def main() -> None:
    from .. import driver
    from ..__main__ import main as hearth

    vars(driver).update(Intake=NoAccounts, FairQueue=OneLine, signatures_in=lambda message: 0)
    hearth()


if __name__ == "__main__":
    main()
