"""Rows that every node of a cell keeps: member records, heat digests, job digests. The last writer wins.

A row is a record that its node signed about itself, so any peer may pass it on. Tables are merged by
push-pull: one side tells which versions it has (`TableSync`), the other sends what is newer and names what it
lacks (`TableRows`), and gets that. Nothing is said while nothing changes, but for one exchange in ten, in
case something was lost.

A row that expired stays buried for a while: a peer that still holds it can't bring it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from .budget import Budget
from .context import Context
from .effects import Reason, TimerKey
from .messages import TableRows, TableSync, TableVersion
from .records import Record, RecordError, RecordKind, open_record

Version = tuple[int, int]

ROW_KINDS = (RecordKind.MEMBER, RecordKind.HEAT, RecordKind.JOB_DIGEST)
# The longest: a member record with 8 addresses of 256 bytes and a certificate of 1 KiB.
ROW_BYTES_MAX = 8 * 1024
# Rows in one message: far under `message_bytes_max`, the rest follows with the next exchange.
ANSWER_BYTES_MAX = 256 * 1024
WANTED_MAX = 1024
# Peers that an urgent row is pushed to; they don't push it on, their exchanges spread it.
URGENT_PUSHES = 4
FULL_SYNC_EVERY = 10
# Exchanges that one peer may start: a burst of 8, then 4 an interval.
SYNCS_BURST = 8
SYNCS_AN_INTERVAL = 4


def row_key(record: Record) -> bytes:
    """The row's key among those of its kind: the node's id, and the job's after it in a job digest."""
    if record.kind is RecordKind.JOB_DIGEST:
        return bytes(record.body.replica + record.body.job_id)
    return bytes(record.body.node)


def wire_key(kind: RecordKind, key: bytes) -> bytes:
    """12 bytes that stand for (kind, key) in versions on the wire."""
    return sha256(b"hearthmesh/row" + bytes([kind]) + key).digest()[:12]


@dataclass(slots=True)
class _Row:
    record: Record
    key: bytes
    version: Version
    since_us: int


@dataclass(slots=True)
class _Peer:
    """seen: how many changes of ours the peer surely has.  request, asked_at: the exchange on its way."""

    syncs: Budget
    rows: Budget
    seen: int = -1
    request: int = 0
    asked_at: int = -1


