"""Signed records: what a job's state is made of, and what survives on disk.

A record is `[kind, author, body, signature]` in MessagePack; `body` is the MessagePack of one of the structs
below; the signature covers the body under the kind's context. Records are kept and forwarded as the bytes that
were signed, so no re-encoding can change them. A record's id is the digest of kind, author and body.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from ..crypto.bounded import DecodeError, decode_bounded
from ..crypto.certificates import CLASSES_MAX, Place, TrustClass
from ..crypto.identity import Identity
from ..crypto.signing import Context, digest, verify
from .stealing.appetite import FOREVER_US
from .stealing.pricing import cost_micro
from .vouching import vouched_by

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
JobId = Bytes32
Node = Bytes32
TaskIndex = Annotated[int, Meta(ge=0, le=1 << 40)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Epoch = Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
ShortText = Annotated[str, Meta(max_length=256)]
UINT_MAX = (1 << 63) - 1
RECORD_BYTES_MAX = 1024 * 1024
# Nodes that a request for copies may exclude.
AVOID_MAX = 16
# Tasks of one batch.
BATCH_TASKS_MAX = 65_536
_COMPARATOR_MODULE = re.compile(r"wasm\(([0-9a-f]{64})\)")
Build = Annotated[bytes, Meta(min_length=8, max_length=8)]
UInt = Annotated[int, Meta(ge=0, le=UINT_MAX)]
# Of a node, in thousandths of the mean node's.
Speed = Annotated[int, Meta(ge=1, le=1_000_000)]


class RecordKind(IntEnum):
    SPEC = 1
    REPLICA_SET = 2
    GRANT = 3
    RELEASE = 4
    BATCH = 5
    ACCEPTANCE = 6
    CANCELLATION = 7
    MEMBER = 8
    HEAT = 9
    JOB_DIGEST = 10
    RECHECK = 11
    ACCUSATION = 12


class RecordBody(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of all bodies: positional fields, nothing unknown."""


class InputPack(RecordBody, frozen=True):
    """Inputs of `count` tasks from `first` on, in one blob (see `inputs.py`)."""

    digest: Bytes32
    first: TaskIndex
    count: Annotated[int, Meta(ge=1, le=1 << 20)]
    size_bytes: UInt


class FileRef(RecordBody, frozen=True):
    """A shared input file, read-only in every task under its name."""

    name: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")]
    digest: Bytes32
    size_bytes: UInt


class ResourceLimits(RecordBody, frozen=True):
    """What one task may use. fuel 0: unlimited. wall_us: of one task."""

    memory_bytes: UInt = 256 * 1024 * 1024
    wall_us: UInt = 60_000_000
    fuel: UInt = 0
    output_bytes: UInt = 1024 * 1024
    scratch_bytes: UInt = 16 * 1024 * 1024


class Secrecy(RecordBody, frozen=True):
    """Of a confidential job: how its key is known, and who may be given it (see secrecy/).

    salt: from which its submitter makes the key again.  key_digest: by which the right key is known.  hidden: name,
    entry, arguments and names of files, under the key.  classes: all of which a worker's certificate must have.
    owners, nodes: one of which the worker must be; empty for any.
    """

    salt: Bytes32
    key_digest: Bytes32
    hidden: Annotated[bytes, Meta(max_length=256 * 1024)]
    classes: Annotated[tuple[TrustClass, ...], Meta(max_length=CLASSES_MAX)] = ()
    owners: Annotated[tuple[Place, ...], Meta(max_length=16)] = ()
    nodes: Annotated[tuple[Node, ...], Meta(max_length=256)] = ()

    def clears(self, node: bytes, certificate: bytes) -> bool:
        """Whether a worker may be given the key. certificate: checked, or of a member's record, which was."""
        if self.nodes and node not in self.nodes:
            return False
        if not (self.classes or self.owners):
            return True
        vouched = vouched_by(certificate)
        if self.owners and vouched.owner not in self.owners:
            return False
        return all(wanted in vouched.classes for wanted in self.classes)


