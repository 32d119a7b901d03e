"""The demo itself, as real processes: it verifies, and whatever ends it, nothing stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = [sys.executable, "-P", "-m", "hearthmesh.node", "demo"]
# As few heaters as it takes: for those that do not come far.
SMALL_DEMO = [*DEMO, "--plain", "--nodes", "5"]
RUN_TIMEOUT_S = 240.0


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder, of whoever runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in words:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + RUN_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen"
        time.sleep(0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A path with a space, and long enough for control sockets to lie elsewhere."""
    return tmp_path / ("a house " + "x" * 60)


def test_the_demo_verifies_and_leaves_nothing(folder: Path) -> None:
    command = [*DEMO, "--json", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert done.stderr == ""
    value = json.loads(done.stdout)
    assert value["verified"], value["checks"]
    assert done.returncode == 0
    assert value["tasks"] == value["proofs_checked"] == value["accepted"] == 2400
    assert len({*value["killed"], *value["frozen"]}) == 3
    assert value["rooms"][value["frozen"][0]]["end"] == "frozen"
    assert value["killed"][0] in value["kept_by"]
    assert value["rooms"]["parlour"]["start_c"] > value["rooms"]["parlour"]["setpoint_c"]
    assert 0 < value["useful_kwh"] <= value["energy_kwh"]
    assert not folder.exists()
    assert processes_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    command = [*SMALL_DEMO, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        wait_for(lambda: len(processes_of(folder)) > 3, "the start of nodes")
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=RUN_TIMEOUT_S)
    assert (demo.returncode, errors) == (128 + number, "")
    assert not folder.exists()
    assert processes_of(folder) == []


def test_a_killed_demo_takes_its_nodes_along_and_the_folder_can_be_used_again(folder: Path) -> None:
    command = [*SMALL_DEMO, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        wait_for(lambda: len(processes_of(folder)) > 3, "the start of nodes")
        second = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
        assert second.returncode == 2
        assert len(second.stderr.splitlines()) == 1
        demo.kill()
    wait_for(lambda: not processes_of(folder), "the end of the nodes")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
        wait_for(lambda: len(processes_of(folder)) > 3, "another start of nodes")
        demo.send_signal(signal.SIGINT)
    assert not folder.exists()


def test_files_of_others_in_the_folder_stay(folder: Path) -> None:
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "thesis.txt").write_text("years of work")
    done = subprocess.run(
        [*DEMO, "--folder", str(folder)], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 2
    assert "holds other files" in done.stderr
    assert (folder / "results" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("arguments", [["--nodes", "4"], ["--nodes", "17"], ["--nodes", "many"]])
def test_wrong_numbers_of_heaters_are_one_line_and_exit_code_2(folder: Path, arguments: list[str]) -> None:
    done = subprocess.run([*DEMO, "--folder", str(folder), *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert not folder.exists()
