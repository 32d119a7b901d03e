"""What a referee has before it, and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from ..batches import Batch
from ..intervals import IntervalSet
from ..records import Record
from ..secrecy.results import OpenedBatch
from .verdict import Vote


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A batch whose proof was checked. opened: of a confidential job, what it says in the clear."""

    header: Record
    batch: Batch
    columns: bytes
    source: bytes
    opened: OpenedBatch | None = None

    def spoiled(self) -> list[int]:
        """Tasks whose result its worker sealed so that it cannot be opened."""
        if self.opened is None:
            return []
        return [self.batch.first + offset for offset in range(len(self.batch)) if self.opened.spoiled(offset)]

    def vote(self, index: int) -> Vote:
        """What it says of one task."""
        offset, header = index - self.batch.first, self.header
        output: bytes | None = None
        spoiled = self.opened is not None and self.opened.spoiled(offset)
        if offset not in self.batch.externals:
            output = self.batch.outputs[offset] if self.opened is None else self.opened.outputs[offset]
        if self.opened is None:
            digest = self.batch.output_digest(offset)
        else:
            digest = self.opened.digest(offset) or sha256(header.id + index.to_bytes(8)).digest()
        exit_code = self.batch.exits[offset]
        return Vote(header.body.copy, header.body.epoch, header.id, header.author, exit_code, digest, output, spoiled)


@dataclass(slots=True)
class Case:
    """One task under examination. copies: the highest that was asked for.  awaited: asked for and not here yet.

    kind: the class of machines whose results of it are compared, see `_class_of`.  unjudged: votes that came after the
    verdict, and wait for the comparator.
    """

    quorum: int
    kind: str
    votes: list[Vote] = field(default_factory=list)
    copies: int = 0
    awaited: int = 0
    asked_us: int = 0
    winner: Vote | None = None
    unjudged: list[Vote] = field(default_factory=list)


@dataclass(slots=True)
class Held:
    """A batch that waits. parts: the tasks that it is wanted for.  unplanned: not yet decided whether to check them."""

    exhibit: Exhibit
    parts: tuple[tuple[int, int], ...]
    unplanned: IntervalSet

    def tasks(self) -> Iterable[int]:
        for lo, hi in self.parts:
            yield from range(lo, hi)


@dataclass(frozen=True, slots=True)
class Ruling:
    """Tasks, as [lo, hi), whose result is in the exhibit. evidence: the batches that it was compared with."""

    exhibit: Exhibit
    parts: tuple[tuple[int, int], ...]
    evidence: tuple[Exhibit, ...]


@dataclass(frozen=True, slots=True)
class Dispute:
    """Two signed results of one task that differ; the verdict was for the first."""

    index: int
    right: Exhibit
    wrong: Exhibit
