"""A machine with sensors in water: a supply follows the curve, a tank is disinfected, a return has a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.sink_settings import LoopTable, ModelTable, TankTable
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.test_machine import SENSOR, Bench, linux, settings

__all__ = ["linux"]
OUTSIDE = "sys/class/hwmon/hwmon10/temp3_input"
RETURN = "sys/class/hwmon/hwmon10/temp4_input"
TANK = ModelTable(kind="tank", tank=TankTable(disinfect_c="70"))
RACK = ModelTable(kind="boiler-rack", loop=LoopTable(return_max_c=45.0))


def bench_of(linux: FakeLinux, model: ModelTable, setpoint_c: float, **sources: str) -> Bench:
    plain = settings(linux)
    machine = replace(plain.machine, surface_sensor="", **sources)
    sensors = replace(plain.sensors, highest_c=95.0, jump_k_per_s=100.0)
    return Bench(
        linux, replace(plain, model=model, setpoint_c=setpoint_c, dwell_s=0.0, machine=machine, sensors=sensors)
    )


@pytest.mark.parametrize(("outside", "aim_c"), [("0", 47.8), ("-40000", 75.0), ("25000", 20.0), (None, 55.0)])
async def test_the_supply_follows_the_curve_and_is_hot_where_nothing_tells_the_weather(
    linux: FakeLinux, outside: str | None, aim_c: float
) -> None:
    if outside is not None:
        linux.write(OUTSIDE, outside)
    linux.write(SENSOR, "21000")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")
    await bench.second(2)
    assert bench.heater.decision.aim_c == pytest.approx(aim_c, abs=0.05)
    assert bench.heater.decision.target.setpoint_c == 20.0
    assert (bench.heater.reading().slots > 0) == (aim_c > 21.0)


async def test_a_return_that_is_too_warm_or_unknown_takes_no_heat(linux: FakeLinux) -> None:
    linux.write(OUTSIDE, "0")
    linux.write(SENSOR, "40000")
    linux.write(RETURN, "44900")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3", return_sensor="hwmon:room/temp4")
    await bench.second(2)
    assert bench.heater.reading().slots == 4 and not bench.heater.problems
    for milli, slots in (("45000", 0), ("44500", 0), ("43900", 4)):
        linux.write(RETURN, milli)
        await bench.second(2)
        assert bench.heater.reading().slots == slots
    (linux.root / RETURN).unlink()
    await bench.second(12)
    assert bench.heater.reading().slots == 0
    assert bench.heater.problems == ("the return's sensor tells nothing: no heat",)


async def test_a_tank_is_disinfected_when_all_of_it_was_hot_for_long_enough(linux: FakeLinux) -> None:
    lower = "sys/class/hwmon/hwmon10/temp3_input"
    linux.write(SENSOR, "71000")
    linux.write(lower, "69900")
    bench = bench_of(linux, TANK, 55.0, second_sensor="hwmon:room/temp3")
    bench.heater.thermostat.wish(Wish.ECO, bench.heater.inputs())
    await bench.second(200)
    assert bench.heater.decision.aim_c == 72.0
    linux.write(lower, "70100")
    await bench.second(119)
    assert bench.heater.decision.aim_c == 72.0
    linux.write(lower, "69000")
    await bench.second()
    linux.write(lower, "70000")
    await bench.second(122)
    assert bench.heater.decision.aim_c == bench.heater.decision.target.setpoint_c < 55.0
    bench.now_us += 20 * 3600 * 1_000_000
    await bench.second()
    assert bench.heater.decision.aim_c == 72.0


async def test_nothing_is_disinfected_by_a_sensor_that_is_not_believed(linux: FakeLinux) -> None:
    linux.write(SENSOR, "99000")
    bench = bench_of(linux, TANK, 55.0)
    await bench.second(300)
    assert bench.heater.aims.since_disinfection_s is not None
    assert bench.heater.aims.since_disinfection_s > 86_400.0


async def test_a_tank_that_is_switched_off_is_only_kept_from_freezing(linux: FakeLinux) -> None:
    linux.write(SENSOR, "30000")
    bench = bench_of(linux, TANK, 55.0)
    await bench.second(2)
    assert bench.heater.reading().slots == 4
    bench.heater.thermostat.wish(Wish.OFF, bench.heater.inputs())
    await bench.second()
    assert bench.heater.reading().slots == 0 and bench.heater.decision.aim_c < 20.0
