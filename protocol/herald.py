"""What a replica tells of the jobs that it keeps: its cell how much is to be had, the whole mesh what concerns it."""

from __future__ import annotations

from .appraisal import has_plenty
from .context import Context
from .effects import Publish
from .kept_job import KeptJob
from .membership import Membership
from .messages import Announce
from .records import UINT_MAX, JobDigest, Record, RecordKind, sign_record
from .tables import Tables


class Herald:
    """Sub-machine of `Granter`. What was told of a job stands in its `KeptJob`."""

    def __init__(self, ctx: Context, members: Membership, tables: Tables) -> None:
        self._ctx = ctx
        self._members = members
        self._tables = tables
        self._sequence = 0

    def publish(self, kept: KeptJob, free: int, at_risk: bool, now_us: int) -> None:
        """Tell the cell how much is free here: at once when it went to or from none, else when it halved or doubled.

        free: tasks that this node could grant.  at_risk: whether the job may miss its deadline.
        """
        state = kept.state
        age_us = now_us - kept.announced_us
        # Rows of the tables expire: what is still to be had is said again.
        stale = free > 0 and age_us >= self._ctx.config.heat_refresh_us
        hurries = free > 0 and at_risk and not kept.announced_at_risk
        if not stale and not hurries and (free == kept.announced_free or (free == 0 and kept.announced_free == -1)):
            return
        crossed = (free > 0) != (kept.announced_free > 0) or hurries
        # Thieves choose by magnitude: what is less than a twofold change can wait for the refresh.
        similar = free < 2 * kept.announced_free and kept.announced_free < 2 * free
        if not crossed and not stale and (similar or age_us < self._ctx.config.sync_interval_us):
            return
        kept.announced_free, kept.announced_us, kept.announced_at_risk = free, now_us, at_risk
        self._sequence += 1
        digest = JobDigest(
            job_id=state.job_id,
            replica=self._ctx.node_id,
            incarnation=self._members.incarnation,
            sequence=self._sequence,
            free_tasks=free,
            task_us=state.task_us,
            runtime=state.spec.runtime,
            command=state.spec.command,
            priority=state.spec.priority,
            finished=not state.open,
            checkpoint_us=state.spec.checkpoint_us,
            price_limit_micro=state.spec.price_limit_micro,
            blob_bytes=min(UINT_MAX, state.spec.shared_bytes() + state.spec.input_bytes()),
            at_risk=at_risk,
            deadline_us=state.spec.deadline_us,
        )
        record = sign_record(self._ctx.identity, RecordKind.JOB_DIGEST, digest)
        self._tables.publish(record, now_us, urgent=crossed and free > 0)
        if hurries and not kept.told_at_risk:
            kept.told_mesh = kept.told_at_risk = True
            self._tell_mesh(record)
        elif free == 0 and kept.told_mesh and not kept.told_over:
            # Else all who heard of it would go on asking for as long as a digest lives.
            kept.told_over = True
            self._tell_mesh(record)

    def announce(self, kept: KeptJob, free: int) -> None:
        """Tell the whole mesh of a new job of which those who were parked here took nothing, or left plenty.

        Once, as when it comes to be at risk: what all hear costs each node some messages.
        """
        state = kept.state
        digest = self._tables.get(RecordKind.JOB_DIGEST, self._ctx.node_id + state.job_id)
        if digest is not None and free and (not state.leases or has_plenty(free, state.task_us, self._ctx.config)):
            kept.told_mesh = True
            self._tell_mesh(digest)

    def _tell_mesh(self, digest: Record) -> None:
        self._ctx.emit(Publish(Announce((digest.raw,))))