class JobSpec(RecordBody, frozen=True):
    """What a submitter asks for; its digest is the job's id, so that submitting twice is submitting once.

    runtime: "wasm", "native" or "oci".  abi: "function" or "command" (wasm), "command" (the others).
    program: for wasm the module's digest, for oci that of the image's archive; for native the digest of the empty
    string.  command: for native and oci an entry of the owner's allow-list; for oci the image's digest, "sha256:…".
    inline_inputs: one per task, or empty.  packs: blobs of inputs, or empty.
    priority: 0 (volunteer) to 9 (urgent).  estimate_us: CPU of one task, 0 if unknown.
    deadline_us, created_us: microseconds since 1970, 0 for none.
    verification, comparator: how results are cross-checked, and when two are the same (see verification/).
    certificate: the submitter's admission, so that replicas and workers that never meet it know its role and quota.
    checkpoint_us: most CPU time between two of a task's checkpoints; 0: it makes none.  price_limit_micro: most that an
    hour of CPU may cost where nobody wants its heat, in millionths of the mesh's currency (see stealing/).
    secrecy: of a confidential job, whose blobs, inputs and results are ciphertext; None of any other.
    """

    version: Annotated[int, Meta(ge=1, le=1)]
    mesh_id: Bytes32
    nonce: Annotated[bytes, Meta(max_length=32)]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    runtime: Annotated[str, Meta(pattern=r"^(wasm|native|oci)$")]
    abi: Annotated[str, Meta(pattern=r"^(function|command)$")]
    program: Bytes32
    program_bytes: UInt
    command: ShortText
    entry: Annotated[str, Meta(max_length=64)]
    arguments: Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(max_length=256)]
    tasks: Annotated[int, Meta(ge=1, le=1 << 32)]
    files: Annotated[tuple[FileRef, ...], Meta(max_length=256)] = ()
    inline_inputs: Annotated[tuple[bytes, ...], Meta(max_length=4096)] = ()
    packs: Annotated[tuple[InputPack, ...], Meta(max_length=16_384)] = ()
    limits: ResourceLimits = ResourceLimits()
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    estimate_us: UInt = 0
    deadline_us: UInt = 0
    created_us: UInt = 0
    verification: Annotated[str, Meta(max_length=64)] = "none"
    comparator: Annotated[str, Meta(max_length=256)] = "exact"
    certificate: Annotated[bytes, Meta(max_length=1024)] = b""
    checkpoint_us: UInt = 0
    price_limit_micro: UInt = 0
    secrecy: Secrecy | None = None

    def comparator_module(self) -> bytes:
        """Digest of the module that says which outputs are the same; empty if there is none."""
        module = _COMPARATOR_MODULE.fullmatch(self.comparator)
        return bytes.fromhex(module[1]) if module else b""

    def blob_digests(self) -> tuple[bytes, ...]:
        """Every blob a node needs to hold the job, the program first, without repeats."""
        wanted = [ref.digest for ref in self.files] + [pack.digest for pack in self.packs]
        if self.ships_program:
            wanted.insert(0, self.program)
        if module := self.comparator_module():
            wanted.append(module)
        return tuple(dict.fromkeys(wanted))

    @property
    def ships_program(self) -> bool:
        """Whether the program is a blob that comes with the job, rather than a name."""
        return self.runtime != "native"

    def shared_bytes(self) -> int:
        """Size of the blobs that any task needs."""
        return self.program_bytes + sum(ref.size_bytes for ref in self.files)

    def input_bytes(self) -> int:
        """Size of a task's own input, on the mean of the first pack; 0 where all inputs come with the spec."""
        return self.packs[0].size_bytes // self.packs[0].count if self.packs else 0


class ReplicaSet(RecordBody, frozen=True):
    """Who holds a job's state. Position in `members` is the rank; the highest epoch wins.

    former: who was a member once; the grants that they signed stay good.
    """

    job_id: JobId
    epoch: Epoch
    members: Annotated[tuple[Node, ...], Meta(min_length=1, max_length=7)]
    former: Annotated[tuple[Node, ...], Meta(max_length=64)] = ()


