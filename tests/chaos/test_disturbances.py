"""Real processes, hurt while they work: every task is accepted once, with its proof, and the histories agree.

The quick ones run always, the others with `make chaos`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearthmesh.testnet.chaos.disturbances import DISTURBANCES
from hearthmesh.testnet.chaos.run import run_one
from hearthmesh.testnet.chaos.scene import Settings
from tests.testnet.leftovers import processes_of

QUICK = (
    "kill-two-replicas",
    "kill-all",
    "disk-full",
    "database-truncated",
    "blob-flipped",
)
# Longer than a lease, so that what a silent node held is given to others while it is silent.
SETTINGS = Settings(tasks=120, pause_s=5.0, limit_s=300.0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, as the nodes' sockets want it."""
    made = Path(tempfile.mkdtemp(prefix="chaos-"))
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.chaos) for name in DISTURBANCES]
)
async def test_no_task_suffers(name: str, folder: Path) -> None:
    disturbance = DISTURBANCES[name]
    why_not = disturbance.why_not()
    if why_not:
        pytest.skip(f"{name} cannot be done here: {why_not}")
    outcome = await run_one(disturbance, folder / "run", SETTINGS)
    assert outcome.holds, "\n".join(outcome.problems())
    assert processes_of(folder) == []
