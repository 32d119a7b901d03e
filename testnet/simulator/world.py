"""The world of one run: machines, their network, their users, and what goes wrong when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...crypto.certificates import MembershipPolicy, MeshDefinition, Role, issue
from ...protocol.config import ProtocolConfig
from ...protocol.effects import Notify
from ...protocol.events import Drain
from ...protocol.intervals import IntervalSet
from ...protocol.mesh import Mesh
from ...protocol.records import JobSpec
from .basins import Basin
from .blobs import Blobs
from .checkers import Checkers
from .clock import WALL_OFFSET_US, Clock
from .customer import Customer, Order
from .dice import machine_dice, stream
from .engine import MS, SECOND, Engine
from .executor import Executor, exit_of, output_of
from .faults import Faults
from .head_start import HeadStart
from .liars import make_liar
from .life import Life
from .links import Access, Nat
from .machine import Machine
from .memory import RememberedIdentity, remembering
from .network import Network
from .plan import SETTLE_US, JobPlan, Plan
from .sinks import Sink
from .trace import Trace

if TYPE_CHECKING:
    from .telling import Story

START_US = SECOND
BOOTSTRAPS = 3
BOOTSTRAP_POOL = 8
BOOTSTRAP_AGAIN_US = 5 * SECOND
REDIAL_US = 30 * SECOND
REDIAL_MOST_US = 960 * SECOND
NODE_ROLES = Role.WORKER | Role.REPLICA | Role.SUBMITTER
YEAR_S = 365 * 86_400
PROGRAM_BYTES = 100_000
GOODBYE_US = 200 * MS
# Machines of a LAN among so many share a sink, of 64 where all kinds of access are as many: a boiler house, not a town.
LAN_SITE = 192


@dataclass(frozen=True, slots=True)
class Work:
    """A real job. outputs: what its tasks put out, by index, wherever they run."""

    spec: JobSpec
    outputs: Sequence[bytes]


class World:
    """Made from a plan; `opened` puts it into being and takes it away again."""

    def __init__(self, plan: Plan, story: Story | None = None, works: Sequence[Work] = ()) -> None:
        """works: what the first jobs of the plan are, instead of made-up ones of so many tasks."""
        self.plan = plan
        self._works = works
        self.config: ProtocolConfig = plan.config
        self.engine = Engine(START_US)
        self.trace = Trace()
        self.story = story
        self.checkers = Checkers(self)
        self.network = Network(self, self.engine, stream(plan.seed, "network"))
        self.blobs = Blobs(self, stream(plan.seed, "blobs"))
        # CPU time of a task that a checkpoint stands for, by its digest.
        self.checkpoints: dict[bytes, int] = {}
        # Of each job, the numbers of later copies that were run, wherever.
        self.copies_run: dict[bytes, IntervalSet] = {}
        self.faults = Faults(self)
        self.orders: dict[bytes, Order] = {}
        self.machines: list[Machine] = []
        self.by_id: dict[bytes, Machine] = {}
        self._disk_dice = stream(plan.seed, "disk")
        self._boot_dice = stream(plan.seed, "boot")
        self._authority = RememberedIdentity(sha256(b"authority").digest())
        self.definition = MeshDefinition("simulated", (self._authority.node_id,))
        for index in range(plan.nodes + plan.clients):
            self._build(index, is_client=index >= plan.nodes)
        self.nodes = self.machines[: plan.nodes]
        self.head_start = HeadStart(self, stream(plan.seed, "head start")) if plan.warm else None
        self.customers = [Customer(machine, self) for machine in self.machines[plan.nodes :]]
        for number, lie in enumerate(plan.liars):
            if not lie:
                continue
            machine = self.nodes[plan.nodes - 1 - number % plan.nodes]
            machine.liar = make_liar(lie, machine, self, stream(plan.seed, "liar", number))
        if story is not None:
            story.watch(self)

    @classmethod
    @contextmanager
    def opened(cls, plan: Plan, story: Story | None = None, works: Sequence[Work] = ()) -> Iterator[World]:
        with remembering():
            world = cls(plan, story, works)
            world._open()
            yield world

    def _build(self, index: int, *, is_client: bool) -> None:
        plan, dice = self.plan, stream(self.plan.seed, "machine", index)
        identity = RememberedIdentity(sha256(f"machine {index}".encode()).digest())
        access = Access(dice.pick(("lan", "home", "wan")) if plan.access == "mixed" else plan.access)
        # The first few are what everybody is told of at first, so they can be reached.
        behind_nat = not is_client and index >= BOOTSTRAPS and dice.chance(plan.nat)
        roles = Role.SUBMITTER if is_client else NODE_ROLES if behind_nat else NODE_ROLES | Role.RELAY
        name = f"c{index - plan.nodes}" if is_client else f"n{index}"
        now_s = (START_US + WALL_OFFSET_US) // SECOND
        certificate = issue(
            self._authority,
            self.definition,
            identity.node_id,
            roles,
            now_s - 7200,
            now_s + YEAR_S,
            name,
            sha256(name.encode()).digest()[:16],
        )
        shares_site = index > 0 and dice.chance(0.2)
        machine = Machine(
            index,
            name,
            identity,
            certificate.to_bytes(),
            roles=roles,
            site=-(index // LAN_SITE) if access is Access.LAN else index - 1 if shares_site else index,
            access=access,
            nat=Nat.OUTWARD if is_client else _nat_of(plan.seed, index) if behind_nat else Nat.NONE,
            relays=tuple(dice.some(range(min(BOOTSTRAPS, plan.nodes)), 2)) if behind_nat else (),
            slots=0 if is_client else plan.slots,
            year_round=index % 4 == 0,
            clock=Clock(
                drift_ppm=dice.between(-plan.drift_ppm, plan.drift_ppm),
                skew_us=dice.between(-plan.skew_us, plan.skew_us),
            ),
        )
        machine.executor = Executor(machine, self)
        if machine.slots:
            always_cold = plan.room_speed == 0
            machine.sink = Sink(machine.slots, dice, always_cold=always_cold, speed=plan.room_speed or 1.0)
            if index < len(plan.basins):
                kind = plan.basins[index]
                machine.sink = Basin(kind, machine.slots, speed=plan.room_speed or 1.0)
        self.machines.append(machine)
        self.by_id[machine.id] = machine

    def _open(self) -> None:
        dice, engine = stream(self.plan.seed, "start"), self.engine
        for machine in self.nodes:
            engine.after(dice.below(self.plan.join_us), self.start, machine)
        if self.head_start is not None:
            engine.after(self.plan.join_us, self.head_start.begin)
        for customer in self.customers:
            engine.after(self.plan.join_us + dice.below(SECOND), self.start, customer.machine)
        for number, job in enumerate(self.plan.jobs):
            customer = self.customers[job.client % len(self.customers)]
            spec, outputs = self._spec(number, job), None
            if number < len(self._works):
                work = self._works[number]
                spec, outputs = replace(work.spec, mesh_id=self.definition.mesh_id), work.outputs
            customer.expect(job, spec, self.settled_us + job.at_us, outputs)
        self.faults.plan(self.plan.faults, self.settled_us - self.plan.early_faults_us)
        for index in self.plan.broken:
            self.nodes[index].executor.broken = True

    def _spec(self, number: int, job: JobPlan) -> JobSpec:
        return JobSpec(
            version=1,
            mesh_id=self.definition.mesh_id,
            nonce=number.to_bytes(4, "big"),
            name=f"job{number}",
            runtime="wasm",
            abi="function",
            program=sha256(b"program %d" % number).digest(),
            program_bytes=PROGRAM_BYTES,
            command="",
            entry="hearth_task",
            arguments=(),
            tasks=job.tasks,
            verification=job.verification,
            checkpoint_us=job.checkpoint_us,
        )

    # -- times ---------------------------------------------------------------------------------------------

    @property
    def settled_us(self) -> int:
        """From when on jobs and faults come."""
        told_us = 0 if self.head_start is None else self.head_start.lasts_us
        return START_US + self.plan.join_us + told_us + SETTLE_US

    @property
    def calm_us(self) -> int:
        """From when on nothing breaks any more."""
        return self.settled_us + self.plan.active_us

    def sync_us(self) -> int:
        """How long a commit takes; one in fifty, ten times as long."""
        mean_us = self.plan.sync_us
        slow = 10 if self._disk_dice.chance(0.02) else 1
        return slow * self._disk_dice.between(mean_us // 2 + 1, mean_us * 3 // 2 + 1)

    def output_of(self, job_id: bytes, index: int) -> bytes:
        """What every honest machine puts out for a task."""
        order = self.orders.get(job_id)
        return output_of(job_id, index) if order is None or order.outputs is None else order.outputs[index]

    def exit_of(self, job_id: bytes, index: int) -> int:
        """With which code it ends there; none of a real job fails."""
        order = self.orders.get(job_id)
        return exit_of(job_id, index) if order is None or order.outputs is None else 0

    def mean_task_us(self, job_id: bytes) -> int:
        order = self.orders.get(job_id)
        return order.plan.task_us if order is not None else 200 * MS

    # -- lives ---------------------------------------------------------------------------------------------

    def start(self, machine: Machine) -> None:
        """A new process on the machine, with the disk as it is."""
        if machine.life is not None:
            return
        now_us = self.engine.now_us
        machine.lives += 1
        machine.powerless = machine.frozen = False
        machine.overdue.clear()
        machine.clock.origin_us = now_us
        machine.line.begin(now_us)
        machine.awake_us = now_us
        mesh = Mesh(
            machine.identity,
            self.config,
            machine_dice(self.plan.seed, "mesh", machine.index, machine.lives),
            policy=MembershipPolicy(self.definition),
            certificate=machine.certificate,
            profile=machine.profile,
            incarnation=machine.clock.wall_us(now_us),
            wall_offset_us=machine.clock.wall_offset_us(now_us),
        )
        life = machine.life = Life(machine, self, mesh)
        if self.story is not None:
            self.story.say(machine, "starts" if machine.lives == 1 else "is started again")
        self.checkers.born(life)
        life.start()
        self.checkers.restored(life)
        life.reservations.tell()
        life.reservations.begin()
        self._bootstrap(life, self._bootstraps(machine))
        if self.head_start is not None and machine.slots and machine.lives == 1:
            self.head_start.joined(machine)
        if machine.sink is not None:
            self._step_heat(life)
        for customer in self.customers:
            if customer.machine is machine and machine.lives > 1:
                customer.returned(life)

    def _bootstraps(self, machine: Machine) -> list[int]:
        """Some of the first few, as an owner would name them; with a head start, neighbours."""
        if self.head_start is not None and machine.slots:
            return self.head_start.neighbours(machine)
        public = [m.index for m in self.nodes[:BOOTSTRAP_POOL] if not m.behind_nat and m is not machine]
        return self._boot_dice.some(public, BOOTSTRAPS)

    def _bootstrap(self, life: Life, known: list[int], redial_us: int = REDIAL_US) -> None:
        """Soon again while there is no link; in any case after twice as long each time, as real nodes do."""
        if not life.runs:
            return
        for index in known:
            life.knows(index)
            self.network.dial(life, self.machines[index])
        if life.links:
            self.engine.after(redial_us, self._bootstrap, life, known, min(REDIAL_MOST_US, 2 * redial_us))
        else:
            self.engine.after(BOOTSTRAP_AGAIN_US, self._bootstrap, life, known)

    def _step_heat(self, life: Life) -> None:
        if not life.runs:
            return
        machine = life.machine
        assert machine.sink is not None
        if not machine.frozen:
            reading = machine.sink.step(self.plan.heat_step_us, machine.executor.load_w())
            self.checkers.warmed(life, reading)
            life.feed(reading, reading.slots)
        self.engine.after(self.plan.heat_step_us, self._step_heat, life)

    def kill(self, machine: Machine) -> None:
        """The process ends; the kernel tells whoever had a link. The disk finishes what it was told."""
        self._end(machine, silently=False)

    def cut_power(self, machine: Machine) -> None:
        """Nothing is finished, and nobody is told."""
        machine.powerless = True
        self._end(machine, silently=True)

    def _end(self, machine: Machine, *, silently: bool) -> None:
        life = machine.life
        if life is None:
            return
        self.checkers.died(life)
        for index in list(life.links):
            self.network.close(life, index, silently=silently)
        life.runs = False
        machine.life = None
        machine.frozen = False
        machine.executor.stop()
        machine.disk.crash(self._disk_dice)

    def freeze(self, machine: Machine) -> None:
        if machine.life is not None and not machine.frozen:
            machine.frozen = True
            machine.silences += 1
            self.network.unanswered(machine)

    def thaw(self, machine: Machine) -> None:
        if machine.life is not None and machine.frozen:
            machine.frozen = False
            machine.awake_us = self.engine.now_us
            self.network.answers(machine)
            life = machine.life
            life.fire_overdue()
            life.thaw()

    def drain(self, machine: Machine) -> None:
        if machine.life is not None:
            machine.life.feed(Drain())

    # -- what machines tell --------------------------------------------------------------------------------

    def noted(self, life: Life, note: Notify) -> None:
        self.checkers.noted(life, note)
        self.faults.noted(life, note)
        if self.story is not None:
            self.story.noted(life, note)
        if life.machine.slots == 0:
            for customer in self.customers:
                if customer.machine is life.machine:
                    customer.noted(life, note)
        if note.name == "node.drained":
            self.engine.after(GOODBYE_US, self._leave, life)

    def _leave(self, life: Life) -> None:
        """The process ends once it has said goodbye; one that has begun since does not."""
        if life.machine.life is life:
            self.kill(life.machine)


def _nat_of(seed: int, index: int) -> Nat:
    """Half of the owners whom nobody can dial leave it at the address that nodes listen on by themselves."""
    return stream(seed, "nat", index).pick((Nat.HOUSE, Nat.RELAYED))
