"""Randomness as a tree: each purpose has a stream of its own, so that drawing more for one shifts no other."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Stream(Random):
    """Draws for one purpose. Only `random` and `getrandbits` feed what is drawn here, which no version of Python
    has changed; the rest of `Random` may draw otherwise from one version to the next."""

    def chance(self, share: float) -> bool:
        """True for this share of all calls; draws nothing where the answer is sure."""
        return share > 0 and (share >= 1 or self.random() < share)

    def below(self, stop: int) -> int:
        """Uniform in [0, stop); stop >= 1."""
        return int(self.random() * stop)

    def between(self, least: int, most: int) -> int:
        """Uniform in [least, most]."""
        return least + int(self.random() * (most - least + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Distinct positions' items, at most `count`, in drawn order."""
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(min(count, len(pool)))]


class MachineDice(Random):
    """What a `Mesh` is given: `randrange` in our own words, for the same reason as above."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        lo, hi = (0, start) if stop is None else (start, stop)
        return lo + step * int(self.random() * (-(-(hi - lo) // step)))


def stream(seed: int, *purpose: object) -> Stream:
    """The stream of a purpose under a seed: equal arguments give equal draws."""
    return Stream(_number(seed, purpose))


def machine_dice(seed: int, *purpose: object) -> MachineDice:
    return MachineDice(_number(seed, purpose))


def _number(seed: int, purpose: tuple[object, ...]) -> int:
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(sha256(text.encode()).digest()[:16], "big")
