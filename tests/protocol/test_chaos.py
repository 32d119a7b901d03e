"""The design's invariants over whole runs of honest nodes, while things break as a seed says."""

from __future__ import annotations

import pytest

from tests.protocol.chaos import run_of

REPLAY = "replay: python -m tests.protocol.chaos {}"


@pytest.mark.parametrize("seed", range(30))
def test_job_survives_kills_freezes_cuts_full_disks_and_bad_links(seed: int) -> None:
    try:
        run_of(seed).play(faults=5)
    except AssertionError as error:
        error.add_note(REPLAY.format(seed))
        raise


@pytest.mark.parametrize(("seed", "faults"), [(106, 8), (178, 8), (300, 14)])
def test_runs_that_failed_once_or_break_most(seed: int, faults: int) -> None:
    """106: an acceptance that was lost with the life that signed it."""
    run_of(seed).play(faults)


@pytest.mark.parametrize("seed", [0, 1])
def test_without_faults_every_task_runs_once_under_one_epoch(seed: int) -> None:
    run = run_of(seed)
    run.play(faults=0)
    assert run.duplicates == 0
    assert all(len(nodes) == 1 for nodes in run.world.runs.values())


def test_a_seed_replays_the_same_run() -> None:
    runs = [run_of(7), run_of(7)]
    for run in runs:
        run.play(faults=5)
    assert runs[0].world.sent == runs[1].world.sent and runs[0].world.runs == runs[1].world.runs
