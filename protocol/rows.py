"""Rows that the nodes of a cell keep: member records, heat digests, job digests. The last writer wins.

A row is a record that its node signed about itself, so any peer may pass it on. A row that expired stays buried for a
while, so that a peer that still holds it can't bring it back; so does one for which there is no room, so that nobody
asks for it again before it changes. One that only the clock refuses, which may be wrong, is looked at again soon.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from .cells import place_of, shared_bits
from .context import Context
from .effects import Reason
from .fingerprints import PARTS, STAMP_BITS, Fingerprints, bucket_of
from .limits import Limit
from .records import Record, RecordError, RecordKind, open_record
from .row_facts import Facts, Version, facts_of, wire_key

# A cell that two peers have in common: its depth, and a place in it.
Scope = tuple[int, int]

ROW_KINDS = (RecordKind.MEMBER, RecordKind.HEAT, RecordKind.JOB_DIGEST)
# The longest: a member record with 8 addresses of 256 bytes and a certificate of 1 KiB.
ROW_BYTES_MAX = 8 * 1024
# Rows in one message: far under `message_bytes_max`, the rest follows with the next exchange.
ANSWER_BYTES_MAX = 256 * 1024
WANTED_MAX = 1024
ALL_BYTES = range(256)
AT_NO_TIME_US = 1 << 62


@dataclass(slots=True)
class Row:
    """source: the peer that brought it.  changed: its number among all changes of these tables.

    level: first bits that its author's place shares with this node's.
    """

    record: Record
    facts: Facts
    since_us: int
    source: bytes
    changed: int
    level: int


class _Sorted:
    """Records of one kind, in the order of their keys. A change makes a new list: the one before stays as it was."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self.records: list[Record] = []

    def put(self, key: bytes, record: Record) -> None:
        at = bisect_left(self._keys, key)
        self.records = self.records.copy()
        if at < len(self._keys) and self._keys[at] == key:
            self.records[at] = record
        else:
            self._keys.insert(at, key)
            self.records.insert(at, record)

    def remove(self, key: bytes) -> None:
        """One that is there."""
        at = bisect_left(self._keys, key)
        self.records = self.records.copy()
        del self._keys[at], self.records[at]


