"""Jobs: no task lost, each accepted once and with proof, replicas that agree, and an end. Invariants 1, 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from ....crypto.certificates import Certificate, Role
from ....crypto.signing import Context, verify
from ....protocol.batches import BatchError, check_batch
from ....protocol.effects import Notify
from ....protocol.intervals import IntervalSet
from ....protocol.kept_job import KeptJob
from ....protocol.messages import Message, Records
from ....protocol.records import RecordKind, open_record
from ....protocol.upkeep import FORGOTTEN_ROW
from ....protocol.verification.policy import parse_policy
from ..plan import ALONE
from .base import Checker


class NoTaskLost(Checker):
    """Each replica counts every task once: settled, leased or free; and every copy that is asked for and open."""

    name = "no-task-lost"
    invariant = 1

    def sampled(self, life: Any) -> None:
        for kept in life.mesh.replica.jobs.values():
            self._check(life, kept)

    def at_rest(self) -> None:
        for machine in self.world.nodes:
            if machine.well and machine.life is not None:
                for kept in machine.life.mesh.replica.jobs.values():
                    self._check(machine.life, kept)

    def _check(self, life: Any, kept: KeptJob) -> None:
        settled = kept.state.done.total + sum(
            hi - lo for a, b in kept.state.accepted_tasks for lo, hi in kept.state.done.gaps(a, b)
        )
        tasks = kept.state.spec.tasks
        leased = sum(hi - lo for lo, hi, lease in kept.ledger.live.pieces(0, tasks) if lease is not None)
        free = kept.ledger.free_in([(0, tasks)])
        if settled + leased + free != tasks:
            self.fail(f"{life.machine}: {settled} settled, {leased} leased, {free} free of {tasks}")
        for lo, hi in kept.state.to_recheck:
            for a, b in kept.ledger.free.gaps(lo, hi):
                if any(lease is None for _, _, lease in kept.ledger.live.pieces(a, b)):
                    self.fail(f"{life.machine}: some of copies [{a}, {b}) are neither leased nor free")


class AcceptedOnce(Checker):
    """The customer gets each task once, and never signs for two batches of one task, in however many lives."""

    name = "accepted-once"
    invariant = 2
    says: ClassVar[tuple[type[Message], ...]] = (Records,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._signed_by: dict[tuple[int, bytes], dict[int, bytes]] = {}

    def noted(self, life: Any, note: Notify) -> None:
        order = self.world.orders.get(note.fields.get("job_id", b"")) if note.name == "job.results" else None
        if order is None:
            return
        for lo, hi in note.fields["parts"]:
            again = [index for index in range(lo, hi) if index in order.taken]
            if again:
                self.fail(f"{life.machine} is given task {again[0]} again")

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not isinstance(message, Records) or life.machine.slots:
            return
        for raw in message.records:
            record = open_record(raw, check_signature=False)
            if record.kind is not RecordKind.ACCEPTANCE or record.author != life.machine.id:
                continue
            signed = self._signed_by.setdefault((life.machine.index, message.job_id), {})
            for part in record.body.accepted:
                for index in range(part.lo, part.hi):
                    if signed.setdefault(index, part.batch_id) != part.batch_id:
                        self.fail(f"{life.machine} accepts task {index} from two batches")


class ProofValid(Checker):
    """What a customer is given was signed by an admitted worker; an honest one's output and exit code are right."""

    name = "proof-valid"
    invariant = 2

    def noted(self, life: Any, note: Notify) -> None:
        if note.name != "job.results":
            return
        header, batch = note.fields["header"], note.fields["batch"]
        certificate = Certificate.from_bytes(header.body.certificate)
        issuer = certificate.issuer == self.world.definition.authorities[0] and certificate.has_valid_signature()
        if not issuer or certificate.subject != header.author or not certificate.roles & Role.WORKER:
            self.fail("a result of somebody who was never admitted as a worker")
        _, _, body, signature = msgspec.msgpack.decode(header.raw)
        if not verify(header.author, Context.BATCH, body, signature):
            self.fail("a result whose header nobody signed")
        try:
            check_batch(header.body, note.fields["columns"])
        except BatchError as error:
            self.fail(f"a result that does not prove itself: {error}")
        worker = self.world.by_id.get(header.author)
        if worker is None or not worker.honest:
            return
        for index, (code, output) in enumerate(zip(batch.exits, batch.outputs, strict=True), batch.first):
            if output != self.world.output_of(header.body.job_id, index):
                self.fail(f"{worker} put out something else for task {index}")
            if code != self.world.exit_of(header.body.job_id, index):
                self.fail(f"{worker} says that task {index} ended with {code}")


class WrongAccepted(Checker):
    """A wrong result is accepted nowhere where nobody lied, nor under a quorum that liars who say the same cannot be.

    Of other policies nothing is claimed: they let some through, as their page says.
    """

    name = "wrong-accepted"
    invariant = 2

    def at_rest(self) -> None:
        lied = [machine.liar for machine in self.world.nodes if machine.liar is not None and machine.liar.lied_us]
        alone = sum(liar.name == ALONE for liar in lied)
        in_unison = max(len(lied) - alone, min(alone, 1))
        for job_id, order in self.world.orders.items():
            policy = parse_policy(order.spec.verification)
            if order.wrong and in_unison < (policy.quorum if policy.is_strict else 1):
                wrong = f"{len(order.wrong)} wrong results of {order.spec.tasks} are accepted under {policy}"
                self.fail(f"job {job_id.hex()[:12]}: {wrong}, and {in_unison} say the same")


