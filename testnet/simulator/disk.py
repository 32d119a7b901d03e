"""A disk: what is written becomes durable at the next sync, and a crash before it costs what was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...protocol.effects import Forget, Persist, Unpersist
from ...protocol.events import StoredRow
from ...protocol.result_keeping import COLUMNS_ROW
from .dice import Stream

Write = Persist | Unpersist | Forget
RowKey = tuple[bytes, int, bytes]


@dataclass(slots=True)
class Disk:
    """rows: what is durable, in order of first write.  syncing: a commit on its way.  full: it takes nothing."""

    rows: dict[RowKey, bytes] = field(default_factory=dict)
    syncing: tuple[Write, ...] = ()
    full: bool = False
    wiped: int = 0
    written_bytes: int = 0

    def sync(self) -> None:
        """The commit on its way is durable."""
        self._apply(self.syncing)
        self.syncing = ()

    def crash(self, dice: Stream) -> int:
        """Power is lost: of the commit on its way nothing, all, or (a torn tail) a first part is there afterwards.

        Returns how many writes were lost.
        """
        kept = dice.pick((0, len(self.syncing), dice.between(0, len(self.syncing))))
        lost = len(self.syncing) - kept
        self._apply(self.syncing[:kept])
        self.syncing = ()
        return lost

    def wipe(self) -> None:
        """Another disk is put in its place, an empty one."""
        self.rows.clear()
        self.syncing = ()
        self.wiped += 1

    def started(self) -> tuple[StoredRow, ...]:
        """What a new life is given: all but the columns of batches, which are read when somebody asks."""
        return tuple(StoredRow(*key, body) for key, body in self.rows.items() if key[1] != COLUMNS_ROW)

    def _apply(self, writes: Sequence[Write]) -> None:
        for write in writes:
            match write:
                case Persist(job_id, kind, key, body):
                    self.rows[job_id, kind, key] = body
                    self.written_bytes += len(body)
                case Unpersist(job_id, kind, key):
                    self.rows.pop((job_id, kind, key), None)
                case Forget(job_id):
                    for row in [row for row in self.rows if row[0] == job_id]:
                        del self.rows[row]