class Rows:
    """One node's rows. Bounded by `table_entries_max`, its own rows apart."""

    def __init__(
        self,
        ctx: Context,
        on_row: Callable[[Record, int], None],
        admits: Callable[[Record, int], bool | None] = lambda _record, _now_us: True,
        wants: Callable[[Record], bool] = lambda _record: True,
    ) -> None:
        """on_row: told of each row that another node wrote and that is news, with the time.

        admits: whether a row with a good signature may be here at all; None where only the clock says that it may not.
        wants: whether this node has a use for it.
        """
        self._ctx = ctx
        self._on_row = on_row
        self._admits = admits
        self._wants = wants
        # Told of each row of this node itself that it cannot have signed in this life.
        self.on_own: Callable[[Record, int], None] = lambda _record, _now_us: None
        # In the order of their last change.
        self._rows: dict[bytes, Row] = {}
        self._buried: dict[bytes, tuple[Version, int]] = {}
        # Versions that only the clock refused, and until when they are not looked at again.
        self._untimely: dict[bytes, tuple[Version, int]] = {}
        self._sorted: dict[RecordKind, _Sorted] = {kind: _Sorted() for kind in ROW_KINDS}
        self._fingerprints = Fingerprints()
        self._place = place_of(ctx.node_id)
        self._rows_by_author: dict[bytes, int] = {}
        self._changes = 0
        self._offers = 0
        self._swept_us = 0
        # Before that nothing is too old.
        self._stale_us = 0
        self._ttl_us = {RecordKind.JOB_DIGEST: ctx.config.digest_ttl_us, RecordKind.HEAT: ctx.config.heat_ttl_us}

    # -- questions ---------------------------------------------------------------------------------------

    def rows(self, kind: RecordKind) -> list[Record]:
        """All rows of a kind, this node's own included, in the order of their keys. Not to be changed."""
        return self._sorted[kind].records

    def get(self, kind: RecordKind, key: bytes) -> Record | None:
        """key: as `row_key` says."""
        row = self._rows.get(wire_key(kind, key))
        return row.record if row else None

    def came_after(self, kind: RecordKind, key: bytes, since_us: int) -> Record | None:
        """A row that came later than that."""
        row = self._rows.get(wire_key(kind, key))
        return row.record if row is not None and row.since_us > since_us else None

    def aged(self, kind: RecordKind, now_us: int) -> list[tuple[Record, int]]:
        """All rows of a kind, in any order, with the time since they came."""
        return [(row.record, now_us - row.since_us) for row in self._of_kind(kind)]

    def within_depth(self, kind: RecordKind, depth: int) -> list[Record]:
        """Rows of a kind by the nodes of this node's cell of that depth, in any order."""
        return [row.record for row in self._of_kind(kind) if row.level >= depth]

    def _of_kind(self, kind: RecordKind) -> Iterator[Row]:
        records = self._sorted[kind].records
        if 8 * len(records) < len(self._rows):
            # As a few jobs are among the rows of many nodes.
            return (self._rows[facts_of(record).wire] for record in records)
        return (row for row in self._rows.values() if row.record.kind is kind)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def offers(self) -> int:
        """How often a row changed that may tell of work, or of who keeps some: any but heat without a queue."""
        return self._offers

    # -- own rows ------------------------------------------------------------------------------------------

    def put_own(self, record: Record, now_us: int) -> None:
        assert record.author == self._ctx.node_id and record.kind in ROW_KINDS
        self._put(record, facts_of(record), now_us, self._ctx.node_id)

    # -- others' rows --------------------------------------------------------------------------------------

    def merge(self, raw: bytes, from_peer: bytes, now_us: int) -> bool:
        """Take a row from a peer if it is good and news. False: the peer broke a rule, and is penalised.

        A row that is known, older, of this node itself, of no use here or one too many is no offence.
        """
        reason = self._take(raw, from_peer, now_us)
        if reason is not None:
            self._ctx.penalise(from_peer, reason)
        return reason is None

    def _take(self, raw: bytes, source: bytes, now_us: int) -> Reason | None:
        if len(raw) > ROW_BYTES_MAX:
            self._ctx.limit(Limit.ROW_BYTES, source)
            return Reason.TOO_BIG
        try:
            claimed = open_record(raw, check_signature=False)
            if claimed.kind not in ROW_KINDS:
                return Reason.MALFORMED
            facts = facts_of(claimed)
            if claimed.author != facts.key[:32]:
                return Reason.WRONG_AUTHOR
            own = claimed.author == self._ctx.node_id
            useful = self._is_former(facts, now_us) if own else self._is_news(facts, now_us) and self._wants(claimed)
            if not useful:
                return None
            record = open_record(raw)
        except RecordError as error:
            return Reason.BAD_SIGNATURE if error.reason == "bad-signature" else Reason.MALFORMED
        if own:
            self.on_own(record, now_us)
            return None
        admitted = self._admits(record, now_us)
        if admitted is None:
            until_us = now_us + self._ctx.config.untimely_retry_us
            self._keep_in_mind(self._untimely, facts.wire, facts.version, until_us)
            return None
        if not admitted:
            return Reason.NOT_ADMITTED
        if not self._has_room(record, facts):
            self._remember(facts.wire, facts.version, now_us)
            return None
        self._put(record, facts, now_us, source)
        self._on_row(record, now_us)
        return None

    def _is_news(self, facts: Facts, now_us: int) -> bool:
        """Decided before the signature is checked, which costs 50 times as much."""
        if self._is_untimely(facts.wire, facts.version, now_us):
            return False
        row = self._rows.get(facts.wire)
        if row is not None:
            return row.facts.key == facts.key and row.facts.version < facts.version
        buried = self._buried.get(facts.wire)
        return buried is None or facts.version > buried[0]

    def _is_untimely(self, wire: bytes, version: Version, now_us: int) -> bool:
        refused = self._untimely.get(wire)
        return refused is not None and version <= refused[0] and now_us < refused[1]

    def _is_former(self, facts: Facts, now_us: int) -> bool:
        """Of a row of its own: whether it is of a life before this one, and comes after it."""
        row = self._rows.get(facts.wire)
        return self._ctx.is_former(facts.version[0], now_us) and (row is None or row.facts.version < facts.version)

    def lacks(self, wire: bytes, version: Version, now_us: int) -> bool:
        """Whether a row of this version would be news.

        Of its own rows a node asks for those of lives before this one that come after it.
        """
        if self._is_untimely(wire, version, now_us):
            return False
        row = self._rows.get(wire)
        if row is not None:
            others = row.record.author != self._ctx.node_id
            return row.facts.version < version and (others or self._ctx.is_former(version[0], now_us))
        buried = self._buried.get(wire)
        return buried is None or buried[0] < version

    @property
    def full(self) -> bool:
        return len(self._rows) >= self._ctx.config.table_entries_max

    def _has_room(self, record: Record, facts: Facts) -> bool:
        """A full table is shared evenly: a new row stays out, unless another author has three rows more."""
        own = self._rows_by_author.get(record.author, 0)
        if facts.wire in self._rows:
            return True
        if own >= max(2, self._ctx.config.table_entries_max // 4):
            return False
        return not self.full or own + 2 < max(self._rows_by_author.values(), default=0)

    def _put(self, record: Record, facts: Facts, now_us: int, source: bytes) -> None:
        before = self._rows.pop(facts.wire, None)
        if before is None:
            self._rows_by_author[record.author] = self._rows_by_author.get(record.author, 0) + 1
            self._buried.pop(facts.wire, None)
        else:
            self._fingerprints.remove(facts.wire, before.facts.stamp, before.level)
        self._untimely.pop(facts.wire, None)
        self._changes += 1
        kind = record.kind
        if kind is not RecordKind.HEAT or record.body.queue_us:
            self._offers += 1
        if kind in self._ttl_us:
            self._stale_us = min(self._stale_us, now_us + self._ttl_us[kind])
        level = shared_bits(self._place, facts.place)
        self._rows[facts.wire] = Row(record, facts, now_us, source, self._changes, level)
        self._sorted[kind].put(facts.key, record)
        self._fingerprints.add(facts.wire, facts.stamp, level)
        if len(self._rows) > self._ctx.config.table_entries_max:
            self._evict(now_us)

    def _evict(self, now_us: int) -> None:
        """Bury the oldest row of the author that has most, this node itself apart."""
        me = self._ctx.node_id
        others = [(count, author) for author, count in self._rows_by_author.items() if author != me]
        if others:
            _, heaviest = max(others)
            # Job digests first: without its member record a node's other rows are of no use.
            own = [item for item in self._rows.items() if item[1].record.author == heaviest]
            wire, row = min(own, key=lambda item: (item[1].record.kind is RecordKind.MEMBER, item[1].changed))
            self._bury(wire, row, now_us)

    # -- forgetting ----------------------------------------------------------------------------------------

    def forget_node(self, node: bytes, now_us: int = 0) -> None:
        """Drop and bury all rows of a node that is gone. now_us: from when on they stay buried.

        A later version, as of the node's next life, is taken again.
        """
        for wire, row in self._rows_of(node):
            self._bury(wire, row, max(now_us, self._swept_us))

    def drop_node(self, node: bytes) -> None:
        """Drop the rows of a node that is no concern of this one any more, as if it had never heard of them."""
        for wire, row in self._rows_of(node):
            self._remove(wire, row)

    def prune(self) -> None:
        """Drop what is of no use here any more: the cell is another one."""
        for wire, row in list(self._rows.items()):
            if row.record.author != self._ctx.node_id and not self._wants(row.record):
                self._remove(wire, row)

    def _rows_of(self, node: bytes) -> list[tuple[bytes, Row]]:
        if node == self._ctx.node_id or node not in self._rows_by_author:
            return []
        return [(wire, row) for wire, row in self._rows.items() if row.record.author == node]

    def sweep(self, now_us: int) -> None:
        """Bury what was not renewed in time; member records stay as long as their node does."""
        if now_us - self._swept_us < self._ctx.config.digest_ttl_us // 16:
            return
        self._swept_us = now_us
        if now_us < self._stale_us:
            return
        self._stale_us = AT_NO_TIME_US
        for wire, row in list(self._rows.items()):
            ttl_us = self._ttl_us.get(row.record.kind)
            if ttl_us is None:
                continue
            if now_us - row.since_us >= ttl_us:
                self._bury(wire, row, now_us)
            else:
                self._stale_us = min(self._stale_us, row.since_us + ttl_us)
        for memory in (self._buried, self._untimely):
            for wire, (_, until_us) in list(memory.items()):
                if until_us <= now_us:
                    del memory[wire]
                else:
                    self._stale_us = min(self._stale_us, until_us)

    def _remove(self, wire: bytes, row: Row) -> None:
        del self._rows[wire]
        self._sorted[row.record.kind].remove(row.facts.key)
        self._fingerprints.remove(wire, row.facts.stamp, row.level)
        left = self._rows_by_author[row.record.author] - 1
        if left:
            self._rows_by_author[row.record.author] = left
        else:
            del self._rows_by_author[row.record.author]

    def _bury(self, wire: bytes, row: Row, now_us: int) -> None:
        self._remove(wire, row)
        self._remember(wire, row.facts.version, now_us)

    def _remember(self, wire: bytes, version: Version, now_us: int) -> None:
        config = self._ctx.config
        memory_us = max(2 * config.digest_ttl_us, 2 * config.heat_ttl_us, config.dead_memory_us)
        self._keep_in_mind(self._buried, wire, version, now_us + memory_us)

    def _keep_in_mind(
        self, memory: dict[bytes, tuple[Version, int]], wire: bytes, version: Version, until_us: int
    ) -> None:
        memory.pop(wire, None)
        memory[wire] = (version, until_us)
        self._stale_us = min(self._stale_us, until_us)
        if len(memory) > self._ctx.config.table_entries_max:
            del memory[next(iter(memory))]

    # -- comparing -----------------------------------------------------------------------------------------

    def within(self, scope: Scope, starts: Container[int] = ALL_BYTES) -> list[tuple[bytes, Row]]:
        """Rows whose authors are in a cell. starts: of those whose key begins with one of these bytes."""
        depth, place = scope
        if self._is_around(scope):
            return [item for item in self._rows.items() if item[0][0] in starts and item[1].level >= depth]
        rows = [item for item in self._rows.items() if item[0][0] in starts]
        return [item for item in rows if shared_bits(item[1].facts.place, place) >= depth]

    def _is_around(self, scope: Scope) -> bool:
        """Whether this node itself is in that cell, so that levels tell who else is."""
        return shared_bits(self._place, scope[1]) >= scope[0]

    def changed_since(self, seen: int, scope: Scope, limit: int) -> list[tuple[bytes, Row]] | None:
        """Rows of a cell that changed after the change of that number, newest first; None if more than `limit`."""
        depth, place = scope
        around = self._is_around(scope)
        found: list[tuple[bytes, Row]] = []
        for wire, row in reversed(self._rows.items()):
            if row.changed <= seen:
                break
            if (row.level if around else shared_bits(row.facts.place, place)) >= depth:
                found.append((wire, row))
                if len(found) > limit:
                    return None
        return found

    def fingerprints(self, scope: Scope, buckets: int) -> list[int]:
        """Sums of the stamps in each of `buckets` equal parts of the keys. buckets: a power of two, <= 256."""
        if buckets <= PARTS and self._is_around(scope):
            return self._fingerprints.sums(scope[0], buckets)
        sums = [0] * buckets
        for wire, row in self.within(scope):
            at = bucket_of(wire, buckets)
            sums[at] = (sums[at] + row.facts.stamp) % (1 << STAMP_BITS)
        return sums

    def raw_rows(self, wires: Iterable[bytes]) -> tuple[tuple[bytes, ...], bool]:
        """Rows up to the bound of one message, and whether that was all."""
        rows: list[bytes] = []
        size_bytes = 0
        for wire in wires:
            row = self._rows.get(wire)
            if row is None:
                continue
            size_bytes += len(row.record.raw)
            if size_bytes > ANSWER_BYTES_MAX or len(rows) == WANTED_MAX:
                return tuple(rows), False
            rows.append(row.record.raw)
        return tuple(rows), True
