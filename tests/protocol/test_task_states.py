"""Lives go only the ways that their tables have, and go each of them; docs show the same tables."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.protocol.config import LOCAL
from hearthmesh.protocol.events import (
    BlobsFailed,
    CancelJob,
    Drain,
    Event,
    FollowJob,
    Started,
    StorageFailed,
    StorageRecovered,
    SubmitJob,
    UnfollowJob,
)
from hearthmesh.protocol.granting import TASK_TRANSITIONS, Ledger, TaskFinding, TaskState
from hearthmesh.protocol.jobs import JobState
from hearthmesh.protocol.lives import (
    DELIVERY_TRANSITIONS,
    KEPT_TRANSITIONS,
    NODE_TRANSITIONS,
    SUBMISSION_TRANSITIONS,
    DeliveryState,
    KeptState,
    NodeState,
    SubmissionState,
    delivery_states,
    kept_state,
    node_state,
    submission_state,
)
from hearthmesh.protocol.messages import Message, Stored, Submitted
from hearthmesh.protocol.records import (
    Acceptance,
    AcceptedBatch,
    BatchHeader,
    Grant,
    JobSpec,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
    sign_record,
)
from tests.docs_diagrams import DOCS, documented_diagram, render_table
from tests.protocol.chaos import run_of
from tests.protocol.cluster import MS, SECOND, WARM, Cluster, SimNode, cold
from tests.protocol.pages import DIAGRAMS, wire_tables, with_tables
from tests.protocol.stories import STORIES

# -- a task at one replica ----------------------------------------------------------------------------------

TASKS = 6
SUBMITTER, REPLICA, *WORKERS = [Identity.from_seed(bytes([n]) * 32) for n in range(1, 6)]
SPEC = sign_record(
    SUBMITTER,
    RecordKind.SPEC,
    JobSpec(1, bytes(32), b"", "job", "wasm", "function", bytes(32), 1, "", "hearth_task", (), TASKS),
)
REPLICAS = sign_record(SUBMITTER, RecordKind.REPLICA_SET, ReplicaSet(SPEC.id, 0, (REPLICA.node_id,)))
LEASE_US = 1000


class Ways:
    """One ledger on which random things happen, and the ways that its tasks went."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.state = JobState(SPEC)
        self.state.merge(REPLICAS)
        self.ledger = Ledger(self.state, sweep_us=100)
        self.ledger.rebuild(0, LEASE_US)
        self.now_us = 0
        self.grants: list[Record] = []
        self.batches: list[Record] = []
        self.gone: dict[tuple[TaskState, TaskFinding], None] = {}

    def step(self) -> None:
        self.now_us += self.rng.randrange(400)
        before = [self.ledger.task_state(index) for index in range(TASKS)]
        finding, (lo, hi) = self._happen()
        for index in range(TASKS):
            after = self.ledger.task_state(index)
            way = (before[index], finding)
            if after is not before[index]:
                assert TASK_TRANSITIONS.get(way) is after, f"{way} led to {after!r}"
                self.gone[way] = None
            elif lo <= index < hi and TASK_TRANSITIONS.get(way) is after:
                self.gone[way] = None

    def _happen(self) -> tuple[TaskFinding, tuple[int, int]]:
        lo = self.rng.randrange(TASKS)
        hi = self.rng.randrange(lo + 1, TASKS + 1)
        finding = self.rng.choice([*TaskFinding, TaskFinding.GRANTED, TaskFinding.EXPIRED])
        match finding:
            case TaskFinding.GRANTED:
                self._apply(self._grant(lo, hi))
            case TaskFinding.RELEASED:
                return finding, self._release()
            case TaskFinding.RENEWED:
                return finding, self._renew()
            case TaskFinding.EXPIRED:
                if self.rng.random() < 0.5:
                    self.ledger.free_holder(self.rng.choice(WORKERS).node_id)
                else:
                    self.ledger.expire(self.now_us)
            case TaskFinding.RESTARTED:
                lo, hi = 0, TASKS
                self.ledger.rebuild(self.now_us, LEASE_US)
            case TaskFinding.DELIVERED:
                if self.rng.random() < 0.3:
                    self._apply(self._batch(lo, min(hi, lo + 1)))
                    return finding, (lo, min(hi, lo + 1))
                return finding, (0, 0)
            case TaskFinding.ACCEPTED:
                if self.rng.random() < 0.3:
                    accepted = (AcceptedBatch(bytes(32), lo, lo + 1),)
                    self._apply(sign_record(SUBMITTER, RecordKind.ACCEPTANCE, Acceptance(SPEC.id, accepted)))
                    return finding, (lo, lo + 1)
                return finding, (0, 0)
        return finding, (lo, hi)

    def _apply(self, record: Record) -> None:
        if self.state.merge(record):
            self.ledger.apply(record, self.now_us)

    def _grant(self, lo: int, hi: int) -> Record:
        holder = self.rng.choice(WORKERS).node_id
        body = Grant(SPEC.id, lo, hi, self.state.next_epoch(lo, hi), holder, LEASE_US)
        record = sign_record(REPLICA, RecordKind.GRANT, body)
        self.grants.append(record)
        return record

    def _batch(self, lo: int, hi: int) -> Record:
        root = self.rng.randbytes(32)
        body = BatchHeader(SPEC.id, lo, hi - lo, 1, root, 0, 10, 0, 5, 5, False, b"")
        return sign_record(self.rng.choice(WORKERS), RecordKind.BATCH, body)

    def _release(self) -> tuple[int, int]:
        lo = self.rng.randrange(TASKS)
        # Every third is of a grant that has not come here.
        granted = (
            self._grant(lo, lo + 1) if not self.grants or self.rng.random() < 0.3 else self.rng.choice(self.grants)
        )
        holder = next(worker for worker in WORKERS if worker.node_id == granted.body.holder)
        body = Release(SPEC.id, granted.body.lo, granted.body.hi, granted.raw)
        self._apply(sign_record(holder, RecordKind.RELEASE, body))
        return granted.body.lo, granted.body.hi

    def _renew(self) -> tuple[int, int]:
        if not self.grants:
            return 0, 0
        body = self.rng.choice(self.grants).body
        self.ledger.renew(body.holder, body.lo, body.hi, body.epoch, self.now_us + LEASE_US)
        return body.lo, body.hi


