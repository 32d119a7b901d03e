"""The protocol with one thing broken at a time, to show that the checkers can fail.

Each is patched in from outside, for one run; a mutant that no checker catches is a hole in the net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import msgspec
from msgspec.structs import replace as replace_struct

from ...protocol import granter, membership, records, result_keeping, submitter
from ...protocol.accepting import Accepting
from ...protocol.codec import encode_message
from ...protocol.effects import Reason
from ...protocol.granting import Ledger
from ...protocol.holder import Holder
from ...protocol.jobs import JobState
from ...protocol.membership import Membership
from ...protocol.messages import Refused, Stored
from ...protocol.outbox import Outbox
from ...protocol.pace import Pace
from ...protocol.replica import Replica
from ...protocol.submission import Submission
from ...protocol.submitter import Submitter
from ...protocol.tables import Tables
from ...protocol.thief import Thief
from ...protocol.upkeep import Upkeep
from ...protocol.worker import Worker
from . import life, network
from .engine import MS, SECOND
from .memory import is_genuine
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


# -- what is broken --------------------------------------------------------------------------------------------


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _always(*_: Any, **__: Any) -> bool:
    return True


def _acknowledge_first(self: Replica, header: Any, message: Any, peer: bytes, now_us: int) -> None:
    """The worker hears that its batch is on disk before anything is written."""
    self._ctx.send(header.author, Stored(header.body.job_id, (header.id,)))
    _STORE(self, header, message, peer, now_us)


def _settle_at_once(self: Outbox, peer: bytes, batch_ids: tuple[bytes, ...]) -> None:
    for batch_id in batch_ids:
        owed = self._owed.get(batch_id)
        if owed is not None:
            self._settle(owed)


def _sign_at_once(self: Accepting, own: Any, now_us: int) -> None:
    for batch_id, held in own.custody:
        for lo, hi in held.tasks:
            own.sign(lo, hi)
        own.custody.let_go(batch_id)


def _whole_job(members: Any, tasks: int, me: bytes, is_alive: Any) -> list[tuple[int, int]]:
    return [(0, tasks)]


def _take_again(self: Holder, *arguments: Any) -> int:
    self._taken.clear()
    return int(_TAKE_GRANT(self, *arguments))


def _always_cold(self: Worker, reading: Any, now_us: int) -> None:
    if not reading.slots:
        # All that it says of the sink: what it has no buffer for is not begun either.
        cold = {"deficit_w": 10.0, "horizon_wh": 10.0, "useful": True, "buffer_wh": inf}
        reading = replace_struct(reading, slots=1, **cold)
    _ON_HEAT(self, reading, now_us)


def _hand_again(self: Submitter, own: Any, header: Any) -> tuple[tuple[int, int], ...]:
    return ((header.body.first, header.body.first + header.body.count),)


def _unwritten_spec(self: Replica, record: Any) -> None:
    if record.kind is not records.RecordKind.SPEC:
        _PERSIST(self, record)


def _unchecked(header: Any, columns: bytes) -> Any:
    from ...protocol.batches import decode_columns

    return decode_columns(header, columns)


def _count_twice(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, energy_mj=2 * body.energy_mj + 1)
    return records.sign_record(identity, kind, body)


def _count_half(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, energy_mj=body.energy_mj // 2, useful_mj=body.useful_mj // 2)
    return records.sign_record(identity, kind, body)


def _nothing_of_use(identity: Any, kind: Any, body: Any) -> Any:
    if kind is records.RecordKind.BATCH:
        body = replace_struct(body, useful_mj=0)
    return records.sign_record(identity, kind, body)


def _count_and_keep(self: JobState, info: Any, tasks: int) -> None:
    """What is canonical no more stays in the sums."""
    if tasks > 0:
        _COUNT(self, info, tasks)


def _settle_half(self: Ledger, lo: int, hi: int) -> None:
    self.free.discard(lo, hi)


def _raise(*_: Any) -> None:
    raise KeyError("lifeline")


def _blame_authors(self: Replica, peer: bytes, message: Any, now_us: int) -> None:
    """For a forged record whoever it names is penalised, along with whoever brought it."""
    for raw in message.records:
        if not is_genuine(raw):
            self._ctx.penalise(msgspec.msgpack.decode(raw)[1], Reason.BAD_SIGNATURE)
    _ON_RECORDS(self, peer, message, now_us)


_renew = Ledger.renew


def _renew_silently(self: Ledger, *held: Any) -> list[tuple[int, int, int]]:
    _renew(self, *held)
    return []


def _expire_all(self: Ledger, now_us: int) -> list[tuple[int, int, bytes]]:
    """One that ran out takes all others along."""
    gone = [(lo, hi, lease.holder) for lo, hi, lease in self.live]
    if not any(lease.expires_at_us <= now_us for _, _, lease in self.live):
        return []
    self._free_all(gone)
    return gone


def _free_everybody(self: Ledger, holder: bytes) -> list[tuple[int, int, bytes]]:
    gone = [(lo, hi, holder) for lo, hi, _ in self.live]
    self._free_all(gone)
    return gone


def _rebuild_without_leases(self: Ledger, now_us: int, lease_us: int) -> None:
    _REBUILD(self, now_us, lease_us)
    self._free_all([(lo, hi, lease.holder) for lo, hi, lease in self.live])


def _one_is_enough(self: Submission, peer: bytes, message: Any, now_us: int) -> None:
    own = self.jobs.get(message.job_id)
    _ON_SUBMITTED(self, peer, message, now_us)
    if own is not None and peer in own.stored_by and not own.durable:
        own.durable = True
        self._notify_submitted(own)


def _give_back_what_ran(self: Worker, execution: Any, *arguments: Any) -> None:
    """Its result comes after its tasks are free, and somebody waits for tasks."""
    self._release(execution.grant, execution.first, execution.first + execution.count)
    _TAKE_OUTCOME(self, execution, *arguments)


def _without_reasons(message: Any) -> bytes:
    return encode_message(replace_struct(message, reason="") if isinstance(message, Refused) else message)


def _cancelled_by_anybody(self: JobState, record: Any) -> bool:
    if self.cancellation is not None:
        return False
    self.cancellation = record
    self.ids.add(record.id)
    return True


def _accepted_by_anybody(self: JobState, record: Any) -> bool:
    """Whoever signs is taken for the submitter, while its record is merged."""
    with patched([(JobState, "submitter", property(lambda _: record.author))]):
        return bool(_MERGE_ACCEPTANCE(self, record))


_STORE: Any = Replica._store
_TAKE_GRANT: Any = Holder._take_grant
_ON_HEAT: Any = Worker.on_heat
_REBUILD: Any = Ledger.rebuild
_ON_SUBMITTED: Any = Submission.on_submitted
_TAKE_OUTCOME: Any = Worker._take_outcome
_MERGE_ACCEPTANCE: Any = JobState._merge_acceptance
_COUNT: Any = JobState._count
_PERSIST: Any = Replica._persist
_ON_RECORDS: Any = Replica.on_records

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
_WARM = replace(_CALM, faults=(Fault(FaultKind.WARM, 600 * MS, 3 * SECOND, (0, 1, 2)),))

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "drop the fencing check",
        ("fencing",),
        _FROZEN,
        lambda: [(Worker, "on_superseded", _nothing)],
    ),
    Mutant(
        "tell nobody that its lease is another's",
        ("stale-start",),
        replace(_FROZEN, jobs=(JobPlan(tasks=400, task_us=400 * MS),)),
        lambda: [(Ledger, "renew", _renew_silently)],
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
        lambda: [(Replica, "_store", _acknowledge_first)],
    ),
    Mutant(
        "acknowledge a job that is not written",
        ("persist-before-send",),
        _CALM,
        lambda: [(Replica, "_persist", _unwritten_spec)],
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
        lambda: [(JobState, "_merge_cancellation", _cancelled_by_anybody)],
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
        lambda: [(JobState, "check_grant", _nothing)],
    ),
    Mutant(
        "settle for one acknowledgment",
        ("kept-until-durable",),
        replace(_CALM, sync_us=30 * MS, faults=_OLD_LOSS, early_faults_us=4 * SECOND),
        lambda: [(Outbox, "on_stored", _settle_at_once)],
    ),
    Mutant(
        "sign for what no disk has",
        ("accepted-kept",),
        replace(_CALM, sync_us=30 * MS),
        lambda: [(Accepting, "_ask", _sign_at_once)],
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
        lambda: [(Ledger, "expire", _expire_all)],
    ),
    Mutant(
        "free every lease where one holder died",
        ("held-until-freed",),
        _CUT_OFF,
        lambda: [(Ledger, "free_holder", _free_everybody)],
    ),
    Mutant(
        "free every lease at a restart",
        ("held-until-freed",),
        replace(_KILLED, jobs=_FROZEN.jobs),
        lambda: [(Ledger, "rebuild", _rebuild_without_leases)],
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
        lambda: [(granter, "controlled_sections", _whole_job)],
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
        lambda: [(Holder, "_take_grant", _take_again)],
    ),
    Mutant(
        "grant what was cancelled",
        ("cancelled",),
        _CANCELLED,
        lambda: [
            (JobState, "open", property(lambda self: not self.complete)),
            (Replica, "_on_cancelled", _nothing),
        ],
    ),
    Mutant(
        "start work in a warm room",
        ("warm-start",),
        _WARM,
        lambda: [(Worker, "on_heat", _always_cold)],
    ),
    Mutant(
        "come back without what is on disk",
        ("restore",),
        _KILLED,
        lambda: [(Replica, "restore", _nothing)],
    ),
    Mutant(
        "come back without what is owed",
        ("restore",),
        _OWING,
        lambda: [(Worker, "restore", _nothing)],
    ),
    Mutant(
        "call a job submitted after one acknowledgment",
        ("no-job-lost",),
        replace(_CALM, sync_us=30 * MS, faults=_OLD_LOSS, early_faults_us=4 * SECOND),
        lambda: [(Submission, "on_submitted", _one_is_enough)],
    ),
    Mutant(
        "leave dead replicas their seats",
        ("seats-filled",),
        _LONG,
        lambda: [(Upkeep, "_replace", _nothing)],
    ),
    Mutant(
        "give back what ran",
        ("no-duplicates",),
        _CALM,
        lambda: [(Worker, "_take_outcome", _give_back_what_ran)],
    ),
    Mutant(
        "never believe that one came back",
        ("views-agree",),
        _RETURNING,
        lambda: [(Membership, "_renew", _nothing)],
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
        lambda: [(network, "encode_message", _without_reasons)],
    ),
    Mutant(
        "hand results over again",
        ("accepted-once",),
        replace(_FROZEN, faults=(*_FROZEN.faults, Fault(FaultKind.WEATHER, 0, 5 * SECOND))),
        lambda: [(Submitter, "_canonical_parts", _hand_again)],
    ),
    Mutant(
        "never compare with other replicas",
        ("replicas-converge", "liveness"),
        _CUT,
        lambda: [(Replica, "_reconcile", _nothing)],
    ),
    Mutant(
        "believe any proof",
        ("proof-valid",),
        replace(_CALM, liars=("bad proof",)),
        lambda: [(result_keeping, "check_batch", _unchecked), (submitter, "check_batch", _unchecked)],
    ),
    Mutant(
        "count energy twice",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", _count_twice)],
    ),
    Mutant(
        "tell half of the energy",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", _count_half)],
    ),
    Mutant(
        "tell nothing of useful energy",
        ("energy-balance",),
        _CALM,
        lambda: [(_worker_module(), "sign_record", _nothing_of_use)],
    ),
    Mutant(
        "keep what counts no more in a job's totals",
        ("energy-balance",),
        _FROZEN,
        lambda: [(JobState, "_count", _count_and_keep)],
    ),
    Mutant(
        "count done tasks as leased",
        ("no-task-lost",),
        _CALM,
        lambda: [(Ledger, "_settle", _settle_half)],
    ),
    Mutant(
        "keep every row",
        ("bounds",),
        replace(_CALM, preset="few rows", nodes=12),
        lambda: [(Tables, "_has_room", _always), (Tables, "_evict", _nothing)],
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
        lambda: [(Replica, "on_records", _blame_authors)],
    ),
    Mutant(
        "raise on an answer that nobody expects",
        ("no-crash",),
        _CALM,
        lambda: [(Thief, "on_refused", _raise)],
    ),
)


def _worker_module() -> Any:
    from ...protocol import worker

    return worker


def _tables_module() -> Any:
    from ...protocol import tables

    return tables
