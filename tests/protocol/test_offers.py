"""What a node offers besides WebAssembly may be known only after it has started."""

from __future__ import annotations

from hearthmesh.protocol.events import CommandsChanged, SubmitJob
from hearthmesh.protocol.records import RecordKind
from tests.protocol.cluster import SECOND, Cluster, cold


def submission(cluster: Cluster) -> SubmitJob:
    spec = cluster.spec(3, runtime="native", abi="command", command="tool", verification="none")
    return SubmitJob(spec, follow=True)


def test_a_command_that_is_offered_later_is_told_to_all_and_gets_work() -> None:
    cluster = Cluster()
    late, keeper = cluster.add("late", heat=cold()), cluster.add("keeper", machine="a machine")
    client = cluster.client()
    cluster.run(5 * SECOND)
    cluster.feed(client, submission(cluster))
    cluster.run(20 * SECOND)
    assert client.noted("job.submitted") and not late.executions

    cluster.feed(late, CommandsChanged(("tool",), "a machine", (bytes(8),)))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    (told,) = [row.body for row in keeper.mesh.tables.rows(RecordKind.MEMBER) if row.body.node == late.id]
    assert (told.commands, told.machine, told.builds) == (("tool",), "a machine", (bytes(8),))


def test_a_command_that_is_withdrawn_gets_no_more_work() -> None:
    cluster = Cluster()
    node, client = cluster.add("node", heat=cold(), machine="a machine"), cluster.client()
    cluster.run(5 * SECOND)
    cluster.feed(node, CommandsChanged((), "", ()))
    cluster.feed(client, submission(cluster))
    cluster.run(20 * SECOND)
    assert client.noted("job.submitted") and not node.executions
