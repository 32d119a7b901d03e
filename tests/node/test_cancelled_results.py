"""Results of a cancelled job, for consumers of any pace. The clock is virtual."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from hearthmesh.node.client.errors import JobFailed
from hearthmesh.node.client.job import CANCELLED_SILENCE_S, Batches, Job, VerifiedBatch, open_notes
from hearthmesh.protocol.effects import Notify
from hearthmesh.protocol.events import ResultsTaken
from hearthmesh.protocol.messages import JobStatus
from tests.node.secrecy.test_large_outputs import JOB, Mesh, results_of, spec

WINDOW, HEARTBEAT_S, ON_ITS_WAY_S = 32, 2.0, 0.2
TASKS = 200


class Replica(Mesh):
    """One that keeps a cancelled job's results, one a batch: sends as many as the window lets, and its state."""

    def __init__(self, kept: int, done: int) -> None:
        super().__init__()
        self._kept, self._done = kept, done
        self._waiting = deque(range(kept))
        self._credit = WINDOW
        self._credited = trio.Event()
        self._send, self.notes = open_notes()

    def feed(self, event: Any) -> None:
        super().feed(event)
        if isinstance(event, ResultsTaken):
            self._credit += 1
            self._credited.set()

    def checking(self, _job_id: bytes) -> int:
        return self._done - self._kept

    async def deliver(self) -> None:
        while self._waiting:
            while self._credit and self._waiting:
                self._credit -= 1
                index = self._waiting.popleft()
                self._send.send_nowait(results_of(self, {index: b"%d" % index}))
            self._credited = trio.Event()
            await self._credited.wait()
            await trio.sleep(ON_ITS_WAY_S)

    async def tell(self) -> None:
        status = JobStatus(JOB, "cancelled", TASKS, self._done, 0, 0, 0, 0, 0, 0, ())
        while True:
            self._send.send_nowait(Notify("job.status", {"status": status}))
            await trio.sleep(HEARTBEAT_S)


async def taken(kept: int, done: int, batch_s: float, status_s: float = 0.0) -> tuple[list[int], str, float]:
    """Tasks whose results came, what was said at the end, and how long that took after the last batch was used."""
    replica, found = Replica(kept, done), []
    job = Job(replica, JOB, msgspec.structs.replace(spec("none"), tasks=TASKS))  # type: ignore[arg-type]
    batches = Batches(replica, job, (), (), opened=(replica.notes, lambda: None))  # type: ignore[arg-type]
    used_s = math.nan
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replica.deliver)
        nursery.start_soon(replica.tell)
        with pytest.raises(JobFailed) as caught:
            async for item in batches:
                if isinstance(item, VerifiedBatch):
                    found += [each.index for each in await job.unpack(item)]
                    await trio.sleep(batch_s)
                    used_s = trio.current_time()
                else:
                    await trio.sleep(status_s)
        nursery.cancel_scope.cancel()
    return found, str(caught.value), trio.current_time() - used_s


@pytest.mark.parametrize("status_s", [0.0, HEARTBEAT_S / 2])
@pytest.mark.parametrize("batch_s", [0.0, 0.9, 4 * CANCELLED_SILENCE_S])
async def test_a_consumer_of_any_pace_gets_all_results_of_a_cancelled_job(
    autojump_clock: MockClock, batch_s: float, status_s: float
) -> None:
    found, said, _ = await taken(150, 150, batch_s, status_s)
    assert found == list(range(150))
    assert "150 of the 150 results that were made before are here" in said


@pytest.mark.parametrize("batch_s", [0.0, 0.9, 4 * CANCELLED_SILENCE_S])
async def test_what_never_comes_of_a_cancelled_job_is_waited_for_once(
    autojump_clock: MockClock, batch_s: float
) -> None:
    found, said, waited_s = await taken(150, 160, batch_s)
    assert found == list(range(150))
    assert "150 of the 160 results that were made before are here, 10 are not" in said
    assert CANCELLED_SILENCE_S < waited_s <= CANCELLED_SILENCE_S + 2 * HEARTBEAT_S
