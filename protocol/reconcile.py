"""Range-based set reconciliation over record ids: two replicas find what the other lacks.

One side sends the fingerprint of the whole range. For each range whose fingerprint differs the other either
splits it and sends the parts' fingerprints, or, when few ids are in it, claims its ids outright. Bytes grow
with the difference times the logarithm of the sets; equal sets cost one message and silence. Nobody keeps a
session: each answer follows from the message and the index alone.

Source: Meyer, Range-Based Set Reconciliation (2022). The fingerprint is the sum of the ids modulo 2**256, as
in
negentropy: unlike XOR it can't be cancelled by solving 256 linear equations.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from .config import ProtocolConfig
from .messages import RangeDigest, Reconcile, ReconcileIds

# Bounds of one message on the wire (messages.py).
RANGES_PER_MESSAGE = 256
# Ids returned for one claim; what is beyond shows up in the next round.
ANSWER_IDS_MAX = 1024

_BLOCK = 512
_MODULUS = 1 << 256

Claim = tuple[bytes, bytes, list[bytes]]


class IdIndex:
    """A sorted multitude of distinct 32-byte ids with fingerprints over any range.

    Ids stand in sorted blocks of at most 1,024, each with the sum of its ids, so that adding costs a short
    insertion and a fingerprint costs one addition a block and one an id at the edges.
    """

    def __init__(self, ids: Iterable[bytes] = ()) -> None:
        ordered = sorted(dict.fromkeys(ids))
        self._blocks = [ordered[at : at + _BLOCK] for at in range(0, len(ordered), _BLOCK)] or [[]]
        self._sums = [_sum(block) for block in self._blocks]
        # The least id that belongs to each block; the first block begins at the start of the space.
        self._starts = [b"", *(block[0] for block in self._blocks[1:])]
        self._count = len(ordered)

    @property
    def count(self) -> int:
        return self._count

    def __len__(self) -> int:
        return self._count

    def __contains__(self, record_id: object) -> bool:
        if not isinstance(record_id, bytes):
            return False
        block = self._blocks[self._block_of(record_id)]
        at = bisect_left(block, record_id)
        return at < len(block) and block[at] == record_id

    def add(self, record_id: bytes) -> bool:
        """True if the id was not there."""
        assert len(record_id) == 32, f"an id has 32 bytes, got {len(record_id)}"
        number = self._block_of(record_id)
        block = self._blocks[number]
        at = bisect_left(block, record_id)
        if at < len(block) and block[at] == record_id:
            return False
        block.insert(at, record_id)
        self._sums[number] = (self._sums[number] + int.from_bytes(record_id, "big")) % _MODULUS
        self._count += 1
        if len(block) > 2 * _BLOCK:
            self._split(number)
        return True

    def discard(self, record_id: bytes) -> bool:
        """True if the id was there."""
        number = self._block_of(record_id)
        block = self._blocks[number]
        at = bisect_left(block, record_id)
        if at == len(block) or block[at] != record_id:
            return False
        del block[at]
        self._sums[number] = (self._sums[number] - int.from_bytes(record_id, "big")) % _MODULUS
        self._count -= 1
        if not block and number > 0:
            del self._blocks[number], self._sums[number], self._starts[number]
        return True

    def fingerprint(self, lo: bytes, hi: bytes) -> tuple[int, bytes]:
        """(count, sum of the ids modulo 2**256 as 32 bytes) over lo <= id < hi; hi empty means the end."""
        count, total = 0, 0
        for number, start, stop in self._slices(lo, hi):
            block = self._blocks[number]
            count += stop - start
            if stop - start == len(block):
                total += self._sums[number]
            elif 2 * (stop - start) > len(block):
                total += self._sums[number] - _sum(block[:start]) - _sum(block[stop:])
            else:
                total += _sum(block[start:stop])
        return count, (total % _MODULUS).to_bytes(32, "big")

    def ids(self, lo: bytes, hi: bytes, limit: int | None = None) -> list[bytes]:
        """The ids with lo <= id < hi in order, the first `limit` of them; hi empty means the end."""
        found: list[bytes] = []
        for number, start, stop in self._slices(lo, hi):
            found.extend(self._blocks[number][start:stop])
            if limit is not None and len(found) >= limit:
                return found[:limit]
        return found

    def cuts(self, lo: bytes, hi: bytes, parts: int) -> list[bytes]:
        """At most parts - 1 boundaries that divide the ids of the range evenly, each as short as it can
        be."""
        slices = list(self._slices(lo, hi))
        total = sum(stop - start for _, start, stop in slices)
        wanted = [total * part // parts for part in range(1, parts)]
        boundaries: list[bytes] = []
        seen, before = 0, b""
        for number, start, stop in slices:
            block = self._blocks[number]
            while wanted and wanted[0] < seen + stop - start:
                at = start + wanted.pop(0) - seen
                below = block[at - 1] if at > start else before
                if below:
                    boundaries.append(_shortest_between(below, block[at]))
            if stop > start:
                before = block[stop - 1]
            seen += stop - start
        return list(dict.fromkeys(boundaries))

    def _block_of(self, record_id: bytes) -> int:
        starts = self._starts
        at = bisect_left(starts, record_id)
        return at if at < len(starts) and starts[at] == record_id else max(at - 1, 0)

    def _slices(self, lo: bytes, hi: bytes) -> Iterator[tuple[int, int, int]]:
        """(block, start, stop) of all blocks that the range touches."""
        first = self._block_of(lo)
        last = len(self._blocks) - 1 if not hi else self._block_of(hi)
        for number in range(first, last + 1):
            block = self._blocks[number]
            start = bisect_left(block, lo) if number == first else 0
            stop = bisect_left(block, hi) if hi and number == last else len(block)
            if start < stop:
                yield number, start, stop

    def _split(self, number: int) -> None:
        block = self._blocks[number]
        upper = block[_BLOCK:]
        del block[_BLOCK:]
        upper_sum = _sum(upper)
        self._sums[number] = (self._sums[number] - upper_sum) % _MODULUS
        self._blocks.insert(number + 1, upper)
        self._sums.insert(number + 1, upper_sum)
        self._starts.insert(number + 1, upper[0])


def opening(index: IdIndex) -> tuple[RangeDigest, ...]:
    """What starts a round: the fingerprint of everything, about 45 bytes."""
    return (_digest(index, b"", b""),)


def respond(
    index: IdIndex,
    ranges: Sequence[RangeDigest],
    config: ProtocolConfig,
    *,
    ranges_max: int = RANGES_PER_MESSAGE,
) -> tuple[list[RangeDigest], list[Claim]]:
    """Answer to a peer's fingerprints.

    ranges: ascending and disjoint; others are ignored, so that a peer can't have one range counted many
    times.
    Returns (fingerprints to send back, claims): at most `ranges_max` fingerprints and one claim a range, each
    of at most `config.reconcile_ids_max` ids. Differences beyond that are left to the next round. Empty: no
    difference.
    """
    differing = [theirs for theirs in _ascending(ranges) if _differs(index, theirs)]
    claims: list[Claim] = []
    large: list[RangeDigest] = []
    for theirs in differing:
        ids = index.ids(theirs.lo, theirs.hi, config.reconcile_ids_max + 1)
        if len(ids) <= config.reconcile_ids_max:
            claims.append((theirs.lo, theirs.hi, ids))
        else:
            large.append(theirs)
    fanout = max(2, min(config.reconcile_fanout, ranges_max // max(1, len(large))))
    parts: list[RangeDigest] = []
    for theirs in large[: ranges_max // fanout]:
        edges = [theirs.lo, *index.cuts(theirs.lo, theirs.hi, fanout), theirs.hi]
        parts.extend(_digest(index, lo, hi) for lo, hi in zip(edges, edges[1:], strict=False))
    return parts, claims


def respond_ids(
    index: IdIndex, lo: bytes, hi: bytes, ids: Sequence[bytes], limit: int = ANSWER_IDS_MAX
) -> tuple[list[bytes], list[bytes]]:
    """Answer to a peer's claim that `ids` are all it has in the range.

    Returns (missing_here, missing_there), each in order and at most `limit`; claimed ids outside of the range
    are ignored.
    """
    if hi and lo >= hi:
        return [], []
    claimed = dict.fromkeys(claim for claim in sorted(ids) if lo <= claim and (not hi or claim < hi))
    missing_here = [claim for claim in claimed if claim not in index]
    mine = index.ids(lo, hi, limit + len(claimed))
    missing_there = [own for own in mine if own not in claimed]
    return missing_here[:limit], missing_there[:limit]


def answers(job_id: bytes, ranges: Sequence[RangeDigest], claims: Sequence[Claim]) -> list[Reconcile | ReconcileIds]:
    """What `respond` returned, as messages within the bounds of the wire."""
    found: list[Reconcile | ReconcileIds] = [
        Reconcile(job_id, tuple(ranges[at : at + RANGES_PER_MESSAGE]))
        for at in range(0, len(ranges), RANGES_PER_MESSAGE)
    ]
    found.extend(ReconcileIds(job_id, lo, hi, tuple(ids)) for lo, hi, ids in claims)
    return found


def _digest(index: IdIndex, lo: bytes, hi: bytes) -> RangeDigest:
    count, fingerprint = index.fingerprint(lo, hi)
    return RangeDigest(lo, hi, count, fingerprint)


def _differs(index: IdIndex, theirs: RangeDigest) -> bool:
    return index.fingerprint(theirs.lo, theirs.hi) != (theirs.count, theirs.fingerprint)


def _ascending(ranges: Sequence[RangeDigest]) -> Iterator[RangeDigest]:
    """Those ranges that are not empty and begin where the one before has ended, or later."""
    end: bytes | None = b""
    for theirs in ranges:
        if end is None or theirs.lo < end or (theirs.hi and theirs.lo >= theirs.hi):
            continue
        end = theirs.hi or None
        yield theirs


def _sum(ids: Sequence[bytes]) -> int:
    return sum(int.from_bytes(record_id, "big") for record_id in ids) % _MODULUS


def _shortest_between(below: bytes, above: bytes) -> bytes:
    """The shortest prefix of `above` that is greater than `below`."""
    for length in range(1, len(above)):
        if above[:length] > below:
            return above[:length]
    return above
