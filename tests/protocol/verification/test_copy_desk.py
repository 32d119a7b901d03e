"""What a replica counts as copies that it could give."""

from __future__ import annotations

from hearthmesh.protocol.granting import Ledger
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.membership import Membership
from hearthmesh.protocol.pace import Pace
from hearthmesh.protocol.records import Grant, Recheck, Record, RecordKind, sign_record
from hearthmesh.protocol.subscriptions import Subscriptions
from hearthmesh.protocol.tables import Tables
from hearthmesh.protocol.verification.copies import CopyDesk
from tests.protocol.machines import JOB, REPLICA_SET, SPEC, SUBMITTER, A, Bench, D

TASKS = SPEC.body.tasks


def recheck(lo: int, hi: int, salt: bytes) -> Record:
    return sign_record(SUBMITTER, RecordKind.RECHECK, Recheck(JOB, lo, hi, 1, salt * 16, (), ""))


def desk(*records: Record) -> tuple[CopyDesk, KeptJob]:
    """Of a replica that has heard these."""
    ctx = Bench().ctx
    state = JobState(SPEC)
    ledger = Ledger(state, 250_000)
    kept = KeptJob(state, ledger, Subscriptions(ctx, state), 0, 0, Pace(state, ctx.config))
    copies = CopyDesk(ctx, Membership(ctx, 1), Tables(ctx, lambda _record, _now_us: None))
    for record in (REPLICA_SET, *records):
        if state.merge(record):
            ledger.apply(record, 0)
            if record.kind is RecordKind.RECHECK:
                copies.open(kept, record, 0)
    return copies, kept


def test_a_copy_that_two_ask_for_counts_once() -> None:
    copies, kept = desk(recheck(0, 2, b"a"), recheck(1, 3, b"b"))
    assert copies.free(kept, [(0, TASKS)]) == 3
    assert copies.free(kept, [(0, 1), (2, TASKS)]) == 2


def test_a_copy_that_nobody_asked_for_is_not_free_when_a_lease_of_it_has_run_out() -> None:
    """A replica may sign a lease of anything."""
    lease = sign_record(A, RecordKind.GRANT, Grant(JOB, TASKS + 1, TASKS + 4, 1, D.node_id, 1_000))
    copies, kept = desk(recheck(0, 1, b"a"), lease)
    kept.ledger.expire(1_000_000_000)
    assert copies.free(kept, [(0, TASKS)]) == 1
