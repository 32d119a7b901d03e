"""Jobs that take a while, and what to make of their results."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from hearthmesh.node.client import Client, Job, JobRequest
from hearthmesh.testnet.network import Testnet
from hearthmesh.testnet.rooms import RoomPlan

MODULES = Path(__file__).parents[1] / "wasm"
HASH, SPIN = MODULES / "hash.wasm", MODULES / "spin.wasm"
# About 30 ms of CPU a task where a core does 240 million rounds a second.
SPIN_ROUNDS = 7_000_000
# Bounds a hang only.
WITHIN_S = 240


def cold(count: int, **changes: object) -> dict[str, RoomPlan]:
    return {f"h{number}": RoomPlan(start_c=15.0, cores=1, **changes) for number in range(1, count + 1)}  # type: ignore[arg-type]


@asynccontextmanager
async def session(net: Testnet) -> AsyncIterator[Client]:
    """A session of the network's client, once it knows every node and how cold it is."""
    async with Client.connect(net.client_config) as client:
        with trio.fail_after(WITHIN_S):
            while {member["name"] for member in client.members() if member["sink"]} != set(net.nodes):
                await client._driver.changed()
        yield client


def spinning(tasks: int) -> JobRequest:
    inputs = [SPIN_ROUNDS.to_bytes(4, "little")] * tasks
    return JobRequest(program=SPIN, inputs=inputs, nonce=os.urandom(8))


async def collect(job: Job, seen: dict[int, bytes], stop_at: int | None = None) -> None:
    """Results by task, each exactly once, until all are here or there are `stop_at`."""
    async for result in job.results(have=[(index, index + 1) for index in sorted(seen)]):
        assert result.ok and result.index not in seen
        seen[result.index] = result.output
        if stop_at is not None and len(seen) >= stop_at:
            return
