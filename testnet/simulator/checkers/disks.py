"""What is said to be on disk is: invariant 1, and persist before send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from ....protocol.effects import Execute, Notify, Unpersist
from ....protocol.events import TaskFinished
from ....protocol.messages import Declined, Delivery, Granted, Message, Stored, Submitted
from ....protocol.outbox import OWED_COLUMNS_ROW, OWED_HEADER_ROW
from ....protocol.records import RecordKind, open_record
from ....protocol.result_keeping import COLUMNS_ROW
from ....protocol.upkeep import FORGOTTEN_ROW
from ..disk import RowKey, Write
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
    another disk by then.  liars: those that said that they have it, or that they decline it."""

    job_id: bytes
    replicas: int
    disks: dict[int, int] = field(default_factory=dict)
    liars: dict[int, None] = field(default_factory=dict)


class KeptUntilDurable(Checker):
    """A worker lets go of a result, in its memory or on its disk, only once as many disks as asked for have it.

    Or once the job is over, of which some disk has the mark. Liars who say that they have it, or decline it, count as
    disks.
    """

    name = "kept-until-durable"
    invariant = 1
    hears: ClassVar[tuple[type[Message], ...]] = (Stored,)
    says: ClassVar[tuple[type[Message], ...]] = (Delivery, Stored, Declined)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._owed: dict[int, dict[bytes, Owed]] = {}

    def born(self, life: Any) -> None:
        self._owed[life.machine.index] = {}

    def restored(self, life: Any) -> None:
        for batch_id, owed in life.mesh.worker.outbox._owed.items():
            self._begin(life, batch_id, owed.job_id, len(owed.replicas))

    def ended(self, life: Any, run: Execute, event: TaskFinished) -> None:
        header = life.mesh.worker.made(run.execution_id)
        if header is not None:
            self._begin(life, header.id, header.body.job_id, self._replicas(life, header.body.job_id))

    def _begin(self, life: Any, batch_id: bytes, job_id: bytes, replicas: int) -> None:
        if life.machine.honest:
            self._owed[life.machine.index].setdefault(batch_id, Owed(job_id, replicas))

    def _replicas(self, life: Any, job_id: bytes) -> int:
        view = life.mesh.worker.view(job_id)
        return len(view.replicas) if view is not None else self.world.config.replicas

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        mine = self._owed.get(self.world.by_id[peer].index, {})
        match message:
            case Stored(_, batch_ids):
                for batch_id in batch_ids:
                    if batch_id in mine:
                        mine[batch_id].disks[life.machine.index] = life.machine.disk.wiped
                        self._note_liar(life, mine[batch_id])
            case Declined(_, batch_id, _):
                if batch_id in mine:
                    self._note_liar(life, mine[batch_id])
            case Delivery(raw, _):
                header = open_record(raw, check_signature=False)
                owed = self._owed[life.machine.index].get(header.id)
                if owed is not None:
                    owed.replicas = self._replicas(life, owed.job_id)

    @staticmethod
    def _note_liar(life: Any, owed: Owed) -> None:
        if not life.machine.honest:
            owed.liars[life.machine.index] = None

    # When it may have let go of some: the answer to a delivery, a note, a row that goes, and whatever else happens.

    def heard(self, life: Any, peer: bytes, message: Message) -> None:
        self._look(life)

    def noted(self, life: Any, note: Notify) -> None:
        if note.name == "outbox.given-up":
            self._look(life)

    def writing(self, life: Any, write: Write) -> None:
        if isinstance(write, Unpersist) and write.kind in (OWED_HEADER_ROW, OWED_COLUMNS_ROW):
            owed = self._owed[life.machine.index].pop(write.key, None)
            if owed is not None:
                self._judge(life, write.key, owed)

    def sampled(self, life: Any) -> None:
        self._look(life)

    def died(self, life: Any) -> None:
        self._look(life)

    def at_rest(self) -> None:
        for machine in self.world.nodes:
            if machine.life is not None:
                self._look(machine.life)

    def _look(self, life: Any) -> None:
        mine, owed = self._owed[life.machine.index], life.mesh.worker.outbox._owed
        for batch_id in [each for each in mine if each not in owed] if mine else ():
            self._judge(life, batch_id, mine.pop(batch_id))

    def _judge(self, life: Any, batch_id: bytes, owed: Owed) -> None:
        if any((owed.job_id, FORGOTTEN_ROW, owed.job_id) in machine.disk.rows for machine in self.world.nodes):
            return
        have, lost = _disks(self.world, ((owed.job_id, int(RecordKind.BATCH), batch_id),), owed.disks)
        lying = sum(index not in have and index not in lost for index in owed.liars)
        if len(have) + len(lost) + lying < min(self.world.config.durable_replicas, owed.replicas):
            disks = f"{len(have)} disks have, and {len(lost)} had and were lost"
            self.fail(f"{life.machine} lets go of a result of a job that lives, which {disks}")


def _disks(world: Any, rows: tuple[RowKey, ...], said: dict[int, int]) -> tuple[list[int], list[int]]:
    """Machines whose disks have one of the rows, and those that had it and were given another disk since.

    said: how often each machine that said it has them had been given another disk by then.
    """
    have = [machine.index for machine in world.nodes if any(row in machine.disk.rows for row in rows)]
    lost = [at for at, wiped in said.items() if world.machines[at].disk.wiped != wiped and at not in have]
    return have, lost


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
        have, lost = _disks(self.world, rows, stored)
        if len(have) + len(lost) < min(self.world.config.durable_replicas, replicas):
            text = f"{len(have)} disks have it, and {len(lost)} had it and were lost"
            self.fail(f"{life.machine} calls job {job_id.hex()[:12]} submitted, and {text}")

    def at_rest(self) -> None:
        for job_id, stored in self._stored.items():
            surviving = [i for i, wiped in stored.items() if self.world.machines[i].disk.wiped == wiped]
            held = [m for m in self.world.nodes if (job_id, int(RecordKind.SPEC), job_id) in m.disk.rows]
            marked = [m for m in self.world.nodes if (job_id, FORGOTTEN_ROW, job_id) in m.disk.rows]
            if surviving and not held and not marked:
                self.fail(f"job {job_id.hex()[:12]} was acknowledged, and is on no disk")
