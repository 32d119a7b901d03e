"""What a node grants of the jobs that it keeps: to whom, until when, and what it says of what is left.

The layer below `upkeep` and `replica`: it holds the jobs, and every change of a job's state goes through `_merge`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from msgspec.structs import replace

from ..crypto.certificates import Role
from .appraisal import as_keeper, ask_of, work_of
from .context import Context
from .effects import Persist, Reason
from .granting import controlled_sections, steal_half
from .herald import Herald
from .job_parts import RejectedRecord
from .jobs import JobState
from .kept_job import KeptJob
from .lifelines import Lifelines, ParkedSteal
from .limits import Limit
from .membership import Membership
from .messages import (
    Granted,
    HeldJob,
    HeldRange,
    Records,
    Refused,
    Rejected,
    Renew,
    Steal,
    Superseded,
)
from .quota import Accounts, Submitters
from .record_parts import in_messages
from .records import (
    Grant,
    Record,
    RecordKind,
    sign_record,
)
from .secrecy.keeping import ShareKeeper
from .stealing.appetite import in_units_of
from .stealing.matching import Standing, Work, fit, in_line, preference, standing
from .stealing.pricing import is_at_risk
from .stealing.urgency import Ask
from .tables import Tables
from .turns import Turns
from .verification.copies import CopyDesk
from .verification.lanes import is_within_lane

# Parked thieves that one event serves, of `lifelines_held_max`.
SERVED_AT_ONCE = 32
JOBS_A_REPLY_MAX = 128
GRANT_RANGES_MAX = 16
# Grants that wait to be echoed; with more, all are told at once.
UNECHOED_MAX = 256
# What one `Renew` may have looked at of what is known of its tasks: so much, and more for each range, up to a bound. A
# range that a grant left has a few pieces, and what is beyond is not renewed.
RENEWAL_STEPS = 512
RENEWAL_STEPS_A_RANGE = 16
RENEWAL_STEPS_MAX = 8192


class Granter:
    """See the module."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._copies = CopyDesk(ctx, members, tables)
        self._submitters = Submitters(ctx)
        self._accounts = Accounts()
        self.shares = ShareKeeper(ctx, members, tables, self._merge)
        self.jobs: dict[bytes, KeptJob] = {}
        self.open_jobs: dict[bytes, None] = {}
        self.turns = Turns(ctx)
        self._lifelines = Lifelines(ctx.config.lifelines_held_max)
        self._told: dict[bytes, dict[bytes, None]] = {}
        self._unechoed: dict[bytes, list[bytes]] = {}
        self._watched: dict[bytes, None] = {}
        self._herald = Herald(ctx, members, tables)
        self._sweeping = False
        self._keepers_seen = 0
        self.storage_failed = ""
        # Why the last steal got nothing.
        self.refusal = ""

    # -- the state ---------------------------------------------------------------------------------------

    def _persist(self, record: Record) -> None:
        job_id = record.id if record.kind is RecordKind.SPEC else record.body.job_id
        self._ctx.emit(Persist(job_id, int(record.kind), record.id, record.raw))

    def _merge(self, kept: KeptJob, record: Record, sender: bytes, now_us: int) -> bool:
        """Merge a checked record, persist it, follow it in the ledger; penalise what cannot be."""
        if sender != self._ctx.node_id and not kept.has_room(record, self._ctx.config.records_per_job_max):
            # Who hands it on may be honest, and not know.
            self._ctx.limit(Limit.RECORDS_A_JOB, sender)
            return False
        delivered = kept.state.delivered
        try:
            changed = kept.state.merge(record)
        except RejectedRecord as error:
            if error.fault and sender != self._ctx.node_id:
                self._ctx.penalise(sender, Reason(error.reason))
            return False
        if not changed:
            return False
        self._persist(record)
        self._accounts.touch(kept.state)
        had = record.kind is RecordKind.GRANT and kept.ledger.holds(record.body.holder)
        kept.ledger.apply(record, now_us)
        if record.kind is RecordKind.GRANT:
            kept.pace.began(record.body.holder, now_us)
            kept.progress.began(record.body.holder, now_us, had=had)
            kept.begun_us = now_us if kept.begun_us is None else kept.begun_us
            kept.paid = kept.paid or self._asks_a_price(record.body.holder)
        elif record.kind is RecordKind.BATCH:
            kept.room.add(kept.state.batches[record.id], is_copy=record.body.copy > 0)
            kept.pace.delivered(record.author, kept.state.delivered - delivered, now_us)
            kept.progress.delivered(record.author, kept.state.delivered - delivered, now_us)
            # Its tasks may be shorter than was thought.
            self._lifelines.tell(kept.state.job_id)
        elif record.kind is RecordKind.ACCEPTANCE:
            for part in record.body.accepted:
                kept.room.taken.pop(part.batch_id, None)
        elif record.kind is RecordKind.RECHECK:
            self._copies.open(kept, record, now_us)
            if kept.state.open:
                self.open_jobs[kept.state.job_id] = None
        elif record.kind is RecordKind.REPLICA_SET and kept.state.reruns.batches:
            # Copies that counted may count no more: who asks for them is served again.
            self._copies.restore(kept, now_us)
            if kept.state.open:
                self.open_jobs[kept.state.job_id] = None
        self._arm_sweep(kept, now_us)
        if record.kind is RecordKind.CANCELLATION:
            self._on_cancelled(kept, record)
        return True

    def _on_cancelled(self, kept: KeptJob, record: Record) -> None:
        self._close(kept.state.job_id)
        told = dict.fromkeys(sorted(kept.ledger.leased_by()))
        if kept.subscriptions.has(kept.state.submitter):
            # Another process of it may have cancelled than the one that follows.
            told[kept.state.submitter] = None
        for node in told:
            self._ctx.send(node, Records(kept.state.job_id, (record.raw,)))

    def _close(self, job_id: bytes) -> None:
        """Nothing is granted of it any more."""
        self.open_jobs.pop(job_id, None)
        self._lifelines.forget(job_id)

    def _tell_replicas(self, kept: KeptJob, records: tuple[bytes, ...]) -> None:
        for node in kept.state.replicas:
            if node != self._ctx.node_id and not self._members.is_gone(node):
                self._ctx.send(node, Records(kept.state.job_id, records))

    def _after_change(self, kept: KeptJob, now_us: int) -> None:
        """Completion, free tasks, followers and digest, after any change of the state."""
        state = kept.state
        if not state.open:
            self._close(state.job_id)
        if state.complete and kept.completed_us is None:
            kept.completed_us = now_us
            self._ctx.notify("replica.job-complete", job_id=state.job_id, duplicates=state.duplicates)
        settled = state.fully_accepted or state.cancellation is not None
        if settled and kept.settled_us is None:
            kept.settled_us = now_us
        kept.subscriptions.report(kept.ledger, kept.elapsed_us(now_us), now_us, force=kept.completed_us == now_us)
        self._publish_digest(kept, now_us)
        self._arm_sweep(kept, now_us)

    def _after_freeing(self, kept: KeptJob, now_us: int) -> None:
        """As `_after_change`, where the change may have given this node more to grant."""
        self._lifelines.tell(kept.state.job_id)
        self.serve_lifelines(now_us)
        self._after_change(kept, now_us)
        if not kept.told_mesh and not kept.state.done:
            self._herald.announce(kept, self._free_here(kept))

    # -- submitters ----------------------------------------------------------------------------------------

    def review_submitters(self, now_us: int) -> None:
        """Grant nothing of a job whose submitter's certificate was revoked or ran out, and say so once."""
        for job_id in list(self.open_jobs):
            kept = self.jobs[job_id]
            barred = self._submitters.refusal(kept.state.spec_record, now_us)
            if barred != kept.barred and bool(barred) != bool(kept.barred):
                kept.barred = barred
                self._ctx.notify("replica.submitter-judged", job_id=job_id, refused=barred)
                self._after_freeing(kept, now_us)

    def _cpu_left_us(self, kept: KeptJob, now_us: int) -> int | None:
        """CPU time of the submitter's work that may be leased yet; None without a bound."""
        cpu_s = self._submitters.quota(kept.state.spec_record, now_us).cpu_s
        if not cpu_s:
            return None
        own = self._accounts.jobs_of(kept.state.submitter)
        jobs = [self.jobs[job_id] for job_id in own if job_id in self.open_jobs]
        # Until one is done nobody knows how long a task takes: as elsewhere, four make a batch.
        unknown_us = self._ctx.config.batch_target_us // self._ctx.config.batch_tasks_first
        leased = sum(sum(each.ledger.leased_by().values()) * (each.state.task_us or unknown_us) for each in jobs)
        return max(0, cpu_s * 1_000_000 - leased)

    # -- granting ----------------------------------------------------------------------------------------

    def _sections(self, kept: KeptJob) -> list[tuple[int, int]]:
        replica_set = kept.state.replica_record
        grants = kept.level and not kept.barred
        basis = (self._keepers_seen, replica_set.id if replica_set else b"", grants, tuple(kept.refusing))
        if kept.sections is None or kept.sections[0] != basis:
            kept.sections = (basis, self._work_out_sections(kept))
        return kept.sections[1]

    def _work_out_sections(self, kept: KeptJob) -> list[tuple[int, int]]:
        if not kept.level or kept.barred:
            return []
        members = kept.state.replicas
        return controlled_sections(
            members,
            kept.state.spec.tasks,
            self._ctx.node_id,
            lambda node: node not in kept.refusing and self._keeps(node),
        )

    def keepers_changed(self) -> None:
        """Some node came, went, or says something else of what it keeps: sections are worked out anew."""
        self._keepers_seen += 1
        self._copies.members_changed()
        self._lifelines.tell_all()

    def _keeps(self, node: bytes) -> bool:
        """Whether another replica can be relied on: not gone, never lied, and does not say that its disk is full."""
        if self._members.is_gone(node) or node in self._ctx.convicted:
            return False
        row = self._tables.get(RecordKind.MEMBER, node)
        return row is None or bool(row.body.roles & Role.REPLICA)

    def on_member(self, now_us: int) -> None:
        """A node said something new of itself: the sections of one that keeps nothing fall to the next."""
        self.keepers_changed()
        for job_id in list(self.open_jobs):
            self._publish_digest(self.jobs[job_id], now_us)
        self.serve_lifelines(now_us)

    def on_rejected(self, peer: bytes, message: Rejected, now_us: int) -> None:
        """A member that will not keep the job: its section falls to the next, until it is heard to keep it.

        It said nothing to comparisons while it fetched the job's blobs, so it is asked again with the next one.
        """
        kept = self.jobs.get(message.job_id)
        if kept is None or peer not in kept.state.replicas:
            return
        kept.reconciled.pop(peer, None)
        if peer not in kept.refusing:
            kept.refusing[peer] = None
            self._after_freeing(kept, now_us)

    def grant(
        self,
        thief: bytes,
        steal: Steal,
        now_us: int,
        job_ids: Iterable[bytes] | None = None,
        at_worst: Standing | None = None,
    ) -> bool:
        """Answer a steal with tasks of the job that suits the thief best; False, and why, if there is nothing.

        job_ids: of these open jobs alone.  at_worst: of those that go as well first as that, see `standing`.
        """
        self.refusal = "its disk is full" if self.storage_failed else "it keeps no job with work left"
        if self.storage_failed:
            return False
        ask = ask_of(thief, steal, self.turns.waited_us(thief, now_us))
        for kept in self._suitable(ask, steal, self.open_jobs if job_ids is None else job_ids, now_us, at_worst):
            self.refusal = "all that is left runs elsewhere, or is not its to give"
            if self._grant_from(kept, thief, steal, now_us):
                self.turns.served(thief, now_us)
                self._ctx.reasons.has_granted(kept.state.job_id)
                return True
            if kept.pace.bars(thief, now_us):
                self._deny(kept, thief, "it held tasks for long without a result", now_us)
        return False

    def _suitable(
        self, ask: Ask, steal: Steal, job_ids: Iterable[bytes], now_us: int, at_worst: Standing | None
    ) -> list[KeptJob]:
        """Of open jobs, those whose tasks the thief can run and its sink can take, the best first."""
        found: list[tuple[tuple[int, ...], KeptJob]] = []
        paying = self._in_line(ask.price_micro, now_us)
        for job_id in job_ids:
            kept = self.jobs[job_id]
            if not self._free_here(kept):
                self.refusal = "all that is left runs elsewhere, or is not its to give"
                continue
            if not steal.can_run(job_id, kept.state.spec):
                self._deny(kept, ask.thief, "the job needs what that node does not offer", now_us)
                continue
            work = self._work(kept, now_us)
            if at_worst is not None and standing(work) > at_worst:
                continue
            work = paying.get(job_id, work)
            verdict = fit(work, ask)
            if verdict.good:
                keeps = ask.thief in kept.state.replicas
                found.append((preference(work, as_keeper(ask, job_id) if keeps else ask), kept))
            else:
                self._deny(kept, ask.thief, verdict.value, now_us)
        found.sort(key=lambda each: each[0])
        return [kept for _, kept in found]

    def _deny(self, kept: KeptJob, thief: bytes, why: str, now_us: int) -> None:
        job_id = kept.state.job_id
        self.refusal = f"of job {job_id.hex()[:12]}: {why}"
        self._ctx.reasons.has_denied(job_id, thief, why, now_us)

    def gives(self, kept: KeptJob, index: int) -> bool:
        """Whether a task is in a section of which this node grants now."""
        return any(lo <= index < hi for lo, hi in self._sections(kept))

    def _work(self, kept: KeptJob, now_us: int) -> Work:
        state = kept.state
        return work_of(
            state.job_id,
            state.spec,
            state.task_us,
            free=kept.ledger.free.total,
            at_risk=self._at_risk(kept, now_us),
            since_us=kept.since_us,
            wall_us=self._ctx.wall_us(now_us),
        )

    def _at_risk(self, kept: KeptJob, now_us: int) -> bool:
        spec, wall_us = kept.state.spec, self._ctx.wall_us
        # What was under way when this node came, or came back, was so for as long as it has known the job.
        begun_us = kept.since_us if kept.begun_us is None and kept.state.done else kept.begun_us
        return spec.deadline_us > 0 and is_at_risk(
            now_us=wall_us(now_us),
            created_us=spec.created_us or wall_us(kept.since_us),
            deadline_us=spec.deadline_us,
            done=kept.state.done.total,
            tasks=spec.tasks,
            begun_us=wall_us(begun_us) if begun_us is not None else 0,
            task_us=kept.state.task_us,
            free=kept.ledger.free.total,
            paid=kept.paid,
        )

    def _asks_a_price(self, node: bytes) -> bool:
        row = self._tables.get(RecordKind.HEAT, node)
        return row is not None and row.body.price_micro > 0

    def _in_line(self, price_micro: int, now_us: int) -> dict[bytes, Work]:
        """Of a thief that asks a price: the open jobs that would pay it, each with what goes before it there."""
        if price_micro <= 0:
            return {}
        jobs = [self.jobs[job_id] for job_id in self.open_jobs]
        paying = [kept for kept in jobs if kept.state.spec.price_limit_micro >= price_micro and kept.ledger.free]
        return {work.job: work for work in in_line([self._work(kept, now_us) for kept in paying], price_micro)}

    def _tell_hurry(self, kept: KeptJob, now_us: int) -> None:
        """With time alone a job comes to pay: nobody that waits at a price hears of that else."""
        if kept.state.spec.price_limit_micro and self._free_here(kept) and self._at_risk(kept, now_us):
            self._lifelines.tell(kept.state.job_id)

    def offered_us(self) -> int:
        """CPU time of what this node could grant now."""
        unknown_us = self._ctx.config.batch_target_us
        kept = [self.jobs[job_id] for job_id in self.open_jobs]
        return sum(self._free_here(each) * (each.state.task_us or unknown_us) for each in kept)

    def _grant_from(self, kept: KeptJob, thief: bytes, steal: Steal, now_us: int) -> bool:
        config, state = self._ctx.config, kept.state
        if not kept.ledger.free or kept.pace.bars(thief, now_us) or not self._clears(kept.state, thief):
            return False
        sections = self._sections(kept)
        ranges = self._copies.pick(kept, sections, thief, steal, now_us) if kept.checks else []
        if not ranges:
            left_us = self._cpu_left_us(kept, now_us)
            if left_us == 0:
                self._ctx.limit(Limit.QUOTA, state.submitter)
                self._deny(kept, thief, "its submitter has as much in flight as it may", now_us)
                return False
            count = steal_half(
                kept.ledger.free_in(sections),
                steal.appetite_us if left_us is None else min(left_us, steal.appetite_us),
                in_units_of(state.task_us, steal.speed_permille),
                steal.slots,
                config,
                kept.fair_share(thief, steal.slots, now_us),
            )
            ranges = kept.ledger.pick(sections, count, GRANT_RANGES_MAX)
        if not ranges:
            return False
        raws = []
        for lo, hi in ranges:
            grant = Grant(state.job_id, lo, hi, state.next_epoch(lo, hi), thief, config.lease_us)
            record = sign_record(self._ctx.identity, RecordKind.GRANT, grant)
            self._merge(kept, record, self._ctx.node_id, now_us)
            raws.append(record.raw)
            if not self._unechoed:
                self._ctx.set_timer(("echo", b""), now_us + config.grant_echo_us)
            self._unechoed.setdefault(state.job_id, []).append(record.id)
        if sum(map(len, self._unechoed.values())) > UNECHOED_MAX:
            self._echo_grants()
        left = kept.ledger.left_for_each()
        granted = Granted(steal.request, tuple(raws), self.context_for(thief, kept.state), left)
        self._ctx.send(thief, granted)
        self._publish_digest(kept, now_us)
        return True

    def _clears(self, state: JobState, thief: bytes) -> bool:
        """Whether the thief may be given the key of a confidential job; who keeps it may not."""
        if state.spec.secrecy is None:
            return True
        if state.may_have_share(thief):
            return False
        row = self._tables.get(RecordKind.MEMBER, thief)
        return row is not None and state.spec.secrecy.clears(thief, row.body.certificate)

    def _echo_grants(self) -> None:
        """Tell the other replicas what was granted; short tasks are done meanwhile, and cost nobody a record."""
        unechoed, self._unechoed = self._unechoed, {}
        for job_id, record_ids in unechoed.items():
            kept = self.jobs.get(job_id)
            if kept is None:
                continue
            records = [kept.state.record(record_id) for record_id in record_ids]
            for part in in_messages([record.raw for record in records if record is not None]):
                self._tell_replicas(kept, part)

    def context_for(self, peer: bytes, state: JobState) -> tuple[bytes, ...]:
        """Spec and replica set, unless this peer was told them on this link."""
        assert state.replica_record is not None
        told = self._told.setdefault(peer, {})
        if state.replica_record.id in told:
            return ()
        told[state.replica_record.id] = None
        while len(told) > JOBS_A_REPLY_MAX:
            told.pop(next(iter(told)))
        return state.context()

    # -- lifelines ---------------------------------------------------------------------------------------

    def park(self, thief: bytes, steal: Steal, now_us: int) -> bool:
        """Keep a lifeline; False if there are too many."""
        self._lifelines.expire(now_us)
        if not self._lifelines.park(thief, steal, now_us + self._ctx.config.lifeline_ttl_us):
            self._ctx.limit(Limit.LIFELINES, thief)
            return False
        return True

    def refuse(self, thief: bytes, steal: Steal, now_us: int) -> None:
        """A lifeline that is kept needs no answer but work."""
        if not (steal.lifeline and self.park(thief, steal, now_us)):
            self.turns.refused(thief, now_us)
            self._ctx.send(thief, Refused(steal.request, self.refusal))

    def serve_lifelines(self, now_us: int) -> None:
        """Tasks became free: push them to parked thieves, the most urgent first; a served lifeline is used up.

        To some at once; each is held against the jobs that are news to it. Who waits becomes more urgent.
        """
        if not self.open_jobs:
            return
        behind = self._lifelines.behind(lambda thief, steal: self.turns.urgency(thief, steal, now_us))
        waiting = (each for each in behind if not self._found_work(*each))
        for thief, parked in islice(waiting, SERVED_AT_ONCE):
            barred = thief in self._ctx.convicted or not self._members.is_alive(thief)
            if barred or parked.expires_at_us <= now_us:
                self._lifelines.drop(thief)
                continue
            news = self._lifelines.catch_up(parked, self.open_jobs)
            if not any(self._free_here(self.jobs[job_id]) for job_id in news):
                continue
            if self.grant(thief, replace(parked.steal, request=0, lifeline=False), now_us, news):
                self._lifelines.drop(thief)
            else:
                self.turns.refused(thief, now_us)

    def _found_work(self, thief: bytes, parked: ParkedSteal) -> bool:
        """Whether its heat digest says so, that came after it parked."""
        since_us = parked.expires_at_us - self._ctx.config.lifeline_ttl_us
        heat = self._tables.came_after(RecordKind.HEAT, thief, since_us)
        return heat is not None and heat.body.free_slots == 0

    def drop_lifeline(self, thief: bytes) -> None:
        self.turns.forget(thief)
        self._lifelines.drop(thief)

    # -- leases ------------------------------------------------------------------------------------------

    def on_renew(self, peer: bytes, message: Renew, now_us: int) -> None:
        if len({held.job_id for held in message.jobs}) < len(message.jobs):
            self._ctx.penalise(peer, Reason.MALFORMED)
            return
        lost: list[HeldJob] = []
        ranges = sum(len(held.ranges) for held in message.jobs)
        steps = min(RENEWAL_STEPS_MAX, RENEWAL_STEPS + RENEWAL_STEPS_A_RANGE * ranges)
        for held in message.jobs:
            kept = self.jobs.get(held.job_id)
            if kept is None:
                continue
            gone: list[HeldRange] = []
            for part in held.ranges:
                if not is_within_lane(part.lo, part.hi, kept.state.spec.tasks):
                    self._ctx.penalise(peer, Reason.OUT_OF_RANGE)
                    return
                steps -= kept.ledger.steps(part.lo, part.hi)
                if steps < 0:
                    break
                if kept.pace.bars(peer, now_us):
                    gone.append(part)
                    continue
                kept.pace.began(peer, now_us)
                until_us = now_us + self._ctx.config.lease_us
                parts = kept.ledger.renew(peer, part.lo, part.hi, part.epoch, until_us)
                gone.extend(HeldRange(lo, hi, epoch) for lo, hi, epoch in parts)
            if kept.state.cancellation is not None:
                self._ctx.send(peer, Records(held.job_id, (kept.state.cancellation.raw,)))
            elif gone:
                lost.append(HeldJob(held.job_id, tuple(gone[:1024])))
            self._arm_sweep(kept, now_us)
            if steps < 0:
                self._ctx.limit(Limit.RENEWALS, peer)
                break
        if lost:
            self._ctx.send(peer, Superseded(tuple(lost)))

    def _arm_sweep(self, kept: KeptJob, now_us: int) -> None:
        """Look at the job at the next sweep, and the ones after, while there are leases or followers."""
        if not (len(kept.ledger.live) or len(kept.subscriptions) or kept.checks):
            return
        self._watched[kept.state.job_id] = None
        if not self._sweeping:
            self._sweeping = True
            self._ctx.set_timer(("sweep", b""), now_us + self._ctx.config.lease_sweep_us)

    def _sweep(self, now_us: int) -> None:
        """Free leases that expired, or were held too long, and report progress."""
        self._sweeping = False
        watched, self._watched = self._watched, {}
        for kept in [self.jobs[job_id] for job_id in watched if job_id in self.jobs]:
            expired = kept.ledger.expire(now_us)
            for lo, hi, holder in expired:
                self._ctx.notify("lease.expired", job_id=kept.state.job_id, holder=holder, lo=lo, hi=hi)
            overrun = kept.pace.overran(kept.ledger.leased_by(), now_us)
            for holder in overrun:
                tasks = sum(hi - lo for lo, hi, _ in kept.ledger.free_holder(holder))
                self._ctx.notify("lease.overrun", job_id=kept.state.job_id, holder=holder, tasks=tasks)
            if expired or overrun or (kept.checks and self._copies.free(kept, self._sections(kept))):
                self._after_freeing(kept, now_us)
            else:
                kept.subscriptions.report(kept.ledger, kept.elapsed_us(now_us), now_us)
                if kept.announced_free != 0 and kept.state.job_id in self.open_jobs:
                    self._publish_digest(kept, now_us)
            self._arm_sweep(kept, now_us)

    # -- digests -----------------------------------------------------------------------------------------

    def _publish_digest(self, kept: KeptJob, now_us: int) -> None:
        self._herald.publish(kept, self._free_here(kept), self._at_risk(kept, now_us), now_us)

    def free_tasks(self) -> int:
        """Tasks that this node could grant now, over all jobs."""
        return sum(self._free_here(self.jobs[job_id]) for job_id in self.open_jobs)

    def _free_here(self, kept: KeptJob) -> int:
        """Tasks of the job that this node could grant now, copies among them."""
        if not (kept.ledger.free and kept.state.open):
            return 0
        sections = self._sections(kept)
        return kept.ledger.free_in(sections) + (self._copies.free(kept, sections) if kept.checks else 0)
