"""A job as its submitter sees it: progress, verified results as they come, cancellation."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from ...protocol.batches import Batch
from ...protocol.effects import Notify
from ...protocol.events import CancelJob, FollowJob, GiveBack, ResultsSpoiled, ResultsTaken, UnfollowJob
from ...protocol.intervals import IntervalSet
from ...protocol.messages import JobStatus
from ...protocol.records import JobSpec, Record
from ...protocol.secrecy.results import OpenedBatch, open_large
from ...protocol.verification.comparators import parse_comparator
from ...protocol.verification.policy import PolicyKind
from .errors import ClientError, JobFailed
from .result import Result

if TYPE_CHECKING:
    from .session import Client

STATUS_TIMEOUT_S = 10.0
# Results that are kept count as accepted once a replica says so; this long one waits for that.
CONFIRM_TIMEOUT_S = 3.0
CANCEL_TIMEOUT_S = 5.0
# Of a cancelled job, results that were made before still come; where none did for so long, none will. More than two of
# the heartbeats with which a replica tells its state.
CANCELLED_SILENCE_S = 5.0

# Tasks [lo, hi) whose results came in the batch with this id.
SignedPart = tuple[int, int, bytes]
# Header and columns of a batch by its id, as they were kept; None if they were not.
KeptBatches = Callable[[bytes], tuple[bytes, bytes] | None]


@dataclass(frozen=True, slots=True)
class VerifiedBatch:
    """A batch whose signature, certificate and root were checked here. parts: [lo, hi) that count.

    evidence: batches (header, columns) of other nodes with which it was compared.  opened: of a confidential job, the
    results in the clear.  keys: of the evidence, by batch.  large: its large outputs in the clear, by task; None where
    the blob is not what its worker says.
    """

    header: Record
    batch: Batch
    columns: bytes
    parts: tuple[tuple[int, int], ...]
    source: bytes
    evidence: tuple[tuple[Record, bytes], ...] = ()
    opened: OpenedBatch | None = None
    keys: dict[bytes, bytes] = field(default_factory=dict)
    large: dict[int, bytes | None] = field(default_factory=dict)

    def marked(self) -> Iterator[int]:
        """Tasks with a large sealed output, of those that count."""
        marks = self.opened.marks if self.opened is not None else {}
        for lo, hi in self.parts:
            yield from (index for index in range(lo, hi) if index - self.batch.first in marks)

    def without(self, indices: Iterable[int]) -> VerifiedBatch:
        """As if these tasks were not in it."""
        left = IntervalSet(*self.parts)
        for index in indices:
            left.discard(index, index + 1)
        return replace(self, parts=tuple(left))

    def said(self, offset: int) -> bytes:
        """What the task wrote to standard error, its end."""
        stderrs = self.batch.stderrs if self.opened is None else self.opened.stderrs
        return stderrs.get(offset, b"")

    @classmethod
    def of(cls, note: Notify) -> VerifiedBatch:
        """From a note "job.results"."""
        keys = ("header", "batch", "columns", "parts", "source", "evidence", "opened", "keys")
        return cls(*(note.fields[key] for key in keys))


class Job:
    """A handle; get one from `Client.submit` or `Client.job`. One follower at a time."""

    def __init__(self, client: Client, job_id: bytes, spec: JobSpec) -> None:
        self._client = client
        self.job_id = job_id
        self.is_confidential = spec.secrecy is not None
        self.spec = client.revealed(spec)

    @property
    def id(self) -> str:
        """The job's id as users write it."""
        return self.job_id.hex()

    @property
    def checking(self) -> int:
        """Tasks whose first result is here, and waits for another node's."""
        return self._client.checking(self.job_id)

    async def status(self) -> JobStatus:
        """Progress now, as one replica knows it. Raises ClientError if none answers."""
        with trio.move_on_after(STATUS_TIMEOUT_S):
            async for status in self.watch():
                return status
        raise ClientError(f"no replica of job {self.id[:16]} answered within {STATUS_TIMEOUT_S:g} s")

    def watch(self) -> Watch:
        """Progress as it changes, until the job is done, accepted or cancelled."""
        return Watch(self._client, self)

    def batches(
        self,
        have: Iterable[tuple[int, int]] = (),
        signed: Iterable[SignedPart] = (),
        kept: KeptBatches | None = None,
    ) -> Batches:
        """Verified batches as they come, with progress between, until every task outside `have` is here.

        have: disjoint [lo, hi) ranges of tasks that are not wanted, as they were kept before.  signed: of what was
        kept in an earlier session, [lo, hi) and the batch's id: this client signs for that batch and for no other,
        again if its acceptance reached nobody then.  kept: gives back a batch of those, for replicas that lost it; it
        is called in a thread.  When the next item is asked for a batch counts as taken; it is accepted, by signature,
        once enough replicas have it on disk.  Leaving the loop early is fine. Raises JobFailed after a cancellation,
        once what was made before is here, ClientError for ranges that are not the job's.
        """
        return Batches(self._client, self, tuple(have), tuple(signed), kept)

    def results(self, have: Iterable[tuple[int, int]] = (), signed: Iterable[SignedPart] = ()) -> Results:
        """Each task's verified result once, as they come (not in order). As `batches` in all else."""
        return Results(self, self.batches(have, signed))

    async def confirm(
        self, signed: Iterable[SignedPart], kept: KeptBatches | None = None, timeout_s: float = CONFIRM_TIMEOUT_S
    ) -> bool:
        """Sign once more for what was kept in earlier sessions, as `batches` does; nothing is fetched.

        Returns whether a replica has heard of as many acceptances; False if not within the timeout. Raises ClientError.
        """
        parts = tuple(signed)
        wanted = sum(hi - lo for lo, hi, _ in parts)
        follower = _Follower(self._client, self, ((0, self.spec.tasks),), parts, kept, results=True)
        try:
            with trio.move_on_after(timeout_s):
                while True:
                    note = await follower.next_note()
                    if note.name == "job.status" and note.fields["heard"] >= wanted:
                        return True
        finally:
            follower.close()
        return False

    async def unpack(self, taken: VerifiedBatch) -> list[Result]:
        """A batch's results; large outputs are fetched by digest. Raises ClientError if one cannot be had."""
        batch, found = taken.batch, []
        for lo, hi in taken.parts:
            for index in range(lo, hi):
                offset = index - batch.first
                output = await self._output(taken, offset)
                found.append(
                    Result(
                        index,
                        batch.exits[offset],
                        output or b"",
                        taken.said(offset),
                        batch.fuels[offset],
                        batch.cpu_us[offset],
                        self.spec.abi,
                        taken.header,
                        batch,
                        output is None,
                    )
                )
        return found

    async def _output(self, taken: VerifiedBatch, offset: int) -> bytes | None:
        """None for one of a confidential job that cannot be opened."""
        batch, opened, index = taken.batch, taken.opened, taken.batch.first + offset
        if offset not in batch.externals:
            return batch.outputs[offset] if opened is None else opened.outputs[offset]
        if opened is None:
            return await self._blob(taken, offset)
        if offset not in opened.marks:
            return None
        return taken.large[index] if index in taken.large else await self._open_large(taken, opened, offset)

    async def _blob(self, taken: VerifiedBatch, offset: int) -> bytes:
        digest, _ = taken.batch.externals[offset]
        return await self._client.read_blob(digest, (taken.source, taken.header.author))

    async def _open_large(self, taken: VerifiedBatch, opened: OpenedBatch, offset: int) -> bytes | None:
        sealed = await self._blob(taken, offset)
        return open_large(taken.header, taken.batch.first + offset, opened.marks[offset], opened.key, sealed)

    async def opened_large(self, taken: VerifiedBatch) -> VerifiedBatch:
        """With its large sealed outputs. What cannot be opened is left out, and judged anew if the job is checked.

        Raises ClientError if a blob cannot be had.
        """
        opened = taken.opened
        if opened is None or not opened.marks:
            return taken
        first = taken.batch.first
        large = {index: await self._open_large(taken, opened, index - first) for index in taken.marked()}
        spoiled = tuple(index for index, output in large.items() if output is None)
        if not spoiled or self.spec.verification == PolicyKind.NONE:
            return replace(taken, large=large)
        self._client.feed(ResultsSpoiled(self.job_id, taken.header.id, spoiled))
        return replace(taken, large=large).without(spoiled)

    async def comparator_module(self) -> bytes | None:
        """The module that says which of the job's outputs are the same, if it has one. Raises ClientError."""
        digest = parse_comparator(self.spec.comparator).module
        return await self._client.read_blob(digest, self._client.replicas(self.job_id)) if digest else None

    def proofs(self, signed: Iterable[SignedPart]) -> tuple[bytes, list[bytes]]:
        """The mesh's definition, and the job's signed records: what shows to others that its results count.

        signed: what was kept, as for `batches`.  What of it no acceptance of this session names is signed for anew.
        """
        return self._client.proofs(self.job_id, signed)

    async def cancel(self) -> None:
        """Sign and send the cancellation; replicas pass it on to whoever runs the tasks.

        Returns once all replicas that are reached have heard of it. Raises ClientError if none has in time.
        """
        heard = False
        with self._client.listen(self.job_id) as notes:
            self._client.feed(CancelJob(self.job_id))
            with trio.move_on_after(CANCEL_TIMEOUT_S):
                async for note in notes:
                    if note.name == "job.cancelled":
                        heard = heard or note.fields["replica"] is not None
                        if heard and not note.fields["waiting"]:
                            break
        if not heard:
            raise ClientError(
                f"no replica of job {self.id[:16]} confirmed its cancellation within {CANCEL_TIMEOUT_S:g} s; try again"
            )
        await self._client.flush()


