"""Pi by throwing darts: each task throws its own, and always the same ones."""

import random


def throws_in(index: int) -> int:
    """How many of 100,000 darts hit the quarter circle. index: the task's number; randomness follows from it."""
    return sum(random.random() ** 2 + random.random() ** 2 < 1 for _ in range(100_000))
