"""A long run says how far it is."""

from __future__ import annotations

from itertools import count

import pytest

from hearthmesh.testnet.simulator.long_plan import long_plan
from hearthmesh.testnet.simulator.progress import SAID_EVERY_S, Progress
from hearthmesh.testnet.simulator.run import play

PLAN = long_plan(1, nodes=6, hours=0.01, jobs=1)


def test_a_run_says_how_far_it_is_each_ten_seconds_and_is_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = count(step=5)
    watched = play(PLAN, watch=Progress(clock_s=lambda: float(next(seconds))))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (next(seconds) - 5) // SAID_EVERY_S > 1
    assert " played, " in lines[0] and "10 s" in lines[0] and "of 24 tasks accepted" in lines[-1]
    assert watched.trace_digest == play(PLAN).trace_digest
    assert capsys.readouterr().err == ""
