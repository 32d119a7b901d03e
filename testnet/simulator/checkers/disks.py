"""What is said to be on disk is: invariant 1, and persist before send."""

from __future__ import annotations

from typing import Any, ClassVar

from ....protocol.effects import Notify
from ....protocol.messages import Delivery, Granted, Message, Stored, Submitted
from ....protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW
from ....protocol.records import RecordKind, open_record
from ....protocol.result_keeping import COLUMNS_ROW
from ....protocol.upkeep import FORGOTTEN_ROW
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


class KeptUntilDurable(Checker):
    """A worker settles results only once as many disks as asked for have them. It gives up none of a job that lives.

    Of a job that is over some disk has the mark. What liars decline does not count.
    """

    name = "kept-until-durable"
    invariant = 1
    hears: ClassVar[tuple[type[Message], ...]] = (Stored,)
    says: ClassVar[tuple[type[Message], ...]] = (Delivery,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._owed: dict[int, dict[bytes, tuple[bytes, int]]] = {}

    def born(self, life: Any) -> None:
        self._owed[life.machine.index] = {}

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if isinstance(message, Delivery) and life.machine.honest:
            header = open_record(message.header, check_signature=False)
            view = life.mesh.worker.view(header.body.job_id)
            if header.author == life.machine.id and header.id in life.mesh.worker.outbox._owed:
                count = len(view.replicas) if view is not None else 3
                self._owed[life.machine.index][header.id] = (header.body.job_id, count)

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
            job_id, replicas = mine.pop(batch_id)
            row = (job_id, int(RecordKind.BATCH), batch_id)
            forgotten = (job_id, FORGOTTEN_ROW, job_id)
            disks = [m for m in self.world.nodes if row in m.disk.rows or forgotten in m.disk.rows]
            lost = sum(machine.disk.wiped for machine in self.world.nodes)
            if len(disks) + lost < min(self.world.config.durable_replicas, replicas):
                self.fail(f"{life.machine} lets go of a batch that {len(disks)} disks have")


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

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._stored: dict[bytes, dict[int, int]] = {}

    def noted(self, life: Any, note: Notify) -> None:
        if note.name == "job.submitted":
            machines = [self.world.by_id[node] for node in note.fields["stored_by"]]
            known = self._stored.setdefault(note.fields["job_id"], {})
            known.update({machine.index: machine.disk.wiped for machine in machines})
            # A life that found the job of a former one in the mesh asks nobody: see docs/bugs-found.md.
            if machines:
                self._count_disks(life, note.fields["job_id"], len(note.fields["replicas"]))

    def _count_disks(self, life: Any, job_id: bytes, replicas: int) -> None:
        rows = (job_id, int(RecordKind.SPEC), job_id), (job_id, FORGOTTEN_ROW, job_id)
        disks = sum(any(row in machine.disk.rows for row in rows) for machine in self.world.nodes)
        lost = sum(machine.disk.wiped for machine in self.world.nodes)
        if disks + lost < min(self.world.config.durable_replicas, replicas):
            self.fail(f"{life.machine} calls job {job_id.hex()[:12]} submitted, and {disks} disks have it")

    def at_rest(self) -> None:
        for job_id, stored in self._stored.items():
            surviving = [i for i, wiped in stored.items() if self.world.machines[i].disk.wiped == wiped]
            held = [m for m in self.world.nodes if (job_id, int(RecordKind.SPEC), job_id) in m.disk.rows]
            marked = [m for m in self.world.nodes if (job_id, FORGOTTEN_ROW, job_id) in m.disk.rows]
            if surviving and not held and not marked:
                self.fail(f"job {job_id.hex()[:12]} was acknowledged, and is on no disk")
