"""A machine with sensors in water: a supply follows the curve, a tank is disinfected, a return has a limit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.control_settings import SafetyTable
from hearthmesh.node.heating.drivers.interface import Allowed, SafeWrite
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater
from hearthmesh.node.heating.sink_settings import LoopTable, ModelTable, TankTable
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.test_machine import SENSOR, Bench, linux, settings

__all__ = ["linux"]
OUTSIDE = "sys/class/hwmon/hwmon10/temp3_input"
RETURN = "sys/class/hwmon/hwmon10/temp4_input"
TANK = ModelTable(kind="tank", tank=TankTable(disinfect_c="70"))
RACK = ModelTable(kind="boiler-rack", loop=LoopTable(return_max_c=45.0))


def settings_of(linux: FakeLinux, model: ModelTable, setpoint_c: float, **sources: str) -> HeaterSettings:
    plain = settings(linux)
    machine = replace(plain.machine, surface_sensor="", **sources)
    sensors = replace(plain.sensors, highest_c=95.0, jump_k_per_s=100.0)
    return replace(plain, model=model, setpoint_c=setpoint_c, dwell_s=0.0, machine=machine, sensors=sensors)


def bench_of(linux: FakeLinux, model: ModelTable, setpoint_c: float, **sources: str) -> Bench:
    return Bench(linux, settings_of(linux, model, setpoint_c, **sources))


class Device:
    """Remembers what it is told."""

    problem = ""

    def __init__(self) -> None:
        self.told: list[Allowed] = []

    def apply(self, allowed: Allowed) -> None:
        self.told.append(allowed)

    def release(self) -> None:
        pass

    def safe_writes(self) -> tuple[SafeWrite, ...]:
        return ()

    async def run(self) -> None:
        pass


def rack_under(linux: FakeLinux, outside: str | None) -> Bench:
    """With water of 21 °C, a setpoint of 20 °C, and this in the sensor outside."""
    if outside is not None:
        linux.write(OUTSIDE, outside)
    linux.write(SENSOR, "21000")
    return bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")


@pytest.mark.parametrize(("outside", "aim_c"), [("0", 47.8), ("-40000", 75.0), ("25000", 20.0), (None, 55.0)])
async def test_the_supply_follows_the_curve_and_is_hot_where_nothing_tells_the_weather(
    linux: FakeLinux, outside: str | None, aim_c: float
) -> None:
    bench = rack_under(linux, outside)
    await bench.second(2)
    assert bench.heater.decision.aim_c == pytest.approx(aim_c, abs=0.05)
    assert bench.heater.decision.target.setpoint_c == 20.0
    assert (bench.heater.reading().slots > 0) == (aim_c > 21.0)


@pytest.mark.parametrize(("outside", "aim_c"), [("-10000", 31.5), ("7500", 7.0), (None, 28.1)])
async def test_a_rack_that_is_off_is_as_warm_as_protects_its_building_from_frost(
    linux: FakeLinux, outside: str | None, aim_c: float
) -> None:
    """Without a sensor outside it is so on the coldest day that the curve is for: 27 K below the plain setpoint."""
    bench = rack_under(linux, outside)
    bench.heater.thermostat.wish(Wish.OFF, bench.heater.inputs())
    await bench.second(2)
    assert bench.heater.decision.aim_c == pytest.approx(aim_c, abs=0.05)
    assert (bench.heater.reading().slots > 0) == (aim_c > 21.0)


async def test_a_return_that_is_too_warm_or_unknown_takes_no_heat(linux: FakeLinux) -> None:
    linux.write(OUTSIDE, "0")
    linux.write(SENSOR, "40000")
    linux.write(RETURN, "43500")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3", return_sensor="hwmon:room/temp4")
    await bench.second(2)
    assert bench.heater.reading().slots == 4 and not bench.heater.problems
    for milli, slots in (("44900", 4), ("45000", 0), ("44500", 0), ("43900", 4)):
        linux.write(RETURN, milli)
        await bench.second(2)
        assert bench.heater.reading().slots == slots
    (linux.root / RETURN).unlink()
    await bench.second(12)
    assert bench.heater.reading().slots == 0
    assert bench.heater.problems == ("the return's sensor is lost: no heat is given",)


@pytest.mark.parametrize("milli", ["-127000", "0", "130000"])
async def test_a_return_that_cannot_be_is_no_reading(linux: FakeLinux, milli: str) -> None:
    linux.write(OUTSIDE, "0")
    linux.write(SENSOR, "40000")
    linux.write(RETURN, milli)
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3", return_sensor="hwmon:room/temp4")
    await bench.second(2)
    assert bench.heater.reading().slots == 0
    assert bench.heater.problems == ("the return's sensor is implausible: no heat is given",)


@pytest.mark.parametrize(("milli", "told_c"), [("40000", 47.8), ("46000", -math.inf), (None, -math.inf)])
async def test_a_device_with_a_thermostat_of_its_own_is_told_to_rest_where_a_loop_takes_no_heat(
    linux: FakeLinux, milli: str | None, told_c: float
) -> None:
    linux.write(OUTSIDE, "0")
    linux.write(SENSOR, "40000")
    if milli is not None:
        linux.write(RETURN, milli)
    chosen = settings_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3", return_sensor="hwmon:room/temp4")
    bench, device = Bench(linux, chosen), Device()
    hardware = replace(bench.hardware, actuators=(device,))
    bench.heater = MachineHeater(
        chosen, hardware, PowerTable.linear(4, 50.0), 0, local=lambda: LocalTime(bench.now_us / 1e6)
    )
    await bench.second(2)
    assert device.told[-1].setpoint_c == pytest.approx(told_c, abs=0.05)


async def test_what_a_curve_adds_is_no_overheating_and_an_owners_limit_is_of_the_water(linux: FakeLinux) -> None:
    linux.write(OUTSIDE, "-40000")
    linux.write(SENSOR, "74000")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")
    await bench.second(2)
    assert (bench.heater.decision.aim_c, bench.heater.decision.blocked) == (75.0, False)
    bench.heater.thermostat.wish(Wish.OFF, bench.heater.inputs())
    await bench.second(2)
    assert not bench.heater.decision.blocked
    chosen = settings_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")
    linux.write(SENSOR, "77500")
    owners = Bench(linux, replace(chosen, safety=SafetyTable(overheat_c=77.0)))
    await owners.second(2)
    assert owners.heater.decision.blocked


async def test_a_disinfection_lifts_no_limit_of_the_grid(linux: FakeLinux) -> None:
    linux.write(SENSOR, "55000")
    bench = bench_of(linux, TANK, 55.0)
    commands = HeatCommands(bench.heater)
    await bench.second(2)
    assert bench.heater.decision.aim_c == 72.0 and bench.heater.decision.granted_w > 100.0
    commands.limit(60.0, in_s=0.0, for_s=600.0)
    await bench.second(2)
    assert bench.heater.decision.granted_w <= 40.0


async def test_a_rack_a_little_below_its_aim_obeys_a_limit(linux: FakeLinux) -> None:
    linux.write(OUTSIDE, "0")
    linux.write(SENSOR, "43800")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")
    commands = HeatCommands(bench.heater)
    await bench.second(2)
    commands.limit(60.0, in_s=0.0, for_s=600.0)
    await bench.second(2)
    assert bench.heater.decision.granted_w <= 40.0
    linux.write(SENSOR, "38000")
    await bench.second(2)
    assert bench.heater.decision.granted_w > 100.0


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


async def test_a_tank_of_which_one_sensor_is_lost_is_not_disinfected_by_the_other(linux: FakeLinux) -> None:
    lower = "sys/class/hwmon/hwmon10/temp3_input"
    linux.write(SENSOR, "71000")
    linux.write(lower, "52000")
    bench = bench_of(linux, TANK, 55.0, second_sensor="hwmon:room/temp3")
    await bench.second(2)
    (linux.root / lower).unlink()
    await bench.second(300)
    assert bench.heater.decision.aim_c == 72.0


async def test_nothing_is_disinfected_by_a_sensor_that_is_not_believed(linux: FakeLinux) -> None:
    linux.write(SENSOR, "99000")
    bench = bench_of(linux, TANK, 55.0)
    await bench.second(300)
    assert bench.heater.aims.aim_c(55.0) == 72.0


async def test_a_tank_that_is_switched_off_is_only_kept_from_freezing(linux: FakeLinux) -> None:
    linux.write(SENSOR, "30000")
    bench = bench_of(linux, TANK, 55.0)
    await bench.second(2)
    assert bench.heater.reading().slots == 4
    bench.heater.thermostat.wish(Wish.OFF, bench.heater.inputs())
    await bench.second()
    assert bench.heater.reading().slots == 0 and bench.heater.decision.aim_c < 20.0
