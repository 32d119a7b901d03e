"""Work that is another's by now: invariant 4, at who held it before."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

from ....protocol.effects import Execute
from ....protocol.intervals import IntervalMap
from ....protocol.messages import Granted, HandOn, Message
from ....protocol.records import open_record
from ....protocol.verification.court import FIRST_TRIAL
from ..engine import SECOND
from .base import Checker
from .leases import own_root_grants

# For the renewal and its answer to come, beside the third of a lease that passes between two renewals.
ANSWERED_US = SECOND


class Given(NamedTuple):
    """A grant of a task. machine: of the replica that gave it, when."""

    epoch: int
    holder: bytes
    machine: int
    at_us: int


def _newest(given: Given, before: Given | None) -> Given:
    """Of one task: replicas that could not talk give under epochs of their own, and the highest counts."""
    return given if before is None or given.epoch >= before.epoch else before


class StaleStarts(Checker):
    """Who is awake and linked with the replica that granted its tasks anew starts none once it must have heard.

    It asks each third of a lease's time; before, when it has slept through the end of its lease, or was given it just
    now by a replica that did not know better, it cannot know.
    """

    name = "stale-start"
    invariant = 4
    hears: ClassVar[tuple[type[Message], ...]] = (Granted, HandOn)
    says: ClassVar[tuple[type[Message], ...]] = (Granted,)

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._anew: dict[bytes, IntervalMap[Given]] = {}
        # When each machine was given what it holds, by its index and the grant's id.
        self._taken_us: dict[tuple[int, bytes], int] = {}
        self._bound_us = world.config.lease_us // 3 + ANSWERED_US

    def saying(self, life: Any, peer: bytes, message: Message) -> None:
        for record in own_root_grants(life.machine.id, message) if life.machine.honest else ():
            grant = record.body
            granted = Given(grant.epoch, grant.holder, life.machine.index, self.world.engine.now_us)
            self._anew.setdefault(grant.job_id, IntervalMap()).update(grant.lo, grant.hi, partial(_newest, granted))

    def heard(self, life: Any, peer: bytes, message: Message) -> None:
        assert isinstance(message, Granted | HandOn)
        for raw in message.grants:
            key = life.machine.index, open_record(raw, check_signature=False).id
            self._taken_us.setdefault(key, self.world.engine.now_us)

    def executing(self, life: Any, run: Execute) -> None:
        world, machine = self.world, life.machine
        if run.execution_id > FIRST_TRIAL or world.network.disturbed or not machine.honest:
            return
        heard_us = world.engine.now_us - self._bound_us
        execution = life.mesh.worker._executions[run.execution_id]
        # What starts as soon as it comes was not `heard` yet.
        taken_us = self._taken_us.get((machine.index, execution.grant.id), world.engine.now_us)
        anew = self._anew.get(run.job_id, IntervalMap())
        for lo, hi, granted in anew.pieces(execution.first, execution.first + run.count):
            if granted is None or granted.epoch <= run.epoch or granted.holder == machine.id:
                continue
            epoch, holder, index, at_us = granted
            replica, link = world.machines[index], life.links.get(index)
            # While anything was cut or lost, renewals or their answers may not have come through.
            awake_us = max(taken_us, machine.awake_us, replica.awake_us, at_us, world.network.healed_us)
            if link is not None and replica.well and max(awake_us, link.since_us) < heard_us:
                other, ago_us = world.by_id[holder], world.engine.now_us - at_us
                self.fail(f"{machine} starts [{lo}, {hi}) e{run.epoch}, {other}'s e{epoch} since {ago_us} us")
