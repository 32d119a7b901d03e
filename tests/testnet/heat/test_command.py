"""`hearth sim heat`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from hearthmesh.node.cli.app import run
from hearthmesh.testnet.heat.policies import POLICIES
from hearthmesh.testnet.heat.sources import digest_of, modules_under
from hearthmesh.testnet.simulator.commands import app

KEYS = (
    "discomfort_kh_p50 discomfort_kh_p95 outside_band_percent wasted_kwh burnt_kwh lost_work_percent makespan_h "
    "deadline_misses"
)
SMALL = ["heat", "--rooms", "5", "--days", "1", "--step", "900", "--season", "winter", "--workload", "bag"]


def test_json_is_an_object_a_season_load_and_policy_and_the_report_is_written(tmp_path: Path) -> None:
    report = tmp_path / "heat.html"
    options = ["--load", "70", "--policy", "ours", "--policy", "qarnot", "--json", "--report", str(report)]
    found = CliRunner().invoke(app, [*SMALL, *options])
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert [(row["season"], row["load"], row["policy"]) for row in rows] == [
        ("winter", 0.7, "ours"),
        ("winter", 0.7, "qarnot"),
    ]
    assert all(set(KEYS.split()) <= set(row) for row in rows)
    assert any(target["target"] == "work lost to heat, %" and target["met"] for target in rows[0]["targets"])
    assert "2 of 2: winter, 70 %, bag" in found.stderr
    page = report.read_text()
    assert page.count("<svg") == 1 and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    with Image.open(report.with_suffix(".png")) as picture:
        assert picture.size[0] > 600 and len(picture.getcolors(1 << 24) or ()) > 20


def test_a_table_ends_with_the_targets() -> None:
    found = CliRunner().invoke(app, [*SMALL, "--load", "70", "--policy", "ours", "--policy", "optimum"])
    assert found.exit_code == 0, found.output
    assert "optimum (6 rooms)" in found.stdout and "cost / optimum" in found.stdout
    assert "targets met" in found.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--season", "monsoon"], '--season "monsoon": one of winter, shoulder, summer, year'),
        (["--policy", "best"], '--policy "best": one of ours, central, random, qarnot, optimum'),
        (["--workload", "x"], '--workload "x": one of bag, deadline, stream'),
        (["--load", "0"], "--load: percent of the heat demand"),
        (["--load", "nan"], "--load: percent of the heat demand"),
        (["--rooms", "0"], "--rooms 0: from 1 to"),
        (["--days", "400"], "--days 400: from 1 to"),
        (["--step", "7"], "--step 7: seconds that divide an hour"),
        (["--step", "7000"], "--step 7000: seconds that divide an hour"),
        (["--climate", "mars"], '--climate "mars": one of'),
        (["--season", "year", "--policy", "optimum"], "--policy optimum: it is solved for a day"),
        (["--json", "--markdown"], "--markdown and --json: one of the two"),
        (["--report", "/nowhere/at/all.html"], "--report /nowhere/at/all.html: no such folder"),
    ],
)
def test_bad_input_is_one_line_and_code_2(options: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "heat", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and told in captured.err and len(captured.err.splitlines()) == 1


def test_what_a_log_holds_is_not_played_again(tmp_path: Path) -> None:
    log = tmp_path / "heat.log"
    options = [*SMALL, "--load", "70", "--log", str(log), "--json"]
    first = CliRunner().invoke(app, [*options, "--policy", "central"])
    assert first.exit_code == 0, first.output
    line = json.loads(log.read_text())
    # What nobody would measure: whoever tells it has read it.
    line["numbers"]["discomfort_kh_p50"] = 123.0
    log.write_text(json.dumps(line) + '\n{"case": {"season": "win')
    again = CliRunner().invoke(app, [*options, "--policy", "central", "--policy", "qarnot"])
    assert again.exit_code == 0, again.output
    rows = {row["policy"]: row for row in map(json.loads, again.stdout.splitlines())}
    assert rows["central"]["discomfort_kh_p50"] == 123.0 != rows["qarnot"]["discomfort_kh_p50"]
    # The torn line stands alone, and the new case is whole.
    assert json.loads(log.read_text().splitlines()[-1])["case"]["policy"] == "qarnot"
    assert len(log.read_text().splitlines()) == 3


def test_what_other_sources_played_is_played_anew(tmp_path: Path) -> None:
    log = tmp_path / "heat.log"
    options = [*SMALL, "--load", "70", "--log", str(log), "--json", "--policy", "central"]
    assert CliRunner().invoke(app, options).exit_code == 0
    line = json.loads(log.read_text())
    found = line["numbers"]["discomfort_kh_p50"]
    line["numbers"]["discomfort_kh_p50"], line["sources"] = 123.0, "0" * 32
    log.write_text(json.dumps(line) + "\n")
    again = CliRunner().invoke(app, options)
    assert json.loads(again.stdout)["discomfort_kh_p50"] == found
    # And is in the log beside the old one.
    assert len(log.read_text().splitlines()) == 2


def test_a_case_rests_on_its_policy_and_all_that_it_imports_but_not_on_others() -> None:
    def names(policy: str) -> set[str]:
        return {name.removeprefix("hearthmesh.") for name in modules_under((POLICIES[policy].__module__,))}

    assert {"protocol.stealing.pricing", "testnet.heat.policies.mesh", "testnet.heat.floor"} <= names("ours")
    assert {"testnet.heat.policies.backlog", "testnet.heat.physics", "node.heating.sinks.room"} <= names("central")
    assert not {name for name in names("central") if name.startswith("protocol") or name.endswith(".ours")}
    assert len({digest_of(policy) for policy in POLICIES}) == len(POLICIES)


def test_tables_for_the_docs_have_a_row_a_policy_and_say_what_was_missed() -> None:
    options = ["--load", "70", "--policy", "ours", "--policy", "central", "--policy", "optimum", "--markdown"]
    found = CliRunner().invoke(app, [*SMALL, *options])
    assert found.exit_code == 0, found.output
    towns, smalls, targets = found.stdout.strip().split("\n\n", 2)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in towns.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["winter, 70 %, bag", "ours"], ["", "central"]]
    assert len({len(row) for row in rows} | {towns.splitlines()[0].count("|") - 1}) == 1
    # Of each policy over the optimum's, which is the least.
    (row,) = smalls.splitlines()[2:]
    name, costs = [cell.strip() for cell in row.split("|")[1:-1]]
    assert name == "winter, bag" and all(float(cost) >= 1 for cost in costs.split(", "))
    assert "targets met" in targets.splitlines()[0]


def test_a_log_that_cannot_be_written_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "heat", *SMALL[1:], "--load", "70", "--policy", "qarnot", "--log", "/nowhere/heat.log"]) == 2
    captured = capsys.readouterr()
    assert "--log /nowhere/heat.log: No such file" in captured.err


def test_targets_say_of_how_many_rooms_they_are() -> None:
    found = CliRunner().invoke(app, [*SMALL, "--load", "70", "--policy", "ours", "--policy", "optimum"])
    at = next(i for i, line in enumerate(found.stdout.splitlines()) if " target " in line)
    shown = found.stdout.splitlines()[at].split(), [line.split() for line in found.stdout.splitlines()[at + 1 : -1]]
    assert shown[0].index("rooms") == 4 and {row[3] for row in shown[1]} == {"5", "6"}
