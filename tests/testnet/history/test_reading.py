"""Histories on disk: folders, bounds, and the program that judges them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hearthmesh.testnet.history as package
from hearthmesh.testnet.history.lines import HistoryError, read_history
from hearthmesh.testnet.history.measure import measure, spread

from .street import good, judged, written


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    folder.mkdir()
    for name, lines in written(good()).items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(lines))
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "hearthmesh.testnet.history", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_program_says_what_it_found_and_the_exit_code_says_it_too(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    whole = run(str(tmp_path), "--json")
    assert whole.returncode == 0
    assert json.loads(whole.stdout)["violations"] == []
    (folder / "first.jsonl").unlink()
    lacking = run(str(tmp_path))
    assert lacking.returncode == 1
    assert "VIOLATED lease-without-grant" in lacking.stdout and "worker.jsonl:2:" in lacking.stdout
    nothing = run(str(tmp_path / "nowhere"))
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert nothing.stderr.startswith("history: ") and nothing.stderr.count("\n") == 1


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    """Loading all of it loads nothing of the product but its own package."""
    script = (
        "import sys, hearthmesh.testnet.history.__main__\n"
        "print([name for name in sys.modules if name.startswith('hearthmesh.') and '.history' not in name])\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    product, others = done.stdout.splitlines()
    assert product == "['hearthmesh.testnet']"
    assert "msgspec" not in others and "trio" not in others
    assert len(list(Path(package.__file__).parent.glob("*.py"))) > 5


def test_a_folder_without_histories_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="no history there"):
        read_history(tmp_path)


def test_the_times_of_a_kill_are_read_from_the_lines() -> None:
    files = good()
    for lines in files.values():
        for at, line in enumerate(lines):
            line["at_us"] = 1_000_000 + at
    files["onlooker"][1]["at_us"] = 1_000_003  # after it took the lease and began; the heir begins later
    files["second"][4]["at_us"] = 3_500_000
    files["heir"][2]["at_us"] = 4_000_000
    files["worker"][4]["at_us"] = 1_000_002
    for line in files["worker"][6:]:
        line["at_us"] = 9_000_000
    times = measure(judged(written(files)).history.lines)
    assert times.first == times.each == [pytest.approx(2.499997)]
    assert times.tasks_held == 0  # what it held it had handed on, or finished

    del files["worker"][3:5]
    times = measure(judged(written(files)).history.lines)
    assert times.tasks_held == 6
    assert times.elsewhere == [pytest.approx(2.999997)] * 3


def test_the_spread_is_by_nearest_rank() -> None:
    assert spread([]) == {"p50": None, "p99": None, "max": None, "samples": 0}
    assert spread([3.0, 1.0, 2.0]) == {"p50": 2.0, "p99": 3.0, "max": 3.0, "samples": 3}
    assert spread([float(n) for n in range(1, 201)]) == {"p50": 100.0, "p99": 198.0, "max": 200.0, "samples": 200}
