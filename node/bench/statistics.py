"""Several rounds of one measurement as one number and its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Rounds:
    """What each round measured, in order. At least one."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("no round was measured")

    @property
    def median(self) -> float:
        return median(self.values)

    def spread(self) -> dict[str, float]:
        return {"min": min(self.values), "max": max(self.values)}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed (nearest rank). Raises ValueError if empty."""
    if not values:
        raise ValueError("no values")
    if not 0.0 <= share <= 1.0:
        raise ValueError("share must be within 0 and 1")
    rank = -int(-share * len(values) // 1)
    return sorted(values)[max(0, rank - 1)]
