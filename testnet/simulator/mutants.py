"""The protocol with one thing broken at a time, to show that the checkers can fail.

Each is patched in from outside, for one run; a mutant that no checker catches is a hole in the net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...protocol import granter, membership, records, result_keeping, submitter
from ...protocol.accepting import Accepting
from ...protocol.granting import Ledger
from ...protocol.holder import Holder
from ...protocol.jobs import JobState
from ...protocol.membership import Membership
from ...protocol.outbox import Outbox
from ...protocol.pace import Pace
from ...protocol.replica import Replica
from ...protocol.submission import Submission
from ...protocol.submitter import Submitter
from ...protocol.tables import Tables
from ...protocol.thief import Thief
from ...protocol.upkeep import Upkeep
from ...protocol.verification.policy import Policy
from ...protocol.worker import Worker
from . import broken, life, network
from .engine import MS, SECOND
from .plan import Fault, FaultKind, JobPlan, Plan
from .run import play

SEEDS_MAX = 12
_Patch = tuple[Any, str, Any]


@dataclass(frozen=True, slots=True)
class Mutant:
    """name: what is broken.  caught_by: the checkers that may catch it.  plan: where it shows, under some seed."""

    name: str
    caught_by: tuple[str, ...]
    plan: Plan
    patches: Callable[[], list[_Patch]]


@dataclass(frozen=True, slots=True)
class Caught:
    """caught_by: empty if nobody did."""

    mutant: str
    caught_by: str
    seed: int
    text: str


@contextmanager
def patched(patches: list[_Patch]) -> Iterator[None]:
    with ExitStack() as stack:
        for owner, name, value in patches:
            if isinstance(owner, type):
                owner = next(each for each in owner.__mro__ if name in each.__dict__)
            before = owner.__dict__[name]
            stack.callback(setattr, owner, name, before)
            setattr(owner, name, value)
        yield


def catch(mutant: Mutant) -> Caught:
    """Play it under a few seeds, until a checker that should does catch it."""
    for seed in range(1, SEEDS_MAX + 1):
        outcome = _play_mutant(mutant, seed)
        for violation in outcome:
            if violation.checker in mutant.caught_by:
                return Caught(mutant.name, violation.checker, seed, violation.text)
    return Caught(mutant.name, "", 0, "")


def catch_number(number: int) -> Caught:
    """`catch` of one of MUTANTS, for a process of a pool."""
    return catch(MUTANTS[number])


def _play_mutant(mutant: Mutant, seed: int) -> list[Any]:
    with patched(mutant.patches()):
        return list(play(replace(mutant.plan, seed=seed)).violations)


def _accepted_by_anybody(self: JobState, record: Any) -> bool:
    """Whoever signs is taken for the submitter, while its record is merged."""
    with patched([(JobState, "submitter", property(lambda _: record.author))]):
        return bool(_MERGE_ACCEPTANCE(self, record))


_MERGE_ACCEPTANCE: Any = JobState._merge_acceptance
_CALM = Plan(seed=0, nodes=5, jobs=(JobPlan(tasks=60, task_us=100 * MS),), active_us=6 * SECOND, bound_us=30 * SECOND)
_FROZEN = replace(
    _CALM,
    jobs=(JobPlan(tasks=40, task_us=400 * MS),),
    faults=tuple(Fault(FaultKind.FREEZE, 1200 * MS + 300 * MS * at, 6 * SECOND, (at,)) for at in range(2)),
    active_us=9 * SECOND,
)
_KILLED = replace(_CALM, faults=(Fault(FaultKind.KILL, 1500 * MS, SECOND, (0, 1, 2)),))
_CUT_OFF = replace(
    _FROZEN, jobs=(JobPlan(tasks=120, task_us=400 * MS),), faults=(Fault(FaultKind.POWER_CUT, 1500 * MS, 0, (3,)),)
)
_FOUL = replace(_CALM, faults=(Fault(FaultKind.WEATHER, 0, 5 * SECOND),))
# A disk that is lost before there is any job excuses nobody.
_OLD_LOSS = (Fault(FaultKind.NEW_DISK, 0, SECOND, (4,)),)
_CUT = replace(_CALM, faults=(Fault(FaultKind.CUT, 500 * MS, 5 * SECOND, (0, 1)),), bound_us=20 * SECOND)
_CANCELLED = replace(
    _CALM,
    jobs=(JobPlan(tasks=400, task_us=200 * MS),),
    faults=(Fault(FaultKind.CANCEL, 2 * SECOND),),
    bound_us=5 * SECOND,
)
_LONG = replace(
    _CALM,
    jobs=(JobPlan(tasks=160, task_us=1500 * MS),),
    faults=(Fault(FaultKind.POWER_CUT, 2 * SECOND, 0, (0,)),),
    bound_us=120 * SECOND,
)
_RETURNING = replace(
    _CALM,
    faults=(Fault(FaultKind.POWER_CUT, 1500 * MS, 12 * SECOND, (0,)),),
    active_us=15 * SECOND,
    settles_us=30 * SECOND,
)
_OWING = replace(
    _FROZEN,
    faults=(Fault(FaultKind.CUT, 1200 * MS, 6 * SECOND, (0, 1)), Fault(FaultKind.KILL, 5 * SECOND, 300 * MS, (0, 1))),
)
_AGAIN = replace(
    _CALM, nodes=6, faults=tuple(Fault(FaultKind.KILL, SECOND + 700 * MS * at, 200 * MS, (at % 3,)) for at in range(9))
)
_MILD = replace(
    _CALM,
    slots=broken.MILD_SLOTS,
    jobs=(JobPlan(tasks=1500, task_us=300 * MS),),
    room_speed=300.0,
    active_us=20 * SECOND,
    bound_us=600 * SECOND,
)
_WARM = replace(_CALM, faults=(Fault(FaultKind.WARM, 600 * MS, 3 * SECOND, (0, 1, 2)),))

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "drop the fencing check",
        ("fencing",),
        _FROZEN,
        lambda: [(Worker, "on_superseded", broken.nothing)],
    ),
    Mutant(
        "tell nobody that its lease is another's",
        ("stale-start",),
        replace(_FROZEN, jobs=(JobPlan(tasks=400, task_us=400 * MS),)),
        lambda: [(Ledger, "renew", broken.renew_silently)],
    ),
    Mutant(
        "send before persist, in the driver",
        ("persist-before-send",),
        replace(_CALM, sync_us=30 * MS),
        lambda: [(life, "keeps_its_place", lambda _: False)],
    ),
    Mutant(
        "send before persist, in the machine",
        ("persist-before-send",),
        _CALM,
        lambda: [(Replica, "_store", broken.acknowledge_first)],
    ),
    Mutant(
        "acknowledge a job that is not written",
        ("persist-before-send",),
        _CALM,
        lambda: [(Replica, "_persist", broken.unwritten_spec)],
    ),
    Mutant(
        "accept unsigned records",
        ("forgery-kept",),
        replace(_CALM, liars=("forger",)),
        lambda: [(records, "verify", lambda *_: True)],
    ),
    Mutant(
        "let anybody cancel",
        ("wrong-author",),
        replace(_CALM, liars=("usurper",)),
        lambda: [(JobState, "_merge_cancellation", broken.cancelled_by_anybody)],
    ),
    Mutant(
        "let anybody accept",
        ("wrong-author",),
        replace(_CALM, liars=("usurper",)),
        lambda: [(JobState, "_merge_acceptance", _accepted_by_anybody)],
    ),
    Mutant(
        "let anybody grant",
        ("wrong-author",),
        replace(_CALM, liars=("usurper",)),
        lambda: [(JobState, "check_grant", broken.nothing)],
    ),
    Mutant(
        "settle for one acknowledgment",
        ("kept-until-durable",),
        replace(_CALM, sync_us=30 * MS, faults=_OLD_LOSS, early_faults_us=4 * SECOND),
        lambda: [(Outbox, "on_stored", broken.settle_at_once)],
    ),
    Mutant(
        "drop what nobody acknowledged in time",
        ("kept-until-durable",),
        _OWING,
        lambda: [(Outbox, "retry", broken.drop_late)],
    ),
    Mutant(
        "delete what is owed from the disk",
        ("kept-until-durable",),
        _OWING,
        lambda: [(Outbox, "_persist", broken.drop_on_disk)],
    ),
    Mutant(
        "sign for what no disk has",
        ("accepted-kept",),
        replace(_CALM, sync_us=30 * MS),
        lambda: [(Accepting, "_ask", broken.sign_at_once)],
    ),
    Mutant(
        "never let a lease expire",
        ("lease-expiry",),
        replace(_FROZEN, faults=(Fault(FaultKind.WEATHER, 0, 8 * SECOND),)),
        lambda: [(Ledger, "expire", lambda *_: [])],
    ),
    Mutant(
        "free every lease where one ran out",
        ("held-until-freed",),
        _FROZEN,
        lambda: [(Ledger, "expire", broken.expire_all)],
    ),
    Mutant(
        "free every lease where one holder died",
        ("held-until-freed",),
        _CUT_OFF,
        lambda: [(Ledger, "free_holder", broken.free_everybody)],
    ),
    Mutant(
        "free every lease at a restart",
        ("held-until-freed",),
        replace(_KILLED, jobs=_FROZEN.jobs),
        lambda: [(Ledger, "rebuild", broken.rebuild_without_leases)],
    ),
    Mutant(
        "let leases be renewed for ever",
        ("liveness",),
        replace(_CALM, liars=("hoarder",)),
        lambda: [(Pace, "overran", lambda *_: [])],
    ),
    Mutant(
        "have no patience with those who hold tasks",
        ("held-until-freed",),
        _CALM,
        lambda: [(Pace, "overran", lambda _, held, now_us: list(held))],
    ),
    Mutant(
        "grant outside of one's section",
        ("own-section", "one-lease"),
        _CALM,
        lambda: [(granter, "controlled_sections", broken.whole_job)],
    ),
    Mutant(
        "grant under the same epoch again",
        ("epoch-rises",),
        _FROZEN,
        lambda: [(JobState, "next_epoch", lambda *_: 1)],
    ),
    Mutant(
        "take a grant twice",
        ("one-lease",),
        _FOUL,
        lambda: [(Holder, "_take_grant", broken.take_again)],
    ),
    Mutant(
        "grant what was cancelled",
        ("cancelled",),
        _CANCELLED,
        lambda: [
            (JobState, "open", property(lambda self: not self.complete)),
            (Replica, "_on_cancelled", broken.nothing),
        ],
    ),
    Mutant(
        "start work in a warm room",
        ("warm-start",),
        _WARM,
        lambda: [(Worker, "on_heat", broken.always_cold)],
    ),
    Mutant(
        "start work beyond what a room wants",
        ("warm-start",),
        _MILD,
        lambda: [(Worker, "on_heat", broken.one_slot_more)],
    ),
    Mutant(
        "come back without what is on disk",
        ("restore",),
        _KILLED,
        lambda: [(Replica, "restore", broken.nothing)],
    ),
    Mutant(
        "come back without what is owed",
        ("restore",),
        _OWING,
        lambda: [(Worker, "restore", broken.nothing)],
    ),
    Mutant(
        "call a job submitted after one acknowledgment",
        ("no-job-lost",),
        replace(_CALM, sync_us=30 * MS, faults=_OLD_LOSS, early_faults_us=4 * SECOND),
        lambda: [(Submission, "on_submitted", broken.one_is_enough)],
    ),
    Mutant(
        "leave dead replicas their seats",
        ("seats-filled",),
        _LONG,
        lambda: [(Upkeep, "_replace", broken.nothing)],
    ),
    Mutant(
        "give back what ran",
        ("no-duplicates",),
        _CALM,
        lambda: [(Worker, "_take_outcome", broken.give_back_what_ran)],
    ),
    Mutant(
        "never believe that one came back",
        ("views-agree",),
        _RETURNING,
        lambda: [(Membership, "_renew", broken.nothing)],
    ),
    Mutant(
        "call dead at the first suspicion",
        ("false-alarm",),
        _AGAIN,
        lambda: [(membership, "suspicion_timeout_us", lambda *_: 1)],
    ),
    Mutant(
        "lose a field on the wire",
        ("codec",),
        _CALM,
        lambda: [(network, "encode_message", broken.without_reasons)],
    ),
    Mutant(
        "hand results over again",
        ("accepted-once",),
        replace(_FROZEN, faults=(*_FROZEN.faults, Fault(FaultKind.WEATHER, 0, 5 * SECOND))),
        lambda: [(Submitter, "_canonical_parts", broken.hand_again)],
    ),
    Mutant(
        "never compare with other replicas",
        ("replicas-converge", "liveness"),
        _CUT,
        lambda: [(Replica, "_reconcile", broken.nothing)],
    ),
    Mutant(
        "take no seat of a job that one does not know",
        ("replicas-converge",),
        _LONG,
        lambda: [(Replica, "_on_invitation", broken.nothing)],
    ),
    Mutant(
        "believe any proof",
        ("proof-valid",),
        replace(_CALM, liars=("bad proof",)),
        lambda: [(result_keeping, "check_batch", broken.unchecked), (submitter, "check_batch", broken.unchecked)],
    ),
    Mutant(
        "say of each task that it went well",
        ("proof-valid",),
        _CALM,
        lambda: [(Worker, "on_finished", broken.all_went_well)],
    ),
    Mutant(
        "compare nothing",
        ("wrong-accepted",),
        replace(_CALM, nodes=6, jobs=(JobPlan(task_us=100 * MS, verification="quorum(2)"),), liars=("wrong results",)),
        lambda: [(Policy, "share_to_check", lambda *_: 0.0)],
    ),
    Mutant(
        "count energy twice",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", broken.count_twice)],
    ),
    Mutant(
        "tell half of the energy",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", broken.count_half)],
    ),
    Mutant(
        "tell nothing of useful energy",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", broken.nothing_of_use)],
    ),
    Mutant(
        "keep what counts no more in a job's totals",
        ("energy-balance",),
        _FROZEN,
        lambda: [(JobState, "_count", broken.count_and_keep)],
    ),
    Mutant(
        "count done tasks as leased",
        ("no-task-lost",),
        _CALM,
        lambda: [(Ledger, "_settle", broken.settle_half)],
    ),
    Mutant(
        "keep every row",
        ("bounds",),
        replace(_CALM, preset="few rows", nodes=12),
        lambda: [(Tables, "_has_room", broken.always), (Tables, "_evict", broken.nothing)],
    ),
    Mutant(
        "penalise a peer for its first exchange",
        ("honest-penalised",),
        _CALM,
        lambda: [(_tables_module(), "SYNCS_BURST", 0)],
    ),
    Mutant(
        "penalise the author whose record was forged",
        ("honest-penalised",),
        replace(_CALM, liars=("forger",)),
        lambda: [(Replica, "on_records", broken.blame_authors)],
    ),
    Mutant(
        "raise on an answer that nobody expects",
        ("no-crash",),
        _CALM,
        lambda: [(Thief, "on_refused", broken.fall_over)],
    ),
)


def _worker_module() -> Any:
    from ...protocol import worker

    return worker


def _tables_module() -> Any:
    from ...protocol import tables

    return tables
