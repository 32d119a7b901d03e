"""A worker of a data centre, which asks a price, polls and waits as real ones do; nobody else is there to help."""

from __future__ import annotations

import pytest

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LAN, LOCAL, ProtocolConfig
from hearthmesh.protocol.events import HeatReading, SubmitJob
from hearthmesh.protocol.records import RecordKind
from tests.protocol.cluster import MS, SECOND, WALL_OFFSET_US, Cluster, SimNode, cold

CENTRE = HeatReading(0.0, 500.0, 4, 100.0, 50.0, False, "dc", 30.0, price_micro=40)


class Centre:
    """Three keepers, jobs that pay, and a worker with four slots."""

    def __init__(self, config: ProtocolConfig, seed: int, task_us: int, time_us: int) -> None:
        self.cluster = Cluster(seed=seed, config=config, task_us=task_us)
        self.keepers = [self.cluster.add(f"k{number}", Role.REPLICA) for number in range(3)]
        self.worker = self.cluster.add("dc", Role.WORKER, CENTRE)
        self.client: SimNode = self.cluster.client()
        self.cluster.run(3 * SECOND)
        self.due_us = self.cluster.now_us + time_us

    def submit(self, tasks: int, jobs: int) -> None:
        for number in range(jobs):
            spec = self.cluster.spec(
                tasks,
                nonce=b"%d" % number,
                estimate_us=self.cluster.task_us,
                price_limit_micro=50,
                created_us=self.cluster.now_us + WALL_OFFSET_US,
                deadline_us=self.due_us + WALL_OFFSET_US,
            )
            self.cluster.feed(self.client, SubmitJob(spec))
        self.cluster.run(SECOND)

    @property
    def done(self) -> int:
        return max(sum(kept.state.done.total for kept in keeper.mesh.replica.jobs.values()) for keeper in self.keepers)


@pytest.mark.parametrize("config", [LOCAL, LAN], ids=["local", "lan"])
@pytest.mark.parametrize(("tasks", "task_us"), [(4, 100 * MS), (1, 2 * SECOND), (8, SECOND), (40, 200 * MS)])
def test_a_job_that_nobody_else_takes_is_done_by_its_deadline(config: ProtocolConfig, tasks: int, task_us: int) -> None:
    for seed in (1, 2):
        centre = Centre(config, seed, task_us, 60 * SECOND)
        centre.submit(tasks, jobs=1)
        centre.cluster.run(centre.due_us - centre.cluster.now_us)
        assert centre.done == tasks


@pytest.mark.parametrize(("tasks", "jobs"), [(8, 1), (8, 4), (80, 1)])
def test_a_job_waits_as_long_as_it_can_and_no_longer(tasks: int, jobs: int) -> None:
    """Tasks of a minute, due in an hour: one slot is the last that is left to one job, not to four."""
    centre = Centre(LAN, 1, 60 * SECOND, 3600 * SECOND)
    centre.submit(tasks, jobs)
    # Two minutes for the last place that wants heat, two until it is heard of; and what the four slots need.
    begins_us = centre.due_us - (240 + jobs * tasks * 60 // 4) * SECOND
    centre.cluster.run(begins_us - SECOND - centre.cluster.now_us)
    assert centre.done == 0 and not centre.worker.executions
    centre.cluster.run(centre.due_us - centre.cluster.now_us)
    assert centre.done == jobs * tasks


def test_keepers_tell_until_when_a_job_has_time() -> None:
    centre = Centre(LAN, 1, 60 * SECOND, 3600 * SECOND)
    centre.submit(8, jobs=1)
    told = [row.body.deadline_us for row in centre.worker.mesh.tables.rows(RecordKind.JOB_DIGEST)]
    assert told and set(told) == {centre.due_us + WALL_OFFSET_US}


def test_what_a_paid_place_has_done_of_a_job_is_no_proof_that_it_needs_none() -> None:
    centre = Centre(LAN, 1, 60 * SECOND, 3600 * SECOND)
    centre.submit(40, jobs=1)
    idle_us = 0
    while centre.done < 40 and centre.cluster.now_us < centre.due_us:
        centre.cluster.run(SECOND)
        idle_us += SECOND * (centre.done > 0 and not centre.worker.executions)
    assert centre.done == 40 and idle_us <= 20 * SECOND


def test_a_centre_rests_when_places_that_want_heat_open() -> None:
    """80 tasks of a minute take its four slots 20 minutes; with four rooms that get cold meanwhile there is time."""
    centre = Centre(LAN, 1, 60 * SECOND, 7200 * SECOND)
    centre.submit(80, jobs=1)
    centre.cluster.run(centre.due_us - 1200 * SECOND - centre.cluster.now_us)
    begun = len(centre.worker.executed)
    for number in range(4):
        centre.cluster.add(f"w{number}", Role.WORKER, cold())
    centre.cluster.run(centre.due_us - centre.cluster.now_us)
    # Of the 68 that were left it ends what it had, and a round.
    assert begun == 12 and centre.done == 80
    assert len(centre.worker.executed) <= begun + 2 * 4