class Tables:
    """One node's rows. Bounded by `table_entries_max`, its own rows apart."""

    def __init__(
        self,
        ctx: Context,
        on_row: Callable[[Record, int], None],
        admits: Callable[[Record, int], bool] = lambda _record, _now_us: True,
    ) -> None:
        """on_row: told of each row that another node wrote and that is news, with the time.

        admits: whether a row with a good signature may be here at all.
        """
        self._ctx = ctx
        self._on_row = on_row
        self._admits = admits
        self._rows: dict[bytes, _Row] = {}
        self._buried: dict[bytes, tuple[Version, int]] = {}
        self._sorted: dict[RecordKind, list[Record]] = {}
        self._rows_by_author: dict[bytes, int] = {}
        self._peers: dict[bytes, _Peer] = {}
        self._changes = 0
        self._ticks = 0
        self._swept_us = 0

    # -- questions ---------------------------------------------------------------------------------------

    def rows(self, kind: RecordKind) -> list[Record]:
        """All rows of a kind, this node's own included, in the order of their keys. Not to be changed."""
        found = self._sorted.get(kind)
        if found is None:
            rows = [row for row in self._rows.values() if row.record.kind is kind]
            found = [row.record for row in sorted(rows, key=lambda row: row.key)]
            self._sorted[kind] = found
        return found

    def get(self, kind: RecordKind, key: bytes) -> Record | None:
        """key: as `row_key` says."""
        row = self._rows.get(wire_key(kind, key))
        return row.record if row else None

    def __len__(self) -> int:
        return len(self._rows)

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        self._swept_us = now_us
        interval_us = self._ctx.config.sync_interval_us
        self._ctx.set_timer(("sync", b""), now_us + 1 + self._ctx.rng.randrange(interval_us))

    def stop(self, now_us: int) -> None:
        self._ctx.cancel_timer(("sync", b""))

    def peer_connected(self, peer: bytes, now_us: int) -> None:
        """A new peer may lack all that we have, and have all that we lack."""
        entries, interval_us = self._ctx.config.table_entries_max, self._ctx.config.sync_interval_us
        self._peers[peer] = _Peer(
            Budget(SYNCS_BURST, SYNCS_AN_INTERVAL, interval_us, now_us),
            Budget(2 * entries, max(1, entries // 2), interval_us, now_us),
        )
        self._sync_with(peer)

    def peer_lost(self, peer: bytes) -> None:
        self._peers.pop(peer, None)

    def publish(self, record: Record, now_us: int, urgent: bool) -> None:
        """Put a row of this node's own; it replaces the one before.

        urgent: a few connected peers get it at once; else it goes along with the next exchanges.
        """
        assert record.author == self._ctx.node_id and record.kind in ROW_KINDS
        self._put(record, row_key(record), _version(record), now_us)
        if urgent:
            for peer in self._ctx.sample(list(self._peers), URGENT_PUSHES):
                self._ctx.send(peer, TableRows(0, (record.raw,), ()))

    def forget_node(self, node: bytes, now_us: int = 0) -> None:
        """Drop and bury all rows of a node that is gone. now_us: from when on they stay buried.

        A later version, as of the node's next life, is taken again.
        """
        if node == self._ctx.node_id:
            return
        for wire, row in list(self._rows.items()):
            if row.record.author == node:
                self._bury(wire, row, max(now_us, self._swept_us))

    # -- merging ------------------------------------------------------------------------------------------

    def merge(self, raw: bytes, from_peer: bytes, now_us: int) -> bool:
        """Take a row from a peer if it is good and news. False: the peer broke a rule, and is penalised.

        A row that is known, older, of this node itself or one too many of its author is no offence.
        """
        reason = self._take(raw, now_us)
        if reason is not None:
            self._ctx.penalise(from_peer, reason)
        return reason is None

    def _take(self, raw: bytes, now_us: int) -> Reason | None:
        if len(raw) > ROW_BYTES_MAX:
            return Reason.TOO_BIG
        try:
            claimed = open_record(raw, check_signature=False)
            if claimed.kind not in ROW_KINDS:
                return Reason.MALFORMED
            key, version = row_key(claimed), _version(claimed)
            if claimed.author != key[:32]:
                return Reason.WRONG_AUTHOR
            if not self._is_news(claimed, key, version):
                return None
            record = open_record(raw)
        except RecordError as error:
            return Reason.BAD_SIGNATURE if error.reason == "bad-signature" else Reason.MALFORMED
        if not self._admits(record, now_us):
            return Reason.NOT_ADMITTED
        self._put(record, key, version, now_us)
        self._on_row(record, now_us)
        return None

    def _is_news(self, claimed: Record, key: bytes, version: Version) -> bool:
        """Decided before the signature is checked, which costs 50 times as much."""
        if claimed.author == self._ctx.node_id:
            return False
        wire = wire_key(claimed.kind, key)
        row = self._rows.get(wire)
        if row is not None:
            return row.key == key and row.version < version
        buried = self._buried.get(wire)
        if buried is not None and version <= buried[0]:
            return False
        return self._rows_by_author.get(claimed.author, 0) < self._rows_an_author()

    def _rows_an_author(self) -> int:
        return max(2, self._ctx.config.table_entries_max // 4)

    # -- exchange -----------------------------------------------------------------------------------------

    def on_message(self, peer: bytes, message: TableSync | TableRows, now_us: int) -> None:
        known = self._peers.get(peer)
        if known is None:
            return
        if isinstance(message, TableSync):
            self._on_sync(peer, known, message, now_us)
        else:
            self._on_rows(peer, known, message, now_us)

    def _on_sync(self, peer: bytes, known: _Peer, message: TableSync, now_us: int) -> None:
        if not known.syncs.spend(1, now_us):
            self._ctx.penalise(peer, Reason.TOO_MANY)
            return
        theirs = {each.key: each.version for each in message.versions}
        newer = [wire for wire, row in self._rows.items() if theirs.get(wire, (-1, -1)) < row.version]
        rows, complete = self._raw_rows(newer)
        wanted = [wire for wire, version in theirs.items() if self._lacks(wire, version)]
        self._ctx.send(peer, TableRows(message.request, rows, tuple(wanted[:WANTED_MAX])))
        if complete:
            known.seen = self._changes

    def _on_rows(self, peer: bytes, known: _Peer, message: TableRows, now_us: int) -> None:
        if not known.rows.spend(len(message.rows), now_us):
            self._ctx.penalise(peer, Reason.TOO_MANY)
            return
        answer = message.request != 0 and message.request == known.request
        if answer:
            known.request = 0
            known.seen = max(known.seen, known.asked_at)
        # What the peer itself brings is no news for it.
        up_to_date = known.seen == self._changes
        for raw in message.rows:
            if not self.merge(raw, peer, now_us):
                return
        if up_to_date:
            known.seen = self._changes
        if answer and message.wanted:
            rows, complete = self._raw_rows(message.wanted)
            self._ctx.send(peer, TableRows(message.request, rows, ()))
            if not complete:
                known.seen = -1

    def _lacks(self, wire: bytes, version: Version) -> bool:
        row = self._rows.get(wire)
        if row is not None:
            return row.version < version and row.record.author != self._ctx.node_id
        buried = self._buried.get(wire)
        return buried is None or buried[0] < version

    def _raw_rows(self, wires: Iterable[bytes]) -> tuple[tuple[bytes, ...], bool]:
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

    def _sync_with(self, peer: bytes) -> None:
        known = self._peers[peer]
        known.request = self._ctx.next_request()
        known.asked_at = self._changes
        versions = tuple(TableVersion(wire, row.version) for wire, row in self._rows.items())
        self._ctx.send(peer, TableSync(known.request, versions))

    # -- time ---------------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        """Key: ("sync", b"")."""
        if key[0] != "sync":
            return
        self._ctx.set_timer(("sync", b""), now_us + self._ctx.config.sync_interval_us)
        self._sweep(now_us)
        self._ticks += 1
        peers = list(self._peers)
        if not peers:
            return
        peer = peers[self._ctx.rng.randrange(len(peers))]
        if self._peers[peer].seen != self._changes or self._ticks % FULL_SYNC_EVERY == 0:
            self._sync_with(peer)

    def _sweep(self, now_us: int) -> None:
        """Bury what was not renewed in time; member records stay as long as their node does."""
        ttl_us = self._ctx.config.digest_ttl_us
        if now_us - self._swept_us < ttl_us // 16:
            return
        self._swept_us = now_us
        for wire, row in list(self._rows.items()):
            if row.record.kind is not RecordKind.MEMBER and now_us - row.since_us >= ttl_us:
                self._bury(wire, row, now_us)
        for wire, (_, until_us) in list(self._buried.items()):
            if until_us <= now_us:
                del self._buried[wire]

    # -- rows ---------------------------------------------------------------------------------------------

    def _put(self, record: Record, key: bytes, version: Version, now_us: int) -> None:
        wire = wire_key(record.kind, key)
        if wire not in self._rows:
            self._rows_by_author[record.author] = self._rows_by_author.get(record.author, 0) + 1
            self._buried.pop(wire, None)
        self._rows[wire] = _Row(record, key, version, now_us)
        self._sorted.pop(record.kind, None)
        self._changes += 1
        if len(self._rows) > self._ctx.config.table_entries_max:
            self._evict(now_us)

    def _evict(self, now_us: int) -> None:
        """Bury the oldest row, of strangers first: rows of connected peers are of nodes that surely exist."""
        others = [item for item in self._rows.items() if item[1].record.author != self._ctx.node_id]
        if others:
            wire, row = min(others, key=lambda item: (item[1].record.author in self._peers, item[1].since_us))
            self._bury(wire, row, now_us)

    def _bury(self, wire: bytes, row: _Row, now_us: int) -> None:
        del self._rows[wire]
        self._sorted.pop(row.record.kind, None)
        left = self._rows_by_author[row.record.author] - 1
        if left:
            self._rows_by_author[row.record.author] = left
        else:
            del self._rows_by_author[row.record.author]
        memory_us = max(2 * self._ctx.config.digest_ttl_us, self._ctx.config.dead_memory_us)
        self._buried[wire] = (row.version, now_us + memory_us)
        if len(self._buried) > self._ctx.config.table_entries_max:
            del self._buried[next(iter(self._buried))]


def _version(record: Record) -> Version:
    return (record.body.incarnation, record.body.sequence)
