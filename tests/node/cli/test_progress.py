"""Rates, time left, and the shapes that --json promises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.cli.output import duration, energy, printable
from hearthmesh.node.cli.progress import RATE_WINDOW_S, Rates, copy_progress, describe_status, summary, worker_rows
from hearthmesh.protocol.messages import JobStatus, WorkerShare

WORKER = Identity.from_seed(bytes(32))


def status(done: int, elapsed_s: float, state: str = "running", failed: int = 0) -> JobStatus:
    share = WorkerShare(WORKER.node_id, done, 4, 3_000_000, 60_000, 30_000)
    elapsed_us = int(elapsed_s * 1e6)
    return JobStatus(bytes(32), state, 100, done, 4, 0, failed, 0, elapsed_us, 20_000, (share,))


def test_a_status_has_the_fields_that_scripts_rely_on() -> None:
    members = [{"peer_id": WORKER.peer_id, "name": "kitchen", "temperature_c": 17.25, "status": "alive"}]
    shown = describe_status(status(50, 10.0), "risk", members)
    assert shown == {
        "job": "00" * 32,
        "name": "risk",
        "state": "running",
        "tasks": 100,
        "done": 50,
        "leased": 4,
        "accepted": 0,
        "failed": 0,
        "duplicates": 0,
        "elapsed_s": 10.0,
        "task_ms": 20.0,
        "rate_per_s": 5.0,
        "eta_s": 10.0,
        "energy_j": 60.0,
        "useful_j": 30.0,
        "cost": 0.0,
        "workers": [
            {
                "name": "kitchen",
                "peer_id": WORKER.peer_id,
                "done": 50,
                "leased": 4,
                "cpu_s": 3.0,
                "energy_j": 60.0,
                "useful_j": 30.0,
                "cost": 0.0,
                "temperature_c": 17.25,
                "status": "alive",
            }
        ],
    }
    assert json.loads(json.dumps(shown)) == shown


def test_a_worker_that_left_the_mesh_is_shown_by_its_id() -> None:
    shown = describe_status(status(50, 10.0), "risk")
    assert worker_rows(shown) == [(WORKER.peer_id[-8:], 50, 4, "3.0", "60.0 J", None, "unknown")]


def test_nothing_is_promised_while_nothing_is_known() -> None:
    shown = describe_status(status(0, 0.0), "risk")
    assert (shown["rate_per_s"], shown["eta_s"]) == (None, None)
    assert summary(shown) == "running: 0 of 100 tasks, after 0.0 s, 60.0 J, 50 % met a demand"


def test_a_finished_job_has_no_time_left() -> None:
    shown = describe_status(status(100, 10.0, "done", failed=2), "risk")
    assert shown["eta_s"] is None
    assert summary(shown).startswith("done: 100 of 100 tasks, 2 failed, 10.0/s, after 10 s")


def test_a_rate_forgets_what_is_longer_ago_than_its_window() -> None:
    rates = Rates()
    rates.update(0.0, status(0, 0.0))
    rates.update(RATE_WINDOW_S, status(10, 10.0))
    assert rates.update(2 * RATE_WINDOW_S, status(60, 20.0)) == pytest.approx(5.0)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(0, 9)), min_size=1, max_size=50))
def test_a_rate_is_never_negative_nor_above_the_fastest_step(steps: list[tuple[float, int]]) -> None:
    rates, at_s, done, fastest = Rates(), 0.0, 0, 0.0
    for step_s, tasks in steps:
        at_s, done = at_s + step_s, done + tasks
        fastest = max(fastest, tasks / step_s if step_s else float("inf"))
        rate = rates.update(at_s, status(done, at_s))
        assert rate is None or 0.0 <= rate <= fastest * 1.01 + 1e-3 or at_s < 1e-3


def test_units_are_what_a_person_would_say() -> None:
    assert [duration(s) for s in (0.04, 12.3, 73, 7300)] == ["0.0 s", "12 s", "1 min 13 s", "2 h 01 min"]
    assert [energy(j) for j in (12, 18_000, 7_200_000)] == ["12.0 J", "5.00 Wh", "2.000 kWh"]


@given(st.text())
def test_names_of_others_never_steer_the_terminal(name: str) -> None:
    assert printable(name).isprintable()


def test_large_files_are_told_of_and_small_ones_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    with copy_progress() as show:
        show(1 << 20, 2 << 20)
        show(10**9, 4 * 10**9)
        show(10**9 + 1, 4 * 10**9)
        show(4 * 10**9, 4 * 10**9)
    assert capsys.readouterr().err.splitlines() == [
        "copying the job's files: 1.0 GB of 4.0 GB",
        "copied 4.0 GB; the nodes that keep the job fetch it",
    ]


def test_how_far_a_copy_is_has_a_unit_that_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with copy_progress() as show:
        show(30_000_000, 100_000_000)
        show(100_000_000, 100_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "copying the job's files: 30 MB of 100 MB",
        "copied 100 MB; the nodes that keep the job fetch it",
    ]


def test_who_fetches_is_told_how_many_results_are_here() -> None:
    shown = describe_status(status(100, 10.0, "accepted"), "risk")
    assert "results are here" not in summary(shown)
    assert summary(shown | {"received": 67}).startswith("accepted: 100 of 100 tasks, 67 of 100 results are here")
