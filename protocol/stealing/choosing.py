"""Whom a thief asks: where what goes first lies, and of two such peers the one that has it working sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from .matching import Standing, Work, standing

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Victim:
    """A peer that is thought to have work.

    work_us: CPU time of all of it that the thief can run, >= 0.  way_us: until the first of it could start here: the
    round trip, and the blobs of the job that lacks fewest, see `transfer_us`.
    """

    node: bytes
    work_us: int
    way_us: int = 0


def by_standing(offers: Iterable[T], work_of: Callable[[T], Work]) -> list[list[T]]:
    """Offers in groups that go equally well first, the best group first; in a group they keep their order."""
    groups: dict[Standing, list[T]] = {}
    for offer in offers:
        groups.setdefault(standing(work_of(offer)), []).append(offer)
    return [groups[each] for each in sorted(groups)]


def better(first: Victim, second: Victim, appetite_us: int) -> Victim:
    """Of two, whom to ask.

    Counted is the CPU time that a thief gets there, half of what there is and no more than it can burn, less the time
    until it can begin; of equals the one with more. So blobs that are here already, and a short way, decide where there
    is enough, and only there.
    """

    def worth(victim: Victim) -> tuple[int, int]:
        return (min(-(-victim.work_us // 2), appetite_us) - victim.way_us, victim.work_us)

    return first if worth(first) >= worth(second) else second
