"""A job as the client that signed it sees it, from its submission to its acceptance."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .custody import Custody
from .intervals import IntervalMap, IntervalSet
from .jobs import JobState
from .messages import Delivery, JobStatus
from .records import AcceptedBatch
from .verification.exhibits import Ruling
from .verification.referee import Referee


@dataclass(slots=True)
class OwnJob:
    """A job of this client's. state: as far as it was told and has checked.

    durable: its submission is over.  found: it was an earlier life's, and is in the mesh, but maybe on one disk; who
    asks for it once more has it submitted once more.
    asked_us: when each replica was sent the submission first.
    referee: judges its results; None where the policy is none.  rulings: what it let pass, and is not given yet.
    verified: tasks whose result the consumer has taken, or does not want.  handed: those plus what it is being given.
    aside: batches that wait for a copy and are said to be consumed, with their bytes; aside_bytes: of all.
    bound: by task, the batch that this client signs for, in whatever life.  unsigned: those of which no acceptance is
    known here.
    lost: tasks that the consumer has from a batch that nobody has any more, until another result of them passes.
    received: batches being given, and the parts meant.  custody: taken, and not known to be on disks enough.
    pending: on disks enough, but not yet in an acceptance.
    suspects: replicas that were silent, or did not send what they have, the last one last.
    status: the source's last word.  moved_us: when results were last asked for, or came.  asked_again: how often, in
    vain so far.
    most_done: that any source has said.  news_us: when there was news of work, or others were asked.  looks: how often
    they were, since the last news.  looked_at: who has not answered yet.  told_us: when acceptances were last told.
    copies_us: when there was news of work, or a source was left as copies stayed away.  turns: how often, since.
    sought_us: since when nothing that waits has come onto disks enough, or others were asked who keeps the job. seeks:
    how often they were, since. uncopied: replicas that are to get the submission a little later. left: who is to be
    told, a little later, that its results are followed no more. given: replicas that were sent their share of the key.
    uncancelled: replicas that were told of the cancellation, and have not said that the job is over; of each, whether
    it is reached, as far as is known.
    """

    state: JobState
    requests: dict[int, bytes] = field(default_factory=dict)
    stored_by: dict[bytes, None] = field(default_factory=dict)
    durable: bool = False
    found: bool = False
    attempts: int = 0
    asked_us: dict[bytes, int] = field(default_factory=dict)
    following: bool = False
    wants_results: bool = False
    listeners: int = 0
    status: JobStatus | None = None
    source: bytes | None = None
    last_source: bytes | None = None
    heard_us: int = 0
    verified: IntervalSet = field(default_factory=IntervalSet)
    handed: IntervalSet = field(default_factory=IntervalSet)
    received: dict[bytes, Ruling] = field(default_factory=dict)
    custody: Custody = field(default_factory=Custody)
    consumed: list[bytes] = field(default_factory=list)
    aside: dict[bytes, int] = field(default_factory=dict)
    aside_bytes: int = 0
    bound: IntervalMap[bytes] = field(default_factory=IntervalMap)
    lost: IntervalSet = field(default_factory=IntervalSet)
    unsigned: IntervalSet = field(default_factory=IntervalSet)
    pending: list[AcceptedBatch] = field(default_factory=list)
    suspects: dict[bytes, None] = field(default_factory=dict)
    moved_us: int = 0
    asked_again: int = 0
    most_done: int = 0
    news_us: int = 0
    looks: int = 0
    looked_at: dict[bytes, None] = field(default_factory=dict)
    copies_us: int = 0
    turns: int = 0
    told_us: int = 0
    sought_us: int | None = None
    seeks: int = 0
    uncopied: tuple[bytes, ...] = ()
    left: bytes | None = None
    referee: Referee | None = None
    rulings: deque[Ruling] = field(default_factory=deque)
    given: dict[bytes, None] = field(default_factory=dict)
    uncancelled: dict[bytes, bool] = field(default_factory=dict)

    def bind(self, lo: int, hi: int, batch_id: bytes) -> None:
        """The client has this batch's results of tasks [lo, hi): it signs for no other, if it is not bound already."""
        for a, b, other in self.bound.pieces(lo, hi):
            if other is None:
                self.bound.assign(a, b, batch_id)
                for c, d, accepted in self.state.accepted.pieces(a, b):
                    if accepted != batch_id:
                        self.unsigned.add(c, d)

    def learn_accepted(self, parts: tuple[AcceptedBatch, ...]) -> None:
        """An earlier life signed for these: what is bound to the same batches is not signed for again."""
        for part in parts:
            for a, b, bound in self.bound.pieces(part.lo, part.hi):
                if bound == part.batch_id:
                    self.unsigned.discard(a, b)

    def has_news(self, now_us: int) -> None:
        """More is known to be done, or here, than before."""
        self.news_us = self.copies_us = now_us
        self.looks = self.turns = 0

    def is_held(self, batch_id: bytes) -> bool:
        """Whether the consumer, or the referee, has a part of it that is not settled."""
        if batch_id in self.received or any(ruling.exhibit.header.id == batch_id for ruling in self.rulings):
            return True
        return self.referee is not None and batch_id in self.referee.held

    def set_aside(self, batch_id: bytes, size_bytes: int, bytes_max: int) -> bool:
        """Whether there is room for a batch that waits for a copy, beside what is on its way."""
        if batch_id in self.aside or self.aside_bytes + size_bytes > bytes_max:
            return False
        self.aside[batch_id] = size_bytes
        self.aside_bytes += size_bytes
        return True

    def let_go(self, batch_id: bytes) -> bool:
        """It waits no more. Whether it had been set aside."""
        size_bytes = self.aside.pop(batch_id, None)
        self.aside_bytes -= size_bytes or 0
        return size_bytes is not None

    def bind_anew(self, lo: int, hi: int, batch_id: bytes, delivery: Delivery | None) -> list[bytes]:
        """Sign for this batch in [lo, hi) instead of lost ones. Returns those of which nothing is held any more."""
        emptied = []
        for a, b, before in self.bound.pieces(lo, hi):
            self.bound.assign(a, b, batch_id)
            held = self.custody.get(before) if before is not None and before != batch_id else None
            if held is not None and before is not None:
                held.tasks.discard(a, b)
                if not held.tasks:
                    self.custody.let_go(before)
                    emptied.append(before)
            self.custody.hold(batch_id, a, b, delivery)
        self.lost.discard(lo, hi)
        return emptied

    @property
    def waiting(self) -> int:
        """Tasks that this life would sign for, if it knew that they are on disk."""
        parts = [part for _, held in self.custody for part in held.tasks]
        return sum(b - a for lo, hi in parts for a, b in self.unsigned.overlap(lo, hi))

    @property
    def taken(self) -> int:
        """Tasks that this client signed for, as far as this life knows, or will."""
        pending = sum(part.hi - part.lo for part in self.pending)
        return min(self.state.spec.tasks, self.state.accepted_tasks.total + pending + self.waiting)

    def hold(self, lo: int, hi: int, batch_id: bytes, delivery: Delivery) -> None:
        """Keep what is bound in [lo, hi) and not signed for in this life. delivery: the batch with the id."""
        for a, b in self.unsigned.overlap(lo, hi):
            for c, d, bound in self.bound.pieces(a, b):
                if bound is not None:
                    self.custody.hold(bound, c, d, delivery if bound == batch_id else None)

    def sign(self, lo: int, hi: int) -> None:
        """Put into the next acceptance what is bound in [lo, hi) and not in an earlier one of this life."""
        for a, b in self.unsigned.overlap(lo, hi):
            self.pending.extend(AcceptedBatch(bound, c, d) for c, d, bound in self.bound.pieces(a, b) if bound)
        self.unsigned.discard(lo, hi)
