"""What a row's record says of its place in a table: a pure function of the record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from .cells import place_of
from .messages import TableVersion
from .records import Record, RecordKind

Version = tuple[int, int]


def row_key(record: Record) -> bytes:
    """The row's key among those of its kind: the node's id, and the job's after it in a job digest."""
    if record.kind is RecordKind.JOB_DIGEST:
        return bytes(record.body.replica + record.body.job_id)
    return bytes(record.body.node)


def wire_key(kind: int, key: bytes) -> bytes:
    """12 bytes that stand for (kind, key) in versions on the wire."""
    return sha256(b"hearthmesh/row" + bytes([kind]) + key).digest()[:12]


def version_of(record: Record) -> Version:
    return (record.body.incarnation, record.body.sequence)


def stamp_of(wire: bytes, version: Version) -> int:
    """What one row adds to a fingerprint."""
    incarnation, sequence = version
    encoded = wire + incarnation.to_bytes(8, "big") + sequence.to_bytes(8, "big")
    return int.from_bytes(sha256(encoded).digest()[:8], "big")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a row's record says of its place in a table. key: among those of its kind.  wire: it, on the wire.

    told: key and version, as other tables are told.  place: where its author stands.
    """

    key: bytes
    wire: bytes
    version: Version
    told: TableVersion
    place: int
    stamp: int


# Four versions of each of the `table_entries_max` rows of a node: some 470 bytes each, 4 MB when they are all there.
KEPT = 4 * 2048


def facts_of(record: Record) -> Facts:
    """record: of one of `ROW_KINDS`. A row comes from several peers: what its hashes are is worked out once."""
    return _facts(int(record.kind), row_key(record), version_of(record), record.author)


def keep(count: int) -> None:
    """From now on remember the facts of so many versions of rows: of more in a process that plays many nodes."""
    global _facts
    _facts = lru_cache(maxsize=count)(_work_out)


def kept_most() -> int:
    """How many versions of rows have their facts remembered at most."""
    return _facts.cache_info().maxsize or 0


def _work_out(kind: int, key: bytes, version: Version, author: bytes) -> Facts:
    wire = wire_key(kind, key)
    return Facts(key, wire, version, TableVersion(wire, version), place_of(author), stamp_of(wire, version))


_facts = lru_cache(maxsize=KEPT)(_work_out)
