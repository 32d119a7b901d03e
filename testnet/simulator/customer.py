"""Who uses the mesh: submits, follows, keeps what it was given, goes away and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...crypto.certificates import Role
from ...protocol.effects import Notify
from ...protocol.events import CancelJob, FollowJob, GiveBack, ListJobs, ResultsTaken, SubmitJob, UnfollowJob
from ...protocol.intervals import IntervalSet
from ...protocol.records import JobSpec, RecordKind
from .engine import MS, SECOND
from .plan import JobPlan

if TYPE_CHECKING:
    from .life import Life
    from .machine import Machine
    from .world import World

TAKING_US = 5 * MS
FIND_AGAIN_US = 500 * MS
SUBMIT_AGAIN_US = 2 * SECOND


@dataclass(slots=True)
class Order:
    """A job of the customer's, and what it has of it: on its own disk, so that no crash takes it.

    taken: by task, the batch that it came in.  batches: those, header and columns.  wrong: tasks of which it was
    given something that is not the result, and by whom.  caught: workers that it found wrong, and when.  outputs: of a
    real job, what its tasks put out; None of a made-up one.  given: of a real job, what came for each task.
    """

    plan: JobPlan
    spec: JobSpec
    outputs: Sequence[bytes] | None = None
    job_id: bytes = b""
    submitted_us: int = 0
    durable_us: int = 0
    finished_us: int = 0
    cancelled: bool = False
    taken: dict[int, bytes] = field(default_factory=dict)
    batches: dict[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    given: dict[int, bytes] = field(default_factory=dict)
    have: IntervalSet = field(default_factory=IntervalSet)
    wrong: dict[int, bytes] = field(default_factory=dict)
    caught: dict[bytes, int] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.taken) == self.spec.tasks

    def signed(self) -> tuple[tuple[int, int, bytes], ...]:
        """From which batches it has them."""
        return tuple((index, index + 1, batch_id) for index, batch_id in sorted(self.taken.items()))


class Customer:
    """Lives on a machine of its own, whose process has no disk."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self._world = world
        self.orders: list[Order] = []

    def expect(self, plan: JobPlan, spec: JobSpec, at_us: int, outputs: Sequence[bytes] | None = None) -> None:
        order = Order(plan, spec, outputs)
        self.orders.append(order)
        sizes = {ref.digest: ref.size_bytes for ref in spec.files}
        sizes |= {pack.digest: pack.size_bytes for pack in spec.packs}
        sizes[spec.program] = spec.program_bytes
        for blob in spec.blob_digests():
            self._world.blobs.put(self.machine.index, blob, sizes[blob])
        self._world.engine.at(at_us, self._submit, order)

    def _submit(self, order: Order) -> None:
        """Once enough of the mesh is known; until it is on disk there."""
        life = self.machine.life
        if order.durable_us or order.cancelled:
            return
        if life is not None and self._knows_enough(life):
            order.submitted_us = order.submitted_us or self._world.engine.now_us
            life.feed(SubmitJob(order.spec))
        self._world.engine.after(SUBMIT_AGAIN_US, self._submit, order)

    def _knows_enough(self, life: Life) -> bool:
        rows = life.mesh.tables.rows(RecordKind.MEMBER)
        keepers = [row for row in rows if row.body.roles & Role.REPLICA]
        return len(keepers) >= min(self._world.config.replicas, len(self._world.nodes))

    def returned(self, life: Life) -> None:
        """A new process, with the same key and what was kept."""
        for order in self.orders:
            if order.durable_us:
                self._world.engine.after(FIND_AGAIN_US, self._find, life, order)

    def _find(self, life: Life, order: Order) -> None:
        if not life.runs or order.cancelled:
            return
        if order.job_id in life.mesh.submitter.jobs:
            self._follow(life, order)
            return
        life.feed(ListJobs(b""))
        self._world.engine.after(FIND_AGAIN_US, self._find, life, order)

    def _follow(self, life: Life, order: Order) -> None:
        life.feed(FollowJob(order.job_id, tuple(order.have), True, order.signed()))

    def cancel(self) -> None:
        """The first job that is not complete."""
        life = self.machine.life
        for order in self.orders:
            if life is not None and order.durable_us and not order.complete and not order.cancelled:
                order.cancelled = True
                life.feed(CancelJob(order.job_id))
                return

    def noted(self, life: Life, note: Notify) -> None:
        """What the machine tells its local observers."""
        fields = note.fields
        if note.name == "job.signed":
            for order in self.orders:
                if not order.job_id and fields["spec"] == order.spec:
                    order.job_id = fields["job_id"]
                    self._world.orders[order.job_id] = order
            return
        known = self._world.orders.get(fields.get("job_id", b""))
        if known is None:
            return
        if note.name == "job.submitted" and not known.durable_us:
            known.durable_us = self._world.engine.now_us
            self._world.engine.after(0, self._find, life, known)
        elif note.name == "job.results":
            self._take(life, known, fields)
        elif note.name == "job.status" and known.complete and fields["heard"] >= known.spec.tasks:
            # A replica has heard that he has all of it: nothing is left to follow.
            self._world.engine.after(0, life.feed, UnfollowJob(known.job_id))
        elif note.name == "job.wanted":
            self._give_back(life, known, fields["batch_ids"], fields["replica"])
        elif note.name == "result.disputed":
            known.caught.setdefault(fields["wrong"], self._world.engine.now_us)

    def _give_back(self, life: Life, order: Order, batch_ids: Sequence[bytes], replica: bytes) -> None:
        for batch_id in batch_ids:
            header, columns = order.batches.get(batch_id, (b"", b""))
            self._world.engine.after(TAKING_US, life.feed, GiveBack(order.job_id, batch_id, replica, header, columns))

    def _take(self, life: Life, order: Order, fields: dict[str, Any]) -> None:
        batch_id, batch = fields["header"].id, fields["batch"]
        order.batches[batch_id] = fields["header"].raw, fields["columns"]
        for lo, hi in fields["parts"]:
            order.have.add(lo, hi)
            for index in range(lo, hi):
                order.taken[index] = batch_id
                output, code = batch.outputs[index - batch.first], batch.exits[index - batch.first]
                right = self._world.output_of(order.job_id, index), self._world.exit_of(order.job_id, index)
                if (output, code) != right:
                    order.wrong[index] = fields["header"].author
                if order.outputs is not None:
                    order.given[index] = output
        if order.complete and not order.finished_us:
            order.finished_us = self._world.engine.now_us
        self._world.engine.after(TAKING_US, self._kept, life, order, batch_id)

    def _kept(self, life: Life, order: Order, batch_id: bytes) -> None:
        """It is on the customer's disk. With all of it he follows as `hearth results` does: until that is confirmed."""
        life.feed(ResultsTaken(order.job_id, batch_id))
        if order.complete:
            life.feed(UnfollowJob(order.job_id))
            self._follow(life, order)
