"""What a run is made of: a seed, machines, jobs, faults. Equal plans give equal runs; a smaller one is still a plan."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from ...protocol.config import PRESETS, ProtocolConfig
from ...protocol.verification.policy import parse_policy
from .dice import Stream, stream
from .engine import HOUR, MINUTE, MS, SECOND

# Everybody has to be in the mesh before anything is asked of it: so long after the last one started.
SETTLE_US = 6 * SECOND


class FaultKind(StrEnum):
    KILL = "kill"  # the process, at once; its kernel resets the links
    POWER_CUT = "power cut"  # the machine: what was not synced is lost, nobody is told
    FREEZE = "freeze"  # SIGSTOP: silent, with all connections open
    STARVE = "starve"  # the process gets the processor by fits and starts
    CUT = "cut"  # a partition, both ways
    DEAF = "deaf"  # it is heard, and hears nothing
    MUTE = "mute"  # it hears, and is not heard
    WARM = "warm"  # the room wants no heat
    FULL_DISK = "full disk"
    NEW_DISK = "new disk"  # a power cut, and another disk when it comes back
    CLOCK = "clock"  # the wall clock is set
    CLIENT_LEAVES = "client leaves"  # for a while, without a word
    DRAIN = "drain"  # leaves in order, and comes back
    CANCEL = "cancel"  # the client cancels its job
    WEATHER = "weather"  # messages are lost, doubled and overtaken


# As often as each is drawn; the rest only when asked for.
DRAWN: tuple[tuple[FaultKind, int], ...] = (
    (FaultKind.KILL, 4),
    (FaultKind.POWER_CUT, 3),
    (FaultKind.FREEZE, 2),
    (FaultKind.STARVE, 1),
    (FaultKind.CUT, 2),
    (FaultKind.DEAF, 1),
    (FaultKind.MUTE, 1),
    (FaultKind.WARM, 1),
    (FaultKind.FULL_DISK, 2),
    (FaultKind.NEW_DISK, 1),
    (FaultKind.CLOCK, 1),
    (FaultKind.CLIENT_LEAVES, 2),
    (FaultKind.DRAIN, 1),
    (FaultKind.WEATHER, 1),
)


# A clock is set by up to one of these, ahead or back.
STEPS_US = (SECOND, MINUTE, HOUR)

# Lies that show when results are compared, and nowhere else; accomplices say the same.
COMPARED = ("wrong results", "accomplice", "sleeper")
# The lie that is another one for each who tells it; all others may agree.
ALONE = "wrong results"
LIES = (
    *COMPARED,
    *("forger", "equivocator", "bad proof", "lying digests", "hoarder", "replayer", "flooder", "slanderer", "noise"),
)
POLICIES = ("none", "adaptive", "adaptive", "spot(0.2)", "quorum(2)", "quorum(3)")


@dataclass(frozen=True, slots=True)
class Fault:
    """targets: indices of nodes, of which those that the mesh has not are left out; of clients for those kinds, taken
    modulo their number.

    at_us: after the mesh has settled.  lasts_us: until it is mended; 0 is for good.  step_us: by how much a clock is
    set ahead, or back; it stays so.
    """

    kind: FaultKind
    at_us: int
    lasts_us: int = 0
    targets: tuple[int, ...] = (0,)
    step_us: int = 0


@dataclass(frozen=True, slots=True)
class JobPlan:
    """at_us: after the mesh has settled.  task_us: mean CPU time of a task.  verification: the job's policy.

    checkpoint_us: of CPU between two checkpoints of a task, 0 if it makes none.
    """

    at_us: int = 0
    tasks: int = 60
    task_us: int = 200 * MS
    client: int = 0
    verification: str = "none"
    checkpoint_us: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, whole. Times in microseconds of true time.

    join_us: within which all machines start.
    active_us: from the settling until all faults are mended.  bound_us: by when everything must be accepted then.
    access: "lan", "home" or "mixed".  nat: share of machines behind a NAT.
    room_speed 0: rooms are always cold.  basins: "tank" or "pool" for each of the first nodes, the rest has rooms.
    liars: names of lies (see liars.py), one machine each, from the last index down; "" leaves one out.
    broken: machines whose executors fail.
    early_faults_us: how long before the mesh has settled the clock of the faults begins, for faults at the start.
    settles_us: how long the run goes on after all is accepted; with it, at the end all who are well have to know
    each other.  stops_early: once all is accepted and compared.
    warm: with a head start (see head_start.py).
    """

    seed: int
    nodes: int = 8
    slots: int = 1
    clients: int = 1
    jobs: tuple[JobPlan, ...] = (JobPlan(),)
    faults: tuple[Fault, ...] = ()
    liars: tuple[str, ...] = ()
    preset: str = "local"
    join_us: int = 2 * SECOND
    active_us: int = 10 * SECOND
    bound_us: int = 120 * SECOND
    access: str = "lan"
    nat: float = 0.0
    drift_ppm: int = 0
    skew_us: int = 0
    sync_us: int = 2 * MS
    room_speed: float = 0.0
    basins: tuple[str, ...] = ()
    heat_step_us: int = SECOND
    broken: tuple[int, ...] = ()
    early_faults_us: int = 0
    settles_us: int = 0
    stops_early: bool = True
    warm: bool = False

    @property
    def config(self) -> ProtocolConfig:
        return SIMULATED_PRESETS[self.preset]

    @property
    def calm(self) -> bool:
        """Nothing breaks, and nobody lies."""
        return not self.faults and not self.liars

    @property
    def nodes_least(self) -> int:
        """With fewer machines nobody may be left who could check the results: one may be gone for good, each liar's
        vote is none, and one more has to agree for each that is against it."""
        against = sum(lie in COMPARED for lie in self.liars)
        quorums = [policy.quorum for job in self.jobs if (policy := parse_policy(job.verification)).is_strict]
        needed = max(quorums) + against if quorums else 2
        return max(3, needed + sum(map(bool, self.liars)) + 1)

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


