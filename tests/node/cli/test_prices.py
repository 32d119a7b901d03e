"""What a job may cost is said before it runs, and added up from signed headers afterwards."""

import pytest
from msgspec.structs import replace

from hearthmesh.node.cli.prices import describe_price, price_of
from hearthmesh.node.cli.progress import describe_status, summary
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.messages import JobStatus, WorkerShare
from hearthmesh.protocol.records import BatchHeader, JobSpec, RecordKind, sign_record
from tests.protocol.arena import identity

HOUR_US = 3_600_000_000
SPEC = JobSpec(1, bytes(32), b"", "job", "wasm", "function", bytes(32), 1, "", "hearth_task", (), 100)
PAYING = replace(SPEC, price_limit_micro=40_000, estimate_us=HOUR_US // 10)


def test_a_job_says_what_an_hour_may_cost_and_what_all_of_it() -> None:
    assert price_of(PAYING) == (0.04, 0.4)
    assert price_of(replace(PAYING, estimate_us=0)) == (0.04, None)
    assert price_of(SPEC) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "when"),
    [({"priority": 8}, "at once"), ({"deadline_us": 1}, "once its deadline is at risk"), ({}, "never")],
)
def test_it_says_when_it_would_pay(changes: dict[str, int], when: str) -> None:
    text = describe_price(replace(PAYING, **changes))
    assert f"up to 0.04 an hour of CPU, {when}" in text and text.endswith("at most 0.4 in all by its estimate")


@pytest.mark.parametrize(("price", "cost"), [(0, 0), (30_000, 15_000), (40_000, 20_000), (40_001, 0)])
def test_a_replica_counts_the_price_up_to_the_jobs_limit(price: int, cost: int) -> None:
    state = JobState(sign_record(identity(9), RecordKind.SPEC, PAYING))
    body = BatchHeader(state.job_id, 0, 10, 1, bytes(32), 0, HOUR_US // 2, 0, 5, 0, False, b"", price_micro=price)
    state.merge(sign_record(identity(1), RecordKind.BATCH, body))
    assert state.totals[identity(1).node_id].cost_micro == cost


def test_progress_shows_what_is_to_be_paid() -> None:
    shares = tuple(WorkerShare(bytes([n]) * 32, 1, 0, 1, 1, 0, n * 10_000) for n in (1, 2))
    status = JobStatus(bytes(32), "running", 4, 2, 0, 0, 0, 0, 1, 1, shares)
    shown = describe_status(status, "job")
    assert shown["cost"] == 0.03 and "0.03 to pay for heat that nobody wanted" in summary(shown)
