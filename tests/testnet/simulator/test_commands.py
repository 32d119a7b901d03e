"""`hearth sim`, as a user types it."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.node.cli.app import run
from hearthmesh.testnet.simulator import mutants, scenario_mutants, scenarios
from hearthmesh.testnet.simulator.asked import Asked
from hearthmesh.testnet.simulator.mutants import MUTANTS, patched
from hearthmesh.testnet.simulator.scenario_mutants import BROKEN
from hearthmesh.testnet.simulator.scenarios import scenario_named
from hearthmesh.testnet.simulator.soak import Log


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


def sim(*arguments: object) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["sim", *map(str, arguments)])
    return Ran(code, out.getvalue(), err.getvalue())


def test_run_prints_one_object() -> None:
    ran = sim("run", "--nodes", 5, "--hours", 0.002, "--seed", 3, "--json")
    assert (ran.code, ran.stderr) == (0, "")
    found = ran.json()
    wanted = "seed events events_per_s trace_digest violations tasks_submitted tasks_accepted duplicates"
    assert set(wanted.split()) <= set(found)
    assert found["seed"] == 3 and found["violations"] == [] and found["duplicates"] == 0
    assert found["tasks_submitted"] == found["tasks_accepted"] == 20
    assert found["events"] > 100 and len(found["trace_digest"]) == 32


def test_run_takes_as_many_tasks_for_each_node_as_it_is_told() -> None:
    options = ("--nodes", 5, "--hours", 0.002, "--tasks", 8)
    found = sim("run", *options, "--json").json()
    assert found["tasks_accepted"] == 40 and 4 < found["makespan_s"] < found["virtual_s"]
    assert sim("replay", 1, *options, "--json").json()["trace_digest"] == found["trace_digest"]
    asked = Asked(1, 5, 0.002, 0.0, None, "slow thin", None, tasks=8)
    assert asked.replay_command().endswith("--nodes 5 --hours 0.002 --tasks 8 --preset 'slow thin'")


def test_replay_is_the_same_run() -> None:
    first = sim("run", "--seed", 9, "--json").json()
    again = sim("replay", 9, "--json").json()
    assert again["trace_digest"] == first["trace_digest"]
    assert again["plan"]["seed"] == 9


def test_replay_tells_the_story_of_one_task() -> None:
    ran = sim("replay", 3, "--trace", "--task", 0, "--job", "job0")
    assert ran.code == 0
    told = [line for line in ran.stdout.splitlines() if " runs job0 [0," in line or "* job.results" in line]
    assert any("runs" in line for line in told) and any("job.results" in line for line in told)


def test_replay_tells_the_story_of_one_node() -> None:
    story = sim("replay", 3, "--trace", "--node", "n1", "--json").json()["story"]
    assert story and all("n1" in line or "---" in line for line in story)


def test_a_failure_names_its_seed_its_command_and_a_smaller_run() -> None:
    mutant = next(each for each in MUTANTS if each.name == "raise on an answer that nobody expects")
    with patched(mutant.patches()):
        ran = sim("run", "--seed", 3)
    assert ran.code == 1
    assert "VIOLATED no-crash" in ran.stdout
    assert "seed 3 fails; to see it: hearth sim replay 3 --trace" in ran.stderr
    assert "smaller, found in" in ran.stderr and "--keep-faults none" in ran.stderr


def test_mutants_are_listed_with_what_caught_them(monkeypatch: pytest.MonkeyPatch) -> None:
    few = [each for each in MUTANTS if each.name in ("keep every row", "count energy twice")]
    monkeypatch.setattr(mutants, "MUTANTS", few)
    ran = sim("mutants", "--json")
    assert ran.code == 0
    assert [(each["mutant"], each["caught_by"]) for each in ran.json()] == [
        ("count energy twice", "energy-balance"),
        ("keep every row", "bounds"),
    ]


def test_a_mutant_that_nobody_catches_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutants, "MUTANTS", [replace(MUTANTS[-1], patches=list)])
    monkeypatch.setattr(mutants, "SEEDS_MAX", 1)
    ran = sim("mutants", "--json")
    assert ran.code == 1 and ran.json()[0]["caught_by"] is None


def test_scenarios_are_listed_with_what_catches_the_same_failure_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SCENARIOS", [scenario_named("vanished-holder")])
    monkeypatch.setattr(scenario_mutants, "BROKEN", [each for each in BROKEN if each.scenario == "vanished-holder"])
    ran = sim("scenarios", "--json")
    (row,) = ran.json()
    assert (ran.code, row["scenario"], row["state"]) == (0, "vanished-holder", "holds")
    assert row["mutants"] == [{"mutant": "let leases stand for ever", "caught_by": "lease-expiry"}]


def test_a_scenario_in_which_nobody_notices_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SCENARIOS", [scenario_named("vanished-holder")])
    (broken,) = [each for each in BROKEN if each.scenario == "vanished-holder"]
    monkeypatch.setattr(scenario_mutants, "BROKEN", [replace(broken, patches=list)])
    ran = sim("scenarios", "--json")
    assert ran.code == 1 and ran.json()[0]["mutants"][0]["caught_by"] is None


def test_soak_counts_its_runs_and_logs_its_seeds(tmp_path: Path) -> None:
    log = tmp_path / "soak.log"
    ran = sim("soak", "--runs", 3, "--seed", 5, "--draw-nodes", 5, "--draw-faults", 1, "--log", log, "--json")
    assert ran.code == 0 and ran.json()["runs"] == 3
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == ["5", "6", "7"]


def test_a_soak_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    log = tmp_path / "soak.log"
    options = ("--seed", 5, "--draw-nodes", 5, "--draw-faults", 1, "--log", log, "--resume", "--json")
    first = sim("soak", "--runs", 2, *options).json()
    log.write_text(log.read_text() + "7 ok 5 1 12")
    again = sim("soak", "--runs", 2, *options).json()
    assert {**again, "elapsed_s": 0} == {**first, "elapsed_s": 0}
    whole = sim("soak", "--runs", 3, *options).json()
    assert whole["runs"] == 3 and whole["events"] > first["events"] and whole["faults"] == 3


def test_runs_of_other_sources_are_told_apart(tmp_path: Path) -> None:
    log = tmp_path / "soak.log"
    log.write_text("5 ok 5 1 12 5 0 0.1 | draw 5/1\n6 liveness 5 1 9 5 0 0.1 late | replay 6; draw 5/1; sources abc\n")
    options = ("--seed", 5, "--draw-nodes", 5, "--draw-faults", 1, "--log", log, "--resume")
    told = sim("soak", "--runs", 3, *options, "--json").json()
    own = told["sources"]
    assert told["runs"] == 3
    assert [(each["sources"], each["runs"], each["failed"]) for each in told["by_sources"]] == [
        ("", 1, 0),
        ("abc", 1, 1),
        (own, 1, 0),
    ]
    assert log.read_text().splitlines()[-1].endswith(f"draw 5/1; sources {own}")
    shown = sim("soak", "--runs", 3, *options)
    assert "1 of sources abc: 1 failed" in shown.stdout and "1 of sources unknown: 0 failed" in shown.stdout


def test_half_of_a_soaks_line_is_not_taken_for_a_whole_one_of_another_draw(tmp_path: Path) -> None:
    log = tmp_path / "soak.log"
    log.write_bytes(b"6 liveness 5 1 99 9 9 0.1 \xc3\n5 ok 5 1 12 5 0 0.1 | draw 5/1")
    assert Log(log, 5, 1).played() == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--nodes", 0), "--nodes 0: from 1 to 200000 machines"),
        (("run", "--hours", -1), "--hours -1: from 0.001"),
        (("run", "--seed", -4), "--seed -4: a seed is a whole number"),
        (("run", "--nodes", 5, "--tasks", 0), "--tasks 0: a job has from 1 to 1000 tasks"),
        (("run", "--tasks", 5), "--tasks: is drawn, or of no use, without --nodes or --hours"),
        (("run", "--warm"), "--warm: is drawn, or of no use, without --nodes or --hours"),
        (("run", "--churn", 0), "--churn: is drawn, or of no use, without --nodes or --hours"),
        (("run", "--jobs", 2), "--jobs: is drawn, or of no use, without --nodes or --hours"),
        (("run", "--preset", "lan"), "--preset: is drawn, or of no use, without --nodes or --hours"),
        (("run", "--scenario", "vanished-holder", "--nodes", 3), "--nodes: --scenario says that already"),
        (("run", "--scenario", "vanished-holder", "--preset", "wan"), "--preset: --scenario says that already"),
        (("replay", 1, "--hours", 1, "--draw-nodes", 9), "--draw-nodes: nothing is drawn with --hours"),
        (("replay", "--scenario", "vanished-holder", "--draw-honest"), "--draw-honest: --scenario says that already"),
        (("replay", 1, "--draw-faults", -3), "--draw-faults -3: from 0 to 10000"),
        (("soak", "--runs", 1, "--draw-faults", -3), "--draw-faults -3: from 0 to 10000"),
        (("soak", "--runs", 1, "--draw-nodes", 0), "--draw-nodes 0: from 1 to 200000 machines"),
        (("replay", 1, "--keep-jobs", "0,0"), "job 0 is named twice"),
        (("run", "--report", "out.json"), "--report out.json: the page; its numbers go to out.json beside it"),
        (("scale", "--report", "out.json"), "--report out.json: the page; its numbers go to out.json beside it"),
        (("run", "--preset", "moon"), "--preset moon: there are local, lan, wan"),
        (("run", "--scenario", "none such"), "--scenario none such: there are stale-steal-reply"),
        (("run", "--churn", "x"), "invalid value for '--churn'"),
        (("replay",), "give a seed"),
        (("replay", 1, "--keep-faults", "a"), "--keep-faults a: positions"),
        (("replay", 1, "--keep-faults", "99"), "there is no fault 99"),
        (("replay", 1, "--keep-nodes", "0"), "--keep-nodes 0: at least 1"),
        (("soak", "--minutes", 0), "--minutes must be more than 0"),
        (("soak", "--resume"), "--resume: give the --log"),
        (("scale", "--jobs", 7), "--jobs 7: 0 or 1"),
        (("scale", "--jobs", -1), "--jobs -1: 0 or 1"),
    ],
)
def test_a_users_fault_is_one_line_and_exit_code_2(arguments: tuple[object, ...], says: str) -> None:
    ran = sim(*arguments)
    assert ran.code == 2 and ran.stdout == ""
    assert ran.stderr.count("\n") == 1 and says in ran.stderr
