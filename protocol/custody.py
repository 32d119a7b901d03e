"""Batches that a client took, until enough replicas have them on disk: only then does it sign for them.

Results come to it before they are on any disk. If the node that made one and handed it on is gone in that moment, the
client alone has it: it gives it back to the replicas, which check it as they check its worker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .intervals import IntervalSet
from .messages import Delivery

# Given back for one question; the replica asks again for the rest.
GIVEN_BACK_MAX = 32
NEVER_US = -(1 << 60)


@dataclass(slots=True)
class Held:
    """tasks: that this client has from the batch.  delivery: None of what an earlier life took.

    on_disk: replicas that said so.  lacking: those that can't be given it.  asked_us: when all were last asked.
    """

    tasks: IntervalSet = field(default_factory=IntervalSet)
    delivery: Delivery | None = None
    on_disk: dict[bytes, None] = field(default_factory=dict)
    lacking: dict[bytes, None] = field(default_factory=dict)
    asked_us: int = NEVER_US

    def disks(self, replicas: Sequence[bytes]) -> int:
        """How many of the replicas have it."""
        return sum(node in self.on_disk for node in replicas)


class Custody:
    """Of one job, by batch, oldest first."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._fresh: list[bytes] = []
        self.column_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, Held]]:
        """Of a copy: what is let go of meanwhile does no harm."""
        return iter(list(self._held.items()))

    def get(self, batch_id: bytes) -> Held | None:
        return self._held.get(batch_id)

    def hold(self, batch_id: bytes, lo: int, hi: int, delivery: Delivery | None) -> None:
        """Tasks [lo, hi) were taken from the batch."""
        held = self._held.get(batch_id)
        if held is None:
            held = self._held[batch_id] = Held()
            self._fresh.append(batch_id)
        held.tasks.add(lo, hi)
        if held.delivery is None and delivery is not None:
            held.delivery = delivery
            self.column_bytes += len(delivery.columns)

    def let_go(self, batch_id: bytes) -> None:
        held = self._held.pop(batch_id)
        if held.delivery is not None:
            self.column_bytes -= len(held.delivery.columns)

    def to_ask(self, now_us: int, again_us: int) -> list[bytes]:
        """What replicas were not asked for yet, or, if again_us is not 0, so long ago."""
        asked, self._fresh = self._fresh, []
        if again_us:
            late_us = now_us - again_us
            asked = [batch_id for batch_id, held in self._held.items() if held.asked_us <= late_us]
        found = [batch_id for batch_id in asked if batch_id in self._held]
        for batch_id in found:
            self._held[batch_id].asked_us = now_us
        return found

    def lacked_by(self, node: bytes, batch_ids: Iterable[bytes]) -> list[bytes]:
        """Those of the batches that the replica has not said that it has."""
        return [batch_id for batch_id in batch_ids if node not in self._held[batch_id].on_disk]

    def keys(self) -> Iterable[bytes]:
        return self._held.keys()
