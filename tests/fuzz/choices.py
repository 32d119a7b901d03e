"""A `random.Random` that draws from the fuzzer's bytes: whatever it changes in them is another decision."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Choices:
    """The part of `random.Random` that the tests' liar uses. All zeros once the bytes are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def randbytes(self, n: int) -> bytes:
        found = self._data[self._at : self._at + n]
        self._at += len(found)
        return found.ljust(n, b"\0")

    def getrandbits(self, k: int) -> int:
        return int.from_bytes(self.randbytes((k + 7) // 8), "little") % (1 << k)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        values = range(start) if stop is None else range(start, stop, step)
        size = (len(values).bit_length() + 7) // 8
        return values[int.from_bytes(self.randbytes(size), "little") % len(values)]

    def random(self) -> float:
        return int.from_bytes(self.randbytes(2), "little") / 65_536

    def choice(self, items: Sequence[T]) -> T:
        return items[self.randrange(len(items))]

    def choices(self, items: Sequence[T], *, k: int) -> list[T]:
        return [self.choice(items) for _ in range(k)]

    def shuffle(self, items: MutableSequence[Any]) -> None:
        for at in range(len(items) - 1, 0, -1):
            other = self.randrange(at + 1)
            items[at], items[other] = items[other], items[at]
