"""What this node wants of work, what its peers want, and who is coldest: the heat digests.

A digest is published when the deficit moved by a tenth of the capacity or the queue twofold; when slots or queue went
to or from zero, or anything else moved by a quarter, after `heat_refresh_us`; and otherwise every `heat_repeat_us`, so
that a quiet mesh is quiet.
"""

from __future__ import annotations

from .appraisal import discomfort_here_mkh, longest_here_us
from .context import Context
from .events import HeatReading
from .records import UINT_MAX, HeatDigest, Record, RecordKind, sign_record
from .stealing.appetite import FOREVER_US, appetite_us
from .stealing.urgency import urgency_mkh
from .tables import Tables

# A quarter of the larger is a change.
DRIFTS = 4
# Thousandths of a degree by which a temperature moves before that is news.
NEWS_MC = 250


class HeatBoard:
    """Own reading and the peers' digests."""

    def __init__(self, ctx: Context, tables: Tables, incarnation: int) -> None:
        self._ctx = ctx
        self._tables = tables
        # Of what is published from now on; never falls.
        self.incarnation = incarnation
        self._sequence = 0
        self._published: HeatDigest | None = None
        self._published_at_us = 0
        # What the last digest was made of.
        self._basis: tuple[HeatReading, int, int, bool, int] | None = None
        self.reading: HeatReading | None = None
        # As of the reading, as a digest tells it.
        self._deficit_w = self._capacity_w = self._temperature_mc = 0
        self.longest_us = FOREVER_US
        self.discomfort_mkh = 0
        # Of this node, in thousandths of the mean one's.
        self.speed_permille = 1000
        self.draining = False
        self._peers_of: list[Record] = []
        self._peers: list[HeatDigest] = []
        self._queueing: list[HeatDigest] = []
        # Of the capacity, how much the deficit moves before that is news; less for who shares a sink with others.
        self.least_change = ctx.config.heat_min_change

    def read(self, reading: HeatReading) -> None:
        """What the sink's controller wants now."""
        self.reading = reading
        self._deficit_w, self._capacity_w = round(reading.deficit_w), max(0, round(reading.capacity_w))
        self._temperature_mc = round(reading.temperature_c * 1000)
        self.longest_us = longest_here_us(reading)
        self.discomfort_mkh = discomfort_here_mkh(reading)

    def appetite_us(self, queued_us: int) -> int:
        """CPU time beyond the queue whose heat is wanted within the horizon; without end where no heat is."""
        reading = self.reading
        if reading is None:
            return 0
        if not reading.useful or reading.watts_per_slot <= 0:
            return FOREVER_US
        return appetite_us(reading.horizon_wh, reading.watts_per_slot, queued_us)

    def learn_speed(self, own_us: int, mean_us: int) -> None:
        """A task of a job took so long here, and takes so long on the mean node; both > 0."""
        ratio = max(100, min(10_000, mean_us * 1000 // own_us))
        self.speed_permille = (7 * self.speed_permille + ratio) // 8

    def publish(self, free_slots: int, queue_us: int, now_us: int) -> None:
        """Tell the cell, if there is something to tell."""
        reading = self.reading
        if reading is None:
            return
        basis = (reading, free_slots, queue_us, self.draining, self.speed_permille)
        if basis == self._basis and now_us - self._published_at_us < self._ctx.config.heat_repeat_us:
            return
        # A job may claim any estimate of its tasks.
        queue_us, wants_us = min(queue_us, UINT_MAX), self.appetite_us(queue_us)
        if not self._is_news(free_slots, queue_us, wants_us, now_us):
            return
        digest = HeatDigest(
            node=self._ctx.node_id,
            incarnation=self.incarnation,
            sequence=self._sequence + 1,
            deficit_w=self._deficit_w,
            capacity_w=self._capacity_w,
            free_slots=free_slots,
            queue_us=queue_us,
            sink=reading.sink,
            temperature_mc=self._temperature_mc,
            draining=self.draining,
            discomfort_mkh=self.discomfort_mkh,
            appetite_us=wants_us,
            longest_us=self.longest_us,
            speed_permille=self.speed_permille,
            price_micro=reading.price_micro,
        )
        self._sequence += 1
        urgent = self._published is None or self._crosses_zero(self._published)
        self._published, self._published_at_us, self._basis = digest, now_us, basis
        record = sign_record(self._ctx.identity, RecordKind.HEAT, digest)
        self._tables.publish(record, now_us, urgent=urgent)

    def tell_anew(self) -> None:
        """Peers have forgotten what this node said: the next `publish` says it again, whatever it is."""
        self._published = self._basis = None

    def _is_news(self, free_slots: int, queue_us: int, wants_us: int, now_us: int) -> bool:
        """Most of the time it is not: so no digest is made before that is known."""
        last = self._published
        if last is None:
            return True
        age_us = now_us - self._published_at_us
        if age_us >= self._ctx.config.heat_repeat_us:
            return True
        if age_us >= self._ctx.config.heat_refresh_us and self._drifted(free_slots, queue_us, wants_us, last):
            return True
        if self._crosses_zero(last) or abs(self._temperature_mc - last.temperature_mc) >= NEWS_MC:
            return True
        moved_w = abs(self._deficit_w - last.deficit_w)
        if moved_w and moved_w >= self.least_change * max(1, self._capacity_w):
            return True
        # A queue that grew or shrank twofold changes whom others would rob.
        longer, shorter = max(queue_us, last.queue_us), min(queue_us, last.queue_us)
        floor_us = self._ctx.config.batch_target_us
        slow = age_us >= self._ctx.config.sync_interval_us
        return slow and longer > floor_us and longer > 2 * max(shorter, floor_us // 2)

    def _drifted(self, free_slots: int, queue_us: int, wants_us: int, last: HeatDigest) -> bool:
        if (free_slots > 0) != (last.free_slots > 0) or (queue_us > 0) != (last.queue_us > 0):
            return True
        reading = self.reading
        return (
            _moved(self.discomfort_mkh, last.discomfort_mkh)
            or _moved(wants_us, last.appetite_us)
            or _moved(self.longest_us, last.longest_us)
            or _moved(self.speed_permille, last.speed_permille)
            or (reading is not None and _moved(reading.price_micro, last.price_micro))
        )

    def _crosses_zero(self, last: HeatDigest) -> bool:
        return (self._deficit_w > 0) != (last.deficit_w > 0) or self.draining != last.draining

    def peers(self) -> list[HeatDigest]:
        """The others' digests, by node. Not to be changed."""
        rows = self._tables.rows(RecordKind.HEAT)
        # The table gives the same list until a digest changes; this is asked for each steal.
        if rows is not self._peers_of:
            me = self._ctx.node_id
            self._peers_of = rows
            self._peers = [record.body for record in rows if record.author != me]
            least_us = 2 * self._ctx.config.batch_target_us
            self._queueing = [digest for digest in self._peers if digest.queue_us > least_us]
        return self._peers

    def queueing(self) -> list[HeatDigest]:
        """Those of the others with work to steal, more than they are about to start; by node. Not to be changed."""
        self.peers()
        return self._queueing

    def coldest(self, exclude: bytes = b"", *, busy: bool = False) -> list[HeatDigest]:
        """Peers that want heat and have a free slot, the most urgent first, then by share of their capacity.

        None that was found lying.

        busy: also those whose slots all run.
        """
        wanting = [
            digest
            for digest in self.peers()
            if digest.deficit_w > 0
            and (busy or digest.free_slots > 0)
            and not digest.draining
            and digest.node != exclude
            and digest.node not in self._ctx.convicted
        ]
        return sorted(wanting, key=lambda d: (-urgency_mkh(d.discomfort_mkh, 0), -_share_permille(d), d.node))


def _moved(now: int, then: int) -> bool:
    return DRIFTS * abs(now - then) > max(now, then)


def _share_permille(digest: HeatDigest) -> int:
    return digest.deficit_w * 1000 // max(1, digest.capacity_w)
