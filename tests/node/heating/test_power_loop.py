"""The way from watts wanted to watts drawn, closed over a machine that noise, a wrong table and its own laws govern."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.control.power import PowerStep, PowerTable
from hearthmesh.node.heating.control_settings import BurnTable, MachineTable, SensorTable
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.fake_machine import FakeMachine, Physics

PHYSICS = Physics()
# What is measured, after a time to settle.
SETTLE_S, MEASURE_S = 80.0, 120.0
TABLES = {
    "measured": PHYSICS.table(),
    "a line": PowerTable.linear(4, 20.0),
    "far too high": PowerTable.linear(4, 40.0),
    "far too low": PowerTable.linear(4, 14.0),
    "of another machine": PowerTable([PowerStep(1, 60.0), PowerStep(2, 75.0), PowerStep(3, 85.0), PowerStep(4, 90.0)]),
}
HARDWARE: dict[str, Any] = {
    "tasks alone": {},
    "RAPL": {"rapl_limit": True},
    "P-states": {"cpufreq_limit": True},
    "quota": {"cgroup": "hearth.slice"},
    "all": {"rapl_limit": True, "cpufreq_limit": True, "cgroup": "hearth.slice"},
}


CASES = [
    *((table, "tasks alone") for table in TABLES),
    *(("a line", hardware) for hardware in HARDWARE if hardware != "tasks alone"),
    ("far too high", "all"),
    ("of another machine", "all"),
]


def machine(
    folder: Path,
    table: PowerTable,
    hardware: str,
    *,
    physics: Physics = PHYSICS,
    meter: bool = True,
    burns: bool = False,
) -> FakeMachine:
    linux = FakeLinux(folder)
    settings = HeaterSettings(
        kind="machine",
        cores=4,
        watts_per_core=20.0,
        idle_watts=physics.idle_w,
        setpoint_c=20.0,
        gain_w_per_k=100.0,
        integral_s=0.0,
        sensors=SensorTable(frozen_s=0.0, frozen_k=0.0, jump_k_per_s=100.0),
        burn=BurnTable(enabled=burns, after_s=10.0),
        machine=replace(MachineTable(root=linux.root, sensor="hwmon:room/temp1"), **HARDWARE[hardware]),
    )
    return FakeMachine(linux, physics, settings, table, meter=meter)


@pytest.mark.parametrize(("table", "hardware"), CASES)
def test_watts_asked_for_are_drawn_whatever_the_table_says(tmp_path: Path, table: str, hardware: str) -> None:
    """Within 3 % on average, one request after another."""
    made = machine(tmp_path, TABLES[table], hardware)
    reachable_w = min(PHYSICS.most_w, TABLES[table].capacity_w)
    for share in (0.25, 0.9, 0.5):
        made.ask_for(share * reachable_w)
        made.run(SETTLE_S + MEASURE_S)
        assert made.mean(made.watts, MEASURE_S) == pytest.approx(share * reachable_w, rel=0.03), share


def test_no_half_minute_is_far_from_what_is_asked_for(tmp_path: Path) -> None:
    made = machine(tmp_path, TABLES["a line"], "tasks alone")
    made.ask_for(45.0)
    made.run(SETTLE_S + 600.0)
    settled = made.watts[-1200:]
    halves = [sum(settled[begin : begin + 60]) / 60 for begin in range(0, 1200, 60)]
    assert halves == pytest.approx([45.0] * 20, rel=0.08)


def test_without_a_meter_the_loop_is_closed_on_cpu_seconds(tmp_path: Path) -> None:
    """Tasks that get only four fifths of what they are allowed are allowed more; the watts are as good as the table."""
    made = machine(tmp_path, PHYSICS.table(), "tasks alone", physics=replace(PHYSICS, got=0.8), meter=False)
    made.ask_for(PHYSICS.busy_w(2.5, 1.0))
    made.run(SETTLE_S + MEASURE_S)
    assert not made.heater.measured
    assert made.mean(made.work, MEASURE_S) == pytest.approx(2.5, rel=0.03)


def test_burning_reaches_the_watts_too_and_learns_nothing_of_tasks(tmp_path: Path) -> None:
    for hardware in ("tasks alone", "all"):
        made = machine(tmp_path / hardware, TABLES["far too high"], hardware, burns=True)
        made.ask_for(60.0)
        made.run(SETTLE_S + MEASURE_S, works=False)
        assert made.mean(made.watts, MEASURE_S) == pytest.approx(60.0, rel=0.03)
        assert made.heater.thermostat.loop.effort == 1.0
        meter = made.heater.meter
        assert (meter.work_uj, meter.burn_uj > 0) == (0, True)
        # With work it is not burnt any more, and the watts stay.
        burnt_uj = meter.burn_uj
        made.run(SETTLE_S)
        made.run(MEASURE_S)
        assert made.heater.burn_load == 0.0
        assert made.mean(made.watts, MEASURE_S) == pytest.approx(60.0, rel=0.03)
        assert made.heater.meter.burn_uj - burnt_uj < 60e6


def test_slower_cores_do_more_work_for_the_same_watts(tmp_path: Path) -> None:
    """Why P-states are worth it: cycles of all cores, for 40 W."""
    cycles = []
    for hardware in ("tasks alone", "P-states"):
        made = machine(tmp_path / hardware, PHYSICS.table(), hardware)
        made.ask_for(40.0)
        made.run(SETTLE_S + MEASURE_S)
        cycles.append(made.mean(made.work, MEASURE_S) * made.speed)
    assert cycles[1] > 1.05 * cycles[0]


def test_every_joule_of_the_meter_is_work_burnt_or_idle(tmp_path: Path) -> None:
    made = machine(tmp_path, TABLES["a line"], "all", burns=True)
    made.ask_for(50.0)
    made.run(120.0, works=False)
    before_uj, before = made.drawn_uj, made.heater.meter.total_uj
    made.run(60.0)
    assert made.heater.meter.total_uj - before == made.drawn_uj - before_uj
