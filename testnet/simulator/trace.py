"""Everything that every machine was told, as one rolling digest; always on, so that no run is without one."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

_ENTRY_FORMAT = "QIBI"
_FLUSH_ENTRIES = 1024
_FLUSH_FIELDS = _FLUSH_ENTRIES * len(_ENTRY_FORMAT)
_FULL = Struct("<" + _ENTRY_FORMAT * _FLUSH_ENTRIES)


class Trace:
    """Equal digests mean: the same machines were told the same, byte for byte, at the same microseconds."""

    __slots__ = ("_fields", "_flushed", "_hash")

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._fields: list[int] = []
        self._flushed = 0

    def add(self, at_us: int, machine: int, kind: int, checksum: int) -> None:
        """checksum: of what the event holds, 32 bits."""
        fields = self._fields
        fields += (at_us, machine, kind, checksum)
        if len(fields) == _FLUSH_FIELDS:
            self._hash.update(_FULL.pack(*fields))
            self._flushed += _FLUSH_ENTRIES
            fields.clear()

    @property
    def events(self) -> int:
        """How many were added."""
        return self._flushed + len(self._fields) // len(_ENTRY_FORMAT)

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, of all so far."""
        so_far = self._hash.copy()
        entries = len(self._fields) // len(_ENTRY_FORMAT)
        so_far.update(Struct("<" + _ENTRY_FORMAT * entries).pack(*self._fields))
        return so_far.hexdigest()
