"""A job as one of its replicas keeps it: its state, and the soft state beside it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .granting import LEASES_COUNTED_MAX, Ledger
from .jobs import JobState
from .pace import Pace
from .progress import Progress
from .records import Record, RecordKind
from .room import Room
from .subscriptions import Subscriptions
from .verification.copies import OpenCheck

# More is believed of no keeper: a year.
ELAPSED_MAX_US = 366 * 24 * 3600 * 1_000_000


@dataclass(slots=True)
class KeptJob:
    """A job of which this node is a replica.

    level: whether it may grant. Who came back, or took a dead one's seat, first has to hear what went on meanwhile:
    else it would grant again what others have done.  barred: why the submitter may have nothing run any more, its
    certificate being revoked or at its end; empty if it may.  adopted_us: when it came here, in this life.
    sections: the ranges that it may grant now, and what they follow from.  share: of a confidential job's key, sealed
    to this node; empty if it has none.  begun_us: when the first of its tasks was given to somebody, as far as this
    node saw.  invited: not level, and new to this node, which heard of it from another keeper before its submitter.
    earlier_us: how long others knew the job before it came here, in this life.  paid: capacity of a price has some of
    it, or had, as far as this node saw.  told_mesh, told_at_risk, told_over: whether the whole mesh
    was told of it, that it is at risk, that nothing is left.  open_copies: how many were wanted when those of the
    checks that are over were last dropped.  room: what of its results is kept.
    """

    state: JobState
    ledger: Ledger
    subscriptions: Subscriptions
    since_us: int
    adopted_us: int
    pace: Pace
    progress: Progress = field(default_factory=Progress)
    level: bool = True
    invited: bool = False
    barred: str = ""
    sections: tuple[tuple[int, bytes, bool, tuple[bytes, ...]], list[tuple[int, int]]] | None = None
    completed_us: int | None = None
    settled_us: int | None = None
    announced_free: int = -1
    announced_us: int = -(1 << 60)
    announced_at_risk: bool = False
    told_mesh: bool = False
    told_at_risk: bool = False
    told_over: bool = False
    reconciled: dict[bytes, bytes] = field(default_factory=dict)
    refusing: dict[bytes, None] = field(default_factory=dict)
    checks: dict[bytes, OpenCheck] = field(default_factory=dict)
    open_copies: int = -1
    share: bytes = b""
    begun_us: int | None = None
    earlier_us: int = 0
    paid: bool = False
    room: Room = field(default_factory=Room)

    def has_room(self, record: Record, most: int) -> bool:
        """Whether a record more is kept: of each kind so many, so that nobody takes the room of all.

        Of replica sets and cancellations the state keeps few by itself.
        """
        match record.kind:
            case RecordKind.BATCH:
                return self.room.has_share(record.author, len(self.state.batches), most)
            case RecordKind.GRANT | RecordKind.RELEASE:
                return self.state.marks < most
            case RecordKind.ACCEPTANCE | RecordKind.RECHECK:
                return len(self.state.acceptances) + len(self.state.rechecks) < most
            case _:
                return True

    def elapsed_us(self, now_us: int) -> int:
        """Until its end: it is complete, or cancelled, and nothing of it goes on."""
        ends = [end_us for end_us in (self.completed_us, self.settled_us) if end_us is not None]
        return max(0, min(ends, default=now_us) - self.since_us) + self.earlier_us

    def learn_elapsed(self, told_us: int, now_us: int) -> None:
        """What another keeper says: the longest memory counts, for the eye alone."""
        self.earlier_us += max(0, min(told_us, ELAPSED_MAX_US) - self.elapsed_us(now_us))

    def fair_share(self, thief: bytes, slots: int, now_us: int) -> int:
        """`Progress.fair_share`; all, where there are too many leases to be counted at each steal."""
        if len(self.ledger.live) > LEASES_COUNTED_MAX:
            return self.state.spec.tasks
        held = self.ledger.leased_by()
        return self.progress.fair_share(thief, slots, self.ledger.free.total, held, self.state.task_us, now_us)