def test_tasks_go_the_ways_of_their_table_and_each_of_them() -> None:
    gone: dict[tuple[TaskState, TaskFinding], None] = {}
    for seed in range(60):
        ways = Ways(seed)
        for _ in range(40):
            ways.step()
        gone |= ways.gone
    assert set(gone) == set(TASK_TRANSITIONS)


# -- the other lives, in whole runs -------------------------------------------------------------------------


class Lives:
    """Looks at every node after every event; keeps which state followed which."""

    def __init__(self) -> None:
        self._seen: dict[type[Enum], set[tuple[Enum, Enum]]] = {}
        self._jobs: dict[bytes, None] = {}
        self._last: dict[tuple[object, ...], Enum] = {}

    def look(self, node: SimNode) -> None:
        mesh = node.mesh
        self._note((mesh, "node"), node_state(mesh))
        for job_id in list(mesh.submitter.jobs):
            self._note((mesh, "own", job_id), submission_state(mesh.submitter.jobs.get(job_id)))
            self._jobs[job_id] = None
        for job_id in self._jobs:
            self._note((mesh, "kept", job_id), kept_state(mesh.replica, job_id))
        for job_id in self._known(mesh, "own"):
            self._note((mesh, "own", job_id), submission_state(mesh.submitter.jobs.get(job_id)))
        owed = delivery_states(mesh.worker.outbox)
        for batch_id in [*owed, *self._known(mesh, "owed")]:
            self._note((mesh, "owed", batch_id), owed.get(batch_id, DeliveryState.SETTLED))
            if batch_id not in owed:
                # Run again after a fault, it may be the very same batch.
                del self._last[mesh, "owed", batch_id]

    def _known(self, mesh: object, kind: str) -> list[bytes]:
        return [key[2] for key in self._last if key[0] is mesh and key[1] == kind]  # type: ignore[misc]

    def _note(self, key: tuple[object, ...], state: Enum) -> None:
        before = self._last.get(key)
        self._last[key] = state
        if before is not None and before is not state:
            self._seen.setdefault(type(state), set()).add((before, state))

    def between(self, kind: type[Enum]) -> set[tuple[Enum, Enum]]:
        return self._seen.get(kind, set())


def arrows(transitions: Mapping[tuple[Enum, object], Enum]) -> set[tuple[Enum, Enum]]:
    return {(before, after) for (before, _), after in transitions.items() if before is not after}


class Watched(Cluster):
    """A cluster whose nodes' lives are looked at."""

    def __init__(self, lives: Lives) -> None:
        super().__init__(task_us=50 * MS, config=replace(LOCAL, forget_payload_us=5 * SECOND))
        self.lives = lives

    def feed(self, node: SimNode, event: Event) -> None:
        if node.alive and not node.frozen and not isinstance(event, Started):
            self.lives.look(node)
        super().feed(node, event)
        if node.alive and not node.frozen:
            self.lives.look(node)


