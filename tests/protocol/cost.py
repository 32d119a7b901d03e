"""What an event costs a replica that keeps many jobs: `python -m tests.protocol.cost`.

Prints, for growing numbers of free jobs that suit nobody, the time of one job's becoming free while 32 thieves wait,
and of judging one submission by its submitter's quota. Neither is to grow with the jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import Received
from hearthmesh.protocol.messages import Steal
from hearthmesh.protocol.records import RecordKind, ReplicaSet, sign_record
from tests.protocol.cluster import SECOND, Cluster

THIEVES = 32
ROUNDS = 50


def microseconds(act: Callable[[], object]) -> float:
    """Of the fastest of `ROUNDS`."""
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        act()
        found.append(time.perf_counter() - begun)
    return min(found) * 1e6


def measure(jobs: int) -> tuple[float, float]:
    """(microseconds of an event with thieves waiting, of a submission's judgement) with so many jobs kept."""
    cluster = Cluster(config=replace(LOCAL, replicas=1, durable_replicas=1))
    keeper = cluster.add("keeper", Role.REPLICA)
    client = cluster.client()
    thieves = [cluster.add(f"t{number}", Role.WORKER) for number in range(THIEVES)]
    cluster.run(3 * SECOND)
    replica, now_us = keeper.mesh.replica, cluster.now_us
    for number in range(jobs):
        spec = cluster.signed_spec(client, 100, nonce=b"%d" % number, estimate_us=600 * SECOND)
        kept = replica._adopt(spec, now_us)
        members = ReplicaSet(spec.id, 0, (keeper.id,))
        replica._merge(kept, sign_record(client.identity, RecordKind.REPLICA_SET, members), keeper.id, now_us)
    for thief in thieves:
        waits = Steal(7, SECOND, 1, 400, 1 << 40, (), True, longest_us=60 * SECOND)
        keeper.mesh.handle(Received(thief.id, waits), now_us)
    another = cluster.signed_spec(client, 100, nonce=b"another")
    event = microseconds(lambda: replica._after_freeing(kept, now_us))
    return event, microseconds(lambda: replica._excess(another, now_us))


def main() -> None:
    print("| jobs kept | a job becomes free, 32 thieves wait | a submission is judged |\n|---|---|---|")
    for jobs in (10, 100, 1_000, 4_000):
        event, judged = measure(jobs)
        print(f"| {jobs:,} | {event:,.0f} µs | {judged:,.0f} µs |")


if __name__ == "__main__":
    main()
