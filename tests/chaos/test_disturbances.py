"""Real processes, hurt while they work: every task is accepted once, with its proof, and the histories agree.

The quick ones run always, the others with `make chaos`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.testnet.chaos.disturbances import DISTURBANCES, FLOOD_JOINERS
from hearthmesh.testnet.chaos.run import run_one
from hearthmesh.testnet.chaos.scene import Settings
from hearthmesh.testnet.history.lines import read_history
from tests.testnet.leftovers import processes_of

QUICK = (
    "kill-worker",
    "kill-two-replicas",
    "kill-all",
    "disk-full",
    "database-truncated",
    "blob-flipped",
)
# Longer than a lease, so that what a silent node held is given to others while it is silent.
SETTINGS = Settings(tasks=120, pause_s=5.0, limit_s=300.0)
# Most of what these take is the starting of nodes; three replicas and one that is none are enough for them.
QUICK_SETTINGS = replace(SETTINGS, nodes=4, tasks=80)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, as the nodes' sockets want it."""
    made = Path(tempfile.mkdtemp(prefix="chaos-"))
    yield made
    shutil.rmtree(made)


def compare_with_logs(times: dict[str, Any], logs: Path) -> None:
    """What a report says of the one kill is what the nodes wrote. How long it took is not judged."""
    lines = [json.loads(line) for path in sorted(logs.glob("*.jsonl")) for line in path.read_text().splitlines()]
    killed = next(line for line in lines if line["event"] == "fault")

    def seconds_until(**fields: str) -> list[float]:
        found = [line for line in lines if fields.items() <= line.items()]
        return sorted(round((line["at_us"] - killed["at_us"]) / 1e6, 3) for line in found)

    noticed_s = seconds_until(event="peer", peer=killed["node"], status="dead")
    (kill,) = times["kills"]
    assert kill["alone"] and kill["noticed_s"] == times["noticed_first_s"]["max"] == noticed_s[0]
    assert times["noticed_by_each_s"]["max"] in noticed_s
    assert kill["tasks_held"] == times["tasks_held_by_killed"] >= kill["tasks_run_again_s"]["samples"]
    again_s = kill["tasks_run_again_s"]["max"]
    assert again_s is None or (again_s > 0 and again_s in seconds_until(event="start"))


def compare_with_crowd(logs: Path) -> None:
    """The nodes' own histories say that each new member came, and that it left in order."""
    history = read_history(logs)
    crowd = {line.node: None for line in history.find("begin") if line.name.startswith("joiner-")}
    assert len(crowd) == FLOOD_JOINERS
    for status in ("alive", "left"):
        told = {line["peer"] for line in history.find("peer") if line["status"] == status and line.node not in crowd}
        assert crowd.keys() <= told


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.chaos) for name in DISTURBANCES]
)
async def test_no_task_suffers(name: str, folder: Path) -> None:
    disturbance = DISTURBANCES[name]
    why_not = disturbance.why_not()
    if why_not:
        pytest.skip(f"{name} cannot be done here: {why_not}")
    outcome = await run_one(disturbance, folder / "run", QUICK_SETTINGS if name in QUICK else SETTINGS)
    assert outcome.holds, "\n".join(outcome.problems())
    if name == "kill-worker":
        compare_with_logs(outcome.to_value()["history"]["times"], folder / "run" / "net" / "history")
    if name == "join-flood":
        compare_with_crowd(folder / "run" / "net" / "history")
    assert processes_of(folder) == []