class _Follower:
    """Notes of a followed job. Ends its subscription when it is closed, exhausted or forgotten."""

    def __init__(
        self,
        client: Client,
        job: Job,
        have: tuple[tuple[int, int], ...],
        signed: tuple[SignedPart, ...],
        kept: KeptBatches | None = None,
        *,
        results: bool,
        opened: Listener | None = None,
    ) -> None:
        for lo, hi in (*have, *((lo, hi) for lo, hi, _ in signed)):
            if not 0 <= lo < hi <= job.spec.tasks:
                raise ClientError(f"job {job.id[:16]} has tasks 0 to {job.spec.tasks - 1}, and no range [{lo}, {hi})")
        self._client = client
        self._job = job
        self._have = have
        self._signed = signed
        self._kept = kept
        self._results = results
        self._notes: Notes | None = None
        self._unlisten: Callable[[], None] | None = None
        if opened is not None:
            self._notes, self._unlisten = opened

    async def next_note(self) -> Notify:
        """Raises JobFailed if the mesh rejected the job."""
        if self._notes is None:
            self._notes, self._unlisten = self._client.open_listener(self._job.job_id)
            self._client.feed(FollowJob(self._job.job_id, self._have, self._results, self._signed))
        note = await self._notes.receive()
        if note.name == "job.rejected":
            self.close()
            raise JobFailed(self._job.job_id, str(note.fields["reason"]))
        if note.name == "job.wanted":
            await self._give_back(note.fields["batch_ids"], note.fields["replica"])
        return note

    async def _give_back(self, batch_ids: Iterable[bytes], replica: bytes) -> None:
        for batch_id in batch_ids:
            found = await trio.to_thread.run_sync(self._kept, batch_id) if self._kept is not None else None
            header, columns = found or (b"", b"")
            self._client.feed(GiveBack(self._job.job_id, batch_id, replica, header, columns))

    def close(self) -> None:
        """Stop the transfer. Safe to repeat."""
        unlisten, self._unlisten = self._unlisten, None
        if unlisten is not None:
            unlisten()
            self._client.feed(UnfollowJob(self._job.job_id))

    def __del__(self) -> None:
        self.close()


