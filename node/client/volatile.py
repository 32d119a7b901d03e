"""Rows in memory: the store of a client, which keeps nothing for others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..storage.errors import StorageError
from ..storage.records import Delete, Put, Write


class VolatileStore:
    """As much of the journal as the driver uses."""

    def __init__(self) -> None:
        self._rows: dict[tuple[bytes, int, bytes], bytes] = {}

    def submit(self, writes: Sequence[Write], done: Callable[[StorageError | None], None]) -> None:
        for write in writes:
            if isinstance(write, Put):
                record = write.record
                self._rows[record.job_id, record.kind, record.key] = record.body
            elif isinstance(write, Delete):
                self._rows.pop((write.job_id, write.kind, write.key), None)
            else:
                self._rows = {key: body for key, body in self._rows.items() if key[0] != write.job_id}
        done(None)

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        return self._rows.get((job_id, kind, key))
