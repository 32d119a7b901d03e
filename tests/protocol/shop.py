"""A worker whose peers are played by the test."""

from __future__ import annotations

from typing import Any

from hearthmesh.crypto.certificates import Role
from hearthmesh.protocol.effects import (
    Effect,
    Execute,
    Penalise,
    Send,
)
from hearthmesh.protocol.events import (
    Event,
    Received,
    TaskFinished,
)
from hearthmesh.protocol.messages import (
    Granted,
    Message,
    Records,
    Steal,
    TableRows,
)
from hearthmesh.protocol.records import (
    Grant,
    HeatDigest,
    Record,
    RecordKind,
    Release,
    ReplicaSet,
    open_record,
    sign_record,
)
from hearthmesh.protocol.stealing.appetite import FOREVER_US
from tests.protocol.cluster import MS, SECOND, Cluster, SimNode, cold


class Shop:
    """One worker, three keepers that only listen, a submitter, and a rogue member."""

    def __init__(self, *, slots: int = 1, estimate_us: int = 100 * MS) -> None:
        self.cluster = Cluster()
        self.worker = self.cluster.add("worker", Role.WORKER)
        self.keepers = [self.cluster.add(f"k{number}", Role.REPLICA) for number in range(3)]
        self.peer = self.cluster.add("peer", Role.WORKER)
        self.client = self.cluster.client()
        self.spec = self.cluster.signed_spec(self.client, 100, estimate_us=estimate_us)
        members = tuple(keeper.id for keeper in self.keepers)
        self.replicas = sign_record(self.client.identity, RecordKind.REPLICA_SET, ReplicaSet(self.spec.id, 0, members))
        self.cluster.run(SECOND)
        if slots:
            self.tell(cold(slots))

    def begin_what_can_be_saved(
        self, appetite_us: int = FOREVER_US, longest_us: int = FOREVER_US, deadline_us: int = 0
    ) -> Execute:
        """A long task with checkpoints runs here, and the peer is cold. appetite_us, longest_us: the peer's."""
        spec = self.cluster.signed_spec(
            self.client, 100, estimate_us=600 * SECOND, checkpoint_us=5 * SECOND, deadline_us=deadline_us
        )
        members = tuple(keeper.id for keeper in self.keepers)
        replicas = sign_record(self.client.identity, RecordKind.REPLICA_SET, ReplicaSet(spec.id, 0, members))
        digest = HeatDigest(
            self.peer.id,
            1,
            1,
            400,
            500,
            1,
            0,
            "room",
            15_000,
            discomfort_mkh=500,
            appetite_us=appetite_us,
            longest_us=longest_us,
        )
        raw = sign_record(self.peer.identity, RecordKind.HEAT, digest).raw
        self.say(self.peer, TableRows(0, False, (raw,), (), (), ()))
        self.tell(cold())
        given = Granted(0, (self.grant(0, 1, job_id=spec.id).raw,), (spec.raw, replicas.raw))
        (first,) = [effect for effect in self.say(self.keepers[0], given) if isinstance(effect, Execute)]
        return first

    def tell(self, event: Event) -> list[Effect]:
        """Effects of an event at the worker; nobody else hears of them."""
        return self.worker.mesh.handle(event, self.cluster.now_us)

    def say(self, peer: SimNode, message: Message) -> list[Effect]:
        return self.worker.mesh.handle(Received(peer.id, message), self.cluster.now_us)

    def grant(self, lo: int, hi: int, epoch: int = 1, *, by: SimNode | None = None, **changes: Any) -> Record:
        fields: dict[str, Any] = dict(
            job_id=self.spec.id, lo=lo, hi=hi, epoch=epoch, holder=self.worker.id, lease_us=3 * SECOND
        )
        fields.update(changes)
        return sign_record((by or self.keepers[0]).identity, RecordKind.GRANT, Grant(**fields))

    def give(self, *grants: Record, by: SimNode | None = None) -> list[Effect]:
        raws = tuple(record.raw for record in grants)
        return self.say(by or self.keepers[0], Granted(0, raws, (self.spec.raw, self.replicas.raw)))

    @property
    def held(self) -> int:
        return self.worker.mesh.worker.unstarted

    def finish(self, run: Execute, done: int, *, cpu_us: int = 0) -> list[Effect]:
        zeros, spent = (0,) * done, (cpu_us,) * done
        return self.tell(
            TaskFinished(run.execution_id, zeros, (b"",) * done, {}, {}, zeros, spent, 0, 0, False)  # type: ignore[arg-type]
        )


def runs(effects: list[Effect]) -> list[tuple[int, int]]:
    return [(effect.first, effect.first + effect.count) for effect in effects if isinstance(effect, Execute)]


def penalties(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, Penalise)]


def records_told(effects: list[Effect], kind: RecordKind) -> list[tuple[bytes, Record]]:
    """(to whom, record) of all records of a kind that were sent as news of a job."""
    found = []
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Records):
            opened = [open_record(raw) for raw in effect.message.records]
            found += [(effect.peer, record) for record in opened if record.kind is kind]
    return found


def released(effects: list[Effect]) -> dict[tuple[int, int], int]:
    """Ranges given back, and to how many replicas."""
    found: dict[tuple[int, int], int] = {}
    for _, record in records_told(effects, RecordKind.RELEASE):
        body: Release = record.body
        found[body.lo, body.hi] = found.get((body.lo, body.hi), 0) + 1
    return found


def steals(effects: list[Effect]) -> list[Steal]:
    return [
        e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Steal) and not e.message.lifeline
    ]