# For days of virtual time: everything that repeats does so ten times more seldom than on a LAN.
SLOW = replace(
    PRESETS["wan"],
    lease_us=300 * SECOND,
    stall_us=150 * SECOND,
    lease_sweep_us=10 * SECOND,
    probe_interval_us=20 * SECOND,
    probe_timeout_us=5 * SECOND,
    suspicion_min_us=60 * SECOND,
    suspicion_max_us=240 * SECOND,
    sync_interval_us=30 * SECOND,
    digest_ttl_us=1800 * SECOND,
    heat_refresh_us=600 * SECOND,
    heat_repeat_us=7_200 * SECOND,
    heat_ttl_us=21_600 * SECOND,
    cell_interval_us=300 * SECOND,
    reconcile_interval_us=60 * SECOND,
    steal_idle_us=30 * SECOND,
    lifeline_ttl_us=3_600 * SECOND,
)


def _thin(config: ProtocolConfig) -> ProtocolConfig:
    """Cells of a quarter of the usual size, with all other bounds by the formulas of the real ones: a node keeps a
    quarter of the rows, and a hundred nodes have several cells."""
    return replace(
        config, cell_split=48, cell_merge=12, members_max=192, table_entries_max=768, links_kept=64, active_view_max=8
    )


# Bounds that a handful of machines reaches: a table too small for its cell, as nothing but a fault makes it; and cells
# of a few nodes, with all other bounds by the formulas of the real ones.
FEW_ROWS = replace(PRESETS["local"], table_entries_max=14)
SMALL_CELL = replace(
    PRESETS["local"],
    cell_split=8,
    cell_merge=2,
    cell_patience_us=20 * SECOND,
    cell_interval_us=3 * SECOND,
    contacts_a_level=2,
    members_max=28,
    table_entries_max=112,
    active_view_max=4,
    links_kept=24,
)
# Fewer links than there are nodes to a job.
FEW_LINKS = replace(PRESETS["lan"], links_kept=8, links_most=12, active_view_max=4)
SIMULATED_PRESETS = {
    **PRESETS,
    "slow": SLOW,
    "thin": _thin(PRESETS["lan"]),
    "slow thin": _thin(SLOW),
    "few rows": FEW_ROWS,
    "small cell": SMALL_CELL,
    "few links": FEW_LINKS,
}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Fault | JobPlan):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def draw_plan(seed: int, *, nodes: int | None = None, faults: int | None = None, honest: bool = False) -> Plan:
    """The plan of a seed. nodes, faults: how many, if the seed is not to say.

    honest: as seeds were drawn at first: nobody lies, no results are compared, no job is cancelled or makes
    checkpoints, clocks are set back by an hour; all else is the same.
    """
    dice = stream(seed, "plan")
    count = dice.between(5, 12) if nodes is None else nodes
    breaks = dice.between(3, 8) if faults is None else faults
    active_us = dice.between(6, 15) * SECOND
    jobs = tuple(
        JobPlan(dice.below(4 * SECOND), dice.between(20, 120), dice.pick((50, 200, 500)) * MS)
        for _ in range(dice.pick((1, 1, 2, 3)))
    )
    plan = Plan(
        seed=seed,
        nodes=count,
        slots=dice.between(1, 2),
        jobs=jobs,
        faults=draw_faults(stream(seed, "faults"), count, breaks, active_us),
        active_us=active_us,
        access=dice.pick(("lan", "lan", "home", "mixed")),
        nat=dice.pick((0.0, 0.0, 0.3)),
        drift_ppm=dice.pick((0, 100, 5_000)),
        skew_us=dice.pick((0, 1, 60)) * SECOND,
        sync_us=dice.pick((1, 4, 30)) * MS,
        room_speed=dice.pick((0.0, 0.0, 30.0)),
    )
    if honest:
        return plan
    plan = draw_steps(stream(seed, "clocks"), plan)
    return draw_doubts(stream(seed, "doubts"), plan)