class Grant(RecordBody, frozen=True):
    """The right of `holder` to run tasks [lo, hi) under `epoch` for `lease_us` from its receipt, renewable.

    lo, hi: numbers of one copy (see verification/lanes.py); those of copy 0 are the tasks' indices.
    parent: the signed grant (bytes) that the author holds, when a worker hands on; empty from a replica.
    checkpoint: digest of the blob from which the one task goes on that the author began; empty if nobody did.
    """

    job_id: JobId
    lo: TaskIndex
    hi: TaskIndex
    epoch: Epoch
    holder: Node
    lease_us: UInt
    parent: Annotated[bytes, Meta(max_length=4096)] = b""
    checkpoint: Annotated[bytes, Meta(max_length=32)] = b""


class Release(RecordBody, frozen=True):
    """The author gives back tasks [lo, hi) of the signed grant (bytes) that made it their holder, unstarted."""

    job_id: JobId
    lo: TaskIndex
    hi: TaskIndex
    grant: Annotated[bytes, Meta(max_length=4096)]


class KeyBox(RecordBody, frozen=True):
    """The key of a confidential batch: its digest, to which its worker is bound; itself, sealed to the submitter."""

    digest: Bytes32
    sealed: Annotated[bytes, Meta(max_length=128)]


class BatchHeader(RecordBody, frozen=True):
    """A worker's results of tasks [first, first + count), bound by the Merkle root over their leaves.

    failed: tasks whose exit code is not 0.  cpu_us, fuel: totals.  energy_mj: millijoules the tasks cost.
    useful_mj: those that met a heat demand.  measured: whether energy came from a meter or an estimate.
    certificate: the worker's admission.  copy: which run of the tasks; 0 is the first.  grant: the signed grant of
    another, or of a task that somebody else began; else empty.  price_micro: asked for an hour of CPU, because nobody
    wanted the heat; what is above the job's limit is not paid.
    box: of a confidential job's batch.
    """

    job_id: JobId
    first: TaskIndex
    count: Annotated[int, Meta(ge=1, le=BATCH_TASKS_MAX)]
    epoch: Epoch
    root: Bytes32
    failed: Count
    cpu_us: UInt
    fuel: UInt
    energy_mj: UInt
    useful_mj: UInt
    measured: bool
    certificate: Annotated[bytes, Meta(max_length=1024)]
    copy: Annotated[int, Meta(ge=0, le=15)] = 0
    grant: Annotated[bytes, Meta(max_length=4096)] = b""
    price_micro: UInt = 0
    box: KeyBox | None = None

    def cost_micro(self, limit_micro: int) -> int:
        """What the batch costs a job of that price limit, in millionths of the mesh's currency; 0 above the limit."""
        return cost_micro(self.cpu_us, self.price_micro) if self.price_micro <= limit_micro else 0


class AcceptedBatch(RecordBody, frozen=True):
    """Tasks [lo, hi) are accepted from the batch."""

    batch_id: Bytes32
    lo: TaskIndex
    hi: TaskIndex


class Acceptance(RecordBody, frozen=True):
    """The submitter's word on which results count; only its signature makes one. It names no task twice, and of a batch
    no more tasks than one may have."""

    job_id: JobId
    accepted: Annotated[tuple[AcceptedBatch, ...], Meta(min_length=1, max_length=1024)]


class Recheck(RecordBody, frozen=True):
    """The submitter wants tasks [lo, hi) run once more, as copy `copy`, by a node that had no part in them.

    salt: drawn after the results to be checked were signed; nodes are ranked by it (see verification/choice.py).
    avoid: nodes that may not have it.  kind: the class of machine that may have it (`MemberRecord.native_class`); empty
    for any.
    """

    job_id: JobId
    lo: TaskIndex
    hi: TaskIndex
    copy: Annotated[int, Meta(ge=1, le=15)]
    salt: Annotated[bytes, Meta(min_length=16, max_length=16)]
    avoid: Annotated[tuple[Node, ...], Meta(max_length=AVOID_MAX)]
    kind: Annotated[str, Meta(max_length=96)] = ""


class Cancellation(RecordBody, frozen=True):
    """The submitter wants no more results."""

    job_id: JobId


