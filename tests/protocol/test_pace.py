"""Who holds tasks and delivers nothing loses them; who is slow, paused or asleep loses nothing needlessly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replace_struct

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Execute
from hearthmesh.protocol.events import SubmitJob
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.pace import Pace
from hearthmesh.protocol.records import RecordKind, ResourceLimits, sign_record
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold
from tests.protocol.machines import ME, SPEC, SUBMITTER, A

SWEEP_US, LEASE_US, SLOWER = LOCAL.lease_sweep_us, LOCAL.lease_us, LOCAL.slower_max
HOLDER = ME.node_id


def pace(*, estimate_us: int, wall_us: int = 60 * SECOND) -> Pace:
    spec = replace_struct(SPEC.body, estimate_us=estimate_us, limits=ResourceLimits(wall_us=wall_us))
    return Pace(JobState(sign_record(SUBMITTER, RecordKind.SPEC, spec)), LOCAL)


def sweep_until_overrun(found: Pace, from_us: int, *, each: Callable[[int], None] = lambda _: None) -> int:
    """When the holder is found late, swept all the time; `each` is told the time before each sweep."""
    for now_us in range(from_us, 400 * 60 * SECOND, SWEEP_US):
        each(now_us)
        if found.overran({HOLDER: 1}, now_us) == [HOLDER]:
            return now_us
    raise AssertionError("it holds for ever")


@pytest.mark.parametrize(
    "estimate_us, wall_us, batch_us",
    [
        (1 * MS, 60 * SECOND, LOCAL.batch_target_us),
        (2 * SECOND, 60 * SECOND, LOCAL.batch_tasks_first * 2 * SECOND),
        (50 * SECOND, 60 * SECOND, 60 * SECOND),
        (0, 60 * SECOND, 60 * SECOND),
        (0, 10 * MS, LOCAL.batch_target_us),
    ],
)
def test_patience_is_a_batchs_time_and_at_most_the_jobs_own_limit(
    estimate_us: int, wall_us: int, batch_us: int
) -> None:
    assert pace(estimate_us=estimate_us, wall_us=wall_us).patience_us == LEASE_US + SLOWER * batch_us


def test_who_delivers_nothing_is_late_after_the_patience_and_not_before() -> None:
    found = pace(estimate_us=100 * MS)
    patience_us = found.patience_us
    found.began(HOLDER, 0)
    late_us = sweep_until_overrun(found, 0, each=lambda now_us: found.began(HOLDER, now_us))
    assert patience_us < late_us <= patience_us + SWEEP_US
    assert found.bars(HOLDER, late_us) and not found.bars(A.node_id, late_us)


def test_each_overrun_doubles_the_patience_up_to_the_jobs_own_limit() -> None:
    batch_us = LOCAL.batch_target_us
    found = pace(estimate_us=100 * MS, wall_us=6 * batch_us)
    seen, now_us = [], 0
    for _ in range(5):
        seen.append((found.patience_us - LEASE_US) // SLOWER)
        found.began(HOLDER, now_us)
        now_us = sweep_until_overrun(found, now_us)
    assert seen == [batch_us, 2 * batch_us, 4 * batch_us, 6 * batch_us, 6 * batch_us]


def test_a_delivery_lets_a_late_holder_in_again_and_time_does() -> None:
    found = pace(estimate_us=100 * MS)
    found.began(HOLDER, 0)
    late_us = sweep_until_overrun(found, 0)
    found.delivered(HOLDER, 0, late_us)
    assert found.bars(HOLDER, late_us)
    found.delivered(HOLDER, 1, late_us)
    assert not found.bars(HOLDER, late_us)
    found.began(HOLDER, late_us)
    again_us = sweep_until_overrun(found, late_us)
    assert found.bars(HOLDER, again_us) and not found.bars(HOLDER, again_us + found.patience_us)


@given(
    st.integers(1 * MS, 2 * SECOND),
    st.lists(st.tuples(st.integers(0, 30 * SECOND), st.integers(1, 8)), max_size=12),
)
def test_what_is_delivered_buys_time_in_proportion(task_us: int, deliveries: list[tuple[int, int]]) -> None:
    found = pace(estimate_us=task_us)
    found.began(HOLDER, 0)
    patience_us, tasks, at_us = found.patience_us, 0, 0
    due = []
    for after_us, count in deliveries:
        at_us += after_us
        due.append((at_us, count))

    def deliver(now_us: int) -> None:
        nonlocal tasks
        while due and due[0][0] <= now_us:
            count = due.pop(0)[1]
            tasks += count
            found.delivered(HOLDER, count, now_us)

    late_us = sweep_until_overrun(found, 0, each=deliver)
    assert late_us <= patience_us + SLOWER * task_us * tasks + SWEEP_US


@given(st.integers(100 * MS, 10 * SECOND), st.integers(1, SLOWER - 1))
def test_who_is_slower_by_less_than_the_factor_is_never_late(task_us: int, slower: int) -> None:
    found = pace(estimate_us=task_us)
    found.began(HOLDER, 0)
    batch = max(1, LOCAL.batch_target_us // task_us)
    took_us = slower * task_us * batch
    now_us = done_us = 0
    for _ in range(20):
        done_us += took_us
        # Sweeps are as frequent as it takes to notice a lateness of a tenth of a batch.
        while now_us + max(SWEEP_US, took_us // 10) < done_us:
            now_us += max(SWEEP_US, took_us // 10)
            assert found.overran({HOLDER: 1}, now_us) == []
        found.delivered(HOLDER, batch, done_us)


def test_the_time_that_the_replica_itself_slept_does_not_count() -> None:
    found = pace(estimate_us=100 * MS)
    found.began(HOLDER, 0)
    assert found.overran({HOLDER: 1}, SWEEP_US) == []
    slept_us = 10 * found.patience_us
    assert found.overran({HOLDER: 1}, slept_us) == []
    late_us = sweep_until_overrun(found, slept_us + SWEEP_US)
    assert late_us <= slept_us + found.patience_us + SWEEP_US


def test_who_holds_nothing_any_more_begins_anew() -> None:
    found = pace(estimate_us=100 * MS)
    patience_us = found.patience_us
    found.began(HOLDER, 0)
    found.overran({}, SWEEP_US)
    found.began(HOLDER, patience_us)
    assert sweep_until_overrun(found, patience_us) > 2 * patience_us


# -- machines --------------------------------------------------------------------------------------------------


class Uneven(Cluster):
    """Some nodes are slower than others by a factor, or never end what they start."""

    def __init__(self, task_us: int) -> None:
        super().__init__(task_us=task_us)
        self.slower: dict[bytes, int] = {}
        self.idle: dict[bytes, None] = {}

    def _finish(self, node: SimNode, run: Execute) -> None:
        if node.id in self.idle:
            return
        more_us = (self.slower.get(node.id, 1) - 1) * run.count * self.task_us
        self.at(more_us, lambda: super(Uneven, self)._finish(node, run))


def uneven(task_us: int, workers: int) -> tuple[Uneven, list[SimNode], list[SimNode], SimNode]:
    cluster = Uneven(task_us)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    found = [cluster.add(f"w{number}", Role.WORKER, heat=cold()) for number in range(workers)]
    client = cluster.client()
    cluster.run(3 * SECOND)
    return cluster, keepers, found, client


def overruns(keepers: list[SimNode]) -> int:
    return sum(len(keeper.noted("lease.overrun")) for keeper in keepers)


def test_tasks_of_who_renews_and_never_delivers_are_run_by_another() -> None:
    cluster, keepers, (idle, good), client = uneven(100 * MS, 2)
    cluster.idle[idle.id] = None
    cluster.feed(client, SubmitJob(cluster.spec(30)))
    cluster.run_until(lambda: sorted(good.executed) == list(range(30)), within_us=60 * SECOND)
    assert idle.executions and overruns(keepers) > 0
    cluster.run(SECOND)
    assert not idle.mesh.worker.unstarted


def test_a_worker_at_a_tenth_of_the_duty_keeps_what_it_holds() -> None:
    cluster, keepers, (slow, fast), client = uneven(300 * MS, 2)
    cluster.slower[slow.id] = 10
    cluster.feed(client, SubmitJob(cluster.spec(60)))
    cluster.run_until(lambda: len(slow.executed) + len(fast.executed) == 60)
    cluster.run(2 * SECOND)
    assert overruns(keepers) == 0 and slow.executed
    assert sorted(slow.executed + fast.executed) == list(range(60))


@pytest.mark.parametrize("away_us", [20 * SECOND, 600 * SECOND])
def test_a_laptop_that_slept_finishes_what_nobody_took_over(away_us: int) -> None:
    cluster, keepers, (laptop,), client = uneven(2 * SECOND, 1)
    cluster.feed(client, SubmitJob(cluster.spec(6)))
    cluster.run_until(lambda: len(laptop.executed) == 1)
    laptop.frozen = True
    cluster.run(away_us)
    cluster.thaw(laptop)
    cluster.run_until(lambda: len(laptop.executed) >= 6)
    assert sorted(laptop.executed) == list(range(6)) and overruns(keepers) == 0


def test_a_late_result_counts_and_lets_its_worker_in_again() -> None:
    cluster, keepers, (slow,), client = uneven(100 * MS, 1)
    cluster.slower[slow.id] = 200
    cluster.feed(client, SubmitJob(cluster.spec(9, estimate_us=100 * MS)))
    cluster.run_until(lambda: overruns(keepers) > 0, within_us=60 * SECOND)
    assert slow.executed == []
    cluster.slower[slow.id] = 1
    cluster.run_until(lambda: len(slow.executed) >= 9, within_us=120 * SECOND)
    assert sorted(slow.executed) == list(range(9))
