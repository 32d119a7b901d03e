"""A job as its submitter sees it: progress, verified results as they come, cancellation."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from ...protocol.batches import Batch
from ...protocol.effects import Notify
from ...protocol.events import CancelJob, FollowJob, ResultsTaken, UnfollowJob
from ...protocol.messages import JobStatus
from ...protocol.records import JobSpec, Record
from .errors import ClientError, JobFailed
from .result import Result

if TYPE_CHECKING:
    from .session import Client

STATUS_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class VerifiedBatch:
    """A batch whose signature, certificate and root were checked here. parts: [lo, hi) that count."""

    header: Record
    batch: Batch
    columns: bytes
    parts: tuple[tuple[int, int], ...]
    source: bytes


class Job:
    """A handle; get one from `Client.submit` or `Client.job`. One follower at a time."""

    def __init__(self, client: Client, job_id: bytes, spec: JobSpec) -> None:
        self._client = client
        self.job_id = job_id
        self.spec = spec

    @property
    def id(self) -> str:
        """The job's id as users write it."""
        return self.job_id.hex()

    async def status(self) -> JobStatus:
        """Progress now, as one replica knows it. Raises ClientError if none answers."""
        with trio.move_on_after(STATUS_TIMEOUT_S):
            async with aclosing(self._follow((), results=False)) as notes:
                async for note in notes:
                    if note.name == "job.status":
                        status: JobStatus = note.fields["status"]
                        return status
        raise ClientError(f"no replica of job {self.id[:16]} answered within {STATUS_TIMEOUT_S:g} s")

    async def watch(self) -> AsyncGenerator[JobStatus, None]:
        """Progress as it changes, until the job is done, accepted or cancelled."""
        async with aclosing(self._follow((), results=False)) as notes:
            async for note in notes:
                if note.name == "job.status":
                    status: JobStatus = note.fields["status"]
                    yield status
                    if status.state != "running":
                        return

    async def batches(self, have: Iterable[tuple[int, int]] = ()) -> AsyncGenerator[VerifiedBatch | JobStatus, None]:
        """Verified batches as they come, with progress between, until every task outside `have` is here.

        A batch is accepted, by signature, when the next item is asked for. Raises JobFailed on cancellation.
        """
        have = tuple(have)
        missing = self.spec.tasks - sum(hi - lo for lo, hi in have)
        if missing <= 0:
            return
        async with aclosing(self._follow(have, results=True)) as notes:
            async for note in notes:
                if note.name == "job.status":
                    status: JobStatus = note.fields["status"]
                    yield status
                    if status.state == "cancelled":
                        raise JobFailed(self.job_id, "was cancelled")
                elif note.name == "job.results":
                    fields = note.fields
                    taken = VerifiedBatch(
                        fields["header"], fields["batch"], fields["columns"], fields["parts"], fields["source"]
                    )
                    yield taken
                    self._client.feed(ResultsTaken(self.job_id, taken.header.id))
                    missing -= sum(hi - lo for lo, hi in taken.parts)
                    if missing == 0:
                        await self._client.accepted(self.job_id, self.spec.tasks)
                        return

    async def results(self, have: Iterable[tuple[int, int]] = ()) -> AsyncGenerator[Result, None]:
        """Each task's verified result once, as they come (not in order)."""
        async with aclosing(self.batches(have)) as batches:
            async for item in batches:
                if isinstance(item, VerifiedBatch):
                    for result in await self.unpack(item):
                        yield result

    async def unpack(self, taken: VerifiedBatch) -> list[Result]:
        """A batch's results; large outputs are fetched by digest. Raises ClientError if one cannot be had."""
        batch, found = taken.batch, []
        for lo, hi in taken.parts:
            for index in range(lo, hi):
                offset = index - batch.first
                output = batch.outputs[offset]
                if offset in batch.externals:
                    digest, _ = batch.externals[offset]
                    output = await self._client.read_blob(digest, (taken.source, taken.header.author))
                found.append(
                    Result(
                        index,
                        batch.exits[offset],
                        output,
                        batch.stderrs.get(offset, b""),
                        batch.fuels[offset],
                        batch.cpu_us[offset],
                        self.spec.abi,
                        taken.header,
                        batch,
                    )
                )
        return found

    async def cancel(self) -> None:
        """Sign and send the cancellation; replicas pass it on to whoever runs the tasks."""
        with self._client.listen(self.job_id) as notes:
            self._client.feed(CancelJob(self.job_id))
            await self._client.expect(notes, "job.cancelled", 5.0, "the cancellation could not be sent")
        await self._client.flush()

    async def _follow(self, have: tuple[tuple[int, int], ...], *, results: bool) -> AsyncGenerator[Notify, None]:
        with self._client.listen(self.job_id) as notes:
            self._client.feed(FollowJob(self.job_id, have, results))
            try:
                async for note in notes:
                    if note.name == "job.rejected":
                        raise JobFailed(self.job_id, str(note.fields["reason"]))
                    yield note
            finally:
                self._client.feed(UnfollowJob(self.job_id))


def open_notes() -> tuple[trio.MemorySendChannel[Notify], trio.MemoryReceiveChannel[Notify]]:
    """Unbounded here: the replica's window bounds what can be waiting."""
    return trio.open_memory_channel[Notify](math.inf)


Notes = trio.MemoryReceiveChannel[Notify]
Fields = dict[str, Any]
