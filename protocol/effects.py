"""What a machine asks of the world. The driver performs effects in the order of the list."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from .limits import Limit
from .messages import Message

TimerKey = tuple[str, bytes]


class Reason(StrEnum):
    """Why a peer is penalised, refused or told no."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad-signature"
    NOT_ADMITTED = "not-admitted"
    WRONG_AUTHOR = "wrong-author"
    STALE_EPOCH = "stale-epoch"
    UNKNOWN_JOB = "unknown-job"
    NOT_A_REPLICA = "not-a-replica"
    BAD_PROOF = "bad-proof"
    OUT_OF_RANGE = "out-of-range"
    TOO_MANY = "too-many"
    REPEATED = "repeated"
    TOO_BIG = "too-big"
    FROM_THE_FUTURE = "from-the-future"
    DISK_FULL = "disk-full"
    NOT_CLEARED = "not-cleared"
    NO_SHARE = "no-share"


class Persist(Struct, frozen=True):
    """Put one row; on disk before any later Send that rests on the disk leaves. Equal (job_id, kind, key) replaces."""

    job_id: bytes
    kind: int
    key: bytes
    body: bytes


class Unpersist(Struct, frozen=True):
    """Delete one row; needs no durability."""

    job_id: bytes
    kind: int
    key: bytes


class Forget(Struct, frozen=True):
    """Delete all rows of a job and unpin its blobs."""

    job_id: bytes


class Send(Struct, frozen=True):
    """Deliver a message to a peer, or lose it. One to this node itself comes back as received.

    If it rests on the disk (`rests_on_disk`), only after all that was persisted before is durable.
    """

    peer: bytes
    message: Message


class SendBatch(Struct, frozen=True):
    """Read a stored batch (signed header and columns) and send it as a `Delivery` message."""

    peer: bytes
    job_id: bytes
    batch_id: bytes


class Publish(Struct, frozen=True):
    """Gossip a message to the whole mesh."""

    message: Message


class SetTimer(Struct, frozen=True):
    """Fire `TimerFired(key)` at a time; a key set again moves."""

    key: TimerKey
    at_us: int


class CancelTimer(Struct, frozen=True):
    key: TimerKey


class Execute(Struct, frozen=True):
    """Run tasks [first, first + count) of a job whose spec the machine's worker knows (`Worker.view`).

    copy: 0, or the copy that this run is for; it runs as the first one did.
    checkpoint: digest of the blob from which the one task goes on; empty to begin anew.  sources: who may have it.
    canonical_nans: run so that each NaN that is computed has the same bits on every processor, which may take longer.
    """

    execution_id: int
    job_id: bytes
    first: int
    count: int
    epoch: int
    copy: int = 0
    checkpoint: bytes = b""
    sources: tuple[bytes, ...] = ()
    canonical_nans: bool = False


class SaveExecution(Struct, frozen=True):
    """Stop a task as soon as it has written its next checkpoint; ends in `ExecutionSaved`, or as it would have.

    patience_us: after so long with the last checkpoint that it has written, if there is one; 0: wait for the next.
    """

    execution_id: int
    patience_us: int = 0


class CancelExecution(Struct, frozen=True):
    execution_id: int


class DropCheckpoint(Struct, frozen=True):
    """A task that was stopped here went elsewhere: what it left on this disk goes, as soon as it runs no more."""

    job_id: bytes
    index: int


class CompareOutputs(Struct, frozen=True):
    """Run a comparator's module on pairs of outputs; ends in `OutputsCompared`.

    module: digest, also in the blob stores of the sources.  pairs: digest and digest, output and output.
    """

    job_id: bytes
    module: bytes
    sources: tuple[bytes, ...]
    pairs: tuple[tuple[bytes, bytes, bytes, bytes], ...]


class ForgetSecrets(Struct, frozen=True):
    """The key of a confidential job is wiped: whatever of the job is here in the clear goes too."""

    job_id: bytes


class FetchBlobs(Struct, frozen=True):
    """Bring blobs onto this disk, trying the sources in order; ends in `BlobsFetched` or `BlobsFailed`.

    token: returned in the event.  digests: sha256 each.  pin: owner under which they are pinned.
    sizes: the most that each may have; empty where the node's own bound is enough.
    """

    token: bytes
    digests: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    pin: bytes
    sizes: tuple[int, ...] = ()


class UnpinBlobs(Struct, frozen=True):
    pin: bytes


class LearnAddress(Struct, frozen=True):
    """A member's record says where it listens; the transport may dial it when a Send needs it."""

    peer: bytes
    addresses: tuple[str, ...]
    relays: tuple[bytes, ...]


class Connect(Struct, frozen=True):
    """Keep a link to a peer, for the active view."""

    peer: bytes


class Disconnect(Struct, frozen=True):
    """Close the link to a peer that is dead or has no certificate any more."""

    peer: bytes
    reason: str


class Notify(Struct, frozen=True):
    """Tell local observers (client library, command line, log). name is a dotted event."""

    name: str
    fields: dict[str, Any]


class Penalise(Struct, frozen=True):
    """A peer broke a rule; the driver counts it and cuts off repeat offenders."""

    peer: bytes
    reason: Reason


class Limited(Struct, frozen=True):
    """A bound was reached that is nobody's fault by itself; the driver counts and logs it.  peer: who ran into it."""

    limit: Limit
    peer: bytes


Effect = (
    Persist
    | Unpersist
    | Forget
    | Send
    | SendBatch
    | Publish
    | SetTimer
    | CancelTimer
    | Execute
    | SaveExecution
    | DropCheckpoint
    | CancelExecution
    | CompareOutputs
    | ForgetSecrets
    | FetchBlobs
    | UnpinBlobs
    | LearnAddress
    | Connect
    | Disconnect
    | Notify
    | Penalise
    | Limited
)
