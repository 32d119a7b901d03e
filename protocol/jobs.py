"""A job's state: a join-semilattice over intervals of tasks, made of signed records.

Each part only grows: per task the highest lease mark; the set of candidate batches; the acceptances and the
cancellation, which only the submitter can sign; the replica set under its own epoch. `merge` takes one record;
in whatever order, and however often, records arrive, the same records make the same state. Leases of tasks that
have a candidate are dropped, a pure function of the rest, so a finished job of a million tasks is small again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from .intervals import IntervalMap, IntervalSet
from .job_parts import BatchInfo, CandidateKey, LeaseMark, RejectedRecord, WorkerTotals, open_embedded
from .reconcile import IdIndex
from .records import (
    BATCH_TASKS_MAX,
    Acceptance,
    BatchHeader,
    Grant,
    JobSpec,
    Recheck,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
)
from .verification.lanes import COPIES_MAX, is_within_lane, lane_of, numbers_of, tasks_of
from .verification.reruns import Rerun, Reruns

# A grant may be handed on this many times before the range has to go back to a replica.
HAND_ON_DEPTH_MAX = 4
# Replica sets that a job may have had. A path of them goes along wherever the newest goes.
REPLICA_SETS_MAX = 64
# Records that belong to a job; the other kinds are what nodes say of themselves.
_JOB_KINDS = frozenset(
    (
        RecordKind.REPLICA_SET,
        RecordKind.GRANT,
        RecordKind.RELEASE,
        RecordKind.BATCH,
        RecordKind.ACCEPTANCE,
        RecordKind.CANCELLATION,
        RecordKind.RECHECK,
    )
)


@dataclass(slots=True)
class JobState:
    """See the module. Owned by one machine; not shared. lacking: batches that are accepted, and not here.
    outvoted: those that an acceptance named for a task for which another names a lower one."""

    spec_record: Record
    replica_record: Record | None = None
    replica_sets: dict[bytes, Record] = field(default_factory=dict)
    leases: IntervalMap[LeaseMark] = field(default_factory=IntervalMap)
    canonical: IntervalMap[CandidateKey] = field(default_factory=IntervalMap)
    accepted: IntervalMap[bytes] = field(default_factory=IntervalMap)
    done: IntervalSet = field(default_factory=IntervalSet)
    reruns: Reruns = field(default_factory=Reruns)
    to_recheck: IntervalSet = field(default_factory=IntervalSet)
    rechecks: dict[bytes, Record] = field(default_factory=dict)
    accepted_tasks: IntervalSet = field(default_factory=IntervalSet)
    batches: dict[bytes, BatchInfo] = field(default_factory=dict)
    cancellation: Record | None = None
    acceptances: dict[bytes, Record] = field(default_factory=dict)
    lacking: dict[bytes, None] = field(default_factory=dict)
    outvoted: dict[bytes, None] = field(default_factory=dict)
    ids: IdIndex = field(default_factory=IdIndex)
    first_results: int = 0
    failed_tasks: int = 0
    totals: dict[bytes, WorkerTotals] = field(default_factory=dict)
    _lowest: IntervalMap[CandidateKey] = field(default_factory=IntervalMap)
    _marks: dict[bytes, Record] = field(default_factory=dict)
    _touched: dict[bytes, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.spec_record.kind is RecordKind.SPEC
        self.ids.add(self.spec_record.id)

    @property
    def job_id(self) -> bytes:
        return self.spec_record.id

    @property
    def spec(self) -> JobSpec:
        spec: JobSpec = self.spec_record.body
        return spec

    @property
    def submitter(self) -> bytes:
        return self.spec_record.author

    @property
    def replicas(self) -> tuple[bytes, ...]:
        return self.replica_record.body.members if self.replica_record else ()

    @property
    def replica_epoch(self) -> int:
        return self.replica_record.body.epoch if self.replica_record else -1

    @property
    def complete(self) -> bool:
        return self.done.total == self.spec.tasks

    @property
    def fully_accepted(self) -> bool:
        return self.accepted_tasks.total == self.spec.tasks

    @property
    def open(self) -> bool:
        """Whether tasks may still be granted, or copies of them."""
        return self.cancellation is None and not (self.complete and not self.to_recheck)

    @property
    def marks(self) -> int:
        """Grants and releases that say who holds a task."""
        return len(self._marks)

    @property
    def delivered(self) -> int:
        """Tasks with a result, and later copies with one."""
        return self.done.total + self.reruns.done.total

    @property
    def candidate_tasks(self) -> int:
        """Results that came, of later copies those that were granted."""
        return self.first_results + self.reruns.results

    @property
    def duplicates(self) -> int:
        """Results of one copy of one task that came more than once."""
        return self.candidate_tasks - self.done.total - self.reruns.run.total

    @property
    def task_us(self) -> int:
        """CPU of one task: measured if anything is done, else the submitter's estimate, else 0."""
        done = sum(total.done for total in self.totals.values())
        if not done:
            return self.spec.estimate_us
        return max(1, sum(total.cpu_us for total in self.totals.values()) // done)

    # -- records in ----------------------------------------------------------------------------------------

    def merge(self, record: Record) -> bool:
        """Take one checked record; True if the state changed.

        Raises RejectedRecord when the record cannot belong to this state, whatever else arrives
        (fault=True), or only because something it builds on has not arrived yet (fault=False).
        """
        if record.kind is RecordKind.SPEC:
            return False
        if record.kind not in _JOB_KINDS:
            raise RejectedRecord("malformed")
        if record.body.job_id != self.job_id:
            raise RejectedRecord("unknown-job")
        if record.id in self.ids:
            return False
        match record.kind:
            case RecordKind.REPLICA_SET:
                return self._merge_replica_set(record)
            case RecordKind.GRANT:
                self.check_grant(record)
                return self._merge_mark(record, record.body.lo, record.body.hi, record.body, released=False)
            case RecordKind.RELEASE:
                return self._merge_release(record)
            case RecordKind.BATCH:
                return self._merge_batch(record)
            case RecordKind.ACCEPTANCE:
                return self._merge_acceptance(record)
            case RecordKind.CANCELLATION:
                return self._merge_cancellation(record)
            case RecordKind.RECHECK:
                return self._merge_recheck(record)
            case _:
                raise RejectedRecord("malformed")

    def _merge_replica_set(self, record: Record) -> bool:
        proposed: ReplicaSet = record.body
        if len(set(proposed.members)) != len(proposed.members):
            raise RejectedRecord("malformed")
        if record.id in self.replica_sets:
            return False
        if record.author != self.submitter and self._vouching(record.author) is None:
            # The set that made its author a replica may still come.
            raise RejectedRecord("wrong-author", fault=False)
        if len(self.replica_sets) >= REPLICA_SETS_MAX:
            # Its teller may have heard of others first.
            raise RejectedRecord("too-many", fault=False)
        self.replica_sets[record.id] = record
        current = self.replica_record
        if current is None or (proposed.epoch, record.id) > (current.body.epoch, current.id):
            if current is not None:
                self.ids.discard(current.id)
            self.replica_record = record
            self.ids.add(record.id)
            if self.reruns.review(self.may_grant):
                self._follow_reruns()
        return True

    def _vouching(self, node: bytes) -> Record | None:
        """The first good replica set that has the node as a member."""
        return next((known for known in self.replica_sets.values() if node in known.body.members), None)

    def was_replica(self, node: bytes) -> bool:
        """Whether it is one now, or was in a set that this state has seen."""
        return self._vouching(node) is not None

    def may_have_share(self, node: bytes) -> bool:
        """Whether it was a replica, or the newest set says that it was one: of a confidential job it is no worker.

        A newcomer sees the sets that lead to the newest, and not each that was between.
        """
        former = self.replica_record.body.former if self.replica_record is not None else ()
        return node in former or self.was_replica(node)

    @property
    def former_replicas(self) -> tuple[bytes, ...]:
        """Members of sets that this state has seen, but not of the newest."""
        seen = dict.fromkeys(node for known in self.replica_sets.values() for node in known.body.members)
        return tuple(node for node in seen if node not in self.replicas)

    def replica_path(self, member: bytes = b"") -> tuple[Record, ...]:
        """Sets from one that the submitter signed to the newest, each signed by a member of one before it.

        member: to the first that it is in, which another line of sets may have overtaken; empty if there is none.
        """
        path: list[Record] = []
        step = self._vouching(member) if member else self.replica_record
        while step is not None:
            path.append(step)
            step = None if step.author == self.submitter else self._vouching(step.author)
        return tuple(reversed(path))

    def may_grant(self, node: bytes) -> bool:
        """Whether it is, or was, a replica, by the newest set."""
        newest = self.replica_record.body if self.replica_record else None
        return newest is not None and node in newest.members + newest.former

    def check_grant(self, record: Record, depth: int = 0) -> None:
        """Raises RejectedRecord unless its author controlled the range: a replica, or the parent's holder."""
        grant: Grant = record.body
        if not is_within_lane(grant.lo, grant.hi, self.spec.tasks) or grant.job_id != self.job_id:
            raise RejectedRecord("out-of-range")
        if grant.checkpoint and (len(grant.checkpoint) != 32 or not grant.parent or grant.hi - grant.lo != 1):
            raise RejectedRecord("malformed")
        if not grant.parent:
            if not self.may_grant(record.author):
                raise RejectedRecord("not-a-replica", fault=False)
            return
        if grant.lo >= self.spec.tasks:
            # Who runs a copy is the replica's choice by the submitter's salt, not the holder's.
            raise RejectedRecord("wrong-author")
        if depth >= HAND_ON_DEPTH_MAX:
            raise RejectedRecord("too-many")
        parent = open_embedded(grant.parent, RecordKind.GRANT)
        held: Grant = parent.body
        if held.holder != record.author or grant.epoch != held.epoch + 1:
            raise RejectedRecord("wrong-author")
        if not (held.lo <= grant.lo and grant.hi <= held.hi):
            raise RejectedRecord("out-of-range")
        self.check_grant(parent, depth + 1)

    def check_copy(self, header: Record) -> bytes:
        """Who granted a batch of a later copy to its worker, which nobody may hand on.

        Raises RejectedRecord if nobody did; what that follows from never changes. Whether who did may is for
        `may_grant` to say, and does change.
        """
        body: BatchHeader = header.body
        granted = open_embedded(body.grant, RecordKind.GRANT)
        grant: Grant = granted.body
        lo, hi = numbers_of(body.first, body.first + body.count, body.copy, self.spec.tasks)
        if grant.holder != header.author or grant.parent:
            raise RejectedRecord("wrong-author")
        if not (grant.lo <= lo and hi <= grant.hi):
            raise RejectedRecord("out-of-range")
        try:
            self.check_grant(granted)
        except RejectedRecord as error:
            if error.fault:
                raise
        return granted.author

    def _merge_release(self, record: Record) -> bool:
        release: Release = record.body
        held = open_embedded(release.grant, RecordKind.GRANT)
        self.check_grant(held)
        grant: Grant = held.body
        if grant.holder != record.author:
            raise RejectedRecord("wrong-author")
        if not (grant.lo <= release.lo < release.hi <= grant.hi):
            raise RejectedRecord("out-of-range")
        return self._merge_mark(record, release.lo, release.hi, grant, released=True)

    def _merge_mark(self, record: Record, lo: int, hi: int, grant: Grant, *, released: bool) -> bool:
        mark = LeaseMark(grant.epoch, grant.holder, released, record.id)
        changed = False
        for a, b in self.done_of(lo).gaps(lo, hi):
            changed |= self._replace_marks(a, b, mark)
        if changed:
            self._marks[record.id] = record
            self.ids.add(record.id)
        self._drop_unused_marks()
        return changed

    def _replace_marks(self, lo: int, hi: int, mark: LeaseMark | None) -> bool:
        """Join (or with None: clear) marks on [lo, hi), noting the records that may have lost their last."""
        before = self.leases.pieces(lo, hi)
        if mark is None:
            changed = self.leases.remove(lo, hi)
        else:
            changed = self.leases.update(lo, hi, lambda old: mark if old is None or mark > old else old)
        if changed:
            self._touched.update((old.record_id, None) for _, _, old in before if old is not None)
        return changed

    def _drop_unused_marks(self) -> None:
        """Forget records whose mark no task has any more; only those that lost a piece are looked at."""
        for record_id in self._touched:
            record = self._marks.get(record_id)
            if record is not None and not self._is_marked(record):
                del self._marks[record_id]
                self.ids.discard(record_id)
        self._touched.clear()

    def _is_marked(self, record: Record) -> bool:
        lo, hi = record.body.lo, record.body.hi
        return any(mark and mark.record_id == record.id for _, _, mark in self.leases.pieces(lo, hi))

    def _merge_batch(self, record: Record) -> bool:
        header: BatchHeader = record.body
        if header.first + header.count > self.spec.tasks:
            raise RejectedRecord("out-of-range")
        granter = self.check_copy(record) if header.copy else b""
        lo, hi = numbers_of(header.first, header.first + header.count, header.copy, self.spec.tasks)
        info = BatchInfo(
            record.id,
            record.author,
            lo,
            header.count,
            header.epoch,
            header.failed,
            header.cpu_us,
            header.energy_mj,
            header.useful_mj,
            header.cost_micro(self.spec.price_limit_micro),
        )
        self.batches[record.id] = info
        self.lacking.pop(record.id, None)
        self.ids.add(record.id)
        self._rank(info)
        for a, b, chosen in self.accepted.pieces(*tasks_of(lo, hi, self.spec.tasks)):
            self._offer(a, b, self._key(info, is_chosen=chosen == record.id))
        if header.copy:
            rerun = Rerun(record.id, record.author, lo, header.count, granter)
            self._settle(self.reruns.add(rerun, good=self.may_grant(granter)))
        else:
            self.first_results += header.count
            self.done.add(lo, hi)
            self._settle([(lo, hi)])
        return True

    def _settle(self, parts: list[tuple[int, int]]) -> None:
        """There are results that count of these numbers of copies: nobody need run them."""
        for lo, hi in parts:
            self.to_recheck.discard(lo, hi)
            self._replace_marks(lo, hi, None)
        self._drop_unused_marks()

    def _follow_reruns(self) -> None:
        """Other later copies count than before: some that are asked for may be open again."""
        for record in self.rechecks.values():
            self._open_copies(record.body)
        self._settle(list(self.reruns.done))

    def _open_copies(self, body: Recheck) -> None:
        for lo, hi in self.open_parts(*numbers_of(body.lo, body.hi, body.copy, self.spec.tasks)):
            self.to_recheck.add(lo, hi)

    def forget(self, batch_id: bytes) -> None:
        """A client's own look at a batch that nobody has any more: canonical is the next that it knows, if any.

        If it turns up again it is merged again.
        """
        info = self.batches.pop(batch_id, None)
        if info is None:
            return
        self.ids.discard(batch_id)
        if info.first < self.spec.tasks:
            self.first_results -= info.count
            self.done.discard(info.first, info.first + info.count)
            for known in self.batches.values():
                if known.first < self.spec.tasks:
                    self.done.add(known.first, known.first + known.count)
        else:
            self.reruns.forget(batch_id)
            self._follow_reruns()
        lo, hi = tasks_of(info.first, info.first + info.count, self.spec.tasks)
        self._lowest.remove(lo, hi)
        for known in self.batches.values():
            self._rank(known, lo, hi)
        for a, b, old in self.canonical.pieces(lo, hi):
            if old is not None and old.batch_id == batch_id:
                self._count(info, a - b)
                self.canonical.remove(a, b)
                self._offer_lowest(a, b)
                for c, d, chosen in self.accepted.pieces(a, b):
                    self._offer_chosen(c, d, chosen)

    def drop(self, batch_id: bytes) -> None:
        """A first result that is canonical for none of its tasks, and of which others of the same tasks stay."""
        info = self.batches.pop(batch_id)
        self.ids.discard(batch_id)
        self.first_results -= info.count

    def done_of(self, number: int) -> IntervalSet:
        """Numbers of the same kind that have a result: first copies, or the others."""
        return self.done if number < self.spec.tasks else self.reruns.done

    def open_parts(self, lo: int, hi: int) -> list[tuple[int, int]]:
        """The parts of [lo, hi), numbers of one copy, of which there is neither a result nor an acceptance."""
        copy, tasks = lane_of(lo, self.spec.tasks), self.spec.tasks
        found: list[tuple[int, int]] = []
        for a, b in self.done_of(lo).gaps(lo, hi):
            left = self.accepted_tasks.gaps(*tasks_of(a, b, tasks))
            found.extend(numbers_of(c, d, copy, tasks) for c, d in left)
        return found

    def _key(self, info: BatchInfo, *, is_chosen: bool) -> CandidateKey:
        rank = 0 if is_chosen else 1 + lane_of(info.first, self.spec.tasks)
        return CandidateKey(rank, info.epoch, info.batch_id)

    def _offer(self, lo: int, hi: int, key: CandidateKey) -> None:
        """Make it canonical for those of tasks [lo, hi) for which nothing lower is known."""
        info = self.batches[key.batch_id]
        for a, b, old in self.canonical.pieces(lo, hi):
            if old is None or key < old:
                if old is not None:
                    self._count(self.batches[old.batch_id], a - b)
                self._count(info, b - a)
                self.canonical.assign(a, b, key)

    def _choose(self, lo: int, hi: int, chosen: bytes, before: bytes | None) -> None:
        """Tasks [lo, hi) are accepted from another batch than before, or for the first time.

        What is canonical changes only where one of the two has results.
        """
        info = self.batches.get(before) if before is not None else None
        if info is not None:
            # Two lives of one submitter accepted differently: the former choice is one candidate of several again.
            lo_before, hi_before = self._of_batch(info, lo, hi)
            for a, b, old in self.canonical.pieces(lo_before, hi_before):
                if old is not None:
                    self._count(self.batches[old.batch_id], a - b)
            self.canonical.remove(lo_before, hi_before)
            self._offer_lowest(lo_before, hi_before)
        self._offer_chosen(lo, hi, chosen)

    def _offer_chosen(self, lo: int, hi: int, chosen: bytes | None) -> None:
        info = self.batches.get(chosen) if chosen is not None else None
        if info is not None:
            self._offer(*self._of_batch(info, lo, hi), self._key(info, is_chosen=True))

    def _offer_lowest(self, lo: int, hi: int) -> None:
        for a, b, key in self._lowest.pieces(lo, hi):
            if key is not None:
                self._offer(a, b, key)

    def _rank(self, info: BatchInfo, lo: int = 0, hi: int | None = None) -> None:
        """Note of tasks [lo, hi), or all, where the batch would be canonical if nothing were accepted."""
        key = self._key(info, is_chosen=False)
        part = self._of_batch(info, lo, self.spec.tasks if hi is None else hi)
        self._lowest.update(*part, lambda old: key if old is None or key < old else old)

    def _of_batch(self, info: BatchInfo, lo: int, hi: int) -> tuple[int, int]:
        """Those of tasks [lo, hi) of which the batch has results; empty if there are none."""
        first, end = tasks_of(info.first, info.first + info.count, self.spec.tasks)
        return max(first, lo), min(end, hi)

    def _merge_recheck(self, record: Record) -> bool:
        if record.author != self.submitter:
            raise RejectedRecord("wrong-author")
        recheck: Recheck = record.body
        if not recheck.lo < recheck.hi <= self.spec.tasks:
            raise RejectedRecord("out-of-range")
        self.rechecks[record.id] = record
        self.ids.add(record.id)
        numbers = numbers_of(recheck.lo, recheck.hi, recheck.copy, self.spec.tasks)
        self._settle(self.reruns.ask(*numbers, recheck.avoid))
        self._open_copies(recheck)
        return True

    def _count(self, info: BatchInfo, tasks: int) -> None:
        """Add a batch's share for `tasks` of its tasks (negative: they are canonical no more)."""
        total = self.totals.setdefault(info.worker, WorkerTotals())
        total.done += tasks
        total.cpu_us += info.cpu_us * tasks // info.count
        total.energy_mj += info.energy_mj * tasks // info.count
        total.useful_mj += info.useful_mj * tasks // info.count
        total.cost_micro += info.cost_micro * tasks // info.count
        self.failed_tasks += info.failed * tasks // info.count

    def _merge_acceptance(self, record: Record) -> bool:
        if record.author != self.submitter:
            raise RejectedRecord("wrong-author")
        acceptance: Acceptance = record.body
        parts = sorted((part.lo, part.hi) for part in acceptance.accepted)
        for lo, hi in parts:
            if not lo < hi <= min(self.spec.tasks, lo + BATCH_TASKS_MAX):
                raise RejectedRecord("out-of-range")
        if any(hi > lo for (_, hi), (lo, _) in pairwise(parts)):
            # One record says one thing of a task.
            raise RejectedRecord("malformed")
        for part in acceptance.accepted:
            if part.batch_id not in self.batches:
                self.lacking[part.batch_id] = None
            for lo, hi, old in self.accepted.pieces(part.lo, part.hi):
                chosen = part.batch_id if old is None else min(old, part.batch_id)
                if old is not None and old != part.batch_id:
                    self.outvoted[max(old, part.batch_id)] = None
                if chosen != old:
                    self.accepted.assign(lo, hi, chosen)
                    self._choose(lo, hi, chosen, old)
            self.accepted_tasks.add(part.lo, part.hi)
            if self.to_recheck:
                for copy in range(1, COPIES_MAX):
                    self.to_recheck.discard(*numbers_of(part.lo, part.hi, copy, self.spec.tasks))
        self.acceptances[record.id] = record
        self.ids.add(record.id)
        return True

    def _merge_cancellation(self, record: Record) -> bool:
        if record.author != self.submitter:
            raise RejectedRecord("wrong-author")
        if self.cancellation is not None:
            if record.id >= self.cancellation.id:
                return False
            self.ids.discard(self.cancellation.id)
        self.cancellation = record
        self.ids.add(record.id)
        return True

    # -- records out ---------------------------------------------------------------------------------------

    def record(self, record_id: bytes) -> Record | None:
        """A record by id, except batches, whose bytes are on disk."""
        if record_id == self.job_id:
            return self.spec_record
        if self.replica_record is not None and record_id == self.replica_record.id:
            return self.replica_record
        if self.cancellation is not None and record_id == self.cancellation.id:
            return self.cancellation
        return self._marks.get(record_id) or self.acceptances.get(record_id) or self.rechecks.get(record_id)

    def records(self) -> Iterator[Record]:
        """All records but batches, the spec first."""
        yield self.spec_record
        if self.replica_record is not None:
            yield self.replica_record
        yield from self._marks.values()
        yield from self.acceptances.values()
        yield from self.rechecks.values()
        if self.cancellation is not None:
            yield self.cancellation

    def context(self) -> tuple[bytes, ...]:
        """What a node needs before it can check this job's grants: the spec, and the path to the replica set."""
        return (self.spec_record.raw, *(record.raw for record in self.replica_path()))

    def next_epoch(self, lo: int, hi: int) -> int:
        """An epoch above every mark in [lo, hi)."""
        return 1 + max((mark.epoch for _, _, mark in self.leases.pieces(lo, hi) if mark), default=0)

    def next_lacking(self, count: int) -> tuple[bytes, ...]:
        """At most so many of the batches that are accepted and not here: all of them in turn.

        One that no task is accepted from any more, since a lower one was named too, is lacked no more.
        """
        named = {batch_id: None for _, _, batch_id in self.accepted}
        left = [batch_id for batch_id in self.lacking if batch_id in named]
        self.lacking = dict.fromkeys(left[count:] + left[:count])
        return tuple(left[:count])

    def canonical_batches(self, have: IntervalSet) -> list[bytes]:
        """Batches that are canonical for a task outside `have`, in order of their first such task."""
        found: dict[bytes, None] = {}
        for lo, hi, key in self.canonical:
            if key.batch_id not in found and not have.covers(lo, hi):
                found[key.batch_id] = None
        return list(found)

    def copies_for(self, have: IntervalSet) -> list[bytes]:
        """Batches of later copies, of tasks outside `have`, in the order in which they came."""
        known = self.reruns.batches.values()
        spans = [(rerun, tasks_of(rerun.first, rerun.first + rerun.count, self.spec.tasks)) for rerun in known]
        return [rerun.batch_id for rerun, (lo, hi) in spans if not have.covers(lo, hi)]