def _submitted(cluster: Cluster, client: SimNode, tasks: int, nonce: bytes = b"") -> bytes:
    cluster.feed(client, SubmitJob(cluster.spec(tasks, nonce=nonce)))
    return next(reversed(client.mesh.submitter.jobs))


def _ordinary_day(cluster: Watched) -> None:
    """A job from end to end, followed, left, followed again; rooms get warm and cold; all leave."""
    workers, client = cluster.workers(4), cluster.client()
    cluster.run(3 * SECOND)
    job = _submitted(cluster, client, 60)
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    cluster.feed(client, FollowJob(job, (), True))
    cluster.run(100 * MS)
    cluster.feed(workers[0], WARM)
    cluster.feed(client, UnfollowJob(job))
    cluster.run(10 * MS)
    cluster.feed(workers[0], cold())
    cluster.feed(workers[1], StorageFailed("full"))
    cluster.run(300 * MS)
    cluster.feed(workers[1], StorageRecovered())
    cluster.feed(client, FollowJob(job, tuple((index, index + 1) for index in sorted(client.results)), True))
    cluster.run_until(lambda: bool(client.noted("job.accepted")))
    cluster.feed(workers[0], WARM)
    cluster.run(cluster.config.forget_payload_us + 5 * SECOND)
    for worker in (workers[0], workers[1], client):
        cluster.feed(worker, Drain())
    cluster.run(SECOND)


def _troubled_day(cluster: Watched) -> None:
    """Jobs refused, cancelled early and late, accepted although cancelled; nodes that leave in the middle of work."""
    workers, client = cluster.workers(4), cluster.client()
    cluster.run(3 * SECOND)
    refused = _submitted(cluster, client, 20_000_000)
    cluster.run(SECOND)
    assert refused not in client.mesh.submitter.jobs
    cluster.feed(client, CancelJob(_submitted(cluster, client, 400, nonce=b"early")))
    stored = _submitted(cluster, client, 400, nonce=b"stored")
    cluster.run_until(lambda: len(client.noted("job.submitted")) == 2)
    cluster.feed(client, CancelJob(stored))
    followed = _submitted(cluster, client, 400, nonce=b"followed")
    cluster.feed(client, FollowJob(followed, (), True))
    cluster.run(200 * MS)
    cluster.feed(workers[0], WARM)
    cluster.feed(workers[1], Drain())
    cluster.feed(workers[2], Drain())
    cluster.feed(workers[2], Drain())
    cluster.feed(workers[0], Drain())
    cluster.run(20 * MS)
    cluster.feed(client, CancelJob(followed))
    cluster.run(3 * SECOND)


def _late_acceptance(cluster: Watched) -> None:
    """The last acceptance is signed after the client stopped to follow, or had cancelled."""
    cluster.workers(3)
    client = cluster.client()
    cluster.run(3 * SECOND)
    for nonce, then in ((b"unfollow", UnfollowJob), (b"cancel", CancelJob)):
        job = _submitted(cluster, client, 4, nonce=nonce)
        cluster.run_until(lambda job=job: client.mesh.submitter.jobs[job].durable)  # type: ignore[misc]
        cluster.feed(client, FollowJob(job, (), True))
        own = client.mesh.submitter.jobs[job]
        cluster.run_until(lambda own=own: own.state.complete and bool(own.received))  # type: ignore[misc]
        cluster.feed(client, then(job))
        client.results.clear()
        cluster.run(SECOND)


def _slow_replicas(cluster: Watched) -> None:
    """Acknowledgments that come late or never; blobs that cannot be had; a submission followed before it is stored."""
    blocked: dict[type[Message], None] = {Stored: None}
    cluster.blocked = lambda _a, _b, message: type(message) in blocked
    workers, client = cluster.workers(3), cluster.client()
    cluster.run(3 * SECOND)
    blocked[Submitted] = None
    job = _submitted(cluster, client, 2)
    cluster.feed(client, FollowJob(job, (), True))
    cluster.run(500 * MS)
    del blocked[Submitted]
    cluster.run_until(lambda: bool(client.noted("job.submitted")))
    cluster.run(3 * SECOND)
    blocked.clear()
    cluster.run(3 * SECOND)
    keeper = workers[0].mesh.replica
    failing = _submitted(cluster, client, 2, nonce=b"no blobs")
    cluster.run_until(lambda: keeper.is_fetching(failing))
    cluster.feed(workers[0], BlobsFailed(failing, "not found"))
    cluster.run(SECOND)


