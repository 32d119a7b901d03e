"""How the rows of a cell spread: push-pull between peers, at a cost that goes with what differs.

An exchange tells only which rows changed since the last one with the same peer (`TableSync.versions`); the other side
names those that it lacks, tells its own in turn, and gets what it names (`TableRows`, at most twice each way). A new
peer, and now and then any, is compared with by fingerprints of parts of the key space first (`TableSync.ranges`), so
that nothing stays different for long. Nothing is said while nothing changes, but for that; and the longer nothing
happens, the longer is the time between two exchanges, up to `rest_factor` intervals. What does not press, as a digest
that is repeated, goes along then.

Rows travel when they are asked for, or are younger than an interval: what does not fit is not sent again and again.
What two peers compare is the smaller of their two cells (`cells.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from .budget import Budget
from .cells import Cell, Depths
from .context import Context
from .effects import Reason, TimerKey
from .fingerprints import PARTS, STAMP_BITS, bucket_of
from .limits import Limit
from .messages import TableRows, TableSync, TableVersion
from .records import Record, RecordKind
from .row_facts import Facts, row_key, wire_key
from .rows import WANTED_MAX, Rows, Scope

__all__ = ["Tables", "row_key", "wire_key"]

# Changed rows that one exchange tells; if there are more, parts of the key space are compared instead.
NEWS_MAX = 512
VERSIONS_MAX = 1024
# So many rows that came within an interval are sent to a peer that did not ask, who surely lacks them; more came
# because this node itself had much to catch up with, and the peer may have them.
FRESH_MAX = 8
# New rows that a full table asks for in one exchange.
STRANGE_WANTED = 4
# Peers that an urgent row is pushed to; they don't push it on, their exchanges spread it.
URGENT_PUSHES = 4
FULL_SYNC_EVERY = 10
# Exchanges that one peer may start: a burst of 8, then 4 an interval.
SYNCS_BURST = 8
SYNCS_AN_INTERVAL = 4
# Among many peers a node exchanges with few for a while, since what two tell each other goes with the time between.
PARTNERS = 4
MANY_PEERS = 8
PARTNER_TICKS = 8
# So many exchanges in which nothing happened make a node rest: what it had to tell has gone on to as many peers.
QUIET_TICKS = 4
# Messages that an exchange allows each side to answer.
TURNS = 2


@dataclass(slots=True)
class _Exchange:
    """One that is on its way. request: its number, 0 for none.  at: our changes when we told ours.

    turns: messages of the peer's that we still answer.  buckets: parts of the key space that were compared.
    complete: whether all was told.
    """

    request: int = 0
    at: int = -1
    turns: int = 0
    buckets: int = 0
    complete: bool = True


@dataclass(slots=True)
class _Peer:
    """seen: how many changes of ours the peer surely was told of, -1 if it has to be compared with.

    depth: of its cell, as it last said.  awaited: rows that we asked for and that did not come yet.
    """

    syncs: Budget
    rows: Budget
    depth: int | None = None
    seen: int = -1
    awaited: int = 0
    asked: _Exchange = field(default_factory=_Exchange)
    answered: _Exchange = field(default_factory=_Exchange)


class Tables(Rows):
    """See the module. Bounded by `table_entries_max` rows."""

    def __init__(
        self,
        ctx: Context,
        on_row: Callable[[Record, int], None],
        admits: Callable[[Record, int], bool | None] = lambda _record, _now_us: True,
        wants: Callable[[Record], bool] = lambda _record: True,
        cell: Cell | None = None,
    ) -> None:
        super().__init__(ctx, on_row, admits, wants)
        self._cell = cell or Cell(ctx.node_id, ctx.config)
        self._peers: dict[bytes, _Peer] = {}
        self.depths = Depths()
        self._mates: tuple[int, list[bytes]] | None = None
        self._partners: list[bytes] = []
        # With whom it compares since when, and new peers that wait for that to end: what the first one brings need not
        # come from all of them.
        self._comparing: tuple[bytes, int] | None = None
        self._uncompared: dict[bytes, None] = {}
        self._ticks = 0
        self._quiet = 0
        self._due_us: int | None = None
        # Whether the owner has something to do at each interval, which keeps these tables from resting.
        self.is_busy: Callable[[], bool] = lambda: False
        # Told when a peer says how deep its cell is, while a newcomer does not know how deep its own should be.
        self.on_depth: Callable[[int], None] = lambda _now_us: None
        # Whether the next exchange is more than an interval after the last.
        self.rests = False

    # -- life ---------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        self._swept_us = now_us
        self._arm(now_us + 1 + self._ctx.rng.randrange(self._ctx.config.sync_interval_us))

    def stop(self, now_us: int) -> None:
        self._due_us, self.rests = None, False
        self._ctx.cancel_timer(("sync", b""))

    def hurry(self, now_us: int) -> None:
        """Something happens: at rest no longer."""
        self._quiet = 0
        self.wake(now_us)

    def wake(self, now_us: int) -> None:
        """The next exchange comes within an interval."""
        interval_us = self._ctx.config.sync_interval_us
        if self._due_us is not None and self._due_us - now_us > interval_us:
            # At a time of its own: many nodes hear the same.
            self._arm(now_us + 1 + self._ctx.rng.randrange(interval_us))

    def _arm(self, at_us: int) -> None:
        self._due_us, self.rests = at_us, False
        self._ctx.set_timer(("sync", b""), at_us)

    def _put(self, record: Record, facts: Facts, now_us: int, source: bytes) -> None:
        row = self._rows.get(facts.wire)
        if self._presses(record, row.record if row is not None else None):
            self.hurry(now_us)
        super()._put(record, facts, now_us, source)

    def _presses(self, record: Record, before: Record | None) -> bool:
        """Whether others should hear of it within seconds; else it goes along with what is said anyway.

        All but a node's heat does; that if it is the first word of it, if its queue changed, or while anybody looks for
        takers of his work.
        """
        if before is None or record.kind is not RecordKind.HEAT:
            return True
        new, old = record.body, before.body
        if new.queue_us != old.queue_us or new.draining != old.draining:
            return True
        lives = any(not job.body.finished for job in self.rows(RecordKind.JOB_DIGEST))
        return lives and replace(old, sequence=new.sequence, temperature_mc=new.temperature_mc) != new

    def peer_connected(self, peer: bytes, now_us: int) -> None:
        """A new peer may lack all that we have, and have all that we lack: one of the two compares, for both, when it
        is through with the one before."""
        entries, interval_us = self._ctx.config.table_entries_max, self._ctx.config.sync_interval_us
        self._forget_depth(peer)
        self._peers[peer] = _Peer(
            Budget(SYNCS_BURST, SYNCS_AN_INTERVAL, interval_us, now_us),
            Budget(2 * entries, max(1, entries // 2), interval_us, now_us),
        )
        if self._comparing is not None and self._comparing[0] == peer:
            self._comparing = None
        if self._ctx.node_id < peer:
            self._uncompared[peer] = None
            self._compare_next(now_us)

    def peer_lost(self, peer: bytes, now_us: int) -> None:
        self._forget_depth(peer)
        self._peers.pop(peer, None)
        self._uncompared.pop(peer, None)
        self._compared(peer, now_us)
        if peer in self._partners:
            self._partners.remove(peer)

    def _forget_depth(self, peer: bytes) -> None:
        self._mates = None
        known = self._peers.get(peer)
        if known is not None and known.depth is not None:
            self.depths.remove(self._cell.level(peer), known.depth)
            known.depth = None

    def heard_depth(self, peer: bytes, depth: int, now_us: int) -> None:
        """A linked peer said how deep its cell is."""
        known = self._peers.get(peer)
        if known is None or known.depth == depth:
            return
        level = self._cell.level(peer)
        if known.depth is not None:
            self.depths.remove(level, known.depth)
        known.depth = depth
        self.depths.add(level, depth)
        self._mates = None
        if not self._cell.settled:
            # At once: until then it would take in rows of any cell.
            self.on_depth(now_us)
        if self._scope(peer, known) is None:
            # It will not answer.
            self._compared(peer, now_us)

    def shares_rows(self, peer: bytes) -> bool:
        """Whether a linked peer's cell and this one's overlap, as far as is known."""
        known = self._peers.get(peer)
        return known is not None and self._scope(peer, known) is not None

    def tells_of_itself(self, peer: bytes) -> bool:
        """Whether what it compares with a linked peer holds this node's own rows.

        Not where the peer's cell is the half of this one's in which this node is not.
        """
        known = self._peers.get(peer)
        scope = None if known is None else self._scope(peer, known)
        return scope is not None and (scope[0] <= self._cell.depth or self._cell.level(peer) >= scope[0])

    def publish(self, record: Record, now_us: int, urgent: bool) -> None:
        """Put a row of this node's own; it replaces the one before.

        urgent: a few connected peers get it at once; else it goes along with the next exchanges.
        """
        self.put_own(record, now_us)
        if urgent:
            for peer in self._ctx.sample(self._row_mates(), URGENT_PUSHES):
                self._ctx.send(peer, TableRows(0, False, (record.raw,), (), (), ()))

    def _row_mates(self) -> list[bytes]:
        """Linked peers that share rows with this node. Not to be changed."""
        if self._mates is None or self._mates[0] != self._cell.depth:
            self._mates = (self._cell.depth, [peer for peer in self._peers if self.shares_rows(peer)])
        return self._mates[1]

    def _scope(self, peer: bytes, known: _Peer) -> Scope | None:
        depth = self._cell.depth if known.depth is None else known.depth
        return self._cell.common(peer, depth)

    # -- comparing with new peers --------------------------------------------------------------------------

    def _compare_next(self, now_us: int) -> None:
        """With the peer that came last, unless another comparison goes on, and not for longer than an interval."""
        if self._comparing is None or now_us - self._comparing[1] >= self._ctx.config.sync_interval_us:
            self._compare_last(now_us)
        if self._uncompared:
            # The one that it goes on with may never answer: the others don't wait for that until a rest is over.
            self.wake(now_us)

    def _compare_last(self, now_us: int) -> None:
        self._comparing = None
        while self._uncompared:
            peer, _ = self._uncompared.popitem()
            known = self._peers[peer]
            scope = self._scope(peer, known)
            # Whoever compared with this node meanwhile need not be compared with.
            if scope is not None and known.seen < 0:
                self._comparing = peer, now_us
                self._compare_with(peer, known, scope)
                return

    def _compared(self, peer: bytes, now_us: int) -> None:
        """A comparison with this peer is over, if there was one."""
        if self._comparing is not None and self._comparing[0] == peer:
            self._comparing = None
            self._compare_next(now_us)

    # -- beginning an exchange -----------------------------------------------------------------------------

    def _compare_with(self, peer: bytes, known: _Peer, scope: Scope) -> None:
        """By fingerprints of parts of the key space: a quarter as many as there are rows, within a bound."""
        buckets = 1
        while buckets < PARTS and 4 * buckets < len(self):
            buckets *= 2
        ranges = tuple(part.to_bytes(STAMP_BITS // 8, "big") for part in self.fingerprints(scope, buckets))
        self._ask(peer, known, scope, ranges, ())

    def _tell_news(self, peer: bytes, known: _Peer, scope: Scope) -> None:
        """By versions of what changed since the last time; nothing if that is nothing."""
        changed = self.changed_since(known.seen, scope, NEWS_MAX)
        if changed is None:
            self._compare_with(peer, known, scope)
            return
        news = tuple(row.facts.told for _, row in changed if row.source != peer)
        if news:
            self._ask(peer, known, scope, (), news)
        else:
            known.seen = self._changes

    def _ask(
        self, peer: bytes, known: _Peer, scope: Scope, ranges: tuple[bytes, ...], news: tuple[TableVersion, ...]
    ) -> None:
        known.asked = _Exchange(self._ctx.next_request(), self._changes, TURNS, len(ranges))
        self._ctx.send(peer, TableSync(known.asked.request, self._cell.depth, scope[0], ranges, news))

    # -- answering -----------------------------------------------------------------------------------------

    def on_message(self, peer: bytes, message: TableSync | TableRows, now_us: int) -> bool:
        """False if it asks to compare what the two do not share: its owner then says how deep its cell is."""
        known = self._peers.get(peer)
        if known is None:
            return True
        if isinstance(message, TableSync):
            return self._on_sync(peer, known, message, now_us)
        self._on_rows(peer, known, message, now_us)
        return True

    def _on_sync(self, peer: bytes, known: _Peer, message: TableSync, now_us: int) -> bool:
        if not known.syncs.spend(1, now_us):
            self._ctx.limit(Limit.TABLE_SYNCS, peer)
            self._ctx.penalise(peer, Reason.TOO_MANY)
            return True
        buckets = len(message.ranges)
        if buckets & (buckets - 1):
            self._ctx.penalise(peer, Reason.MALFORMED)
            return True
        self.heard_depth(peer, message.depth, now_us)
        scope = self._scope(peer, known)
        if scope is None:
            return False
        known.answered = _Exchange(message.request, self._changes, TURNS)
        if scope[0] != message.scope:
            # One of us has split or merged meanwhile: this one knows both depths, and asks anew.
            self._compare_with(peer, known, scope)
        elif buckets:
            self._answer_ranges(peer, known, message, scope)
        else:
            self._answer_news(peer, known, message, scope, now_us)
        return True

    def _answer_ranges(self, peer: bytes, known: _Peer, message: TableSync, scope: Scope) -> None:
        buckets = len(message.ranges)
        sums = self.fingerprints(scope, buckets)
        differing = [at for at, part in enumerate(message.ranges) if int.from_bytes(part, "big") != sums[at]]
        by_bucket: dict[int, list[TableVersion]] = {at: [] for at in differing}
        for wire, row in self.within(scope, _starts(differing, buckets)) if differing else ():
            by_bucket[bucket_of(wire, buckets)].append(row.facts.told)
        versions: list[TableVersion] = []
        told: list[int] = []
        for at, part in by_bucket.items():
            if len(versions) + len(part) > VERSIONS_MAX:
                break
            versions.extend(part)
            told.append(at)
        known.answered.complete = len(told) == len(differing)
        self._ctx.send(peer, TableRows(message.request, True, (), (), tuple(versions), tuple(told)))
        if not differing:
            known.seen = self._changes

    def _answer_news(self, peer: bytes, known: _Peer, message: TableSync, scope: Scope, now_us: int) -> None:
        theirs = {each.key: each.version for each in message.versions}
        newer = [wire for wire in theirs if wire in self._rows and theirs[wire] < self._rows[wire].facts.version]
        wanted = self._wanted(known, message.versions, now_us)
        versions: list[TableVersion] = []
        fresh = 0
        changed = self.changed_since(known.seen, scope, NEWS_MAX) if known.seen >= 0 else None
        for wire, row in changed or ():
            if wire in theirs or row.source == peer:
                continue
            # What is brand-new the peer surely lacks.
            if fresh < FRESH_MAX and now_us - row.since_us < self._ctx.config.sync_interval_us:
                fresh += 1
                newer.append(wire)
            else:
                versions.append(row.facts.told)
        rows, complete = self.raw_rows(newer)
        known.answered.complete = complete and changed is not None
        self._ctx.send(peer, TableRows(message.request, True, rows, wanted, tuple(versions), ()))
        if not versions and known.answered.complete:
            known.seen = self._changes

    def _on_rows(self, peer: bytes, known: _Peer, message: TableRows, now_us: int) -> None:
        expected = min(known.awaited, len(message.rows))
        known.awaited -= expected
        if not known.rows.spend(len(message.rows) - expected, now_us):
            self._ctx.limit(Limit.TABLE_ROWS, peer)
            self._ctx.penalise(peer, Reason.TOO_MANY)
            return
        exchange = self._exchange_of(known, message)
        # What the peer itself brings is no news for it.
        up_to_date = known.seen == self._changes
        # A node's digests are of no use without its member record.
        for raw in sorted(message.rows, key=_is_digest):
            if not self.merge(raw, peer, now_us):
                return
        if up_to_date:
            known.seen = self._changes
        if exchange is None:
            return
        mine = exchange is known.asked
        first = exchange.turns == TURNS
        exchange.turns -= 1
        if first and exchange.complete:
            known.seen = max(known.seen, exchange.at)
        versions = self._versions_in(known, peer, message) if mine and first and message.differing else ()
        rows, complete = self.raw_rows(message.wanted)
        wanted = self._wanted(known, message.versions, now_us)
        if not complete:
            known.seen = -1
        # Who told versions hears that they came.
        if rows or wanted or versions or (mine and first and message.versions):
            self._ctx.send(peer, TableRows(message.request, not mine, rows, wanted, versions, ()))
        if mine and exchange.buckets and not known.awaited:
            self._compared(peer, now_us)

    @staticmethod
    def _exchange_of(known: _Peer, message: TableRows) -> _Exchange | None:
        """The exchange that a message goes on with; None if it is pushed, late, or one too many."""
        exchange = known.asked if message.answers else known.answered
        return exchange if message.request and exchange.request == message.request and exchange.turns else None

    def _versions_in(self, known: _Peer, peer: bytes, message: TableRows) -> tuple[TableVersion, ...]:
        """What the peer lacks in the parts in which we differ."""
        scope = self._scope(peer, known)
        buckets = known.asked.buckets
        if scope is None or not buckets:
            return ()
        theirs = {each.key: each.version for each in message.versions}
        found = [
            row.facts.told
            for wire, row in self.within(scope, _starts(message.differing, buckets))
            if theirs.get(wire, (-1, -1)) < row.facts.version
        ]
        if len(found) > VERSIONS_MAX:
            # The rest at the next exchange.
            known.seen = -1
        return tuple(found[:VERSIONS_MAX])

    def _wanted(self, known: _Peer, versions: tuple[TableVersion, ...], now_us: int) -> tuple[bytes, ...]:
        lacking = [each.key for each in versions if self.lacks(each.key, each.version, now_us)]
        if self.full:
            # Most would find no room. Of some the author may be due a share.
            strange = [key for key in lacking if key not in self._rows]
            lacking = [key for key in lacking if key in self._rows] + strange[:STRANGE_WANTED]
        wanted = tuple(lacking[:WANTED_MAX])
        known.awaited += len(wanted)
        return wanted

    # -- time ---------------------------------------------------------------------------------------------

    def on_timer(self, key: TimerKey, now_us: int) -> None:
        """Key: ("sync", b"")."""
        if key[0] != "sync":
            return
        config = self._ctx.config
        self._quiet = 0 if self.is_busy() else self._quiet + 1
        slowness = min(config.rest_factor, 1 << max(0, min(self._quiet, 16) - QUIET_TICKS))
        self._arm(now_us + slowness * config.sync_interval_us)
        self.rests = slowness > 1
        self.sweep(now_us)
        self._compare_next(now_us)
        self._ticks += 1
        peer = self._next_partner()
        if peer is None:
            return
        known = self._peers[peer]
        scope = self._scope(peer, known)
        if scope is None:
            return
        if known.seen < 0 or self._ticks % FULL_SYNC_EVERY == 0:
            self._compare_with(peer, known, scope)
        elif known.seen != self._changes:
            self._tell_news(peer, known, scope)

    def _next_partner(self) -> bytes | None:
        """Any of a few peers; of many those that this node keeps to for a while, one of them a new one now and then."""
        mates = self._row_mates()
        if not mates:
            return None
        rng = self._ctx.rng
        if len(mates) <= MANY_PEERS:
            return mates[rng.randrange(len(mates))]
        self._partners = [peer for peer in self._partners if peer in mates]
        if self._ticks % PARTNER_TICKS == 0 and self._partners:
            self._partners.pop(0)
        if len(self._partners) < PARTNERS:
            others = [peer for peer in mates if peer not in self._partners]
            self._partners.extend(self._ctx.sample(others, PARTNERS - len(self._partners)))
        return self._partners[rng.randrange(len(self._partners))]


def _is_digest(raw: bytes) -> bool:
    """Whether a raw row is anything but a member record, by the kind in its second byte."""
    return raw[1:2] != bytes([RecordKind.MEMBER])


def _starts(parts: Iterable[int], buckets: int) -> frozenset[int]:
    """First bytes of the keys in those parts of the key space. buckets: a power of two, <= 256."""
    width = 256 // buckets
    return frozenset(first for part in parts for first in range(part * width, (part + 1) * width))
