"""A mesh at rest: it says and does next to nothing, and is awake at once when there is something to do."""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.events import SubmitJob
from hearthmesh.protocol.messages import Announce, Message
from hearthmesh.protocol.records import JobDigest, RecordKind, open_record, sign_record
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold


def at_rest(count: int = 6) -> Cluster:
    """Nodes that keep jobs and run tasks, all of them cold, for a minute and a half."""
    cluster = Cluster()
    for number in range(count):
        cluster.add(f"n{number}", heat=cold())
    cluster.run(90 * SECOND)
    return cluster


def test_node_that_was_falsely_called_dead_tells_its_heat_again_at_once() -> None:
    cluster = Cluster()
    nodes = [cluster.add(f"n{number}", heat=cold(), zone="z") for number in range(4)]
    cluster.run(90 * SECOND)
    lost, others = nodes[0], nodes[1:]
    assert all(len(node.mesh.zone_mates()) == 3 for node in others)
    cluster.disconnect(lost, reset=False)
    cluster.run_until(lambda: all(node.mesh.members.is_gone(lost.id) for node in others))
    cluster.cut_off.clear()
    for node in others:
        cluster.connect(lost, node)
    cluster.run_until(lambda: all(node.mesh.members.is_alive(lost.id) for node in others))
    cluster.run(cluster.config.sync_interval_us)
    assert all(len(node.mesh.zone_mates()) == 3 for node in others)


def kinds(cluster: Cluster) -> Counter[str]:
    """Of messages since the log was cleared."""
    return Counter(line.rsplit(" ", 1)[1] for line in cluster.log)


def test_node_at_rest_says_less_than_one_thing_in_two_seconds_and_has_few_timers() -> None:
    cluster = at_rest()
    cluster.log.clear()
    fired: Counter[str] = Counter()
    for node in cluster.nodes.values():
        assert set(key[0] for key in node.timers) <= {"sync", "probe", "steal-idle"}
    before = cluster.now_us
    while cluster.now_us < before + 160 * SECOND:
        due = {(node.name, key): at_us for node in cluster.nodes.values() for key, at_us in node.timers.items()}
        cluster.step()
        for node in cluster.nodes.values():
            for key, at_us in node.timers.items():
                fired[key[0]] += at_us != due.get((node.name, key), at_us)
    a_node_and_second = len(cluster.nodes) * 160
    assert sum(kinds(cluster).values()) < 0.75 * a_node_and_second, kinds(cluster)
    assert sum(fired.values()) < 0.6 * a_node_and_second, fired


def test_job_that_comes_to_a_mesh_at_rest_is_begun_at_once() -> None:
    cluster = at_rest()
    client = cluster.client()
    cluster.run(30 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(24)))
    began_us = cluster.now_us
    nodes = [node for node in cluster.nodes.values() if node is not client]
    cluster.run_until(lambda: all(node.executed or node.executions for node in nodes))
    assert cluster.now_us - began_us < 100 * MS


def test_keeper_of_an_open_job_does_not_rest() -> None:
    """It has to notice when it stands still itself, by a timer that is late."""
    cluster = Cluster()
    keeper = cluster.add("r", Role.REPLICA)
    client = cluster.client()
    cluster.run(60 * SECOND)
    assert keeper.mesh.tables.rests
    cluster.feed(client, SubmitJob(cluster.spec(4)))
    cluster.run_until(lambda: bool(keeper.mesh.replica.open_jobs))
    for _ in range(60):
        cluster.run(SECOND)
        due_us = min(at_us for key, at_us in keeper.timers.items() if key[0] == "sync")
        assert due_us - cluster.now_us <= cluster.config.sync_interval_us


def test_keeper_compares_settled_jobs_more_seldom_and_the_next_job_as_often_as_ever() -> None:
    cluster = Cluster()
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    worker = cluster.add("w", Role.WORKER, heat=cold())
    clients = [cluster.client(name) for name in ("early", "late")]
    interval_us = cluster.config.reconcile_interval_us
    cluster.run(3 * SECOND)
    assert not [key for node in keepers for key in node.timers if key[0] == "reconcile"], "there is nothing to compare"
    for client, tasks in zip(clients, (4, 5), strict=True):
        done = len(worker.executed)
        cluster.feed(client, SubmitJob(cluster.spec(tasks), follow=True))
        cluster.run_until(lambda: len(worker.executed) == done + tasks)  # noqa: B023
        assert all(waits_us(cluster, node) <= interval_us for node in keepers)
        cluster.run(2 * 60 * SECOND)
        node = keepers[0]
        cluster.run_until(lambda: waits_us(cluster, node) > 7 * interval_us, within_us=8 * interval_us)  # noqa: B023


