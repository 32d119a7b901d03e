"""What cells tell each other: how many they are, how cold, and which jobs have the most work.

Each node asks its contacts, one in every sibling prefix and a few more, once in `cell_interval_us`. The sums are the
word of who says them, and are used as a hint only. Job digests are signed by their replicas; they come with their age,
so that nothing goes round for ever, and a few go on from contact to contact: what goes first, then the most work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..crypto.certificates import Role
from .appraisal import work_of_digest
from .budget import Budget
from .context import Context
from .effects import Reason
from .heat import HeatBoard
from .limits import Limit
from .membership import Membership
from .messages import CellDigest, FarJob, TableRows
from .records import UINT_MAX, JobDigest, Record, RecordError, RecordKind, open_record
from .row_facts import version_of
from .rows import ROW_BYTES_MAX
from .stealing.matching import Standing, standing
from .tables import Tables

FAR_JOBS_MAX = 32
FAR_JOBS_AN_AUTHOR = 4
# Of those that nobody has shown a certificate of: anybody can sign in an invented name.
FAR_JOBS_OF_STRANGERS = 24
FAR_JOBS_TOLD = 4
SECOND_US = 1_000_000
# Digests of one peer that are taken, and answered: a burst, then so many an interval.
DIGESTS_BURST = 8
DIGESTS_AN_INTERVAL = 8


@dataclass(slots=True)
class _Heard:
    """A contact's word, and when."""

    digest: CellDigest
    at_us: int


@dataclass(slots=True)
class _FarJob:
    """made_us: when its replica said it, as far as those who passed it on say the truth.  rank: what goes first has a
    lower one.  due_us: until when that rank holds; 0: for good."""

    record: Record
    made_us: int
    rank: tuple[Standing, int, bytes, bytes]
    due_us: int

    @property
    def body(self) -> JobDigest:
        body: JobDigest = self.record.body
        return body


@dataclass(frozen=True, slots=True)
class _Sums:
    """Of a cell of that depth, by these rows."""

    heats: list[Record]
    jobs: list[Record]
    depth: int
    deficit_w: int
    capacity_w: int
    free_slots: int
    work_us: int


