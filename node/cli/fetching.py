"""Bringing a job's verified results into a folder, and looking at standard error without taking anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import trio

from ...protocol.events import FollowJob, UnfollowJob
from ...protocol.intervals import IntervalSet
from ...protocol.messages import JobStatus
from ..client import Client, Job, JobFailed
from ..client.job import VerifiedBatch
from .errors import UserError
from .results_folder import ResultsFolder

# A job that is complete, and whose replicas have sent nothing for so long, has been forgotten by them.
SILENCE_S = 15.0
PEEK_SILENCE_S = 2.5
# Results that are kept here count as accepted once a replica says so; this long one waits for that.
ACCEPTANCE_S = 3.0
# Results wait to be compared as long as others are; where no comparison ends for so long, none will.
CHECKING_S = 120.0

# Progress, and how many results are here.
OnStatus = Callable[[JobStatus, int], None]


async def fetch_results(job: Job, folder: ResultsFolder, *, follow: bool, on_status: OnStatus) -> None:
    """Keep what comes until all is here, or without `follow` what there is now.

    Raises JobFailed on cancellation, UserError, ClientError.
    """
    status = await job.status()
    if folder.done.total == job.spec.tasks:
        on_status(status, folder.done.total)
    else:
        await _fetch_missing(job, folder, follow=follow, on_status=on_status)
    # The acceptance of what an earlier run kept may have reached nobody; it stands, and is told again.
    if status.accepted < folder.done.total:
        await job.confirm(folder.signed(), folder.batch)


class Patience:
    """Which silence of a job whose tasks are all done is too long. Times in seconds."""

    def __init__(self, now_s: float) -> None:
        self._moved_s = now_s
        self._checking = 0

    def hear(self, now_s: float) -> None:
        """Results came."""
        self._moved_s = now_s

    def is_over(self, now_s: float, checking: int) -> bool:
        """checking: tasks that wait to be compared now. That their number changes is progress."""
        if checking != self._checking:
            self._checking, self._moved_s = checking, now_s
        return now_s - self._moved_s > (CHECKING_S if checking else SILENCE_S)

    def silence_s(self, now_s: float) -> float:
        return now_s - self._moved_s


async def _fetch_missing(job: Job, folder: ResultsFolder, *, follow: bool, on_status: OnStatus) -> None:
    have = folder.have()
    received = sum(hi - lo for lo, hi in have)
    patience = Patience(trio.current_time())
    async with aclosing(job.batches(have, folder.signed(), folder.batch)) as items:
        async for item in items:
            if isinstance(item, VerifiedBatch):
                await trio.to_thread.run_sync(folder.add, item, await job.unpack(item))
                received += sum(hi - lo for lo, hi in item.parts)
                patience.hear(trio.current_time())
                continue
            on_status(item, received)
            now_s = trio.current_time()
            is_over = patience.is_over(now_s, job.checking)
            settled = item.accepted >= received or patience.silence_s(now_s) > ACCEPTANCE_S
            if not follow and received >= item.done and settled:
                return
            if is_over and (item.state != "running" or (job.checking and not follow)):
                raise UserError(_why_none_comes(job, received, item))


def _why_none_comes(job: Job, received: int, status: JobStatus) -> str:
    missing = f"job {job.id[:16]}: {received} of {job.spec.tasks} results are here"
    if job.checking:
        return (
            f"{missing}; {job.checking} wait to be compared with another node's, and none was for {CHECKING_S:g} s; "
            "hearth results again takes up what is here"
        )
    return (
        f"{missing}, and of {status.done} that are done no more are delivered; "
        "replicas keep them for an hour after they were accepted"
    )


async def peek(client: Client, job: Job, wanted: Sequence[tuple[int, int]]) -> AsyncGenerator[VerifiedBatch, None]:
    """Verified batches of the wanted tasks as they are now; nothing is accepted, so they can be had again."""
    seen = IntervalSet(*_complement(wanted, job.spec.tasks))
    while window := await _window(client, job, seen):
        for taken in window:
            for lo, hi in taken.parts:
                seen.add(lo, hi)
            yield taken


async def _window(client: Client, job: Job, seen: IntervalSet) -> list[VerifiedBatch]:
    """As many batches as a replica sends before it wants to hear that they were taken. Raises JobFailed."""
    found: list[VerifiedBatch] = []
    missing = job.spec.tasks - seen.total
    with client.listen(job.job_id) as notes:
        client.feed(FollowJob(job.job_id, tuple(seen), True))
        with trio.move_on_after(PEEK_SILENCE_S) as patience:
            while missing > 0:
                note = await notes.receive()
                if note.name == "job.rejected":
                    raise JobFailed(job.job_id, str(note.fields["reason"]))
                if note.name == "job.results":
                    found.append(VerifiedBatch.of(note))
                    missing -= sum(hi - lo for lo, hi in note.fields["parts"])
                    patience.deadline = trio.current_time() + PEEK_SILENCE_S
        client.feed(UnfollowJob(job.job_id))
    return found


def _complement(ranges: Sequence[tuple[int, int]], tasks: int) -> list[tuple[int, int]]:
    everything = IntervalSet((0, tasks))
    for lo, hi in ranges:
        everything.discard(lo, hi)
    return list(everything)
