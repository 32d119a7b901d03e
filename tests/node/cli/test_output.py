"""Standard output that is full, closed, or read by nobody any more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hearthmesh.node.cli.app import run


def _hearth(arguments: str, redirect: str) -> subprocess.CompletedProcess[str]:
    """A command in a shell of its own; its exit code is told on standard output."""
    line = f'{{ "{sys.executable}" -m hearthmesh.node {arguments}; echo $? >&3; }} {redirect}'
    return subprocess.run(["bash", "-c", f"exec 3>&1; {line}"], capture_output=True, text=True, check=False)


def test_what_is_printed_into_a_closed_pipe_ends_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 would be a job that failed, or a folder that was forged."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run(["mesh", "--help"]) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_room_for_the_output_is_the_users_to_mend() -> None:
    ran = _hearth("mesh --help", "> /dev/full")
    assert ran.stdout.strip() == "2" and ran.stderr.count("\n") == 1 and "no space left" in ran.stderr


def test_an_output_that_was_closed_before_is_no_fault_of_ours() -> None:
    ran = _hearth("mesh --help", ">&-")
    assert (ran.stdout.strip(), ran.stderr) == ("0", "")