class Converged(Checker):
    """Replicas that can talk end with the same records: all of the newest set that are well have them."""

    name = "replicas-converge"
    invariant = 3

    def at_rest(self) -> None:
        for job_id, order in self.world.orders.items():
            if order.durable_us:
                problem = difference(self.world, job_id)
                if problem:
                    self.fail(f"job {job_id.hex()[:12]}: {problem}")


class AcceptedKept(Checker):
    """Whoever signs for a batch signs for one that a disk has; in the end all who keep the job have it.

    Where a disk was lost since, some other has it, or the one who signed gives it back.
    """

    name = "accepted-kept"
    invariant = 1
    says: ClassVar[tuple[type[Message], ...]] = (Records,)

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        if not isinstance(message, Records) or life.machine.slots or any(m.disk.wiped for m in self.world.nodes):
            return
        job_id = message.job_id
        if any((job_id, FORGOTTEN_ROW, job_id) in machine.disk.rows for machine in self.world.nodes):
            return
        for raw in message.records:
            record = open_record(raw, check_signature=False)
            for part in record.body.accepted if record.kind is RecordKind.ACCEPTANCE else ():
                row = (job_id, int(RecordKind.BATCH), part.batch_id)
                if not any(row in machine.disk.rows for machine in self.world.nodes):
                    self.fail(f"{life.machine} signs for tasks [{part.lo}, {part.hi}) of a batch that is on no disk")

    def at_rest(self) -> None:
        for job_id, order in self.world.orders.items():
            for machine, kept in keepers(self.world, job_id) if order.durable_us else ():
                accepted = dict.fromkeys(batch_id for _, _, batch_id in kept.state.accepted)
                lacking = [batch_id for batch_id in accepted if batch_id not in kept.state.batches]
                if lacking:
                    self.fail(f"{machine} lacks {len(lacking)} of {len(accepted)} batches that are accepted")


class Live(Checker):
    """Once nothing breaks any more, every task of every live job is accepted within the bound."""

    name = "liveness"

    def at_rest(self) -> None:
        for customer in self.world.customers:
            for order in customer.orders:
                if order.cancelled:
                    continue
                if not order.complete:
                    wanted = order.spec.tasks
                    self.fail(
                        f"{customer.machine} has {len(order.taken)} of {wanted} results; {standing(self.world, order)}"
                    )
                elif not all_accepted(self.world, order.job_id):
                    self.fail(f"not all is accepted; {standing(self.world, order)}")


# -- questions about a job -------------------------------------------------------------------------------------


def seats(world: Any, job_id: bytes) -> list[tuple[Any, KeptJob | None]]:
    """Machines that are well and honest and in the newest replica set, with their state of the job; None where one
    has nothing of it. Who has forgotten it is left out."""
    held: list[tuple[Any, KeptJob | None]] = []
    newest = -1
    members: Sequence[bytes] = ()
    for machine in world.nodes:
        if machine.well and machine.life is not None and machine.honest:
            kept = machine.life.mesh.replica.jobs.get(job_id)
            if kept is not None and kept.state.replica_epoch > newest:
                newest, members = kept.state.replica_epoch, kept.state.replicas
            if kept is not None or not machine.life.mesh.replica.has_forgotten(job_id):
                held.append((machine, kept))
    return [(machine, kept) for machine, kept in held if machine.id in members]


def keepers(world: Any, job_id: bytes) -> list[tuple[Any, KeptJob]]:
    """Of `seats`, those that have the job."""
    return [(machine, kept) for machine, kept in seats(world, job_id) if kept is not None]


def all_accepted(world: Any, job_id: bytes) -> bool:
    found = seats(world, job_id)
    forgotten = any(m.life is not None and m.life.mesh.replica.has_forgotten(job_id) for m in world.nodes)
    return forgotten or bool(found) and all(kept is not None and kept.state.fully_accepted for _, kept in found)


def difference(world: Any, job_id: bytes) -> str:
    """What the keepers do not agree on; empty if nothing."""
    found = keepers(world, job_id)
    if not found:
        forgotten = any(m.life is not None and m.life.mesh.replica.has_forgotten(job_id) for m in world.nodes)
        return "" if forgotten else "nobody keeps it"
    for machine, kept in seats(world, job_id):
        if kept is None:
            return f"{machine} has a seat, and nothing of the job"
    (first, one), rest = found[0], found[1:]
    for machine, other in rest:
        if other.state.ids.ids(b"", b"") != one.state.ids.ids(b"", b""):
            return f"{machine} has {len(other.state.ids)} records, {first} others, {len(one.state.ids)}"
        if other.state.canonical != one.state.canonical or other.state.accepted != one.state.accepted:
            return f"{machine} and {first} draw different conclusions from the same records"
    return ""


def standing(world: Any, order: Any) -> str:
    """Who stands where with a job, in one line."""
    parts = []
    for machine in world.nodes:
        life = machine.life
        kept = life.mesh.replica.jobs.get(order.job_id) if life is not None else None
        if kept is not None:
            where = "level" if kept.level else "behind"
            free = IntervalSet(*kept.ledger.free)
            held = {world.by_id[node].name: count for node, count in kept.ledger.leased_by().items()}
            parts.append(
                f"{machine} {where} e{kept.state.replica_epoch} done {kept.state.done.total} accepted "
                f"{kept.state.accepted_tasks.total} free {list(free)[:4]} leased {held}"
            )
    return "; ".join(parts) or "nobody keeps the job"