def waits_us(cluster: Cluster, node: SimNode) -> int:
    """Until it compares."""
    return max(at_us for key, at_us in node.timers.items() if key[0] == "reconcile") - cluster.now_us


def test_work_goes_to_the_parked_thief_that_has_found_none_meanwhile() -> None:
    cluster = Cluster()
    keeper = cluster.add("r", Role.REPLICA)
    busy, free = [cluster.add(name, Role.WORKER, heat=cold()) for name in ("busy", "free")]
    client = cluster.client()
    cluster.run(5 * SECOND)
    assert set(keeper.mesh.replica._lifelines._parked) == {busy.id, free.id}
    own = keeper.mesh.tables.get(RecordKind.HEAT, busy.id)
    assert own is not None
    # Its room is the colder one; and it says that it has found work, somewhere else.
    body = replace(own.body, sequence=own.body.sequence + 1, free_slots=0, discomfort_mkh=9000)
    keeper.mesh.tables.merge(sign_record(busy.mesh.ctx.identity, RecordKind.HEAT, body).raw, busy.id, cluster.now_us)
    keeper.mesh.ctx.take_effects()
    cluster.blocked = lambda _a, _b, message: type(message).__name__ in ("Steal", "Announce", "TableRows")
    cluster.feed(client, SubmitJob(cluster.spec(1)))
    cluster.run_until(lambda: bool(free.executed or busy.executed))
    assert len(free.executed) == 1 and not busy.executed


def told_mesh(cluster: Cluster) -> dict[bytes, JobDigest]:
    """From now on, what is announced of jobs."""
    told: dict[bytes, JobDigest] = {}

    def watched(_a: SimNode, _b: SimNode, message: Message) -> bool:
        if isinstance(message, Announce):
            told.update((raw, open_record(raw).body) for raw in message.records)
        return False

    cluster.blocked = watched
    return told


def test_the_whole_mesh_hears_once_of_a_job_of_which_the_parked_left_plenty_and_once_that_it_is_over() -> None:
    cluster = Cluster()
    keeper = cluster.add("r", Role.REPLICA)
    workers = [cluster.add(f"w{number}", Role.WORKER, heat=cold()) for number in range(3)]
    clients = [cluster.client(f"c{number}") for number in range(2)]
    cluster.run(5 * SECOND)
    assert set(keeper.mesh.replica._lifelines._parked) == {worker.id for worker in workers}
    told = told_mesh(cluster)

    def executed() -> int:
        return sum(len(worker.executed) for worker in workers)

    cluster.feed(clients[0], SubmitJob(cluster.spec(20), follow=True))
    cluster.run_until(lambda: executed() == 20)
    cluster.run(5 * SECOND)
    assert not told, "it is done before anybody else could come"
    cluster.feed(clients[1], SubmitJob(cluster.spec(400), follow=True))
    cluster.run_until(lambda: bool(told))
    assert executed() < 120
    cluster.run_until(lambda: executed() == 420)
    cluster.run(5 * SECOND)
    assert [digest.free_tasks > 0 for digest in told.values()] == [True, False]


def test_the_whole_mesh_hears_of_a_small_job_that_nobody_here_takes_and_again_when_it_is_at_risk() -> None:
    cluster = Cluster()
    worker = cluster.add("w", heat=cold())
    cluster.add("k", machine="a machine")
    client = cluster.client()
    cluster.run(5 * SECOND)
    told = told_mesh(cluster)
    deadline_us = client.mesh.ctx.wall_us(cluster.now_us) + 60 * SECOND
    spec = cluster.spec(
        3, runtime="native", abi="command", command="tool", verification="none", deadline_us=deadline_us
    )
    cluster.feed(client, SubmitJob(spec))
    cluster.run(70 * SECOND)
    assert not worker.executed
    # Both keepers, each of its own tasks.
    assert [digest.at_risk for digest in told.values()] == [False, False, True, True]
    assert sum(digest.free_tasks for digest in told.values()) == 2 * 3
