"""The replica sets that a job had: which of them are good, which is the newest, and how that came to be.

A set is good if the job's submitter signed it, or if it follows from a good one: a member of that gave one other seat
to a newcomer, kept its own, and did not sign that one as well. So no replica takes a second seat before another has
signed, and none throws others out alone, or makes epochs that are far ahead. Whoever signed the newest set signs
from the one before it, if it has to give that seat to yet another.

What is newest does not depend on the order in which sets come, as each comes with its path. Others are kept while
there is room, for those who were in one and do not know that they are not any more.
"""

from __future__ import annotations

from .job_parts import RejectedRecord
from .records import Record, ReplicaSet

# Sets from the submitter's to the newest; and so many others.
REPLICA_SETS_MAX = 64
# A set is under an epoch at most so far above the one that it follows from: a seat may be given away again.
EPOCHS_A_STEP = 64
FORMER_MAX = 64


def seat_given(body: ReplicaSet, before: ReplicaSet) -> int | None:
    """The only seat that another member has than before; None if there is none, or if it is not the only one."""
    if len(body.members) != len(before.members):
        return None
    changed = [seat for seat, node in enumerate(body.members) if node != before.members[seat]]
    return changed[0] if len(changed) == 1 else None


def follows(record: Record, before: Record) -> bool:
    """Whether a member of the set before may have signed this one after it; submitters need no such right."""
    body: ReplicaSet = record.body
    old: ReplicaSet = before.body
    if not old.epoch < body.epoch <= old.epoch + EPOCHS_A_STEP or record.author == before.author:
        return False
    seat = seat_given(body, old)
    if seat is None or body.members[seat] in old.members or record.author not in old.members:
        return False
    if record.author not in body.members or old.members[seat] not in body.former:
        return False
    return len(body.former) == FORMER_MAX or all(node in body.former for node in old.former)


class ReplicaSets:
    """Sub-state of a `JobState`. newest: by epoch, then id."""

    def __init__(self, submitter: bytes) -> None:
        self._submitter = submitter
        # As they came, each after the one that it follows from.
        self._known: dict[bytes, Record] = {}
        self._before: dict[bytes, Record | None] = {}
        self._depths: dict[bytes, int] = {}
        self.newest: Record | None = None

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._known

    def take(self, record: Record) -> bool:
        """Take a set; True if it is the newest now. Raises RejectedRecord."""
        body: ReplicaSet = record.body
        if len(set(body.members)) != len(body.members):
            raise RejectedRecord("malformed")
        if record.author != self._submitter and record.author not in body.members:
            raise RejectedRecord("wrong-author")
        before = self._find_before(record)
        if before is None and record.author != self._submitter:
            # The set that it follows from may still come.
            raise RejectedRecord("wrong-author", fault=False)
        depth = self._depths[before.id] + 1 if before is not None else 0
        if depth >= REPLICA_SETS_MAX:
            raise RejectedRecord("too-many", fault=False)
        self._known[record.id] = record
        self._before[record.id] = before
        self._depths[record.id] = depth
        newest = self.newest
        is_newest = newest is None or (body.epoch, record.id) > (newest.body.epoch, newest.id)
        if is_newest:
            self.newest = record
        self._trim()
        return is_newest

    def _find_before(self, record: Record) -> Record | None:
        """Of the good sets that it follows from, the one with the shortest path."""
        if record.author == self._submitter:
            return None
        found = [known for known in self._known.values() if follows(record, known)]
        return min(found, key=lambda known: (self._depths[known.id], known.id), default=None)

    def _trim(self) -> None:
        """Beside the path to the newest, so many are kept: the oldest go, and what follows from those."""
        needed = {record.id for record in self._path_to(self.newest)}
        others = [record_id for record_id in self._known if record_id not in needed]
        gone = dict.fromkeys(others[:-REPLICA_SETS_MAX])
        if not gone:
            return
        for record_id in others:
            before = self._before[record_id]
            if record_id in gone or (before is not None and before.id in gone):
                gone[record_id] = None
                del self._known[record_id], self._before[record_id], self._depths[record_id]

    def _path_to(self, step: Record | None) -> tuple[Record, ...]:
        path: list[Record] = []
        while step is not None:
            path.append(step)
            step = self._before[step.id]
        return tuple(reversed(path))

    def path(self, member: bytes = b"") -> tuple[Record, ...]:
        """Sets from one that the submitter signed to the newest, each of which follows from the one before.

        member: to the first that it is in, which another line of sets may have overtaken; empty if there is none.
        """
        if not member:
            return self._path_to(self.newest)
        first = next((known for known in self._known.values() if member in known.body.members), None)
        return self._path_to(first)

    def before_newest(self) -> Record | None:
        """What the newest follows from; None if the submitter signed it."""
        return self._before[self.newest.id] if self.newest is not None else None

    def knew(self, node: bytes) -> bool:
        """Whether it is, or was, a member of a set that is known."""
        return any(node in known.body.members for known in self._known.values())

    def members(self) -> tuple[bytes, ...]:
        """Of all sets that are known, in the order in which they came."""
        return tuple(dict.fromkeys(node for known in self._known.values() for node in known.body.members))
