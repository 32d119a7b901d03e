"""What the world tells a machine. One event at a time, with the time of its arrival."""

from __future__ import annotations

from dataclasses import dataclass

from .effects import TimerKey
from .messages import Message
from .records import JobSpec


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row that `Persist` wrote earlier, read back at start."""

    job_id: bytes
    kind: int
    key: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Started:
    """The node runs. rows: everything it persisted, in order of first write."""

    rows: tuple[StoredRow, ...]


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """An admitted peer has a link. roles: from its certificate."""

    peer: bytes
    roles: int


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The link to a peer ended. reset: the other side closed or reset it (as a killed process does)."""

    peer: bytes
    reset: bool


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A Send could not be delivered: no address answered."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class Received:
    peer: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class TimerFired:
    key: TimerKey


@dataclass(frozen=True, slots=True)
class HeatReading:
    """What the heat sink's controller wants now.

    deficit_w: watts wanted, negative when too warm.  capacity_w: at full load.  slots: tasks to run at once.
    horizon_wh: energy wanted over the horizon.  useful: whether heat made now meets a demand.
    """

    deficit_w: float
    capacity_w: float
    slots: int
    horizon_wh: float
    watts_per_slot: float
    useful: bool
    sink: str
    temperature_c: float


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """An execution ended. Columns have one entry a task, from the execution's first task on.

    Fewer entries than tasks: the executor stopped early, and the rest is to be given back.

    externals: {offset: (digest, size)} of outputs that went to the blob store instead of `outputs`.
    energy_mj, useful_mj: millijoules of the whole execution.
    """

    execution_id: int
    exits: tuple[int, ...]
    outputs: tuple[bytes, ...]
    externals: dict[int, tuple[bytes, int]]
    stderrs: dict[int, bytes]
    fuels: tuple[int, ...]
    cpu_us: tuple[int, ...]
    energy_mj: int
    useful_mj: int
    measured: bool


@dataclass(frozen=True, slots=True)
class ExecutionFailed:
    """The node could not run the tasks at all. retry: another node may be able to.

    permanent faults (an invalid module) are the job's: each task gets `exit_code` and the reason as stderr.
    """

    execution_id: int
    reason: str
    permanent: bool
    exit_code: int


@dataclass(frozen=True, slots=True)
class BlobsFetched:
    token: bytes


@dataclass(frozen=True, slots=True)
class BlobsFailed:
    token: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class StorageFailed:
    """Writes fail (full disk): take no work and hold no new job until `StorageRecovered`."""

    reason: str


@dataclass(frozen=True, slots=True)
class StorageRecovered:
    pass


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Command: submit a job of this node's own. created by `JobSpec`; blobs are in the local store."""

    spec: JobSpec


@dataclass(frozen=True, slots=True)
class FollowJob:
    """Command: receive a job's results (or progress only). have: (lo, hi) ranges already verified and kept."""

    job_id: bytes
    have: tuple[tuple[int, int], ...]
    results: bool


@dataclass(frozen=True, slots=True)
class UnfollowJob:
    job_id: bytes


@dataclass(frozen=True, slots=True)
class ResultsTaken:
    """Command: the consumer has the batch; accept it and open the window."""

    job_id: bytes
    batch_id: bytes


@dataclass(frozen=True, slots=True)
class CancelJob:
    job_id: bytes


@dataclass(frozen=True, slots=True)
class ListJobs:
    """Command: ask the mesh for this node's jobs. job_id empty: all.  peers: whom, instead of some known members."""

    job_id: bytes
    peers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Drain:
    """Command: leave in order; ends in `Notify("node.drained")`."""


@dataclass(frozen=True, slots=True)
class AddressesChanged:
    """The transport listens here now."""

    addresses: tuple[str, ...]
    relays: tuple[bytes, ...]


Event = (
    Started
    | PeerConnected
    | PeerLost
    | PeerUnreachable
    | Received
    | TimerFired
    | HeatReading
    | TaskFinished
    | ExecutionFailed
    | BlobsFetched
    | BlobsFailed
    | StorageFailed
    | StorageRecovered
    | SubmitJob
    | FollowJob
    | UnfollowJob
    | ResultsTaken
    | CancelJob
    | ListJobs
    | Drain
    | AddressesChanged
)
