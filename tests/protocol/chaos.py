"""A `Cluster` in which everything breaks by a seed, and the invariants of the design that hold nevertheless.

Links are dialled on demand and end by cuts, deaths and freezes; on top messages are lost, doubled and overtaken,
which is worse than any real link. `python -m tests.protocol.chaos SEED [FAULTS]` replays one run.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

from hearthmesh.protocol.batches import check_batch
from hearthmesh.protocol.codec import decode_message, encode_message
from hearthmesh.protocol.effects import Disconnect, Effect, Execute, Penalise
from hearthmesh.protocol.events import (
    Event,
    FollowJob,
    ListJobs,
    PeerLost,
    PeerUnreachable,
    Received,
    StorageFailed,
    StorageRecovered,
    SubmitJob,
)
from hearthmesh.protocol.intervals import IntervalSet
from hearthmesh.protocol.kept_job import KeptJob
from hearthmesh.protocol.messages import Message
from hearthmesh.protocol.records import RecordKind, open_record
from hearthmesh.protocol.result_keeping import COLUMNS_ROW
from tests.protocol.cluster import MS, SECOND, WARM, Cluster, SimNode, cold, output_of

KEEPALIVE_US = 6 * SECOND
DIAL_US = 50 * MS


class Chaos(Cluster):
    """loss, doubled: shares of all messages. jitter_us: by which they overtake each other."""

    def __init__(self, seed: int, *, loss: float = 0.0, doubled: float = 0.0, jitter_us: int = 0) -> None:
        super().__init__(seed=seed, task_us=200 * MS)
        self.dice = random.Random(seed * 7919 + 1)
        self.loss, self.doubled, self.jitter_us = loss, doubled, jitter_us
        self.links: dict[frozenset[bytes], None] = {}
        self.island: frozenset[bytes] = frozenset()
        self.runs: dict[tuple[int, int], dict[bytes, None]] = {}
        self.watchers: list[Callable[[SimNode], None]] = []

    # -- links ---------------------------------------------------------------------------------------------

    def reachable(self, a: SimNode, b: SimNode) -> bool:
        apart = (a.id in self.island) != (b.id in self.island)
        return a.alive and b.alive and not a.frozen and not b.frozen and not apart

    def connect(self, a: SimNode, b: SimNode) -> None:
        pair = frozenset((a.id, b.id))
        if pair not in self.links and self.reachable(a, b):
            self.links[pair] = None
            super().connect(a, b)

    def drop_link(self, a: SimNode, b: SimNode, *, reset: bool) -> None:
        if self.links.pop(frozenset((a.id, b.id)), 0) is None:
            self.feed(a, PeerLost(b.id, reset))
            self.feed(b, PeerLost(a.id, reset))

    def _send(self, node: SimNode, peer: bytes, message: Message) -> None:
        other = self.nodes.get(peer)
        if other is None:
            return
        self.sent += 1
        self.log = self.log[-200:]
        self.log.append(f"{node.name}>{other.name} {type(message).__name__}")
        if frozenset((node.id, peer)) not in self.links:
            self.at(DIAL_US, lambda: self._dialled(node, other, message))
        else:
            self._deliver(node, other, message)

    def _dialled(self, node: SimNode, other: SimNode, message: Message) -> None:
        if self.reachable(node, other):
            self.connect(node, other)
            self._deliver(node, other, message)
        elif node.alive:
            self.feed(node, PeerUnreachable(other.id))

    def _deliver(self, node: SimNode, other: SimNode, message: Message) -> None:
        encoded = encode_message(message)
        for _ in range(1 + (self.dice.random() < self.doubled)):
            delay_us = self.delay_us + (self.dice.randrange(self.jitter_us) if self.jitter_us else 0)
            if self.dice.random() >= self.loss:
                self.at(delay_us, lambda: self._arrive(node, other, encoded))

    def _arrive(self, node: SimNode, other: SimNode, encoded: bytes) -> None:
        linked = frozenset((node.id, other.id)) in self.links
        if linked and (node.id in self.island) == (other.id in self.island):
            self.feed(other, Received(node.id, decode_message(encoded)))

    # -- faults --------------------------------------------------------------------------------------------

    def kill(self, node: SimNode, *, links_reset: bool = True) -> None:
        for other in list(self.nodes.values()):
            if frozenset((node.id, other.id)) in self.links:
                del self.links[frozenset((node.id, other.id))]
                self.feed(other, PeerLost(node.id, links_reset))
        node.alive = False

    def freeze(self, node: SimNode) -> None:
        node.frozen = True
        self.at(KEEPALIVE_US, lambda: self._keepalive(node))

    def _keepalive(self, node: SimNode) -> None:
        if node.frozen:
            for other in list(self.nodes.values()):
                self.drop_link(node, other, reset=False)

    def cut(self, island: frozenset[bytes], duration_us: int) -> None:
        """Two halves that do not hear each other for a time."""
        self.island = island
        self.at(KEEPALIVE_US, lambda: self._break_across(island))
        self.at(duration_us, self.heal)

    def _break_across(self, island: frozenset[bytes]) -> None:
        if self.island is island:
            for a in [self.nodes[node] for node in sorted(island)]:
                for b in [node for node in self.nodes.values() if node.id not in island]:
                    self.drop_link(a, b, reset=False)

    def heal(self) -> None:
        self.island = frozenset()
        living = [node for node in self.nodes.values() if node.alive and not node.frozen]
        for number, a in enumerate(living):
            for b in living[:number]:
                self.connect(a, b)

    # -- what is watched -----------------------------------------------------------------------------------

    def feed(self, node: SimNode, event: Event) -> None:
        super().feed(node, event)
        if node.alive and not node.frozen:
            for watch in self.watchers:
                watch(node)

    def _perform(self, node: SimNode, effect: Effect) -> None:
        match effect:
            case Execute():
                worker = node.mesh.worker
                assert worker.slots > 0 and not worker.storage_failed, f"{node.name} started work in a warm room"
                assert len(node.executions) < worker.slots, f"{node.name} runs more than its slots"
                for index in range(effect.first, effect.first + effect.count):
                    self.runs.setdefault((index, effect.epoch), {})[node.id] = None
            case Disconnect(peer, _):
                self.at(0, lambda: self.drop_link(node, self.nodes[peer], reset=True))
            case Penalise(peer, reason):
                raise AssertionError(f"{node.name} penalised the honest {self.nodes[peer].name}: {reason}")
            case _:
                pass
        super()._perform(node, effect)


class Run:
    """One job among honest nodes, with faults that a seed draws."""

    def __init__(
        self,
        seed: int,
        *,
        workers: int = 6,
        tasks: int = 60,
        watch: Callable[[SimNode], None] | None = None,
        **network: Any,
    ) -> None:
        self.seed = seed
        self.job_id = b""
        self._feeds = 0
        self.world = Chaos(seed, **network)
        self.world.watchers = [self._check_bounds, self._check_ledgers, *([watch] if watch else [])]
        self.dice = self.world.dice
        self.tasks = tasks
        self.workers = self.world.workers(workers)
        self.client = self.world.client()
        self.gone_for_good: dict[bytes, None] = {}

    # -- the play ------------------------------------------------------------------------------------------

    def play(self, faults: int) -> None:
        """From submission to acceptance, with so many faults drawn on the way, then quiet, then all checks."""
        world = self.world
        world.run(3 * SECOND)
        world.feed(self.client, SubmitJob(world.spec(self.tasks)))
        self.job_id = next(iter(self.client.mesh.submitter.jobs))
        world.run_until(lambda: bool(self.client.noted("job.submitted")))
        self._follow()
        for _ in range(faults):
            world.at(self.dice.randrange(4 * SECOND), self._draw_fault)
        world.run(8 * SECOND)
        world.loss = world.doubled = 0.0
        try:
            world.run_until(self._accepted)
        except AssertionError:
            raise AssertionError(f"not accepted in time: {self.summary()}") from None
        world.run(12 * SECOND)
        # What a client that comes back says again may be a second old by now.
        world.run_until(self._alike, within_us=2 * world.config.reconcile_interval_us)
        self.check()

    def _alike(self) -> bool:
        """Whether all keepers have the same records of the job."""
        states = [kept.state for kept in self.keepers().values()]
        return all(state.ids.fingerprint(b"", b"") == states[0].ids.fingerprint(b"", b"") for state in states)

    def _accepted(self) -> bool:
        own = self.client.mesh.submitter.jobs.get(self.job_id)
        keepers = self.keepers()
        return (
            self.client.alive
            and own is not None
            and len(self.client.results) == self.tasks
            and bool(keepers)
            and all(kept.state.fully_accepted for kept in keepers.values())
        )

    def _follow(self) -> None:
        have = IntervalSet(*((index, index + 1) for index in self.client.results))
        self.world.feed(self.client, FollowJob(self.job_id, tuple(have), True, tuple(self.client.signed)))

    def _draw_fault(self) -> None:
        name, fault = self.dice.choice(
            [
                ("kill", self._kill),
                ("kill", self._kill),
                ("freeze", self._freeze),
                ("cut", self._cut),
                ("warm", self._warm),
                ("full disk", self._full_disk),
                ("client", self._client_goes),
            ]
        )
        self.world.log.append(f"fault: {name} at {self.world.now_us}")
        fault()

    def _some_worker(self) -> SimNode | None:
        living = [node for node in self.workers if node.alive and not node.frozen]
        return self.dice.choice(living) if len(living) > 3 else None

    def _kill(self) -> None:
        node = self._some_worker()
        if node is None:
            return
        self.world.kill(node)
        if self._may_go(node):
            self.gone_for_good[node.id] = None
        else:
            self.world.at(self.dice.randrange(100 * MS, 10 * SECOND), lambda: self._back(node))

    def _may_go(self, node: SimNode) -> bool:
        """At most one node never comes back, or comes back without its disk."""
        return self.dice.random() < 0.3 and not self.gone_for_good

    def _full_disk(self) -> None:
        node = self._some_worker()
        if node is not None:
            self.world.feed(node, StorageFailed("no space left on device"))
            self.world.at(self.dice.randrange(100 * MS, 6 * SECOND), lambda: self.world.feed(node, StorageRecovered()))

    def _back(self, node: SimNode) -> None:
        if self.dice.random() < 0.3 and not self.gone_for_good:
            self.gone_for_good[node.id] = None
            node.rows.clear()
        self.world.restart(node)
        self.world.feed(node, cold())

    def _freeze(self) -> None:
        node = self._some_worker()
        if node is None:
            return
        self.world.freeze(node)
        if self._may_go(node):
            self.gone_for_good[node.id] = None
        else:
            self.world.at(self.dice.randrange(100 * MS, 10 * SECOND), lambda: self.world.thaw(node))

    def _cut(self) -> None:
        if self.world.island:
            return
        some = self.dice.sample(self.workers, self.dice.randrange(1, 4))
        self.world.cut(frozenset(node.id for node in some), self.dice.randrange(500 * MS, 10 * SECOND))

    def _warm(self) -> None:
        node = self._some_worker()
        if node is not None:
            self.world.feed(node, WARM)
            self.world.at(self.dice.randrange(100 * MS, 3 * SECOND), lambda: self.world.feed(node, cold()))

    def _client_goes(self) -> None:
        if self.client.alive:
            self.world.kill(self.client)
            self.world.at(self.dice.randrange(100 * MS, 6 * SECOND), self._client_returns)

    def _client_returns(self) -> None:
        self.world.restart(self.client)
        self._find()

    def _find(self) -> None:
        if self.job_id in self.client.mesh.submitter.jobs:
            self._follow()
        elif self.client.alive:
            self.world.feed(self.client, ListJobs(b""))
            self.world.at(500 * MS, self._find)

    # -- the invariants ------------------------------------------------------------------------------------

    def keepers(self) -> dict[str, KeptJob]:
        """Living members of the newest replica set, by name."""
        living = [node for node in self.workers if node.alive and not node.frozen]
        held = {
            node.name: node.mesh.replica.jobs[self.job_id] for node in living if self.job_id in node.mesh.replica.jobs
        }
        newest = max((kept.state.replica_epoch for kept in held.values()), default=0)
        sets = [kept.state.replicas for kept in held.values() if kept.state.replica_epoch == newest]
        members = [node for node in living if sets and node.id in sets[0]]
        return {node.name: held[node.name] for node in members if node.name in held}

    def _check_bounds(self, node: SimNode) -> None:
        self._feeds += 1
        if self._feeds % 50:
            return
        config, mesh = self.world.config, node.mesh
        assert mesh.worker.outbox.on_the_way <= config.outbox_max + mesh.worker.slots
        assert len(mesh.worker.outbox) <= config.owed_max + mesh.worker.slots
        assert len(mesh.tables) <= config.table_entries_max
        assert mesh.worker.unstarted <= self.tasks

    def _check_ledgers(self, node: SimNode) -> None:
        """No task is lost: each is done, accepted, free or leased, and never two of these."""
        kept = node.mesh.replica.jobs.get(self.job_id)
        if kept is None or self._feeds % 10:
            return
        covered = kept.ledger.free.total + sum(hi - lo for lo, hi, _ in kept.ledger.live)
        settled = IntervalSet(*kept.state.done, *kept.state.accepted_tasks)
        assert covered + settled.total == self.tasks, f"{node.name} lost count of tasks"
        for lo, hi, _ in kept.ledger.live:
            assert not kept.ledger.free.overlap(lo, hi) and not settled.overlap(lo, hi)

    def check(self) -> None:
        """At the end: all results right, accepted once, with proof; keepers hold the same bytes; nothing is owed."""
        assert sorted(self.client.results) == list(range(self.tasks))
        assert all(output == output_of(index) for index, output in self.client.results.items())
        keepers = self.keepers()
        assert len(keepers) >= 2, f"{sorted(keepers)} keep the job"
        first = next(iter(keepers.values()))
        for name, kept in keepers.items():
            assert kept.state.ids.ids(b"", b"") == first.state.ids.ids(b"", b""), f"{name} has other records"
            assert kept.state.accepted == first.state.accepted and kept.state.canonical == first.state.canonical
            assert not len(kept.ledger.live) and not kept.ledger.free.total
            self._check_proofs(name, kept)
        for node in self.workers:
            if node.alive and not node.frozen:
                assert not len(node.mesh.worker.outbox), f"{node.name} owes results"
                assert not node.mesh.worker.unstarted and not node.executions

    def _check_proofs(self, name: str, kept: KeptJob) -> None:
        rows = next(node.rows for node in self.workers if node.name == name)
        for lo, hi, batch_id in kept.state.accepted:
            if batch_id not in kept.state.batches:
                assert self.gone_for_good, f"{name} lacks an accepted batch, but no disk was lost"
                continue
            header = open_record(rows[self.job_id, int(RecordKind.BATCH), batch_id])
            batch = check_batch(header.body, rows[self.job_id, COLUMNS_ROW, batch_id])
            assert batch.first <= lo and hi <= batch.first + len(batch)
            assert header.author in {node.id for node in self.workers}

    def summary(self) -> str:
        """Who stands where, for a run that did not end well."""
        lines = [f"client has {len(self.client.results)} results, alive {self.client.alive}"]
        for node in self.workers:
            kept = node.mesh.replica.jobs.get(self.job_id)
            state = "gone" if not node.alive else "frozen" if node.frozen else "well"
            if kept is not None:
                where = "level" if kept.level else "behind"
                state += f", {where}, e{kept.state.replica_epoch}, done {kept.state.done.total}"
                state += f", accepted {kept.state.accepted_tasks.total}, free {list(kept.ledger.free)}"
                state += f", rank {[self.world.nodes[n].name for n in kept.state.replicas]}"
            state += f", owes {len(node.mesh.worker.outbox)}, slots {node.mesh.worker.slots}"
            lines.append(f"{node.name}: {state}")
        return "; ".join(lines)

    @property
    def duplicates(self) -> int:
        return sum(len(node.executed) for node in self.workers) - self.tasks


NETWORKS: tuple[dict[str, Any], ...] = (
    {},
    {"jitter_us": 5 * MS},
    {"loss": 0.02, "doubled": 0.02, "jitter_us": 5 * MS},
    {"loss": 0.10, "doubled": 0.10, "jitter_us": 20 * MS},
)


def run_of(seed: int, *, watch: Callable[[SimNode], None] | None = None) -> Run:
    """The run of a seed, before it is played: the network gets worse with the seed modulo four."""
    return Run(seed, watch=watch, **NETWORKS[seed % len(NETWORKS)])


def main() -> None:
    run = run_of(int(sys.argv[1]))
    try:
        run.play(faults=int(sys.argv[2]) if len(sys.argv) > 2 else 5)
    except AssertionError:
        print("\n".join(run.world.log[-60:]))
        raise
    print(f"seed {run.seed}: {run.world.sent} messages, {run.duplicates} tasks run again")


if __name__ == "__main__":
    main()
