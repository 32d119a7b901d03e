"""What many admitted identities buy: seats of jobs (Sybil), and a newcomer's whole view of the mesh (eclipse).

Seats are drawn by the real placement from made-up candidates. Eclipses are played: a client whose first contacts are
attackers, or all but some, joins a mesh; the attackers show it none but themselves, and show it to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from ...protocol.messages import FoundNodes, Granted, Message, TableRows
from ...protocol.placement import Candidate, choose_replicas
from ...protocol.records import RecordKind, open_record
from .engine import MS, SECOND
from .liars import LIARS, Accomplice
from .life import Life
from .machine import Machine
from .memory import remembering
from .plan import JobPlan, Plan
from .run import all_done
from .world import World

SHARES = (0.05, 0.1, 0.2, 0.33, 0.5)
CANDIDATES = 300
JOBS = 500
# Of honest nodes so many stand in one zone with another, and have sinks for the whole year.
ZONE_NODES = 2
YEAR_ROUND_EVERY = 4
NODES, TASKS = 24, 60
BOUND_US = 60 * SECOND


# -- seats -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seats:
    """How many of a job's three seats are attackers', over many jobs. weight: of an attacker, an old node being 4."""

    share: float
    weight: float
    boasts: bool
    jobs: int
    seats: float
    majority: float
    all_three: float

    def row(self) -> dict[str, Any]:
        return {
            "share": self.share,
            "weight": self.weight,
            "boasts": self.boasts,
            "jobs": self.jobs,
            "seats": round(self.seats, 4),
            "majority": round(self.majority, 4),
            "all_three": round(self.all_three, 4),
        }


def seats(share: float, *, weight: float, boasts: bool, jobs: int = JOBS, candidates: int = CANDIDATES) -> Seats:
    """boasts: each attacker names a zone of its own, and says that its sink wants heat all year."""
    attackers = round(share * candidates)
    pool = []
    for number in range(candidates):
        node, hostile = sha256(b"candidate %d" % number).digest(), number < attackers
        zone = f"of its own {number}" if hostile and boasts else f"zone {number // ZONE_NODES}"
        year_round = boasts if hostile else number % YEAR_ROUND_EVERY == 0
        pool.append(Candidate(node, weight if hostile else 4.0, zone, year_round))
    hostile_nodes = frozenset(each.node for each in pool[:attackers])
    taken = []
    for number in range(jobs):
        chosen = choose_replicas(sha256(b"job %d" % number).digest(), pool, 3)
        taken.append(sum(node in hostile_nodes for node in chosen))
    return Seats(
        share,
        weight,
        boasts,
        jobs,
        seats=sum(taken) / (3 * jobs),
        majority=sum(count >= 2 for count in taken) / jobs,
        all_three=sum(count == 3 for count in taken) / jobs,
    )


def all_seats(shares: Sequence[float] = SHARES, jobs: int = JOBS) -> Iterator[Seats]:
    """Attackers as old as the others, freshly admitted ones, and those that boast of zone and sink as well."""
    for share in shares:
        for weight, boasts in ((4.0, False), (1.0, False), (1.0, True)):
            yield seats(share, weight=weight, boasts=boasts, jobs=jobs)


# -- eclipse -----------------------------------------------------------------------------------------------


class Eclipser(Accomplice):
    """Shows the victim none but attackers, hides it and its jobs from all others, and computes what was agreed on."""

    name = "eclipser"

    def say(self, life: Life, peer: bytes, message: Message) -> None:
        if isinstance(message, Granted) and self.world.by_id[peer].honest:
            return  # only accomplices work for the victim
        if isinstance(message, TableRows | FoundNodes):
            message = replace(message, rows=tuple(raw for raw in message.rows if self._shows(raw, peer)))
        super().say(life, peer, message)

    def _shows(self, raw: bytes, peer: bytes) -> bool:
        record = open_record(raw, check_signature=False)
        author = self.world.by_id.get(record.author)
        victim = self.world.customers[0].machine
        if record.kind is RecordKind.JOB_DIGEST and self.world.by_id[peer].honest:
            return author is None or author.honest
        if peer == victim.id:
            return author is None or not author.honest or author is victim
        return author is not victim or not self.world.by_id[peer].honest


LIARS[Eclipser.name] = Eclipser


class Siege(World):
    """The client knows attackers only, and `honest_contacts` others."""

    honest_contacts = 0

    def _bootstraps(self, machine: Machine) -> list[int]:
        if machine is not self.customers[0].machine:
            return super()._bootstraps(machine)
        attackers = [each.index for each in self.nodes if not each.honest]
        return attackers + [each.index for each in self.nodes if each.honest][: self.honest_contacts]


@dataclass(frozen=True, slots=True)
class Eclipse:
    """known: share of the honest nodes that the victim knows when its job is over.  wrong: of its accepted results."""

    nodes: int
    attackers: int
    honest_contacts: int
    seed: int
    policy: str
    known: float
    accepted: int
    wrong: int
    complete: bool

    def row(self) -> dict[str, Any]:
        return {
            "nodes": self.nodes,
            "attackers": self.attackers,
            "honest_contacts": self.honest_contacts,
            "seed": self.seed,
            "policy": self.policy,
            "known": round(self.known, 4),
            "accepted": self.accepted,
            "wrong": self.wrong,
            "complete": self.complete,
        }


def eclipse(attackers: int, honest_contacts: int, *, seed: int = 1, nodes: int = NODES, tasks: int = TASKS) -> Eclipse:
    """A client joins, submits a job under quorum(2), and waits for its end."""
    policy = "quorum(2)"
    plan = Plan(
        seed=seed,
        nodes=nodes,
        jobs=(JobPlan(tasks=tasks, task_us=100 * MS, verification=policy),),
        liars=(Eclipser.name,) * attackers,
        bound_us=BOUND_US,
    )
    with _opened(plan, honest_contacts) as world:
        world.engine.run(world.calm_us)
        world.engine.run(world.calm_us + BOUND_US, lambda: all_done(world), check_every=256)
        orders = list(world.orders.values())
        return Eclipse(
            nodes,
            attackers,
            honest_contacts,
            seed,
            policy,
            known=honest_rows(world) / (nodes - attackers),
            accepted=sum(len(order.taken) for order in orders),
            wrong=sum(len(order.wrong) for order in orders),
            complete=bool(orders) and all(order.complete for order in orders),
        )


@contextmanager
def _opened(plan: Plan, honest_contacts: int) -> Iterator[Siege]:
    with remembering():
        world = Siege(plan)
        world.honest_contacts = honest_contacts
        world._open()
        yield world


def honest_rows(world: World) -> int:
    """Honest nodes of which the victim holds a member record."""
    life = world.customers[0].machine.life
    if life is None:
        return 0
    authors = [world.by_id[record.author] for record in life.mesh.tables.rows(RecordKind.MEMBER)]
    return sum(machine.honest and machine in world.nodes for machine in authors)
