"""What a submitter has in flight is kept up with its jobs, and is what a walk over all of them would find."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearthmesh.protocol import quota
from hearthmesh.protocol.events import SubmitJob
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.quota import Accounts, InFlight, declared_bytes
from hearthmesh.protocol.records import BatchHeader, Cancellation, RecordKind, sign_record
from tests.protocol.arena import identity
from tests.protocol.cluster import SECOND, Cluster
from tests.protocol.test_turns import Counter

SUBMITTERS = [identity(number) for number in range(3)]
WORKER = identity(9)
TASKS = 8


def walked(states: Iterable[JobState], submitter: bytes) -> InFlight:
    """Each job counted anew."""
    jobs = tasks = size = cpu_us = 0
    for state in states:
        if state.submitter == submitter:
            jobs += 1
            if state.open:
                left = TASKS - state.done.total
                tasks, size, cpu_us = (
                    tasks + left,
                    size + declared_bytes(state.spec_record),
                    cpu_us + left * state.task_us,
                )
    return InFlight(jobs, tasks, size, cpu_us)


# (what, which job, which task or submitter)
deeds = st.lists(
    st.tuples(st.sampled_from(["keep", "batch", "cancel", "forget", "ask"]), st.integers(0, 5), st.integers(0, 7)),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(deeds)
def test_accounts_say_what_a_walk_over_all_jobs_would(done: list[tuple[str, int, int]]) -> None:
    accounts, kept, plan = Accounts(), dict[int, JobState](), Cluster()
    for what, number, at in done:
        author, state = SUBMITTERS[number % 3], kept.get(number)
        if what == "keep" and state is None:
            spec = plan.spec(TASKS, nonce=bytes([number]), estimate_us=at * SECOND)
            kept[number] = state = JobState(sign_record(author, RecordKind.SPEC, spec))
            accounts.touch(state)
        elif state is not None and what == "forget":
            accounts.drop(kept.pop(number))
        elif state is not None and what in ("batch", "cancel"):
            if what == "batch":
                body = BatchHeader(state.job_id, at, 1, 1, bytes(32), 0, (at + 1) * SECOND, 0, 0, 0, False, b"")
                state.merge(sign_record(WORKER, RecordKind.BATCH, body))
            else:
                state.merge(sign_record(author, RecordKind.CANCELLATION, Cancellation(state.job_id)))
            accounts.touch(state)
        if what == "ask":
            submitter = SUBMITTERS[at % 3].node_id
            assert accounts.of(submitter) == walked(kept.values(), submitter)
    for each in SUBMITTERS:
        assert accounts.of(each.node_id) == walked(kept.values(), each.node_id)
        own = {state.job_id for state in kept.values() if state.submitter == each.node_id}
        assert set(accounts.jobs_of(each.node_id)) == own


def test_a_submission_costs_what_changed_and_not_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    counter, counted = Counter(4, 1), []
    client = next(node for node in counter.cluster.nodes.values() if node.name == "client")
    of = quota.of_kept
    monkeypatch.setattr(quota, "of_kept", lambda state: (counted.append(state.job_id), of(state))[1])
    for number in range(30):
        counted.clear()
        counter.cluster.feed(client, SubmitJob(counter.cluster.spec(4, nonce=b"%d" % number)))
        counter.cluster.run_until(lambda most=number + 2: len(counter.keeper.mesh.replica.jobs) == most)  # type: ignore[misc]
        assert len(counted) <= 2, "the one before is counted as new"
