"""Liars against the policies, on a small street: what `hearth sim liars` measures on a large one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hearthmesh.node.cli.app import run
from hearthmesh.testnet.simulator.deceit import Finding, Street, observe, wrong_bound


def found(policy: str, lie: str = "", share: float = 0.0) -> Finding:
    return observe(Street(policy, lie, share, nodes=10, tasks=300))


def test_checking_honest_workers_costs_little_once_they_are_known() -> None:
    street = found("adaptive")
    assert street.complete and street.wrong == 0
    assert street.executions < 1.1 < street.warm_up
    assert abs(street.executions - street.by_policy) < 3 * street.deviation


def test_a_street_that_had_time_to_know_its_workers_checks_one_in_twenty_at_most() -> None:
    """Of any seed: the draw would have to miss by many deviations."""
    street = observe(Street("adaptive", nodes=5, tasks=1_000))
    assert street.complete and street.executions <= 1.05
    assert street.by_policy + 3 * street.deviation < 1.05


def test_liars_that_do_not_agree_get_nothing_past_a_quorum() -> None:
    street = found("quorum(2)", "wrong results", 0.2)
    assert street.complete and street.wrong == 0 and street.found == 2


def test_without_a_policy_they_get_everything_past() -> None:
    street = found("none", "wrong results", 0.2)
    assert street.complete and street.wrong > 0 and street.found == 0


def test_accomplices_get_less_past_a_larger_quorum() -> None:
    bounds = [wrong_bound(f"quorum({k})", "accomplice", 0.2) for k in (2, 3, 4)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] == pytest.approx(0.2 * 0.36)


def test_the_command_writes_table_plot_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot, table = tmp_path / "l.svg", tmp_path / "l.md"
    options = [
        "--nodes",
        "5",
        "--tasks",
        "40",
        "--policy",
        "none",
        "--share",
        "0.2",
        "--plot",
        str(plot),
        "--table",
        str(table),
    ]
    assert run(["sim", "liars", *options, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["lie"] for row in rows] == ["none", "wrong results", "accomplice", "sleeper"]
    assert rows[0]["wrong"] == 0 and all(row["executions"] == 1.0 for row in rows)
    assert plot.read_text().startswith("<svg") and table.read_text().count("\n") == 6


@pytest.mark.parametrize("wrong", [["--policy", "some"], ["--share", "0.9"], ["--share", "0"], ["--nodes", "2"]])
def test_bad_options_are_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sim", "liars", *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
