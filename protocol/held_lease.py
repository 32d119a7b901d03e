"""A lease as its holder has it, what runs of one, and what its grant rests on."""

from __future__ import annotations

from dataclasses import dataclass

from .records import Grant, Record, open_record


@dataclass(slots=True)
class HeldLease:
    """Tasks [next, hi) of a grant are unstarted; [lo, next) run, ran or were given away.

    left: how many the granter kept.  saved: digest of the checkpoint of the one task, which was begun here.
    """

    grant: Record
    next: int
    hi: int
    left: int
    saved: bytes = b""

    @property
    def body(self) -> Grant:
        body: Grant = self.grant.body
        return body

    @property
    def unstarted(self) -> int:
        return self.hi - self.next

    @property
    def begun(self) -> bool:
        """Whether somebody has computed a part of the task that waits here."""
        return bool(self.saved or self.grant.body.checkpoint) and self.next < self.hi


@dataclass(frozen=True, slots=True)
class Execution:
    """Tasks [first, first + count) that run now. price_micro: as it was when they began."""

    execution_id: int
    job_id: bytes
    first: int
    count: int
    epoch: int
    grant: Record
    started_us: int = 0
    price_micro: int = 0


def authors(grant: Record) -> tuple[bytes, ...]:
    """Who signed a grant and those that it rests on, the last first."""
    found, record = [grant.author], grant
    while record.body.parent:
        record = open_record(record.body.parent, check_signature=False)
        found.append(record.author)
    return tuple(dict.fromkeys(found))


def depth(grant: Record) -> int:
    """How often a grant was handed on."""
    depth, body = 0, grant.body
    while body.parent:
        depth += 1
        body = open_record(body.parent, check_signature=False).body
    return depth
