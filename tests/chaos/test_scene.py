"""How much work a disturbance meets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hearthmesh.testnet.chaos.diary import Diary
from hearthmesh.testnet.chaos.disturbances import DISTURBANCES
from hearthmesh.testnet.chaos.scene import ROUNDS_A_S, TASK_S_MAX, Settings
from hearthmesh.testnet.history.lines import read_history


def cpu_s(settings: Settings) -> float:
    return settings.rounds * settings.tasks / ROUNDS_A_S


@pytest.mark.parametrize("name", ["freeze-worker", "freeze-replica", "partition-switch", "partition", "unplug-replica"])
@pytest.mark.parametrize("pause_s", [1.0, 60.0, 3600.0])
@pytest.mark.parametrize("cores", [1, 2, 64])
def test_work_outlasts_a_pause(name: str, pause_s: float, cores: int) -> None:
    """On all cores that the nodes can use; and each task is still a small one, with a number that fits its input."""
    asked = Settings(pause_s=pause_s)
    made = DISTURBANCES[name].settings(asked, 1.5, cores)
    assert cpu_s(made) >= 1.5 * pause_s * min(cores, asked.nodes) * (1 - 1e-6)
    assert made.rounds / ROUNDS_A_S <= TASK_S_MAX + 1e-6 and made.rounds < 1 << 32
    assert made.rounds >= asked.rounds and made.tasks >= asked.tasks


def test_what_pauses_for_nothing_has_the_work_that_was_asked_for() -> None:
    asked = Settings()
    assert DISTURBANCES["kill-worker"].settings(asked, 1.5, 64) == asked
    assert DISTURBANCES["kill-each"].settings(asked, 1.5, 64).tasks == 2 * asked.tasks


def test_faults_and_mendings_say_how_many_results_were_there(tmp_path: Path) -> None:
    here = iter((3, 5, 8))
    diary = Diary(tmp_path, lambda: next(here))
    assert diary.begun is None
    diary.fault("flood")
    diary.fault("kill-client")
    diary.mend("flood")
    diary.close()
    assert diary.begun == 3
    written = [json.loads(line) for line in (tmp_path / "chaos.jsonl").read_text().splitlines()]
    told = [(line["event"], line["results"]) for line in written if line["event"] != "begin"]
    assert told == [("fault", 3), ("fault", 5), ("mend", 8)]
    assert read_history(tmp_path).violations == []
