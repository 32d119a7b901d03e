"""A pytest plugin: `pytest_plugins = ["hearthmesh.testnet.fixture"]` gives the fixture `testnet`.

    async def test_a_job_survives(testnet):
        async with testnet(n=4) as net:
            net.nodes["h1"].kill()
            async with Client.connect(net.client_config) as mesh:
                …

Nodes die with the test, also if pytest itself is killed. When a test fails, the ends of their logs are printed.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from .network import Testnet, running
from .rooms import RoomPlan

LOG_LINES = 30
PATIENCE_S = 5.0

MakeTestnet = Callable[..., AbstractAsyncContextManager[Testnet]]


@pytest.fixture
def testnet(tmp_path_factory: pytest.TempPathFactory) -> MakeTestnet:
    """Makes test networks, each in a folder of its own: `testnet(n=4, rooms=None, folder=None)`."""

    @asynccontextmanager
    async def make(
        n: int | None = None,
        rooms: Mapping[str, RoomPlan] | Path | None = None,
        folder: Path | None = None,
        patience_s: float = PATIENCE_S,
    ) -> AsyncIterator[Testnet]:
        place = folder if folder is not None else tmp_path_factory.mktemp("testnet")
        async with running(place, n, rooms, patience_s=patience_s) as net:
            try:
                yield net
            except BaseException:  # boundary: of the test, whatever it failed with
                print_logs(net)
                raise

    return make


def print_logs(net: Testnet) -> None:
    """The ends of all logs, where pytest captures them for the report."""
    for name, node in net.nodes.items():
        sys.stderr.write(f"--- {name}: {node.state}, the end of {node.log_path}\n")
        sys.stderr.writelines(f"{line}\n" for line in node.log_tail(LOG_LINES))
