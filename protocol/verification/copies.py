"""A replica's part in verification: it grants the copies that the submitter asked for, to those whom the salt chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from ...crypto.certificates import Role
from ..context import Context
from ..granting import steal_half
from ..intervals import IntervalMap, IntervalSet
from ..jobs import JobState
from ..membership import Membership
from ..messages import Steal
from ..records import MemberRecord, Recheck, Record, RecordKind
from ..stealing.appetite import in_units_of
from ..tables import Tables
from ..vouching import vouched_by
from .choice import Checker, chosen_count, ranked, site_of
from .lanes import COPIES_MAX, lane_of, numbers_of, tasks_of
from .seats import seated

if TYPE_CHECKING:
    from ..kept_job import KeptJob

RANGES_A_GRANT_MAX = 16
# Free copies that one steal looks at, over all checks: as many as a grant may have, whatever was run of the job; a
# range of them counts as so many at least.
LOOKED_AT_MAX = 8192
LOOKED_AT_RANGE = 64
Sections = Sequence[tuple[int, int]]
# (copy, who ran it).
Runs = tuple[tuple[int, bytes], ...]


@dataclass(slots=True)
class OpenCheck:
    """A recheck with copies to run. ranks: who may have it, in order, as of `seen`."""

    body: Recheck
    since_us: int
    seen: int = -1
    ranks: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who could run copies of one job under one replica set. kinds: of its machine, for a native command, by place in
    `able`."""

    replicas: tuple[bytes, ...]
    able: list[Checker]
    kinds: list[str]
    known: dict[bytes, Checker]


class CopyDesk:
    """Where thieves get copies. sections: the ranges of tasks that this node may grant now."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._seen = 0
        # By job, as of `_seen`.
        self._crowds: dict[bytes, Crowd] = {}

    def members_changed(self) -> None:
        """Some node came or went, or says something else of itself: orders are worked out anew."""
        self._seen += 1
        self._crowds.clear()

    def open(self, kept: KeptJob, record: Record, now_us: int) -> None:
        kept.checks[record.id] = OpenCheck(record.body, now_us)

    def restore(self, kept: KeptJob, now_us: int) -> None:
        for record_id, record in kept.state.rechecks.items():
            if record_id not in kept.checks:
                self.open(kept, record, now_us)

    def _parts(self, kept: KeptJob, check: OpenCheck, sections: Sections) -> list[tuple[int, int]]:
        """Numbers of the check that are free and this node's to grant."""
        tasks, body = kept.state.spec.tasks, check.body
        found: list[tuple[int, int]] = []
        for lo, hi in sections:
            a, b = max(lo, body.lo), min(hi, body.hi)
            if a < b:
                found.extend(kept.ledger.free.overlap(*numbers_of(a, b, body.copy, tasks)))
        return found

    def free(self, kept: KeptJob, sections: Sections) -> int:
        """Copies that this node could grant now; checks that are over are dropped."""
        open_copies = kept.state.to_recheck
        if open_copies.total != kept.open_copies:
            kept.open_copies = open_copies.total
            self._drop_checks(kept)
        free, tasks = 0, kept.state.spec.tasks
        # Of others a lease may have run out that nobody was to give.
        known_free = kept.ledger.free.overlap(tasks, COPIES_MAX * tasks)
        for lo, hi in [part for known in known_free for part in open_copies.overlap(*known)]:
            for copy in range(lane_of(lo, tasks), lane_of(hi - 1, tasks) + 1):
                shift = copy * tasks
                free += sum(max(0, min(hi, shift + b) - max(lo, shift + a)) for a, b in sections)
        return free

    @staticmethod
    def _drop_checks(kept: KeptJob) -> None:
        """Forget checks of which no copy is wanted any more."""
        tasks = kept.state.spec.tasks
        for record_id, check in list(kept.checks.items()):
            body = check.body
            if not kept.state.to_recheck.overlap(*numbers_of(body.lo, body.hi, body.copy, tasks)):
                del kept.checks[record_id]

    def pick(self, kept: KeptJob, sections: Sections, thief: bytes, steal: Steal, now_us: int) -> list[tuple[int, int]]:
        """Copies for a thief, if it is among those chosen so far."""
        step_us, state = self._ctx.config.recheck_step_us, kept.state
        left = LOOKED_AT_MAX
        for check in kept.checks.values():
            free_parts = self._parts(kept, check, sections)
            if not free_parts:
                continue
            rank = self._ranks(kept, check).get(thief)
            if rank is None or rank >= chosen_count(now_us - check.since_us, step_us):
                continue
            parts: list[tuple[int, int]] = []
            for lo, hi in free_parts:
                if left <= 0 or len(parts) >= RANGES_A_GRANT_MAX:
                    break
                hi = min(hi, lo + left)
                left -= max(hi - lo, LOOKED_AT_RANGE)
                parts.extend(_without_own(kept, lo, hi, thief))
            free = sum(hi - lo for lo, hi in parts)
            # All of it, as far as the thief can burn it: nobody else is to have the other half.
            task_us = in_units_of(state.task_us, steal.speed_permille)
            count = steal_half(2 * free, steal.appetite_us, task_us, steal.slots, self._ctx.config)
            picked = _first(parts[:RANGES_A_GRANT_MAX], count)
            if picked:
                return picked
            if left <= 0:
                break
        return []

    def _ranks(self, kept: KeptJob, check: OpenCheck) -> dict[bytes, int]:
        if check.seen != self._seen:
            check.seen = self._seen
            crowd, body = self._crowd(kept), check.body
            # Native results are compared among machines of one kind only.
            able = [
                each for each, kind in zip(crowd.able, crowd.kinds, strict=True) if not body.kind or kind == body.kind
            ]
            avoid = [crowd.known[node] for node in body.avoid if node in crowd.known]
            order = ranked(body.salt, able, avoid, body.avoid)
            check.ranks = {node: rank for rank, node in enumerate(order)}
        return check.ranks

    def _crowd(self, kept: KeptJob) -> Crowd:
        state = kept.state
        crowd = self._crowds.get(state.job_id)
        if crowd is None or crowd.replicas != state.replicas:
            rows: list[MemberRecord] = [record.body for record in self._tables.rows(RecordKind.MEMBER)]
            known = {row.node: _checker(row, state.replicas) for row in rows}
            able = [row for row in rows if self._is_able(state, row)]
            kinds = [row.native_class(state.spec.command) for row in able]
            checkers = [known[row.node] for row in able]
            crowd = self._crowds[state.job_id] = Crowd(state.replicas, checkers, kinds, known)
        return crowd

    def _is_able(self, state: JobState, row: MemberRecord) -> bool:
        return bool(
            row.roles & Role.WORKER
            and row.can_run(state.spec)
            and not (state.spec.secrecy is not None and state.may_have_share(row.node))
            and row.node not in self._ctx.convicted
            and (row.node == self._ctx.node_id or self._members.is_alive(row.node))
        )


