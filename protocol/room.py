"""How many results of one job are kept of one worker, so that none takes the room of all others.

Whoever is admitted may say that it ran a task, without a lease and as often as it likes. Of one worker's first results
of one task the `REPEATS_MAX` lowest by (epoch, id) are kept, whatever the order in which they come, so that replicas
agree; what a submitter has signed for, or is about to, stays besides. None of those that go is canonical.
"""

from __future__ import annotations

from .intervals import IntervalMap
from .job_parts import BatchInfo
from .jobs import JobState
from .records import BatchHeader, Record

# An honest worker runs a task again only if its lease ran out and its result was lost, or is late.
REPEATS_MAX = 4
# (epoch, batch id)
Key = tuple[int, bytes]


class Room:
    """Of one job at one replica. taken: first results that its submitter may be about to sign for."""

    def __init__(self) -> None:
        self.taken: dict[bytes, None] = {}
        self._by_worker: dict[bytes, int] = {}
        self._lowest: dict[bytes, IntervalMap[tuple[Key, ...]]] = {}
        # Those that lost a task to lower ones, or never had one.
        self._pushed: dict[bytes, None] = {}

    def has_share(self, worker: bytes, batches: int, batches_max: int) -> bool:
        """Whether one batch more of the worker's is taken: where there is no room, up to an even share, and twice as
        many in all."""
        if batches < batches_max:
            return True
        return batches < 2 * batches_max and self._by_worker.get(worker, 0) * len(self._by_worker) < batches_max

    def declines(self, state: JobState, header: Record) -> bool:
        """Whether a batch that is not here would not be kept."""
        body: BatchHeader = header.body
        lo, hi, key = body.first, body.first + body.count, (body.epoch, header.id)
        known = self._lowest.get(header.author)
        if known is None or body.copy or header.id in self.taken:
            return False
        full = all(keys and len(keys) == REPEATS_MAX and key > keys[-1] for _, _, keys in known.pieces(lo, hi))
        return full and not _is_named(state, header.id, lo, hi)

    def add(self, info: BatchInfo, *, is_copy: bool) -> None:
        """It is kept now."""
        self._by_worker[info.worker] = self._by_worker.get(info.worker, 0) + 1
        if is_copy:
            return
        known = self._lowest.setdefault(info.worker, IntervalMap())
        key, lo, hi = (info.epoch, info.batch_id), info.first, info.first + info.count
        for _, _, keys in known.pieces(lo, hi):
            if keys is not None and len(keys) == REPEATS_MAX:
                self._pushed[max(keys[-1], key)[1]] = None
        known.update(lo, hi, lambda keys: tuple(sorted((*(keys or ()), key))[:REPEATS_MAX]))

    def take(self, state: JobState, batch_id: bytes) -> None:
        """The submitter has it, and may sign for it: it stays from now on."""
        info = state.batches.get(batch_id)
        if info is None or info.first >= state.spec.tasks:
            return
        if not _is_named(state, batch_id, info.first, info.first + info.count):
            self.taken[batch_id] = None

    def keep_all(self, state: JobState) -> None:
        """After a restart nobody knows which of them the submitter has taken: all that is here stays."""
        pushed, self._pushed = self._pushed, {}
        for batch_id in pushed:
            self.take(state, batch_id)

    def drop_repeats(self, state: JobState) -> list[bytes]:
        """Take out of the state what is among the lowest of none of its tasks. Returns the batches that went."""
        pushed, self._pushed = self._pushed, {}
        gone = [batch_id for batch_id in pushed if self._is_one_too_many(state, batch_id)]
        for batch_id in gone:
            self._by_worker[state.batches[batch_id].worker] -= 1
            state.drop(batch_id)
        return gone

    def _is_one_too_many(self, state: JobState, batch_id: bytes) -> bool:
        info = state.batches.get(batch_id)
        if info is None or batch_id in self.taken:
            return False
        lo, hi, key = info.first, info.first + info.count, (info.epoch, batch_id)
        pieces = self._lowest[info.worker].pieces(lo, hi)
        return not any(keys and key in keys for _, _, keys in pieces) and not _is_named(state, batch_id, lo, hi)


def _is_named(state: JobState, batch_id: bytes, lo: int, hi: int) -> bool:
    """Whether the submitter has signed for a batch of tasks [lo, hi)."""
    return batch_id in state.outvoted or any(chosen == batch_id for _, _, chosen in state.accepted.pieces(lo, hi))