def _keepers_come_back(cluster: Watched) -> None:
    """A keeper returns to an open job, to a complete one, and with an empty disk."""
    workers, client = cluster.workers(5), cluster.client()
    cluster.run(3 * SECOND)
    for nonce, wait_us, empty in ((b"open", 300 * MS, False), (b"complete", 6 * SECOND, False), (b"disk", 0, True)):
        job = _submitted(cluster, client, 120, nonce)
        cluster.run_until(lambda job=job: client.mesh.submitter.jobs[job].durable)  # type: ignore[misc]
        keeper = next(worker for worker in workers if job in worker.mesh.replica.jobs)
        cluster.run(200 * MS)
        cluster.kill(keeper)
        cluster.run(wait_us)
        if empty:
            keeper.rows.clear()
        cluster.restart(keeper)
        cluster.run(6 * SECOND)


def _cancelled_before_it_is_level(cluster: Watched) -> None:
    """A keeper has just come back, and has not yet heard what went on, when the job is cancelled."""
    workers, client = cluster.workers(5), cluster.client()
    cluster.run(3 * SECOND)
    job = _submitted(cluster, client, 120)
    cluster.run_until(lambda: client.mesh.submitter.jobs[job].durable)
    keeper = next(worker for worker in workers if job in worker.mesh.replica.jobs)
    cluster.kill(keeper)
    cluster.run(300 * MS)
    cluster.restart(keeper)
    cluster.feed(client, CancelJob(job))
    cluster.run(SECOND)


def _leaving_with_debts(cluster: Watched) -> None:
    """Asked to leave while results are not acknowledged: cold, and warm. And a node that steals from itself."""
    cluster.blocked = lambda _a, _b, message: isinstance(message, Stored)
    workers, client = cluster.workers(3), cluster.client()
    cluster.run(3 * SECOND)
    for worker in workers:
        cluster.feed(worker, WARM)
    _submitted(cluster, client, 12)
    cluster.run(SECOND)
    for worker in workers:
        cluster.feed(worker, cold())
    cluster.run(3 * SECOND)
    assert all(len(worker.mesh.worker.outbox) for worker in workers)
    cluster.feed(workers[0], WARM)
    for worker in workers:
        cluster.feed(worker, Drain())
    cluster.run(SECOND)


def _followed_early(cluster: Watched) -> None:
    cluster.blocked = lambda a, _b, message: isinstance(message, Submitted)
    cluster.workers(3)
    client = cluster.client()
    cluster.run(3 * SECOND)
    job = _submitted(cluster, client, 40)
    cluster.feed(client, FollowJob(job, (), True))
    cluster.run(300 * MS)
    cluster.blocked = lambda _a, _b, _m: False
    cluster.run_until(lambda: bool(client.noted("job.submitted")))


@pytest.fixture(scope="module")
def lives() -> Lives:
    """What was seen in ordinary, troubled and chaotic days."""
    lives = Lives()
    days: list[Callable[[Watched], None]] = [
        _ordinary_day,
        _troubled_day,
        _late_acceptance,
        _slow_replicas,
        _followed_early,
        _keepers_come_back,
        _cancelled_before_it_is_level,
        _leaving_with_debts,
    ]
    for day in days:
        day(Watched(lives))
    for seed in (0, 1, 2):
        run_of(seed, watch=lives.look).play(faults=8)
    return lives


LIVES: dict[type[Enum], Mapping[tuple[Enum, object], Enum]] = {
    NodeState: NODE_TRANSITIONS,
    SubmissionState: SUBMISSION_TRANSITIONS,
    KeptState: KEPT_TRANSITIONS,
    DeliveryState: DELIVERY_TRANSITIONS,
}  # type: ignore[assignment]


@pytest.mark.parametrize("kind", LIVES, ids=lambda kind: kind.__name__)
def test_lives_go_the_ways_of_their_table_and_each_of_them(kind: type[Enum], lives: Lives) -> None:
    assert lives.between(kind) == arrows(LIVES[kind])


# -- docs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", DIAGRAMS)
def test_page_shows_the_table(page: str) -> None:
    assert documented_diagram(page) == render_table(DIAGRAMS[page]), "python -m tests.protocol.pages"


def test_wire_page_has_every_message_as_it_is() -> None:
    page = (DOCS / "wire.md").read_text(encoding="utf-8")
    assert page == with_tables(page) and wire_tables() in page, "python -m tests.protocol.pages"


def test_protocol_page_names_every_story() -> None:
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    assert [name for name in STORIES if f"transcripts/{name}.txt" not in page] == []
