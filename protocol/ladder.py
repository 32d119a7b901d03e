"""How high the epochs of a job's grants may be: a ladder, each rung of it a grant that another replica signed.

Whoever controls a task next signs above the highest epoch there is. Could a replica name any, it would name the last
one, and nobody could grant those tasks any more. So epochs come in bands. In a band a grant is good only if a replica
other than its author has granted in the band below, or in this one. Alone nobody climbs further than one band, and
what stands one above another's grant is always good. Two that climb together have more bands before them than a job
may have records.

Of a band two rungs are kept, by the two lowest authors, of each the one with the lowest id: they let everybody pass
that all of them would, and whoever comes new gets them with the job's other records. Which grants are good follows
from the set of records, not from their order.
"""

from __future__ import annotations

from collections.abc import Iterator

from .job_parts import RejectedRecord
from .records import Record, RecordKind

# Honest epochs grow by one with each grant of a task, so a job that nobody attacks stays in the first band.
BAND = 1 << 32
AUTHORS_A_BAND = 2


def band_of(record: Record) -> int:
    """Order in which a job's records can be taken: what is a rung stands on those below."""
    return record.body.epoch // BAND if record.kind is RecordKind.GRANT else 0


class Ladder:
    """Sub-state of a `JobState`."""

    def __init__(self) -> None:
        self._rungs: dict[int, dict[bytes, Record]] = {}
        self._by_id: dict[bytes, Record] = {}

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._by_id

    def __iter__(self) -> Iterator[Record]:
        """From the lowest band up, so that whoever takes them in order can take them all."""
        for band in sorted(self._rungs):
            below = self._rungs.get(band - 1, {})
            # Who stands alone in the band below needs the other in this one.
            yield from sorted(self._rungs[band].values(), key=lambda grant: (grant.author in below, grant.author))

    def get(self, record_id: bytes) -> Record | None:
        return self._by_id.get(record_id)

    def check(self, grant: Record) -> None:
        """Raises RejectedRecord (fault=False) if nobody else has granted in its band or below: that may still come."""
        band = band_of(grant)
        there = (*self._rungs.get(band - 1, ()), *self._rungs.get(band, ()))
        if band > 1 and all(author == grant.author for author in there):
            raise RejectedRecord("stale-epoch", fault=False)

    def add(self, grant: Record) -> list[bytes] | None:
        """Take a checked grant of a replica's; the ids that it pushes out, or None if it is no rung."""
        band = band_of(grant)
        if not band or grant.body.parent:
            return None
        rungs = self._rungs.setdefault(band, {})
        before = rungs.get(grant.author)
        if before is not None and before.id <= grant.id:
            return None
        rungs[grant.author] = grant
        self._by_id[grant.id] = grant
        gone = [before] if before is not None else []
        if len(rungs) > AUTHORS_A_BAND:
            gone.append(rungs.pop(max(rungs)))
        for record in gone:
            del self._by_id[record.id]
        return None if grant in gone else [record.id for record in gone]
