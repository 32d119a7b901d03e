"""Blobs by their digest: who has which, and how long it takes to bring one over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protocol.effects import FetchBlobs
from ...protocol.events import BlobsFailed, BlobsFetched
from .engine import MS, SECOND
from .links import ACCESS, one_way_us

if TYPE_CHECKING:
    from .life import Life
    from .world import World

FETCH_TIMEOUT_US = 10 * SECOND


class Blobs:
    """Held per machine, also over restarts; a disk that is replaced loses them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: dict[int, dict[bytes, int]] = {}

    def put(self, machine: int, digest: bytes, size_bytes: int) -> None:
        self._held.setdefault(machine, {})[digest] = size_bytes

    def wipe(self, machine: int) -> None:
        self._held.pop(machine, None)

    def fetch(self, life: Life, wanted: FetchBlobs) -> None:
        """All that lacks comes from the first source that has it and can be reached, or the fetch fails."""
        mine = self._held.setdefault(life.machine.index, {})
        delay_us = MS
        for digest in wanted.digests:
            if digest in mine:
                continue
            found = next((source for source in wanted.sources if self._can_serve(life, source, digest)), None)
            if found is None:
                failed = BlobsFailed(wanted.token, "no source has the blob")
                self._world.engine.after(FETCH_TIMEOUT_US, life.feed, failed)
                return
            server = self._world.by_id[found]
            assert server.life is not None
            size_bytes = self._held[server.index][digest]
            delay_us += 2 * one_way_us(life, server.life) + size_bytes * MS // ACCESS[server.access].bytes_per_ms
            mine[digest] = size_bytes
        self._world.engine.after(delay_us, life.feed, BlobsFetched(wanted.token))

    def _can_serve(self, life: Life, source: bytes, digest: bytes) -> bool:
        server = self._world.by_id.get(source)
        if server is None or not server.well or digest not in self._held.get(server.index, {}):
            return False
        return self._world.network.reaches(server.index, life.machine.index)
