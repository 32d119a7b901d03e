"""Everything that every machine was told, as one rolling digest; always on, so that no run is without one."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

_ENTRY = Struct("<QIBI")
_FLUSH_ENTRIES = 2048


class Trace:
    """Equal digests mean: the same machines were told the same, byte for byte, at the same microseconds."""

    __slots__ = ("_entries", "_hash", "events")

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._entries: list[bytes] = []
        self.events = 0

    def add(self, at_us: int, machine: int, kind: int, checksum: int) -> None:
        """checksum: of what the event holds, 32 bits."""
        self.events += 1
        self._entries.append(_ENTRY.pack(at_us, machine, kind, checksum))
        if len(self._entries) == _FLUSH_ENTRIES:
            self._flush()

    def _flush(self) -> None:
        self._hash.update(b"".join(self._entries))
        self._entries.clear()

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, of all so far."""
        self._flush()
        return self._hash.hexdigest()
