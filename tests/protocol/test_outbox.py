"""What a worker's finished results hold on to, and for how long."""

from __future__ import annotations

from dataclasses import replace

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.effects import Effect, Execute, Unpersist, UnpinBlobs
from hearthmesh.protocol.events import SubmitJob, TaskFinished
from hearthmesh.protocol.outbox import Outbox, output_pin
from tests.protocol.cluster import SECOND, WARM, Cluster, SimNode, cold
from tests.protocol.machines import PEERS, Bench, batch_header


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


def test_a_batch_that_is_made_once_more_is_owed_once_and_leaves_nothing_behind() -> None:
    """Two replicas that cannot talk have a task run under the same epoch, by the same node."""
    columns = b"as many bytes as all that may be owed"
    bench = Bench(replace(LOCAL, owed_bytes_max=len(columns) + 1))
    outbox, again, last = Outbox(bench.ctx, bench.members), batch_header(4), batch_header(5)
    outbox.add(again, columns, PEERS, SECOND, pin=output_pin(1))
    outbox.flush(SECOND)
    outbox.add(last, b"", PEERS, SECOND, pin=output_pin(2))
    bench.effects()
    outbox.add(again, columns, PEERS, 2 * SECOND, pin=output_pin(3))
    assert UnpinBlobs(output_pin(1)) in bench.effects()
    assert outbox.made(3) == again and len(outbox) == 2 and not outbox.full
    for peer in PEERS:
        outbox.on_stored(peer, (again.id, last.id))
    effects = bench.effects()
    assert {effect.key for effect in effects if isinstance(effect, Unpersist)} == {again.id}
    assert UnpinBlobs(output_pin(3)) in effects
    outbox.add(last, b"", PEERS, 3 * SECOND, pin=output_pin(4))
    assert not outbox.full


def test_results_wait_for_replicas_that_are_frozen_while_the_third_never_got_the_job() -> None:
    cluster = Cluster(task_us=SECOND)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(3)]
    worker, client = cluster.add("w", Role.WORKER, heat=cold()), cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(1)))
    cluster.run_until(lambda: bool(worker.executions))
    for keeper in keepers[:2]:
        keeper.frozen = True
    keepers[2].rows.clear()
    cluster.restart(keepers[2])
    cluster.run(2 * cluster.config.suspicion_max_us)
    assert worker.executed == [0] and not worker.mesh.members.is_alive(keepers[0].id)
    assert len(worker.mesh.worker.outbox) == 1 and worker.noted("outbox.given-up") == []
    for keeper in keepers[:2]:
        cluster.thaw(keeper)
    cluster.run_until(lambda: not len(worker.mesh.worker.outbox), within_us=20 * SECOND)
    assert worker.executed == [0] and worker.noted("outbox.given-up") == []


def test_results_find_the_replicas_that_took_the_seats_of_the_dead() -> None:
    cluster = Cluster(task_us=SECOND)
    keepers = [cluster.add(f"r{number}", Role.REPLICA) for number in range(5)]
    worker, client = cluster.add("w", Role.WORKER, heat=cold()), cluster.client()
    cluster.run(3 * SECOND)
    cluster.feed(client, SubmitJob(cluster.spec(1)))
    cluster.run_until(lambda: bool(worker.executions))
    job_id = next(iter(client.mesh.submitter.jobs))
    members = client.mesh.submitter.jobs[job_id].state.replicas
    cluster.disconnect(worker, reset=False)
    for dead in members:
        cluster.kill(cluster.nodes[dead])
        cluster.run(2 * cluster.config.suspicion_max_us + 2 * cluster.config.replica_grace_us)
    assert len(worker.mesh.worker.outbox) == 1
    cluster.cut_off.clear()
    cluster.feed(worker, WARM)
    heirs = [keeper for keeper in keepers if keeper.alive]
    for heir in heirs:
        cluster.connect(worker, heir)
    cluster.run_until(lambda: not len(worker.mesh.worker.outbox), within_us=60 * SECOND)
    assert worker.executed == [0] and worker.noted("outbox.given-up") == []
    assert [heir.mesh.replica.jobs[job_id].state.done.total for heir in heirs] == [1, 1]
