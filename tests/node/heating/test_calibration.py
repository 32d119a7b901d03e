"""Calibrating: watts of each step above idle, labelled measured or estimated; and the file that keeps them."""

from dataclasses import replace
from pathlib import Path

import pytest

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.calibration import (
    CalibrationError,
    calibrate,
    load_calibration,
    power_table,
    save_calibration,
)
from hearthmesh.node.heating.control.power import PowerStep
from hearthmesh.node.heating.drivers.interface import DriverError


class Bench:
    """A machine that draws 30 W idle, and 40, 25, 0 W more for each further core; time passes where one waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.cores = 0
        self.cpu = 0
        self.energy = 0
        self.free = 1.0

    def set(self, cores: int) -> None:
        self.cores = cores

    def cpu_us(self) -> int:
        return self.cpu

    def energy_uj(self) -> int:
        return self.energy

    async def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.cpu += round(self.free * self.cores * seconds * 1e6)
        self.energy += round((30 + sum([40, 25, 0][: self.cores])) * seconds * 1e6)


async def test_meter_tells_each_step_above_idle() -> None:
    bench = Bench()
    found = await calibrate(
        bench,
        bench,
        cores=3,
        watts_per_core=1.0,
        settle_s=5.0,
        measure_s=20.0,
        now_s=lambda: bench.now_s,
        wait=bench.wait,
    )
    assert found.idle_w == pytest.approx(30.0)
    assert [round(step.watts, 2) for step in found.table.steps] == [40.0, 65.0, 65.0]
    assert found.table.measured
    assert (bench.cores, found.got) == (0, 1.0)


async def test_meter_that_shows_nothing_of_busy_cores_makes_no_table() -> None:
    bench = Bench()

    class Dead:
        def energy_uj(self) -> int:
            return 7

    with pytest.raises(DriverError, match=r"the meter shows 0\.0 W of 2 busy cores"):
        await calibrate(
            bench,
            Dead(),
            cores=2,
            watts_per_core=15.0,
            settle_s=0.0,
            measure_s=10.0,
            now_s=lambda: bench.now_s,
            wait=bench.wait,
        )


async def test_machine_that_did_something_else_is_told_of() -> None:
    bench = Bench()
    bench.free = 0.4
    found = await calibrate(
        bench, None, cores=2, watts_per_core=15.0, settle_s=0, measure_s=10, now_s=lambda: bench.now_s, wait=bench.wait
    )
    assert found.got == pytest.approx(0.4)


async def test_without_a_meter_it_is_estimated_and_says_so() -> None:
    bench = Bench()
    found = await calibrate(
        bench,
        None,
        cores=2,
        watts_per_core=15.0,
        settle_s=0.0,
        measure_s=10.0,
        now_s=lambda: bench.now_s,
        wait=bench.wait,
    )
    assert found.idle_w is None
    assert found.table.steps == (PowerStep(1, 15.0, False), PowerStep(2, 30.0, False))


async def test_table_is_kept_and_found_by_the_node(tmp_path: Path) -> None:
    bench, path = Bench(), tmp_path / "power.json"
    settings = HeaterSettings(cores=2, watts_per_core=20.0)
    assert power_table(settings, path)[0].steps == (PowerStep(2, 40.0),)
    found = await calibrate(
        bench, bench, cores=2, watts_per_core=1.0, settle_s=0, measure_s=1, now_s=lambda: bench.now_s, wait=bench.wait
    )
    save_calibration(path, found)
    kept = load_calibration(path)
    assert (kept.table.steps, kept.idle_w) == (found.table.steps, found.idle_w)
    assert power_table(settings, path)[0].capacity_w == 65.0
    assert power_table(settings, path)[1] == pytest.approx(30.0)
    with pytest.raises(CalibrationError, match="for 2 cores, and heater.cores is 3"):
        power_table(replace(settings, cores=3), path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": []}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": [{"cores": 1, "watts": -4}]}',
        '{"version": 1, "measured": true, "idle_w": "x", "steps": [{"cores": 1, "watts": 4}]}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": [{"cores": 1e999, "watts": 4}]}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": [{"cores": 1, "watts": 1e30}]}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": [{"cores": 1, "watts": Infinity}]}',
        '{"version": 1, "measured": true, "idle_w": null, "steps": [{"cores": 1, "watts": NaN}]}',
        '{"version": 1, "measured": true, "idle_w": NaN, "steps": [{"cores": 1, "watts": 4}]}',
        '{"version": 1, "measured": true, "idle_w": 1e9, "steps": [{"cores": 1, "watts": 4}]}',
        "\x00",
    ],
)
def test_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "power.json"
    path.write_text(text)
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
