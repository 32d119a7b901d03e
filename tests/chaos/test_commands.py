"""`hearth testnet chaos` and `history` as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from hearthmesh.testnet.chaos.disturbances import DISTURBANCES
from tests.testnet.leftovers import processes_of

HEARTH = (sys.executable, "-P", "-m", "hearthmesh.node", "testnet")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*HEARTH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_list_names_every_disturbance() -> None:
    done = run("chaos", "--list", "--json")
    assert done.returncode == 0
    assert [row["name"] for row in json.loads(done.stdout)] == list(DISTURBANCES)


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (("chaos", "--only", "earthquake"), 'there is no disturbance "earthquake"; there are: kill-worker'),
        (("chaos", "--tasks", 1), "greater than or equal to 2"),
        (("chaos", "--pause", 600), "freeze-worker is on for 600 s: it needs more than --minutes 10"),
        (("chaos", "--only", "kill-worker", "--report", tmp_path / "none" / "out.html"), "no such folder"),
        (("chaos", "--only", "kill-worker", "--folder", tmp_path / "file"), "File exists"),
        (("history", tmp_path), "no history there"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert said in done.stderr and done.stderr.startswith("hearth: ") and done.stderr.count("\n") == 1, done


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while nodes start: their processes and files go as well."""
    command = [*HEARTH, "chaos", "--only", "kill-all", "--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        while not any("nodes/" in line for line in processes_of(tmp_path)):
            assert program.poll() is None
            os.sched_yield()
        program.send_signal(signal.SIGINT)
        stdout, stderr = program.communicate(timeout=120)
    assert (program.returncode, stdout, stderr) == (130, "", "")
    assert processes_of(tmp_path) == [] and list(tmp_path.iterdir()) == []
