"""A node outlives the disk that its log is on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hearthmesh.node.logs import LossyStream

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@needs_full
def test_a_full_disk_costs_lines_of_the_log_and_nothing_else() -> None:
    script = (
        "import logging, os, structlog\n"
        "from hearthmesh.node.logs import configure_logs\n"
        "configure_logs('info', json_lines=False)\n"
        "for number in range(3):\n"
        "    structlog.get_logger().info('lost', number=number)\n"
        "logging.getLogger('x').error('lost, too')\n"
        "print('alive')\n"
    )
    with FULL.open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=full, text=True, check=False
        )
    assert (ran.returncode, ran.stdout) == (0, "alive\n")


def test_the_first_line_for_which_there_is_room_says_how_many_were_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    room = False

    def write(_descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        written.append(data[:7])
        return min(len(data), 7)

    monkeypatch.setattr(os, "write", write)
    stream = LossyStream(2)
    for line in ("one", "two"):
        print(line, file=stream)  # type: ignore[call-overload]
    assert written == []
    room = True
    print("three", file=stream)  # type: ignore[call-overload]
    print("four", file=stream)  # type: ignore[call-overload]
    assert b"".join(written) == b"(2 lines of this log were lost: they could not be written)\nthree\nfour\n"
