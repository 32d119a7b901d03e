"""The week of each kind of sink: energy adds up, the plot shows it, and a wrong option is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hearthmesh.testnet.simulator.commands import app
from hearthmesh.testnet.simulator.sink_week import week_of


@pytest.mark.parametrize("kind", ["room-5r1c", "pool", "boiler-rack", "data-centre"])
def test_week_holds_its_target_and_its_energy_adds_up(kind: str) -> None:
    week = week_of(kind, "paris", 1, days=2)
    assert week.heat_kwh + week.gains_kwh == pytest.approx(week.lost_kwh + week.delivered_kwh + week.stored_kwh)
    assert len(week.hours) == len(week.power_w) == 2 * 96
    if kind in ("room-5r1c", "pool"):
        assert week.temperature_c[-1] >= week.target_c[-1] - 0.01


def test_command_prints_a_line_a_kind_and_writes_the_plot(tmp_path: Path) -> None:
    plot = tmp_path / "week.svg"
    found = CliRunner().invoke(
        app, ["sinks", "--kind", "room-1r1c", "--bench", "--count", "50", "--json", "--plot", str(plot)]
    )
    assert found.exit_code == 0, found.output
    row = json.loads(found.output)
    assert row["kind"] == "room-1r1c" and row["sinks_per_cpu_s"] > 0 and row["heat_kwh"] > 0
    assert plot.read_text().startswith("<svg") and "room-1r1c" in plot.read_text()
