"""Messages between nodes: one tagged union, positional fields, bounded in every dimension.

Records travel as the raw bytes that were signed; `codec.py` frames and versions the messages.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .records import Bytes32, Count, Epoch, JobId, JobSpec, Node, ShortText, Speed, TaskIndex, UInt
from .stealing.appetite import FOREVER_US

RawRecord = Annotated[bytes, Meta(max_length=1024 * 1024)]
# A share, or a part of one, with what sealing adds.
SealedShare = Annotated[bytes, Meta(max_length=128)]
RequestId = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]


class MessageBase(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of the union; `tag` is the first element on the wire."""


class MemberState(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A rumour of SWIM. state: 0 alive, 1 suspect, 2 dead, 3 left.

    accuser: of a suspicion, the node that found it out itself (rumours travel through others); else empty.
    """

    node: Node
    incarnation: UInt
    state: Annotated[int, Meta(ge=0, le=3)]
    accuser: Annotated[bytes, Meta(max_length=32)] = b""


Rumours = Annotated[tuple[MemberState, ...], Meta(max_length=64)]


class Ping(MessageBase, frozen=True, tag=1):
    request: RequestId
    rumours: Rumours = ()


class Ack(MessageBase, frozen=True, tag=2):
    request: RequestId
    incarnation: UInt
    rumours: Rumours = ()


class PingRequest(MessageBase, frozen=True, tag=3):
    """Ask the recipient to ping `target` for the sender."""

    request: RequestId
    target: Node
    rumours: Rumours = ()


class IndirectAck(MessageBase, frozen=True, tag=4):
    """The recipient's `PingRequest` reached its target (reached) or the helper could not (not reached)."""

    request: RequestId
    target: Node
    incarnation: UInt
    reached: bool


RowKey = Annotated[bytes, Meta(min_length=12, max_length=12)]
# Bits that the places of all nodes of a cell share (cells.py).
Depth = Annotated[int, Meta(ge=0, le=20)]


class TableVersion(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One row that the sender has. key: first 12 bytes of the row's key digest. version: see rows.py."""

    key: RowKey
    version: Annotated[tuple[UInt, UInt], Meta()]


Versions = Annotated[tuple[TableVersion, ...], Meta(max_length=1024)]


class TableSync(MessageBase, frozen=True, tag=5):
    """Push-pull, first half. The answer is `TableRows` with what the sender lacks, and what the other does.

    depth: of the sender's cell.  scope: of the smaller of the two cells, of which rows are compared.
    ranges: fingerprints of equal parts of the key space, a power of two of them, of all rows; or empty, and
    versions: of the rows that changed since the last exchange.
    """

    request: RequestId
    depth: Depth
    scope: Depth
    ranges: Annotated[tuple[Annotated[bytes, Meta(min_length=8, max_length=8)], ...], Meta(max_length=256)]
    versions: Versions


class TableRows(MessageBase, frozen=True, tag=6):
    """Rows that the recipient lacks, keys of those that the sender wants in turn, and what else the sender has.

    request: the exchange's, by the number of who began it; 0 for rows that are pushed.  answers: the recipient began
    it.  differing: parts of the key space in which the two sides differ, of which `versions` are all.
    """

    request: RequestId
    answers: bool
    rows: Annotated[tuple[RawRecord, ...], Meta(max_length=1024)]
    wanted: Annotated[tuple[RowKey, ...], Meta(max_length=1024)]
    versions: Versions
    differing: Annotated[tuple[Annotated[int, Meta(ge=0, le=255)], ...], Meta(max_length=256)]


class Leaving(MessageBase, frozen=True, tag=7):
    """The sender leaves in order; it is not to be suspected, and holds no lease any more."""

    incarnation: UInt


class FindNodes(MessageBase, frozen=True, tag=8):
    """Whom do you know that is close to this place (cells.py)? Answered by `FoundNodes`."""

    request: RequestId
    place: Annotated[bytes, Meta(min_length=8, max_length=8)]


class FoundNodes(MessageBase, frozen=True, tag=9):
    """Member records, the closest first."""

    request: RequestId
    rows: Annotated[tuple[RawRecord, ...], Meta(max_length=8)]


class FarJob(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A signed job digest of any cell, and how long ago its replica said it."""

    record: RawRecord
    age_s: Annotated[int, Meta(ge=0, le=86_400)]


class CellDigest(MessageBase, frozen=True, tag=16):
    """The sender's cell, in sums, and the jobs with the most work that it knows of.

    request: 0 in an answer.  depth: of the cell.  nodes: living ones.  deficit_w: of those that want heat.
    work_us: CPU time of the free tasks.
    """

    request: RequestId
    depth: Depth
    nodes: Annotated[int, Meta(ge=0, le=1 << 20)]
    deficit_w: UInt
    capacity_w: UInt
    free_slots: Annotated[int, Meta(ge=0, le=1 << 32)]
    work_us: UInt
    jobs: Annotated[tuple[FarJob, ...], Meta(max_length=8)]


class FindZone(MessageBase, frozen=True, tag=17):
    """Who else heats this sink (zones.py)? Answered by `FoundNodes`: those of its owner and site who asked of late.

    member: the asker's own member record, which names the zone.
    """

    request: RequestId
    member: RawRecord


class Steal(MessageBase, frozen=True, tag=10):
    """A cold node asks for tasks.

    appetite_us: CPU time that its deficit can burn within the horizon.  slots: tasks it could start now.
    native: commands that its owner allows.  lifeline: park the request if there is nothing now.
    wasm: whether it runs WebAssembly.  excluded: jobs that it could not run of late.
    discomfort_mkh, longest_us, speed_permille, price_micro, has, places, busy_us: as of `stealing.urgency.Ask`; the
    last two are told with a price only.
    """

    request: RequestId
    appetite_us: UInt
    slots: Annotated[int, Meta(ge=0, le=65_536)]
    deficit_w: Annotated[int, Meta(ge=-(1 << 31), le=1 << 31)]
    memory_bytes: UInt
    native: Annotated[tuple[ShortText, ...], Meta(max_length=64)]
    lifeline: bool
    wasm: bool = True
    excluded: Annotated[tuple[JobId, ...], Meta(max_length=32)] = ()
    discomfort_mkh: UInt = 0
    longest_us: UInt = FOREVER_US
    speed_permille: Speed = 1000
    price_micro: UInt = 0
    has: Annotated[tuple[JobId, ...], Meta(max_length=16)] = ()
    places: Annotated[int, Meta(ge=0, le=65_536)] = 0
    busy_us: UInt = 0

    def can_run(self, job_id: bytes, spec: JobSpec) -> bool:
        """Whether tasks of the job are of any use to the thief."""
        if spec.limits.memory_bytes > self.memory_bytes or job_id in self.excluded:
            return False
        return self.wasm if spec.runtime == "wasm" else spec.command in self.native


class Granted(MessageBase, frozen=True, tag=11):
    """Tasks for the recipient, an answer to its steal or (request 0) pushed along its lifeline.

    grants: signed.  context: the specs and replica sets of jobs that this peer was not told of before.
    left: of the job's free tasks an equal part for each who holds some, as far as the granter knows; a hint of how
    soon the work ends.
    """

    request: RequestId
    grants: Annotated[tuple[RawRecord, ...], Meta(max_length=64)]
    context: Annotated[tuple[RawRecord, ...], Meta(max_length=128)]
    left: Count = 0


class Refused(MessageBase, frozen=True, tag=12):
    """Nothing to steal, and no lifeline is kept: either none was asked for, or there are too many.

    reason: why nothing was given.
    """

    request: RequestId
    reason: ShortText = ""


class HandOn(MessageBase, frozen=True, tag=13):
    """A warm node hands unstarted work to a colder one; an answer is not needed, the lease rules."""

    grants: Annotated[tuple[RawRecord, ...], Meta(max_length=64)]
    context: Annotated[tuple[RawRecord, ...], Meta(max_length=128)]


class HeldRange(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    lo: TaskIndex
    hi: TaskIndex
    epoch: Epoch


class HeldJob(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    job_id: JobId
    ranges: Annotated[tuple[HeldRange, ...], Meta(max_length=1024)]


class Renew(MessageBase, frozen=True, tag=14):
    """All that the sender still holds of jobs that the recipient keeps, each job once."""

    jobs: Annotated[tuple[HeldJob, ...], Meta(max_length=256)]


class Superseded(MessageBase, frozen=True, tag=15):
    """Leases that the recipient renewed and no longer has; unstarted tasks of them must not start."""

    jobs: Annotated[tuple[HeldJob, ...], Meta(max_length=256)]


class Delivery(MessageBase, frozen=True, tag=20):
    """A batch of results: the signed header and its columns (see batches.py)."""

    header: RawRecord
    columns: Annotated[bytes, Meta(max_length=2 * 1024 * 1024)]


class Stored(MessageBase, frozen=True, tag=21):
    """The sender has the batches on disk."""

    job_id: JobId
    batch_ids: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class Declined(MessageBase, frozen=True, tag=22):
    """The sender will not store a batch; the worker asks again later or gives it up, as the reason says."""

    job_id: JobId
    batch_id: Bytes32
    reason: ShortText


class Records(MessageBase, frozen=True, tag=23):
    """News of a job's state between replicas, or from a worker or submitter to them."""

    job_id: JobId
    records: Annotated[tuple[RawRecord, ...], Meta(max_length=256)]


class RangeDigest(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Count, and sum of the ids modulo 2**256, of the records with lo <= id < hi; hi empty means the end."""

    lo: Annotated[bytes, Meta(max_length=32)]
    hi: Annotated[bytes, Meta(max_length=32)]
    count: Count
    fingerprint: Bytes32


class Reconcile(MessageBase, frozen=True, tag=24):
    """Range fingerprints of a job's records; the other compares, and answers for the ranges that differ.

    elapsed_us: since the job was submitted, until its end, as the sender knows it; 0 in answers.
    """

    job_id: JobId
    ranges: Annotated[tuple[RangeDigest, ...], Meta(max_length=256)]
    elapsed_us: UInt = 0


class ReconcileIds(MessageBase, frozen=True, tag=25):
    """All ids that the sender has in a small range: the other sends what is missing and asks for what it lacks."""

    job_id: JobId
    lo: Annotated[bytes, Meta(max_length=32)]
    hi: Annotated[bytes, Meta(max_length=32)]
    ids: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class Want(MessageBase, frozen=True, tag=26):
    """Please send these records (batches come as `Delivery`)."""

    job_id: JobId
    ids: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class Submit(MessageBase, frozen=True, tag=30):
    """A signed spec and the replica set, from the submitter to each replica.

    share: of a confidential job's key, sealed to the recipient; else empty.
    """

    request: RequestId
    spec: RawRecord
    replica_set: RawRecord
    share: SealedShare = b""


class Submitted(MessageBase, frozen=True, tag=31):
    """The sender has the spec and all of its blobs on disk."""

    request: RequestId
    job_id: JobId


class Rejected(MessageBase, frozen=True, tag=32):
    """The sender will not hold the job."""

    request: RequestId
    job_id: JobId
    reason: ShortText


class TaskRange(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    lo: TaskIndex
    hi: TaskIndex


class Subscribe(MessageBase, frozen=True, tag=33):
    """Send me the job's canonical results that are not in `have`, as they come, at most `window` at a time.

    results: False for progress only.  window: batches that may be on their way unconsumed.
    """

    job_id: JobId
    have: Annotated[tuple[TaskRange, ...], Meta(max_length=4096)]
    results: bool
    window: Annotated[int, Meta(ge=1, le=256)]


class Consumed(MessageBase, frozen=True, tag=34):
    """The subscriber took these batches; the window opens again."""

    job_id: JobId
    batch_ids: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class Unsubscribe(MessageBase, frozen=True, tag=35):
    job_id: JobId


class FindJob(MessageBase, frozen=True, tag=36):
    """Who holds this job? An empty id asks for all jobs of the sender. Answered by `FoundJobs`."""

    request: RequestId
    job_id: Annotated[bytes, Meta(max_length=32)]


class FoundJobs(MessageBase, frozen=True, tag=37):
    """context: spec and replica set records of each job found."""

    request: RequestId
    context: Annotated[tuple[RawRecord, ...], Meta(max_length=512)]


class WorkerShare(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What one worker did of a job: canonical tasks done, tasks leased now, CPU, energy, and what it costs."""

    node: Node
    done: Count
    leased: Count
    cpu_us: UInt
    energy_mj: UInt
    useful_mj: UInt
    cost_micro: UInt = 0


class JobStatus(MessageBase, frozen=True, tag=38):
    """Progress as one replica knows it. state: "running", "done", "accepted", "cancelled"."""

    job_id: JobId
    state: ShortText
    tasks: Count
    done: Count
    leased: Count
    accepted: Count
    failed: Count
    duplicates: Count
    elapsed_us: UInt
    task_us: UInt
    workers: Annotated[tuple[WorkerShare, ...], Meta(max_length=512)]


class Taken(MessageBase, frozen=True, tag=39):
    """The submitter took results from these batches, and signs for them once enough replicas have them on disk.

    Answered by `Stored` for those that are, and by `Want` for those that the replica lacks.
    """

    job_id: JobId
    batch_ids: Annotated[tuple[Bytes32, ...], Meta(max_length=256)]


class Announce(MessageBase, frozen=True, tag=40):
    """Gossip: a job was cancelled; or one came that its cell does not take at once, is at risk, or has nothing left.

    records: digests and cancellations.
    """

    records: Annotated[tuple[RawRecord, ...], Meta(max_length=8)]


class Revocations(MessageBase, frozen=True, tag=41):
    """Gossip: a revocation list of an authority (crypto/certificates.py)."""

    revocation_list: Annotated[bytes, Meta(max_length=512 * 1024)]


class KeyWanted(MessageBase, frozen=True, tag=60):
    """A worker asks a replica for its share of a confidential job's key. grant: by which it holds tasks of the job."""

    request: RequestId
    job_id: JobId
    grant: RawRecord
    certificate: Annotated[bytes, Meta(max_length=1024)]


class KeyShare(MessageBase, frozen=True, tag=61):
    """The sender's share, sealed to the recipient."""

    request: RequestId
    job_id: JobId
    sealed: SealedShare


class KeyRefused(MessageBase, frozen=True, tag=62):
    """No share for the recipient."""

    request: RequestId
    job_id: JobId
    reason: ShortText


class ShareGiven(MessageBase, frozen=True, tag=63):
    """A submitter's share for a replica that came later, sealed to it."""

    job_id: JobId
    sealed: SealedShare


class ShareWanted(MessageBase, frozen=True, tag=64):
    """A replica without a share asks two others, the recipient among them, to make one for it together.

    round: by which the pieces of one making are told from those of another.
    """

    job_id: JobId
    round: RequestId
    helpers: Annotated[tuple[Node, Node], Meta()]


class SharePart(MessageBase, frozen=True, tag=65):
    """A piece of a new share for `heir`, sealed to the recipient: the other helper, or the heir itself."""

    job_id: JobId
    round: RequestId
    heir: Node
    helpers: Annotated[tuple[Node, Node], Meta()]
    sealed: SealedShare


class Accused(MessageBase, frozen=True, tag=42):
    """Gossip, and to new neighbours: a proof of fraud, signed (verification/fraud.py)."""

    accusation: RawRecord


WHY_TEXT_MAX = 1024


class Why(MessageBase, frozen=True, tag=50):
    """Why does this task wait? With an empty job id: why is the recipient idle? Answered by `Because`."""

    request: RequestId
    job_id: Annotated[bytes, Meta(max_length=32)]
    index: TaskIndex


class Because(MessageBase, frozen=True, tag=51):
    """One sentence. sure: the sender is the one who decides about it."""

    request: RequestId
    sure: bool
    text: Annotated[str, Meta(max_length=WHY_TEXT_MAX)]


Message = (
    Ping
    | Ack
    | PingRequest
    | IndirectAck
    | TableSync
    | TableRows
    | Leaving
    | FindNodes
    | FoundNodes
    | CellDigest
    | FindZone
    | Steal
    | Granted
    | Refused
    | HandOn
    | Renew
    | Superseded
    | Delivery
    | Stored
    | Declined
    | Records
    | Reconcile
    | ReconcileIds
    | Want
    | Submit
    | Submitted
    | Rejected
    | Subscribe
    | Consumed
    | Unsubscribe
    | Taken
    | FindJob
    | FoundJobs
    | JobStatus
    | Announce
    | Revocations
    | Accused
    | Why
    | Because
    | KeyWanted
    | KeyShare
    | KeyRefused
    | ShareGiven
    | ShareWanted
    | SharePart
)

# What says that something was written down, or hands on what was: a node that forgot it in a crash would have lied.
# All else is a question, a sign of life, a hint, or proves itself, and need not wait for anybody's disk.
_RESTING = frozenset((Stored, Declined, Submitted, Granted, HandOn, Records, Reconcile, ReconcileIds))
_IN_PLACE = _RESTING | {Leaving}


def rests_on_disk(message: Message) -> bool:
    """Whether the message may leave only once all that was persisted before it is durable."""
    return type(message) in _RESTING


def keeps_its_place(message: Message) -> bool:
    """Whether it may overtake nothing that was sent before: what rests on the disk, and a goodbye."""
    return type(message) in _IN_PLACE
