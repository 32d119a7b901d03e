"""What is said to be on disk is: invariant 1, and persist before send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ....protocol.effects import Notify
from ....protocol.messages import Delivery, Granted, Message, Stored, Submitted
from ....protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW
from ....protocol.records import RecordKind, open_record
from ....protocol.result_keeping import COLUMNS_ROW
from ....protocol.upkeep import FORGOTTEN_ROW
from ..disk import RowKey
from .base import Checker
from .leases import own_root_grants


class PersistFirst(Checker):
    """An acknowledgment or a grant leaves after what it rests on is durable."""

    name = "persist-before-send"
    invariant = 1
    says: ClassVar[tuple[type[Message], ...]] = (Stored, Submitted, Granted)

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not life.machine.honest:
            return
        rows = life.machine.disk.rows
        match message:
            case Stored(job_id, batch_ids):
                if (job_id, FORGOTTEN_ROW, job_id) in rows:
                    return
                for batch_id in batch_ids:
                    for kind in (int(RecordKind.BATCH), COLUMNS_ROW):
                        if (job_id, kind, batch_id) not in rows:
                            self.fail(f"{life.machine} says that a batch is stored, and its row {kind} is not on disk")
            case Submitted(_, job_id):
                if (job_id, int(RecordKind.SPEC), job_id) not in rows:
                    self.fail(f"{life.machine} says that a job is submitted, and its spec is not on disk")
            case Granted():
                for record in own_root_grants(life.machine.id, message):
                    if (record.body.job_id, int(RecordKind.GRANT), record.id) not in rows:
                        self.fail(
                            f"{life.machine} grants [{record.body.lo}, {record.body.hi}), and that is not on disk"
                        )


@dataclass(slots=True)
class Owed:
    """A batch that a worker owes. replicas: of its job.  disks: how often each who said that it has it, had been given
    another disk by then."""

    job_id: bytes
    replicas: int
    disks: dict[int, int] = field(default_factory=dict)


class KeptUntilDurable(Checker):
    """A worker settles results only once as many disks as asked for have them. It gives up none of a job that lives.

    Of a job that is over some disk has the mark. What liars decline does not count.
    """

    name = "kept-until-durable"
    invariant = 1
    hears: ClassVar[tuple[type[Message], ...]] = (Stored,)
    says: ClassVar[tuple[type[Message], ...]] = (Delivery, Stored)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._owed: dict[int, dict[bytes, Owed]] = {}

    def born(self, life: Any) -> None:
        self._owed[life.machine.index] = {}

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if isinstance(message, Stored):
            mine = self._owed.get(self.world.by_id[peer].index, {})
            for batch_id in message.batch_ids:
                if batch_id in mine:
                    mine[batch_id].disks[life.machine.index] = life.machine.disk.wiped
        elif isinstance(message, Delivery) and life.machine.honest:
            header = open_record(message.header, check_signature=False)
            view = life.mesh.worker.view(header.body.job_id)
            if header.author == life.machine.id and header.id in life.mesh.worker.outbox._owed:
                count = len(view.replicas) if view is not None else 3
                owed = self._owed[life.machine.index].setdefault(header.id, Owed(header.body.job_id, count))
                owed.replicas = count

    def noted(self, life: Any, note: Notify) -> None:
        if note.name == "outbox.given-up":
            job_id, reason = note.fields["job_id"], note.fields["reason"]
            mine = self._owed[life.machine.index]
            for batch_id in [each for each in mine if each not in life.mesh.worker.outbox._owed]:
                del mine[batch_id]
            honest = life.machine.honest and all(machine.honest for machine in self.world.nodes)
            if honest and not any((job_id, FORGOTTEN_ROW, job_id) in m.disk.rows for m in self.world.nodes):
                self.fail(f"{life.machine} gives up a result of a job that lives: {reason}")

    def heard(self, life: Any, peer: bytes, message: Message) -> None:
        assert isinstance(message, Stored)
        mine = self._owed[life.machine.index]
        for batch_id in message.batch_ids:
            if batch_id not in mine or batch_id in life.mesh.worker.outbox._owed:
                continue
            owed = mine.pop(batch_id)
            rows = (owed.job_id, int(RecordKind.BATCH), batch_id), (owed.job_id, FORGOTTEN_ROW, owed.job_id)
            disks, lost = _disks(self.world, rows, owed.disks)
            if disks + lost < min(self.world.config.durable_replicas, owed.replicas):
                self.fail(f"{life.machine} lets go of a batch that {disks} disks have, and {lost} had and were lost")


def _disks(world: Any, rows: tuple[RowKey, ...], said: dict[int, int]) -> tuple[int, int]:
    """How many disks have one of the rows, and how many had it and were lost since.

    said: how often each machine that said it has them had been given another disk by then.
    """
    have = [machine.index for machine in world.nodes if any(row in machine.disk.rows for row in rows)]
    lost = [at for at, wiped in said.items() if world.machines[at].disk.wiped != wiped and at not in have]
    return len(have), len(lost)


class Restores(Checker):
    """A new life knows every job and every batch that its disk holds, and every result that it owes."""

    name = "restore"
    invariant = 1

    def restored(self, life: Any) -> None:
        rows, jobs = life.machine.disk.rows, life.mesh.replica.jobs
        for job_id, kind, key in rows:
            if (job_id, FORGOTTEN_ROW, job_id) in rows:
                continue
            if kind == RecordKind.SPEC and job_id not in jobs:
                self.fail(f"{life.machine} has a job on disk, and came back without it")
            elif kind == RecordKind.BATCH and (job_id not in jobs or key not in jobs[job_id].state.batches):
                self.fail(f"{life.machine} has a batch on disk, and came back without it")
        for job_id, kind, key in rows:
            whole = kind == OWED_HEADER_ROW and (job_id, OWED_COLUMNS_ROW, key) in rows
            if whole and key not in life.mesh.worker.outbox._owed:
                self.fail(f"{life.machine} has a result on disk that it owes, and came back without it")


class SubmittedSurvives(Checker):
    """A job is called submitted once as many disks as asked for have it.

    From then on it is on some disk, unless each disk that acknowledged it was lost.
    """

    name = "no-job-lost"
    invariant = 1
    says: ClassVar[tuple[type[Message], ...]] = (Submitted,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._said: dict[bytes, dict[int, int]] = {}
        self._stored: dict[bytes, dict[int, int]] = {}

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        assert isinstance(message, Submitted)
        self._said.setdefault(message.job_id, {})[life.machine.index] = life.machine.disk.wiped

    def noted(self, life: Any, note: Notify) -> None:
        if note.name == "job.submitted":
            job_id, said = note.fields["job_id"], self._said.get(note.fields["job_id"], {})
            indices = [self.world.by_id[node].index for node in note.fields["stored_by"]]
            known = self._stored.setdefault(job_id, {})
            known.update({index: said[index] for index in indices if index in said})
            self._count_disks(life, job_id, len(note.fields["replicas"]), known)

    def _count_disks(self, life: Any, job_id: bytes, replicas: int, stored: dict[int, int]) -> None:
        rows = (job_id, int(RecordKind.SPEC), job_id), (job_id, FORGOTTEN_ROW, job_id)
        disks, lost = _disks(self.world, rows, stored)
        if disks + lost < min(self.world.config.durable_replicas, replicas):
            text = f"{disks} disks have it, and {lost} had it and were lost"
            self.fail(f"{life.machine} calls job {job_id.hex()[:12]} submitted, and {text}")

    def at_rest(self) -> None:
        for job_id, stored in self._stored.items():
            surviving = [i for i, wiped in stored.items() if self.world.machines[i].disk.wiped == wiped]
            held = [m for m in self.world.nodes if (job_id, int(RecordKind.SPEC), job_id) in m.disk.rows]
            marked = [m for m in self.world.nodes if (job_id, FORGOTTEN_ROW, job_id) in m.disk.rows]
            if surviving and not held and not marked:
                self.fail(f"job {job_id.hex()[:12]} was acknowledged, and is on no disk")
