"""Real nodes without work keep their rooms warm by burning; a job takes its place, and each joule is on one account."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.fixture import testnet as _testnet
from hearthmesh.testnet.network import Testnet
from tests.end_to_end.jobs import WITHIN_S, cold, session, spinning

pytestmark = pytest.mark.chaos

testnet = _testnet


Statuses = list[dict[str, Any]]


async def until(net: Testnet, condition: Callable[[Statuses], bool]) -> Statuses:
    """The statuses of all nodes, once they are as they should be."""
    with trio.fail_after(WITHIN_S):
        while not condition(found := [await node.status() for node in net.nodes.values()]):
            await trio.sleep(0.05)
    return found


async def test_work_takes_the_place_of_what_is_burnt_and_each_is_metered_apart(testnet: MakeTestnet) -> None:
    async with testnet(rooms=cold(2, burn_after_s=1.0)) as net:
        for status in await until(net, lambda found: all(each["meter"]["burn_j"] > 100 for each in found)):
            meter = status["meter"]
            assert status["heat"]["burn_cores"] == 1.0
            assert (meter["paid_j"], meter["work_j"]) == (0.0, 0.0)
            assert meter["burn_useful_j"] == meter["burn_j"]
        async with session(net) as client:
            job = await client.submit(spinning(200))
            # A task that runs has its core to itself, from the next control period on.
            await until(net, lambda found: all(each["running"] and not each["heat"]["burn_cores"] for each in found))
            with trio.fail_after(WITHIN_S):
                async for progress in job.watch():
                    if progress.state == "accepted":
                        break
            after = await until(net, lambda found: all(each["heat"]["burn_cores"] == 1.0 for each in found))
        for meter in (each["meter"] for each in after):
            # What ended is on receipts, and no more than what was metered as work, to a clock's tick a batch.
            assert 0 < meter["paid_j"] <= meter["work_j"] * 1.02 + 10.0
            assert meter["volunteer_j"] == 0.0
            parts = meter["work_useful_j"] + meter["burn_useful_j"] + meter["idle_j"]
            assert meter["useful_j"] == pytest.approx(parts, rel=1e-6)
