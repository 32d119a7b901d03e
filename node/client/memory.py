"""What a client remembers from one session to the next: whom it found right or wrong. One file, appended to.

Each row is `[kind, key, body]` in MessagePack behind its length, u32, little-endian. A later row of the same kind and
key replaces an earlier one; a torn end is cut off. What is lost in a crash only costs some more checks.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec

from ...protocol.events import StoredRow
from ..storage.files import typed_errors

ROW_BYTES_MAX = 1 << 20
# Larger than this the file is written anew when it is opened, each row once.
COMPACT_BYTES = 1 << 20
_decoder = msgspec.msgpack.Decoder(tuple[int, bytes, bytes])


class ClientMemory:
    """The open file. rows: what was in it."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError if the file can't be opened."""
        found = read_memory(path)
        self.rows = tuple(StoredRow(b"", kind, key, body) for (kind, key), body in found.items())
        with typed_errors(path):
            if path.exists() and path.stat().st_size > COMPACT_BYTES:
                fresh = path.with_name(f".{path.name}.part")
                fresh.write_bytes(b"".join(_encode(row.kind, row.key, row.body) for row in self.rows))
                fresh.replace(path)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self._file)

    def remember(self, kind: int, key: bytes, body: bytes) -> None:
        """Append a row; on a full disk the session goes on with what it has in memory."""
        try:
            os.write(self._file, _encode(kind, key, body))
        except OSError:
            return


def read_memory(path: Path) -> dict[tuple[int, bytes], bytes]:
    """Rows by kind and key, the newest of each; nothing if there is no file. Raises StorageError."""
    with typed_errors(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return {}
    rows: dict[tuple[int, bytes], bytes] = {}
    at = 0
    while at + 4 <= len(content):
        (size,) = struct.unpack_from("<I", content, at)
        if size > ROW_BYTES_MAX or at + 4 + size > len(content):
            break
        try:
            kind, key, body = _decoder.decode(content[at + 4 : at + 4 + size])
        except msgspec.DecodeError:
            break
        rows.pop((kind, key), None)
        rows[kind, key] = body
        at += 4 + size
    return rows


def _encode(kind: int, key: bytes, body: bytes) -> bytes:
    row = msgspec.msgpack.encode((kind, key, body))
    return struct.pack("<I", len(row)) + row