class SignedResult(RecordBody, frozen=True):
    """One task's result under the root that its worker signed. header: the signed header.  path: in the Merkle tree."""

    header: Annotated[bytes, Meta(max_length=8192)]
    exit_code: Annotated[int, Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
    output_digest: Bytes32
    stderr_digest: Bytes32
    fuel: UInt
    cpu_us: Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
    path: Annotated[tuple[Bytes32, ...], Meta(max_length=17)]


class Accusation(RecordBody, frozen=True):
    """Two results of task `index` that differ: whoever runs it knows which worker lied. The author says `named` did.

    spec: the signed spec of the job.
    """

    job_id: JobId
    spec: Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX // 2)]
    index: TaskIndex
    named: SignedResult
    other: SignedResult


class MemberRecord(RecordBody, frozen=True):
    """A node about itself. The highest (incarnation, sequence) wins.

    roles: the certificate's.  addresses: multiaddr texts it listens on.  relays: nodes through which it is reached.
    zone: heat zone (empty for none).  year_round: its sink wants heat in summer too.  since_s: start, unix seconds.
    certificate: the node's admission, so that nobody can invent members.  memory_bytes: most that a task may ask
    for.  wasm: whether it runs WebAssembly.  commands: native ones that its owner allows, and images by digest.
    machine: what their results may depend on, such as the kind of processor.  builds: of each command, a digest of the
    program.
    """

    node: Node
    incarnation: UInt
    sequence: UInt
    roles: Annotated[int, Meta(ge=0, le=255)]
    name: Annotated[str, Meta(max_length=64)]
    addresses: Annotated[tuple[Annotated[str, Meta(max_length=256)], ...], Meta(max_length=8)]
    relays: Annotated[tuple[Node, ...], Meta(max_length=3)]
    zone: Annotated[str, Meta(max_length=64)]
    year_round: bool
    since_s: UInt
    cores: Annotated[int, Meta(ge=0, le=65_536)]
    certificate: Annotated[bytes, Meta(max_length=1024)] = b""
    memory_bytes: UInt = 0
    wasm: bool = True
    commands: Annotated[tuple[ShortText, ...], Meta(max_length=64)] = ()
    machine: Annotated[str, Meta(max_length=64)] = ""
    builds: Annotated[tuple[Build, ...], Meta(max_length=64)] = ()

    def native_class(self, command: str) -> str:
        """Nodes that say the same are to come to the same bytes with a command; empty if it says too little."""
        if command not in self.commands or len(self.builds) != len(self.commands) or not self.machine:
            return ""
        return f"{self.builds[self.commands.index(command)].hex()}, {self.machine}"

    def can_run(self, spec: JobSpec) -> bool:
        """Whether the node's owner offers what a job's tasks need."""
        if spec.limits.memory_bytes > self.memory_bytes:
            return False
        if spec.secrecy is not None and not spec.secrecy.clears(self.node, self.certificate):
            return False
        return self.wasm if spec.runtime == "wasm" else spec.command in self.commands


class HeatDigest(RecordBody, frozen=True):
    """What a node wants of work now. The highest (incarnation, sequence) wins.

    deficit_w: watts wanted now (negative: too warm).  capacity_w: at full load.  free_slots: cores that could start
    work.  queue_us: CPU time of the work it holds unstarted.  sink: "room", "tank", …  temperature_mc: milli-°C.
    discomfort_mkh, appetite_us, longest_us, speed_permille, price_micro: as of `stealing.urgency.Ask`; the appetite is
    beyond the queue.
    """

    node: Node
    incarnation: UInt
    sequence: UInt
    deficit_w: Annotated[int, Meta(ge=-(1 << 31), le=1 << 31)]
    capacity_w: UInt
    free_slots: Annotated[int, Meta(ge=0, le=65_536)]
    queue_us: UInt
    sink: Annotated[str, Meta(max_length=16)]
    temperature_mc: Annotated[int, Meta(ge=-300_000, le=1_000_000)]
    draining: bool = False
    discomfort_mkh: UInt = 0
    appetite_us: UInt = FOREVER_US
    longest_us: UInt = FOREVER_US
    speed_permille: Speed = 1000
    price_micro: UInt = 0


class JobDigest(RecordBody, frozen=True):
    """What a replica has to give of a job. The highest (incarnation, sequence) of (job, replica) wins.

    checkpoint_us, price_limit_micro, deadline_us: the spec's.  blob_bytes: what a worker that has nothing of the job
    has to fetch before it can begin.  at_risk: of its deadline.
    """

    job_id: JobId
    replica: Node
    incarnation: UInt
    sequence: UInt
    free_tasks: Count
    task_us: UInt
    runtime: Annotated[str, Meta(max_length=16)]
    command: ShortText
    priority: Annotated[int, Meta(ge=0, le=9)]
    finished: bool
    checkpoint_us: UInt = 0
    price_limit_micro: UInt = 0
    blob_bytes: UInt = 0
    at_risk: bool = False
    deadline_us: UInt = 0


_BODIES: dict[RecordKind, tuple[Context, type[RecordBody]]] = {
    RecordKind.SPEC: (Context.SPEC, JobSpec),
    RecordKind.REPLICA_SET: (Context.REPLICA_SET, ReplicaSet),
    RecordKind.GRANT: (Context.GRANT, Grant),
    RecordKind.RELEASE: (Context.RELEASE, Release),
    RecordKind.BATCH: (Context.BATCH, BatchHeader),
    RecordKind.ACCEPTANCE: (Context.ACCEPTANCE, Acceptance),
    RecordKind.CANCELLATION: (Context.CANCELLATION, Cancellation),
    RecordKind.MEMBER: (Context.MEMBER, MemberRecord),
    RecordKind.HEAT: (Context.DIGEST, HeatDigest),
    RecordKind.JOB_DIGEST: (Context.ANNOUNCEMENT, JobDigest),
    RecordKind.RECHECK: (Context.RECHECK, Recheck),
    RecordKind.ACCUSATION: (Context.ACCUSATION, Accusation),
}


class _Envelope(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    kind: Annotated[int, Meta(ge=1, le=255)]
    author: Bytes32
    body: Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class Record(Struct, frozen=True):
    """A record whose signature was checked (or that was just signed). raw: the bytes as signed and forwarded."""

    kind: RecordKind
    author: bytes
    body: Any
    id: bytes
    raw: bytes


class RecordError(Exception):
    """A record that cannot be taken. reason: "malformed", "unknown-kind" or "bad-signature"."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


_encoder = msgspec.msgpack.Encoder()


def sign_record(identity: Identity, kind: RecordKind, body: RecordBody) -> Record:
    """Encode and sign; the inverse of `open_record`."""
    context, struct = _BODIES[kind]
    assert isinstance(body, struct), f"{kind.name} wants {struct.__name__}, got {type(body).__name__}"
    encoded = _encoder.encode(body)
    envelope = _Envelope(int(kind), identity.node_id, encoded, identity.sign(context, encoded))
    record_id = digest(context, identity.node_id + encoded)
    return Record(kind, identity.node_id, body, record_id, _encoder.encode(envelope))


def open_record(raw: bytes, *, check_signature: bool = True) -> Record:
    """Decode, validate and check a record from outside.

    check_signature: False only for what this node itself checked before it wrote it to its own disk.
    Raises RecordError.
    """
    try:
        envelope = decode_bounded(raw, _Envelope, max_bytes=RECORD_BYTES_MAX)
        try:
            kind = RecordKind(envelope.kind)
        except ValueError:
            raise RecordError("unknown-kind", str(envelope.kind)) from None
        context, struct = _BODIES[kind]
        body = decode_bounded(envelope.body, struct, max_bytes=RECORD_BYTES_MAX)
    except DecodeError as error:
        raise RecordError("malformed", str(error)) from error
    if check_signature and not verify(envelope.author, context, envelope.body, envelope.signature):
        raise RecordError("bad-signature", kind.name)
    record_id = digest(context, envelope.author + envelope.body)
    return Record(kind, envelope.author, body, record_id, raw)


def reopen_record(raw: bytes, kind: int, record_id: bytes) -> Record:
    """A record that this node checked and wrote in an earlier life. Raises RecordError if its row says otherwise."""
    record = open_record(raw, check_signature=False)
    if (record.kind, record.id) != (kind, record_id):
        raise RecordError("malformed", "another record than the row's")
    return record


def job_id_of(spec: Record) -> bytes:
    """A job's id is its signed spec's id: submitter, nonce and all the spec says."""
    assert spec.kind is RecordKind.SPEC
    return spec.id