def draw_steps(dice: Stream, plan: Plan) -> Plan:
    """The plan with clocks that are set ahead or back, by little or by much."""
    faults = list(plan.faults)
    for at, fault in enumerate(faults):
        if fault.kind is FaultKind.CLOCK:
            most_us = dice.pick(STEPS_US)
            faults[at] = replace(fault, step_us=dice.between(-most_us, most_us))
    return replace(plan, faults=tuple(faults))


def draw_doubts(dice: Stream, plan: Plan) -> Plan:
    """The plan with liars and with jobs whose results are compared, that make checkpoints, and of which one client's
    may be cancelled. As many lie as those who are left can outvote."""
    jobs = tuple(
        replace(job, verification=dice.pick(POLICIES), checkpoint_us=dice.pick((0, 0, 100 * MS))) for job in plan.jobs
    )
    liars = tuple(dice.some(LIES, dice.pick((0, 0, 0, 1, 1, 1, 1, 2))))
    if dice.chance(0.1):
        liars = ("accomplice", "accomplice")
    plan = replace(plan, jobs=jobs, liars=liars)
    if sum(lie in COMPARED[1:] for lie in liars) > 1:
        # Two who say the same are a quorum of two.
        plan = _with_policy(plan, ("adaptive", "spot(0.2)", "quorum(2)"), "quorum(3)")
    if plan.nodes < plan.nodes_least:
        plan = _with_policy(plan, ("quorum(3)",), "quorum(2)")
    while plan.liars and (plan.nodes < plan.nodes_least or sum(map(bool, plan.liars)) > plan.nodes // 4):
        plan = replace(plan, liars=plan.liars[:-1])
    if plan.nodes < plan.nodes_least:
        plan = _with_policy(plan, ("quorum(2)",), "adaptive")
    if dice.chance(0.15):
        cancel = Fault(FaultKind.CANCEL, dice.below(plan.active_us))
        plan = replace(plan, faults=tuple(sorted((*plan.faults, cancel), key=lambda fault: fault.at_us)))
    return plan


def _with_policy(plan: Plan, instead_of: tuple[str, ...], policy: str) -> Plan:
    jobs = [replace(job, verification=policy) if job.verification in instead_of else job for job in plan.jobs]
    return replace(plan, jobs=tuple(jobs))


def draw_faults(dice: Stream, nodes: int, count: int, active_us: int) -> tuple[Fault, ...]:
    """Faults that leave a majority of disks: only one machine ever gets a new one, or stays away for good."""
    kinds = [kind for kind, weight in DRAWN for _ in range(weight)]
    drawn: list[Fault] = []
    gone_for_good = False
    for _ in range(count):
        kind = dice.pick(kinds)
        at_us = dice.below(active_us * 2 // 3)
        lasts_us = dice.between(100 * MS, active_us)
        targets: tuple[int, ...] = (dice.below(nodes),)
        if kind is FaultKind.CUT:
            targets = tuple(dice.some(range(nodes), dice.between(1, max(1, nodes // 2))))
        for_good = kind in (FaultKind.KILL, FaultKind.POWER_CUT) and dice.chance(0.2)
        if kind is FaultKind.NEW_DISK or for_good:
            if gone_for_good:
                kind, for_good = FaultKind.KILL, False
            gone_for_good = True
        step_us = lasts_us - HOUR if kind is FaultKind.CLOCK else 0
        drawn.append(Fault(kind, at_us, 0 if for_good else lasts_us, targets, step_us))
    return tuple(sorted(drawn, key=lambda fault: fault.at_us))
