"""What a worker's finished results hold on to, and for how long."""

from __future__ import annotations

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.effects import Effect, Execute, UnpinBlobs
from hearthmesh.protocol.events import SubmitJob, TaskFinished
from hearthmesh.protocol.outbox import output_pin
from tests.protocol.cluster import SECOND, Cluster, SimNode, cold


class PinnedCluster(Cluster):
    """Keeps by node which executions' outputs a blob store would hold."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: dict[tuple[bytes, bytes], None] = {}
        self.ever = 0

    def _perform(self, node: SimNode, effect: Effect) -> None:
        if isinstance(effect, Execute):
            self.ever += 1
            self.pinned[node.id, output_pin(effect.execution_id)] = None
        elif isinstance(effect, UnpinBlobs):
            self.pinned.pop((node.id, effect.pin), None)
        super()._perform(node, effect)


def test_outputs_are_let_go_when_enough_replicas_have_them() -> None:
    cluster = PinnedCluster()
    for number in range(3):
        cluster.add(f"r{number}", Role.REPLICA)
    worker, client = cluster.add("w", Role.WORKER, heat=cold()), cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(20)))
    cluster.run_until(lambda: len(worker.executed) == 20 and not len(worker.mesh.worker.outbox))
    assert cluster.ever > 0
    assert cluster.pinned == {}


def test_outputs_of_a_cancelled_execution_are_let_go() -> None:
    worker = Cluster().add("w", Role.WORKER)
    ended = TaskFinished(7, (0,), (b"",), {}, {}, (0,), (0,), energy_mj=0, useful_mj=0, measured=False)
    assert worker.mesh.handle(ended, 2 * SECOND) == [UnpinBlobs(output_pin(7))]
