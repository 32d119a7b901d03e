"""What the world tells a machine. One event at a time, with the time of its arrival."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from .effects import TimerKey
from .messages import Message
from .records import JobSpec, KeyBox


class StoredRow(Struct, frozen=True):
    """A row that `Persist` wrote earlier, read back at start."""

    job_id: bytes
    kind: int
    key: bytes
    body: bytes


class Started(Struct, frozen=True):
    """The node runs. rows: everything it persisted, in order of first write."""

    rows: tuple[StoredRow, ...]


class PeerConnected(Struct, frozen=True):
    """An admitted peer has a link. roles: from its certificate."""

    peer: bytes
    roles: int


class PeerLost(Struct, frozen=True):
    """The link to a peer ended. reset: the other side closed or reset it (as a killed process does)."""

    peer: bytes
    reset: bool


class PeerUnreachable(Struct, frozen=True):
    """A Send could not be delivered: no address answered."""

    peer: bytes


class Received(Struct, frozen=True):
    peer: bytes
    message: Message


class TimerFired(Struct, frozen=True):
    key: TimerKey


class HeatReading(Struct, frozen=True):
    """What the heat sink's controller wants now.

    deficit_w: watts wanted, negative when too warm.  capacity_w: at full load.  slots: tasks to run at once.
    horizon_wh: energy wanted over the horizon.  useful: whether heat made now meets a demand.
    buffer_wh, hold_w, later_w: see `stealing/appetite.py`.  discomfort_kh: kelvin-hours below the setpoint within the
    horizon, without any work.  price_micro: for an hour of CPU, where nobody wants its heat.  reason: why slots is 0.
    stopped: what runs stands still, until it may go on.
    """

    deficit_w: float
    capacity_w: float
    slots: int
    horizon_wh: float
    watts_per_slot: float
    useful: bool
    sink: str
    temperature_c: float
    buffer_wh: float = inf
    hold_w: float = 0.0
    later_w: tuple[float, ...] = ()
    discomfort_kh: float = 0.0
    price_micro: int = 0
    reason: str = ""
    stopped: bool = False


class TaskFinished(Struct, frozen=True):
    """An execution ended. Columns have one entry a task, from the execution's first task on.

    Fewer entries than tasks: the executor stopped early, and the rest is to be given back.

    externals: {offset: (digest, size)} of outputs that went to the blob store instead of `outputs`.  box: of a
    confidential job, whose outputs and stderrs are sealed.
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
    box: KeyBox | None = None


class ExecutionSaved(Struct, frozen=True):
    """The execution, of one task, was stopped right after a checkpoint, which is in the blob store now, pinned.

    pin: its owner there.  digest empty: it could not be kept as a blob, and is in the task's folder only.
    """

    execution_id: int
    digest: bytes
    size_bytes: int
    pin: bytes


class ExecutionFailed(Struct, frozen=True):
    """The node could not run the tasks at all. retry: another node may be able to.

    permanent faults (an invalid module) are the job's: each task gets `exit_code` and the reason as stderr.
    """

    execution_id: int
    reason: str
    permanent: bool
    exit_code: int


class OutputsCompared(Struct, frozen=True):
    """What a comparator's module said: digest, digest, whether they are the same. problem: why it said nothing."""

    job_id: bytes
    answers: tuple[tuple[bytes, bytes, bool], ...]
    problem: str = ""


class BlobsFetched(Struct, frozen=True):
    token: bytes


class BlobsFailed(Struct, frozen=True):
    token: bytes
    reason: str


class StorageFailed(Struct, frozen=True):
    """Writes fail (full disk): take no work and hold no new job until `StorageRecovered`."""

    reason: str


class StorageRecovered(Struct, frozen=True):
    pass


class SubmitJob(Struct, frozen=True):
    """Command: submit a job of this node's own. created by `JobSpec`; blobs are in the local store.

    follow: as if `FollowJob` for all results came at once, by somebody who waits for those and for no replica.
    """

    spec: JobSpec
    follow: bool = False


class FollowJob(Struct, frozen=True):
    """Command: receive a job's results (or progress only).

    have: (lo, hi) ranges of tasks that are not wanted.  signed: (lo, hi, batch id) of results that were taken in an
    earlier life, so that no other is signed for; they are signed for again if that acceptance reached nobody.
    """

    job_id: bytes
    have: tuple[tuple[int, int], ...]
    results: bool
    signed: tuple[tuple[int, int, bytes], ...] = ()


class UnfollowJob(Struct, frozen=True):
    job_id: bytes


class ResultsTaken(Struct, frozen=True):
    """Command: the consumer has the batch; accept it and open the window."""

    job_id: bytes
    batch_id: bytes


class ResultsSpoiled(Struct, frozen=True):
    """Command: of a batch that the consumer was given, the blobs of these tasks' results hold not what it says.

    They are judged anew, without its worker; where nothing is checked, nothing comes of it.
    """

    job_id: bytes
    batch_id: bytes
    indices: tuple[int, ...]


class GiveBack(Struct, frozen=True):
    """Command: a batch that a note `job.wanted` asked for, as it was kept. header, columns: empty if it was not."""

    job_id: bytes
    batch_id: bytes
    replica: bytes
    header: bytes
    columns: bytes


class CancelJob(Struct, frozen=True):
    job_id: bytes


class ListJobs(Struct, frozen=True):
    """Command: ask the mesh for this node's jobs. job_id empty: all.  peers: whom, instead of some known members."""

    job_id: bytes
    peers: tuple[bytes, ...] = ()


class AskWhy(Struct, frozen=True):
    """Command: ask nodes why a task waits, or with an empty job_id why they are idle; ends in notes `why.answered`."""

    peers: tuple[bytes, ...]
    job_id: bytes
    index: int


class Settle(Struct, frozen=True):
    """Command: what was put off for the sake of what is urgent leaves now; for a client that is about to go."""


class Drain(Struct, frozen=True):
    """Command: leave in order; ends in `Notify("node.drained")`."""


class AddressesChanged(Struct, frozen=True):
    """The transport listens here now."""

    addresses: tuple[str, ...]
    relays: tuple[bytes, ...]


class CommandsChanged(Struct, frozen=True):
    """What this node offers to run besides WebAssembly. See `NodeProfile`."""

    commands: tuple[str, ...]
    machine: str
    builds: tuple[bytes, ...]


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
    | ExecutionSaved
    | OutputsCompared
    | BlobsFetched
    | BlobsFailed
    | StorageFailed
    | StorageRecovered
    | SubmitJob
    | FollowJob
    | UnfollowJob
    | ResultsTaken
    | ResultsSpoiled
    | GiveBack
    | CancelJob
    | ListJobs
    | AskWhy
    | Settle
    | Drain
    | AddressesChanged
    | CommandsChanged
)
