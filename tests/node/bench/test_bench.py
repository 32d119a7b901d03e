"""Small measurements on real processes: right results, the promised keys, nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hearthmesh.node.bench.checked import runs_of
from hearthmesh.node.bench.command import bench
from hearthmesh.node.bench.machine import filesystem_of
from hearthmesh.node.bench.profiled import cpu_profile, hot_spots
from hearthmesh.node.bench.report import TARGETS, print_comparison, print_report
from hearthmesh.node.bench.street import EVERY_ROLE, running
from hearthmesh.node.bench.suite import QUICK, Report, run_profile, run_suite, working_folder
from hearthmesh.node.bench.workloads import PARTS
from hearthmesh.node.cli.errors import UserError

SMALL = replace(
    QUICK,
    rounds=1,
    tiny_tasks=200,
    singles=3,
    long_tasks=4,
    checked_tasks=200,
    checked_warm_up=200,
    checked_rounds=1,
    parts_scale=0.02,
)
KEYS = (
    "tiny_tasks_per_s, single_ms_p50, single_ms_p99, efficiency_50ms, "
    "rss_idle_mb, cpu_idle_percent, million_task_job_mb, blob_mb_per_s, budgets_cpu_ratio, "
    "runs_a_task_checked"
)


async def test_a_small_run_measures_tasks_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with working_folder(tmp_path) as place:
        report = await run_suite(SMALL, ["tiny", "single", "efficiency"], place, lambda _: None)
    assert list(tmp_path.iterdir()) == []
    measured = report.as_json()
    json.dumps(measured, allow_nan=False)
    for name in ("tiny_tasks_per_s", "single_ms_p50", "single_ms_p99", "efficiency_50ms"):
        assert measured[name] > 0
        assert measured["spread"][name]["min"] <= measured["spread"][name]["max"]
    assert set(report.details["tiny"]["cpu_us_per_task"]) == {*PARTS, "w0 sandbox", "w1 sandbox", "client"}
    assert 5 < report.details["efficiency"]["task_cpu_ms_alone"] < 500
    print_report(report)
    shown = capsys.readouterr().out
    assert "tiny tasks, 2 workers, 3 replicas" in shown and "where the time of a tiny task goes" in shown


async def test_a_mesh_that_keeps_no_accounts_runs_the_same_work_beside_one_that_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = await run_suite(SMALL, ["budgets"], tmp_path, lambda _: None)
    measured = report.details["budgets"]
    assert set(report.numbers) == {"budgets_cpu_ratio"} and report.numbers["budgets_cpu_ratio"] > 0
    for name in ("nodes_cpu_us_per_task", "tasks_per_s", "message_us"):
        assert measured[name]["with"] > 0 and measured[name]["without"] > 0
    print_report(report)
    assert "accounts of peers: a tiny task takes the nodes" in capsys.readouterr().out


async def test_compared_results_cost_runs_that_are_counted(tmp_path: Path) -> None:
    report = await run_suite(SMALL, ["checked"], tmp_path, lambda _: None)
    # Of each worker the first ten are run again; how many of the four come to run so many is the scheduler's to say.
    tasks = SMALL.checked_warm_up
    assert report.details["checked"]["warm_up"] >= 1 + 10 / tasks - 0.0005
    assert 1.0 <= report.numbers["runs_a_task_checked"] < 2.0


async def test_nodes_without_accounts_are_told_apart(tmp_path: Path) -> None:
    """Or the comparison would be of a mesh with itself."""
    async with running(tmp_path, {"h0": EVERY_ROLE}, unmetered=True) as mesh:
        (node,) = mesh.nodes.values()
        assert b"hearthmesh.node.bench.unmetered" in Path(f"/proc/{node.pid}/cmdline").read_bytes()
    driver = subprocess.run(
        [sys.executable, "-c", _WHICH], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert driver.stdout.split() == ["NoAccounts", "OneLine"]


_WHICH = """
import sys
from hearthmesh.node import __main__, driver
from hearthmesh.node.bench import unmetered
__main__.main = lambda: print(type(driver.Driver(None, None)._intake).__name__, driver.FairQueue.__name__)
unmetered.main()
"""


async def test_nodes_and_files_are_gone_when_a_run_is_cancelled(tmp_path: Path) -> None:
    pids: list[int] = []
    with trio.CancelScope() as scope:
        async with running(tmp_path, {"h0": EVERY_ROLE, "h1": EVERY_ROLE}) as mesh:
            pids += [node.pid for node in mesh.nodes.values()]
            scope.cancel()
            await trio.sleep_forever()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.iterdir()) == []


async def test_the_profile_of_a_worker_names_its_functions(tmp_path: Path) -> None:
    profile = await run_profile(SMALL, "w0", tmp_path, lambda _: None)
    assert profile["tasks"] == 200
    own_us = [hot["own_us"] for hot in profile["functions"]]
    assert own_us and own_us == sorted(own_us, reverse=True) and own_us[0] > 0
    assert any("unrolled_run" in hot["function"] for hot in profile["functions"]), "the event loop of the worker"


async def test_the_profile_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no process "w9"; there are|no process "w9" to profile'):
        await run_profile(SMALL, "w9", tmp_path, lambda _: None)


def test_hot_spots_come_with_the_most_time_first() -> None:
    profile = cpu_profile()
    profile.runcall(lambda: [sorted(range(1000)) for _ in range(100)])
    spots = hot_spots(profile, tasks=100)
    assert [spot.own_us for spot in spots] == sorted((spot.own_us for spot in spots), reverse=True)
    assert any(spot.calls == 1.0 and "sorted" in spot.function for spot in spots)


def test_every_promised_number_has_an_aim() -> None:
    assert list(TARGETS) == KEYS.split(", ")


def test_a_busy_machine_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(Report({}, {}, details={"efficiency": {"others_cores": 1.3}}))
    assert "other programs used up to 1.3 cores" in capsys.readouterr().out
    print_report(Report({}, {}, details={"efficiency": {"others_cores": 0.05}}))
    assert "other programs" not in capsys.readouterr().out


def test_a_comparison_without_peers_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "tiny_tasks_per_s": 1.0,
        "cpu_us_per_task": 1.0,
        "single_ms_p50": 1.0,
        "single_ms_p99": 1.0,
        "efficiency_50ms": 0.5,
        "others_cores": 0.0,
    }
    skipped = {"ray": "cannot be installed: no network"}
    print_comparison({"systems": {"hearthmesh": row}, "ratios": {}, "rounds": 1, "skipped": skipped})
    assert "ray was skipped: cannot be installed: no network" in capsys.readouterr().out


async def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="choose another --folder"):
        async with working_folder(tmp_path / "file"):
            pass


def test_the_filesystem_of_a_folder_is_that_of_the_innermost_mount() -> None:
    assert filesystem_of(Path("/proc/self")) == "proc"
    assert filesystem_of(Path("/")) != "proc"


def test_a_measurement_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--only speed: there is no such measurement; there are: tiny, single"):
        bench(only=["tiny,speed"], folder=tmp_path / "bench")
    assert not (tmp_path / "bench").exists()


async def test_a_parent_that_was_made_for_a_run_goes_with_it(tmp_path: Path) -> None:
    async with working_folder(tmp_path / "made"):
        assert (tmp_path / "made").is_dir()
    assert list(tmp_path.iterdir()) == []


async def test_runs_are_not_counted_where_a_node_does_not_say_its_own(tmp_path: Path) -> None:
    async with running(tmp_path, {"h0": EVERY_ROLE}) as mesh:
        mesh.nodes["h0"].state.remove_control_socket()
        with pytest.raises(UserError, match="do not say what they ran: h0"):
            await runs_of(mesh)


async def test_a_profile_of_a_node_without_accounts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="one of these programs"):
        async with running(tmp_path, {"h0": EVERY_ROLE}, profile="h0", unmetered=True):
            pass