def _checker(row: MemberRecord, replicas: Sequence[bytes]) -> Checker:
    vouched = vouched_by(row.certificate)
    site = vouched.site or site_of(row.addresses)
    return Checker(row.node, row.zone, site, vouched.owner, row.node in replicas)


def _without_own(kept: KeptJob, lo: int, hi: int, thief: bytes) -> list[tuple[int, int]]:
    """The parts of [lo, hi), numbers of one copy, of which the thief has no vote by another later copy that it ran or
    runs; who ran the first one is in `avoid`."""
    tasks = kept.state.spec.tasks
    first, last = tasks_of(lo, hi, tasks)
    return [numbers_of(a, b, lane_of(lo, tasks), tasks) for a, b in _voted(kept, first, last, thief).gaps(first, last)]


def _voted(kept: KeptJob, lo: int, hi: int, thief: bytes) -> IntervalSet:
    """Those of tasks [lo, hi) of which the thief ran or runs a later copy, and has the vote.

    Where others had run each copy that it did, those have it.
    """
    tasks = kept.state.spec.tasks
    runs: list[tuple[int, int, int, tuple[bytes, ...]]] = []
    for copy in range(1, COPIES_MAX):
        numbers = numbers_of(lo, hi, copy, tasks)
        runs.extend((copy, a, b, ran) for a, b, ran in kept.state.reruns.runners.pieces(*numbers) if ran)
        runs.extend((copy, a, b, (lease.holder,)) for a, b, lease in kept.ledger.live.pieces(*numbers) if lease)
    voted = IntervalSet()
    if not any(thief in nodes for _, _, _, nodes in runs):
        return voted
    known: IntervalMap[Runs] = IntervalMap()
    for copy, a, b, nodes in runs:
        known.update(*tasks_of(a, b, tasks), partial(_joined, tuple((copy, node) for node in nodes)))
    for a, b, ran in known.pieces(lo, hi):
        if ran is not None and thief in seated(sorted(ran, key=lambda run: run[1] == thief)):
            voted.add(a, b)
    return voted


def _joined(more: Runs, before: Runs | None) -> Runs:
    return more if before is None else before + more


def _first(parts: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """At most so many numbers."""
    picked: list[tuple[int, int]] = []
    for lo, hi in parts:
        if count <= 0:
            break
        hi = min(hi, lo + count)
        picked.append((lo, hi))
        count -= hi - lo
    return picked
