"""What a machine asks of the world. The driver performs effects in the order of the list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
    TOO_BIG = "too-big"
    FROM_THE_FUTURE = "from-the-future"
    DISK_FULL = "disk-full"


@dataclass(frozen=True, slots=True)
class Persist:
    """Put one row; it is on disk before any later Send leaves. Equal (job_id, kind, key) replaces."""

    job_id: bytes
    kind: int
    key: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Unpersist:
    """Delete one row; needs no durability."""

    job_id: bytes
    kind: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Forget:
    """Delete all rows of a job and unpin its blobs."""

    job_id: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """Deliver a message to a peer, in order with earlier ones, or lose it."""

    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class SendBatch:
    """Read a stored batch (signed header and columns) and send it as a `Delivery` message."""

    peer: bytes
    job_id: bytes
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """Gossip a message to the whole mesh."""

    message: Message


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire `TimerFired(key)` at a time; a key set again moves."""

    key: TimerKey
    at_us: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    key: TimerKey


@dataclass(frozen=True, slots=True)
class Execute:
    """Run tasks [first, first + count) of a job whose spec the driver was told by `Learn`."""

    execution_id: int
    job_id: bytes
    first: int
    count: int
    epoch: int


@dataclass(frozen=True, slots=True)
class CancelExecution:
    execution_id: int


@dataclass(frozen=True, slots=True)
class FetchBlobs:
    """Bring blobs onto this disk, trying the sources in order; ends in `BlobsFetched` or `BlobsFailed`.

    token: returned in the event.  digests: sha256 each.  pin: owner under which they are pinned.
    """

    token: bytes
    digests: tuple[bytes, ...]
    sources: tuple[bytes, ...]
    pin: bytes


@dataclass(frozen=True, slots=True)
class UnpinBlobs:
    pin: bytes


@dataclass(frozen=True, slots=True)
class LearnAddress:
    """A member's record says where it listens; the transport may dial it when a Send needs it."""

    peer: bytes
    addresses: tuple[str, ...]
    relays: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Connect:
    """Keep a link to a peer, for the active view."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the link to a peer that is dead or has no certificate any more."""

    peer: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell local observers (client library, command line, log). name is a dotted event."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Penalise:
    """A peer broke a rule; the driver counts it and cuts off repeat offenders."""

    peer: bytes
    reason: Reason


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
    | CancelExecution
    | FetchBlobs
    | UnpinBlobs
    | LearnAddress
    | Connect
    | Disconnect
    | Notify
    | Penalise
)
