"""The records with which anybody can check what a submitter accepted."""

from __future__ import annotations

from collections.abc import Iterable

from ...crypto.identity import Identity
from ..jobs import JobState
from ..records import Acceptance, AcceptedBatch, Record, RecordKind, sign_record

ACCEPTED_A_RECORD_MAX = 1024


def deposition(submitter: Identity, state: JobState, signed: Iterable[tuple[int, int, bytes]]) -> list[Record]:
    """Spec, replica sets, rechecks and acceptances of a job, and its cancellation.

    signed: tasks [lo, hi) that the submitter took, with the id of their batch; those that no acceptance in the state
    names are signed for anew, as an earlier life of it did.
    """
    lacking = [
        AcceptedBatch(batch_id, lo, hi) for a, b, batch_id in signed for lo, hi in state.accepted_tasks.gaps(a, b)
    ]
    again = []
    for at in range(0, len(lacking), ACCEPTED_A_RECORD_MAX):
        body = Acceptance(state.job_id, tuple(lacking[at : at + ACCEPTED_A_RECORD_MAX]))
        again.append(sign_record(submitter, RecordKind.ACCEPTANCE, body))
    known = (state.spec_record, *state.replica_path(), *state.rechecks.values(), *state.acceptances.values())
    ended = () if state.cancellation is None else (state.cancellation,)
    return [*known, *again, *ended]
