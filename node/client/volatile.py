"""Rows in memory: the store of a client, which keeps nothing for others."""

from __future__ import annotations

from collections.abc import Sequence

from ..storage.records import Delete, Put, Write


class VolatileStore:
    """As much of the journal as the driver uses."""

    def __init__(self) -> None:
        self._rows: dict[tuple[bytes, int, bytes], bytes] = {}

    async def commit(self, writes: Sequence[Write], *, durable: bool) -> None:
        for write in writes:
            if isinstance(write, Put):
                record = write.record
                self._rows[record.job_id, record.kind, record.key] = record.body
            elif isinstance(write, Delete):
                self._rows.pop((write.job_id, write.kind, write.key), None)
            else:
                self._rows = {key: body for key, body in self._rows.items() if key[0] != write.job_id}

    def read(self, job_id: bytes, kind: int, key: bytes) -> bytes | None:
        return self._rows.get((job_id, kind, key))