class Watch(AsyncIterator[JobStatus]):
    """See `Job.watch`."""

    def __init__(self, client: Client, job: Job) -> None:
        self._follower = _Follower(client, job, (), (), results=False)
        self._ended = False

    async def __anext__(self) -> JobStatus:
        if self._ended:
            raise StopAsyncIteration
        while True:
            note = await self._follower.next_note()
            if note.name == "job.status":
                status: JobStatus = note.fields["status"]
                if status.state != "running":
                    self._ended = True
                    self._follower.close()
                return status

    async def aclose(self) -> None:
        """Stop following, for `contextlib.aclosing`."""
        self._follower.close()


class Batches(AsyncIterator[VerifiedBatch | JobStatus]):
    """See `Job.batches`."""

    def __init__(
        self,
        client: Client,
        job: Job,
        have: tuple[tuple[int, int], ...],
        signed: tuple[SignedPart, ...],
        kept: KeptBatches | None = None,
        opened: Listener | None = None,
    ) -> None:
        """opened: of a job that is followed already."""
        self._client = client
        self._job = job
        self._follower = _Follower(client, job, have, signed, kept, results=True, opened=opened)
        self._missing = job.spec.tasks - sum(hi - lo for lo, hi in have)
        # Who is cancelled while a large output is fetched gets the batch the next time.
        self._coming: VerifiedBatch | None = None
        self._given: VerifiedBatch | None = None
        # How long was waited for the mesh since the last batch; what its consumer takes for one is no silence.
        self._silence_s = 0.0

    async def __anext__(self) -> VerifiedBatch | JobStatus:
        while True:
            self._take_given()
            if self._missing <= 0:
                self._follower.close()
                raise StopAsyncIteration
            if self._coming is not None:
                self._given = await self._job.opened_large(self._coming)
                self._coming = None
                if self._given.parts:
                    return self._given
                continue
            note = await self._next_note()
            if note.name == "job.status":
                status: JobStatus = note.fields["status"]
                if status.state == "cancelled" and self._has_all(status):
                    self._follower.close()
                    raise JobFailed(self._job.job_id, self._cancelled(status))
                return status
            if note.name == "job.results":
                self._coming = VerifiedBatch.of(note)
                self._silence_s = 0.0

    async def _next_note(self) -> Notify:
        began_s = trio.current_time()
        try:
            return await self._follower.next_note()
        finally:
            self._silence_s += trio.current_time() - began_s

    @property
    def _here(self) -> int:
        return self._job.spec.tasks - self._missing

    def _has_all(self, status: JobStatus) -> bool:
        """Whether of a cancelled job nothing more is to come."""
        return self._here >= status.done or self._silence_s > CANCELLED_SILENCE_S

    def _cancelled(self, status: JobStatus) -> str:
        """What became of the results that were made before."""
        if not status.done:
            return "was cancelled before any of its results was made"
        said = f"was cancelled; {self._here} of the {status.done} results that were made before are here"
        if waiting := self._job.checking:
            return f"{said}, {waiting} are not: what they were to be compared with nobody runs any more"
        return said

    def _take_given(self) -> None:
        """The consumer came back for more: what it was given is accepted."""
        given, self._given = self._given, None
        if given is None:
            return
        self._client.feed(ResultsTaken(self._job.job_id, given.header.id))
        self._missing -= sum(hi - lo for lo, hi in given.parts)

    def close(self) -> None:
        """Stop the transfer; what was not taken comes again next time."""
        self._follower.close()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        self.close()


class Results(AsyncIterator[Result]):
    """See `Job.results`."""

    def __init__(self, job: Job, batches: Batches) -> None:
        self._job = job
        self._batches = batches
        self._ready: deque[Result] = deque()

    async def __anext__(self) -> Result:
        while not self._ready:
            item = await self._batches.__anext__()
            if isinstance(item, VerifiedBatch):
                self._ready.extend(await self._job.unpack(item))
        return self._ready.popleft()

    def close(self) -> None:
        """Stop the transfer; what was not taken comes again next time."""
        self._batches.close()

    async def aclose(self) -> None:
        """As `close`, for `contextlib.aclosing`."""
        self.close()


def open_notes() -> tuple[trio.MemorySendChannel[Notify], trio.MemoryReceiveChannel[Notify]]:
    """Unbounded here: the replica's window bounds what can be waiting."""
    return trio.open_memory_channel[Notify](math.inf)


Notes = trio.MemoryReceiveChannel[Notify]
# Notes of one job, and what ends them.
Listener = tuple[Notes, Callable[[], None]]
