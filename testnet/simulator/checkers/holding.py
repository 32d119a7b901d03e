"""What is leased stays leased until something ends the lease: invariant 4, with faults and without."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from ....protocol.effects import Forget, Notify, Persist
from ....protocol.granting import LEASE_US_MAX
from ....protocol.intervals import IntervalMap
from ....protocol.messages import Message, Renew
from ....protocol.records import RecordKind, open_record
from ....protocol.verification.lanes import is_within_lane
from .base import Checker


class Held(NamedTuple):
    """Who has a task, as a replica was told last; compared by the first three, as marks are.

    until_us: by the replica's clock, no later than it believes.  freed: it has said so since.
    """

    epoch: int
    holder: bytes
    released: bool
    until_us: int
    freed: bool = False


class HeldUntilFreed(Checker):
    """A replica grants anew only what was given back, ran out, was held too long, or was a dead node's.

    A lease runs out no earlier than its term after it was granted or renewed, is held too long no sooner than the least
    patience after its holder began to hold some of the job, and is a dead node's only where the replica takes its
    holder for dead.
    """

    name = "held-until-freed"
    invariant = 4
    hears: ClassVar[tuple[type[Message], ...]] = (Renew,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._held: dict[int, dict[bytes, IntervalMap[Held]]] = {}
        # By machine, job and holder: when it began to hold, or an earlier time.
        self._since_us: dict[int, dict[tuple[bytes, bytes], int]] = {}
        config = world.config
        self._patience_us = config.lease_us + config.slower_max * config.batch_target_us

    def _now_us(self, life: Any) -> int:
        return int(life.machine.clock.local_us(self.world.engine.now_us))

    def born(self, life: Any) -> None:
        self._held[life.machine.index] = {}
        self._since_us[life.machine.index] = {}

    def restored(self, life: Any) -> None:
        """Each lease that its disk knows of lives a full term more."""
        now_us, since_us = self._now_us(life), self._since_us[life.machine.index]
        until_us = now_us + self.world.config.lease_us
        for job_id, kept in life.mesh.replica.jobs.items():
            held = self._held[life.machine.index].setdefault(job_id, IntervalMap())
            for lo, hi, mark in kept.state.leases:
                held.assign(lo, hi, Held(mark.epoch, mark.holder, mark.released, until_us))
                since_us[job_id, mark.holder] = now_us

    def writing(self, life: Any, write: Any) -> None:
        """Every record that changes what a replica knows is written, in the order in which it learns them."""
        if isinstance(write, Forget):
            self._held[life.machine.index].pop(write.job_id, None)
            since_us = self._since_us[life.machine.index]
            for key in [key for key in since_us if key[0] == write.job_id]:
                del since_us[key]
        if not isinstance(write, Persist) or write.kind not in (RecordKind.GRANT, RecordKind.RELEASE):
            return
        record = open_record(write.body, check_signature=False)
        grant = record.body
        released = record.kind is RecordKind.RELEASE
        if released:
            grant = open_record(record.body.grant, check_signature=False).body
        lo, hi = record.body.lo, record.body.hi
        held = self._held[life.machine.index].setdefault(write.job_id, IntervalMap())
        if not released and not grant.parent and record.author == life.machine.id and life.machine.honest:
            self._check(life, held, lo, hi)
        if not released:
            self._since_us[life.machine.index].setdefault((write.job_id, grant.holder), self._now_us(life))
        term_us = min(grant.lease_us, LEASE_US_MAX)
        new = Held(grant.epoch, grant.holder, released, self._now_us(life) + term_us)
        held.update(lo, hi, lambda old: new if old is None or new[:3] >= old[:3] else old)

    def _check(self, life: Any, held: IntervalMap[Held], lo: int, hi: int) -> None:
        for a, b, old in held.pieces(lo, hi):
            if old is not None and not (old.released or old.freed):
                left_us = old.until_us - self._now_us(life)
                holder = self.world.by_id[old.holder]
                self.fail(f"{life.machine} grants [{a}, {b}), which {holder} holds e{old.epoch} for {left_us} us more")

    def heard(self, life: Any, peer: bytes, message: Message) -> None:
        assert isinstance(message, Renew)
        now_us = self._now_us(life)
        until_us = now_us + self.world.config.lease_us
        for job in message.jobs:
            held = self._held[life.machine.index].get(job.job_id)
            kept = life.mesh.replica.jobs.get(job.job_id)
            if held is None or kept is None:
                continue
            for part in job.ranges:
                if not is_within_lane(part.lo, part.hi, kept.state.spec.tasks):
                    return  # no honest node says that, and the replica hears no more of it
                if kept.pace.bars(peer, now_us):
                    continue
                self._since_us[life.machine.index].setdefault((job.job_id, peer), now_us)
                for a, b, old in held.pieces(part.lo, part.hi):
                    if old is not None and old[:3] == (part.epoch, peer, False):
                        held.assign(a, b, Held(*old[:3], until_us))

    def noted(self, life: Any, note: Notify) -> None:
        fields = note.fields
        match note.name:
            case "lease.expired":
                self._free(life, fields["job_id"], fields["holder"], fields["lo"], fields["hi"], ran_out=True)
            case "lease.overrun":
                self._check_patience(life, fields["job_id"], fields["holder"])
                self._free(life, fields["job_id"], fields["holder"])
            case "lease.freed":
                if not life.mesh.members.is_gone(fields["holder"]):
                    holder = self.world.by_id[fields["holder"]]
                    self.fail(f"{life.machine} frees what {holder} holds, and takes it for alive")
                self._free(life, fields["job_id"], fields["holder"])

    def _check_patience(self, life: Any, job_id: bytes, holder: bytes) -> None:
        """What it delivered meanwhile only makes it longer."""
        since_us = self._since_us[life.machine.index].pop((job_id, holder), None)
        held_us = self._now_us(life) - since_us if since_us is not None else 0
        if held_us <= self._patience_us and life.machine.honest:
            machine = self.world.by_id[holder]
            self.fail(f"{life.machine} takes from {machine}, as held too long, what it began to hold {held_us} us ago")

    def _free(
        self, life: Any, job_id: bytes, holder: bytes, lo: int = 0, hi: int = 1 << 62, *, ran_out: bool = False
    ) -> None:
        held = self._held[life.machine.index].get(job_id)
        if held is None:
            return
        now_us = self._now_us(life)
        for a, b, old in held.pieces(lo, hi):
            if old is None or old.holder != holder or old.released or old.freed:
                continue
            if ran_out and now_us < old.until_us and life.machine.honest:
                machine = self.world.by_id[holder]
                self.fail(f"{life.machine}: [{a}, {b}) of {machine} ran out {old.until_us - now_us} us too early")
            held.assign(a, b, old._replace(freed=True))
