"""A sink that is full hands on what it holds: to whom, and what is worth the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .appetite import FOREVER_US
from .matching import Work, fit
from .urgency import Ask

# What a blob's way through the mesh brings, where nothing was measured: a slow uplink.
BYTES_PER_S = 1_000_000
# Moving what runs has to gain at least so much time.
GAIN_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Heir:
    """A peer that could take over. ask: as if it had asked.  room_us: CPU time that it has room for in its queue."""

    ask: Ask
    room_us: int


def transfer_us(size_bytes: int, bytes_per_s: int = BYTES_PER_S) -> int:
    """Time that blobs take to another node; 0 for what it has."""
    return max(0, size_bytes) * 1_000_000 // max(1, bytes_per_s)


def heirs_for(work: Work, heirs: Iterable[Heir], size_bytes: int = 0) -> list[Heir]:
    """Who can take tasks of a job, the coldest first; the way of its blobs counts as time that the sink stays cold.

    size_bytes: of blobs that come along to whoever has not got them.
    """
    found = [heir for heir in heirs if heir.room_us > 0 and fit(work, heir.ask).good]

    def rank(heir: Heir) -> tuple[int, int, bytes]:
        way_us = 0 if work.job in heir.ask.has else transfer_us(size_bytes)
        # A second on the way weighs like 1 mK·h less to come; a room a kelvin too cold has 250 of them in 15 minutes.
        return (way_us // 1_000_000 - heir.ask.urgency_mkh, way_us, heir.ask.thief)

    return sorted(found, key=rank)


def worth_moving(left_us: int, duty: float, checkpoint_bytes: int, lost_us: int = 0) -> bool:
    """Whether a task that runs ends sooner elsewhere than here, at the duty that a full sink leaves it.

    left_us: CPU time that it still needs.  lost_us: CPU time since its last checkpoint, to be done again there.
    """
    here_us = left_us / duty if duty > 0 else float(FOREVER_US)
    there_us = left_us + lost_us + transfer_us(checkpoint_bytes)
    return here_us - there_us >= GAIN_US