class Aggregates:
    """Bounded by contacts, and by `FAR_JOBS_MAX`."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables, heat: HeatBoard) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._heat = heat
        self._cells: dict[bytes, _Heard] = {}
        self._jobs: dict[bytes, _FarJob] = {}
        self._asked_us: dict[bytes, int] = {}
        self._budgets: dict[bytes, Budget] = {}
        self._summed: _Sums | None = None
        # Whether a node is one that was admitted.
        self.knows: Callable[[bytes], bool] = members.is_alive

    # -- questions ---------------------------------------------------------------------------------------

    def mesh_nodes(self) -> int:
        """An estimate of how many nodes the mesh has: the middle of what the known cells' sizes and depths say."""
        cell = self._members.cell
        told = [heard.digest.nodes << heard.digest.depth for heard in self._cells.values()]
        told.append(self._members.cell_nodes << cell.depth)
        return max(1, sorted(told)[len(told) // 2])

    def far_jobs(self, now_us: int) -> list[JobDigest]:
        """Jobs of other cells that have free tasks: what goes first, then the most work."""
        ttl_us = self._ctx.config.digest_ttl_us
        # This is asked for each steal.
        alive = [job for job in self._jobs.values() if now_us - job.made_us < ttl_us and job.body.free_tasks]
        wall_us = self._ctx.wall_us(now_us)
        for job in alive:
            if 0 < job.due_us <= wall_us:
                # What may be late goes first for as long as it can be in time.
                job.rank, job.due_us = self._rank(job.body, now_us), 0
        return [job.body for job in sorted(alive, key=lambda job: job.rank)]

    def _rank(self, digest: JobDigest, now_us: int) -> tuple[Standing, int, bytes, bytes]:
        """Small jobs that are urgent would never be heard of beside large ones that are not."""
        return (
            standing(work_of_digest(digest, self._ctx.wall_us(now_us))),
            -self._work_us(digest),
            digest.replica,
            digest.job_id,
        )

    def _work_us(self, digest: JobDigest) -> int:
        return digest.free_tasks * (digest.task_us or self._ctx.config.batch_target_us)

    # -- telling -----------------------------------------------------------------------------------------

    def tick(self, now_us: int) -> None:
        """Ask each contact once an interval, more seldom while no work is known; what nobody renews is forgotten."""
        config = self._ctx.config
        contacts = self._members.circle.contacts
        for heard in [node for node in self._cells if node not in contacts]:
            del self._cells[heard]
        self._asked_us = {node: at_us for node, at_us in self._asked_us.items() if node in contacts}
        works = bool(self.far_jobs(now_us)) or any(not each.body.finished for each in self._near_jobs())
        interval_us = config.cell_interval_us * (1 if works else config.rest_factor)
        for node in contacts:
            if now_us - self._asked_us.get(node, -interval_us) >= interval_us:
                self.ask(node, now_us)
        for key, job in list(self._jobs.items()):
            if now_us - job.made_us >= config.digest_ttl_us:
                del self._jobs[key]

    def ask(self, peer: bytes, now_us: int) -> None:
        self._asked_us[peer] = now_us
        self._ctx.send(peer, self._digest(self._ctx.next_request(), now_us))

    def peer_lost(self, peer: bytes) -> None:
        self._budgets.pop(peer, None)

    def _digest(self, request: int, now_us: int) -> CellDigest:
        sums = self._sums()
        return CellDigest(
            request=request,
            depth=sums.depth,
            nodes=self._members.cell_nodes,
            deficit_w=sums.deficit_w,
            capacity_w=sums.capacity_w,
            free_slots=sums.free_slots,
            work_us=sums.work_us,
            jobs=self._best_jobs(now_us),
        )

    def _sums(self) -> _Sums:
        """Over the cell. The tables give the same lists until a row changes."""
        heats, jobs, cell = (
            self._tables.rows(RecordKind.HEAT),
            self._tables.rows(RecordKind.JOB_DIGEST),
            self._members.cell,
        )
        known = self._summed
        if known is not None and known.heats is heats and known.jobs is jobs and known.depth == cell.depth:
            return known
        here = [record.body for record in self._tables.within_depth(RecordKind.HEAT, cell.depth)]
        self._summed = _Sums(
            heats,
            jobs,
            cell.depth,
            deficit_w=min(UINT_MAX, sum(max(0, heat.deficit_w) for heat in here)),
            capacity_w=min(UINT_MAX, sum(heat.capacity_w for heat in here)),
            free_slots=sum(heat.free_slots for heat in here),
            work_us=min(UINT_MAX, sum(self._work_us(record.body) for record in self._near_jobs())),
        )
        return self._summed

    def _near_jobs(self) -> list[Record]:
        if not self._tables.rows(RecordKind.JOB_DIGEST):
            return []
        return self._tables.within_depth(RecordKind.JOB_DIGEST, self._members.cell.depth)

    def _best_jobs(self, now_us: int) -> tuple[FarJob, ...]:
        """Of this cell and of others, those that go first."""
        if not self._jobs and not self._tables.rows(RecordKind.JOB_DIGEST):
            return ()
        ttl_us = self._ctx.config.digest_ttl_us
        found = [(job.body, job.record.raw, now_us - job.made_us) for job in self._jobs.values()]
        for record, age_us in self._tables.aged(RecordKind.JOB_DIGEST, now_us):
            found.append((record.body, record.raw, age_us))
        live = [each for each in found if each[0].free_tasks and not each[0].finished and each[2] < ttl_us]
        live.sort(key=lambda each: self._rank(each[0], now_us))
        return tuple(FarJob(raw, age_us // SECOND_US) for _, raw, age_us in live[:FAR_JOBS_TOLD])

    # -- hearing -----------------------------------------------------------------------------------------

    def on_message(self, peer: bytes, message: CellDigest, now_us: int) -> bool:
        """True if a far job is news that has free tasks."""
        budget = self._budgets.get(peer)
        first = budget is None
        if budget is None:
            interval_us = self._ctx.config.cell_interval_us
            budget = self._budgets[peer] = Budget(DIGESTS_BURST, DIGESTS_AN_INTERVAL, interval_us, now_us)
        if not budget.spend(1, now_us):
            self._ctx.limit(Limit.CELL_DIGESTS, peer)
            return False
        self._tables.heard_depth(peer, message.depth, now_us)
        if first:
            self._introduce(peer)
        if self._members.circle.is_contact(peer):
            self._cells[peer] = _Heard(message, now_us)
        news = False
        for job in message.jobs:
            news |= self.take(job.record, job.age_s * SECOND_US, peer, now_us)
        if message.request:
            self._ctx.send(peer, self._digest(0, now_us))
        return news

    def _introduce(self, peer: bytes) -> None:
        """Once a link: a peer of another cell, whom no tables tell of this node, is given its member record. Without it
        it could be asked, but nobody be told of it, and once the link has ended it could not be found."""
        own = self._tables.get(RecordKind.MEMBER, self._ctx.node_id)
        if own is not None and not self._tables.tells_of_itself(peer):
            self._ctx.send(peer, TableRows(0, False, (own.raw,), (), (), ()))

    def take(self, raw: bytes, age_us: int, peer: bytes, now_us: int) -> bool:
        """A job digest of another cell's node. True if it is news and has free tasks."""
        if len(raw) > ROW_BYTES_MAX:
            self._ctx.limit(Limit.ROW_BYTES, peer)
            self._ctx.penalise(peer, Reason.TOO_BIG)
            return False
        try:
            claimed = open_record(raw, check_signature=False)
            if claimed.kind is not RecordKind.JOB_DIGEST or claimed.author != claimed.body.replica:
                self._ctx.penalise(peer, Reason.WRONG_AUTHOR)
                return False
            if self._members.cell.holds(claimed.author) or age_us >= self._ctx.config.digest_ttl_us:
                return False
            author = self._tables.get(RecordKind.MEMBER, claimed.author)
            if author is not None and not author.body.roles & int(Role.REPLICA):
                return False
            key = claimed.author + claimed.body.job_id
            known = self._jobs.get(key)
            if known is not None and version_of(known.record) >= version_of(claimed):
                return False
            record = open_record(raw)
        except RecordError as error:
            bad = error.reason == "bad-signature"
            self._ctx.penalise(peer, Reason.BAD_SIGNATURE if bad else Reason.MALFORMED)
            return False
        # One that has nothing left is kept as well: older word of it is no news.
        self._jobs[key] = _FarJob(record, now_us - age_us, self._rank(record.body, now_us), record.body.deadline_us)
        self._make_room(record.author)
        return key in self._jobs and bool(record.body.free_tasks)

    def _make_room(self, author: bytes) -> None:
        """After one more of this author. What goes first is its author's bare word, so each has a few places only, and
        those of whom nothing else is known leave some to the others."""
        own = [key for key, job in self._jobs.items() if job.record.author == author]
        if len(own) > FAR_JOBS_AN_AUTHOR:
            self._evict(own)
        if len(self._jobs) > FAR_JOBS_MAX:
            strangers = [key for key, job in self._jobs.items() if not self.knows(job.record.author)]
            self._evict(strangers if len(strangers) > FAR_JOBS_OF_STRANGERS else self._jobs)

    def _evict(self, keys: Iterable[bytes]) -> None:
        """The one that goes last goes, the oldest of equals; before it what has nothing left."""

        def worth(key: bytes) -> tuple[bool, Standing, int, int, bytes]:
            job = self._jobs[key]
            standing_of_it, less_us, *_ = job.rank
            return not job.body.free_tasks, standing_of_it, less_us, -job.made_us, key

        del self._jobs[max(keys, key=worth)]
