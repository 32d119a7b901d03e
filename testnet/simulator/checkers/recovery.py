"""How soon what a silent node held runs elsewhere, and who came back grants again. Watches as checkers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ....protocol.effects import Execute, Notify
from ....protocol.messages import Message, Reconcile
from .base import Checker

if TYPE_CHECKING:
    from ..faults import Happened
    from ..life import Life
    from ..machine import Machine
    from ..world import World

# What is said of a job of which nothing is awaited any more.
_OVER = ("job.accepted", "job.cancelled")


class Recovery(Checker):
    """Told of faults as well, and notes in these what it sees.

    Tasks are numbered as grants number copies.
    """

    hears: ClassVar[tuple[type[Message], ...]] = (Reconcile,)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._awaited: dict[bytes, dict[int, tuple[Machine, Happened]]] = {}
        self._behind: dict[int, tuple[int, Happened]] = {}

    def fell_silent(self, machine: Machine, happened: Happened) -> None:
        """While it still has what it had."""
        if machine.life is not None:
            worker = machine.life.mesh.worker
            held = [(each.body.job_id, each.next, each.hi) for each in worker._leases]
            held += [(each.job_id, each.first, each.first + each.count) for each in worker._executions.values()]
            for job_id, lo, hi in held:
                order = self.world.orders.get(job_id)
                if order is not None and not order.complete and not order.cancelled:
                    self._awaited.setdefault(job_id, {}).update(dict.fromkeys(range(lo, hi), (machine, happened)))

    def woke(self, machine: Machine) -> None:
        """It goes on with what it had."""
        for job_id, tasks in list(self._awaited.items()):
            self._keep(job_id, {at: each for at, each in tasks.items() if each[0] is not machine})

    def _keep(self, job_id: bytes, tasks: dict[int, tuple[Machine, Happened]]) -> None:
        if tasks:
            self._awaited[job_id] = tasks
        else:
            del self._awaited[job_id]

    def noted(self, life: Life, note: Notify) -> None:
        if note.name in _OVER:
            self._awaited.pop(note.fields["job_id"], None)

    def came_back(self, machine: Machine, happened: Happened) -> None:
        """With its disk, and in doubt of what went on meanwhile: until it has heard it does not grant."""
        if self._is_behind(machine.life):
            self._behind[machine.index] = self.world.engine.now_us, happened

    @staticmethod
    def _is_behind(life: Life | None) -> bool:
        return life is not None and any(not kept.level for kept in life.mesh.replica.jobs.values())

    def executing(self, life: Life, run: Execute) -> None:
        tasks = self._awaited.get(run.job_id)
        if tasks is None:
            return
        shift = run.copy * self.world.orders[run.job_id].spec.tasks + run.first
        for at in range(shift, shift + run.count):
            machine, happened = tasks.pop(at, (life.machine, None))
            if happened is not None and machine is not life.machine:
                happened.elsewhere_us.append(self.world.engine.now_us - happened.began_us)
        self._keep(run.job_id, tasks)

    def heard(self, life: Life, peer: bytes, message: Message) -> None:
        """Who hears that another has the same grants again."""
        if life.machine.index in self._behind and not self._is_behind(life):
            since_us, happened = self._behind.pop(life.machine.index)
            happened.level_us.append(self.world.engine.now_us - since_us)

    def died(self, life: Life) -> None:
        self._behind.pop(life.machine.index, None)
