"""A tank that is not disinfected is told of, over restarts too, and what never could be is no config."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hearthmesh.node.cli.heat_commands import status_lines
from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.setpoint import Wish
from hearthmesh.node.heating.control_settings import MachineTable, SafetyTable, ScheduleSettings, SensorTable
from hearthmesh.node.heating.keeper import HeatKeeper
from hearthmesh.node.heating.kept import Moment
from hearthmesh.node.heating.mqtt.homeassistant import state_payload
from hearthmesh.node.heating.simulated import SimulatedHeater
from hearthmesh.node.heating.sink_settings import LoopTable, ModelTable, TankTable
from hearthmesh.node.settings.schema import Conflict
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.test_machine import SENSOR, Bench, linux
from tests.node.heating.test_machine_water import OUTSIDE, RACK, TANK, bench_of
from tests.node.heating.test_simulation import played

__all__ = ["linux"]
HOUR_S = 3600.0
# A day in 2026.
NOON_S = 1.78e9
ALARM = "the tank was not disinfected for {} h: it is due every 24 h"


def tank(disinfect_c: str = "60", max_c: float = 85.0) -> ModelTable:
    return ModelTable(kind="tank", tank=TankTable(disinfect_c=disinfect_c, max_c=max_c))


MACHINE = HeaterSettings(kind="machine", sink="tank", setpoint_c=50.0, machine=MachineTable(sensor="hwmon:x/temp1"))


def test_a_tank_that_may_not_be_as_hot_as_its_disinfection_is_a_conflict() -> None:
    simulated = replace(MACHINE, kind="simulated")
    with pytest.raises(Conflict, match=r"model: tank.max_c = 59.9 is less than the 60 °C of the tank's disinfection"):
        replace(simulated, model=tank(max_c=59.9))
    replace(simulated, model=tank(max_c=60.0))
    replace(simulated, model=tank("off", max_c=55.0))
    # A real tank is kept from nothing by it.
    replace(MACHINE, model=tank(max_c=55.0))


@pytest.mark.parametrize("max_c", [60.0, 61.0])
def test_a_tank_that_is_full_at_its_level_is_disinfected(max_c: float) -> None:
    settings = HeaterSettings(kind="simulated", sink="tank", cores=16, watts_per_core=125.0, setpoint_c=55.0)
    settings = replace(settings, model=tank(max_c=max_c), room=RoomSettings(start_c=55.0))
    status = HeatCommands(played(SimulatedHeater(settings, 0), 24)).status()
    assert (status["disinfected_ago_s"] is not None, status["alarms"]) == (True, [])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"model": tank("60"), "safety": SafetyTable(overheat_c=58.0)}, "62 °C of the tank's disinfection"),
        ({"model": tank("70"), "sensors": SensorTable(highest_c=65.0)}, "72 °C of the tank's disinfection"),
        ({"safety": SafetyTable(overheat_c=50.0)}, "50 °C of the setpoint"),
        ({"sensors": SensorTable(highest_c=45.0)}, "50 °C of the setpoint"),
        (
            {"safety": SafetyTable(overheat_c=55.0), "schedule": ScheduleSettings(week=("daily 06:00 58",))},
            "58 °C of the schedule",
        ),
        (
            {"model": ModelTable(kind="boiler-rack"), "setpoint_c": 20.0, "safety": SafetyTable(overheat_c=56.0)},
            "75 °C of a rack's hottest supply",
        ),
        (
            {
                "model": ModelTable(kind="boiler-rack"),
                "setpoint_c": 20.0,
                "safety": SafetyTable(overheat_c=75.0),
                "schedule": ScheduleSettings(week=("daily 06:00 23",)),
            },
            "75 °C of a rack's hottest supply",
        ),
        ({"model": ModelTable(kind="boiler-rack"), "sensors": SensorTable(highest_c=75.0)}, "75 °C of a rack's"),
    ],
)
def test_what_is_wanted_where_all_stops_or_nothing_is_believed_is_a_conflict(
    changed: dict[str, object], problem: str
) -> None:
    with pytest.raises(Conflict, match=f"is not above the {problem}"):
        replace(MACHINE, **changed)  # type: ignore[arg-type]


def test_what_can_be_reached_is_none() -> None:
    replace(MACHINE, model=tank("60"), safety=SafetyTable(overheat_c=63.0), sensors=SensorTable(highest_c=63.0))
    replace(MACHINE, kind="simulated", model=tank("70"), sensors=SensorTable(highest_c=65.0))
    replace(MACHINE, kind="none", safety=SafetyTable(overheat_c=40.0))
    loop = LoopTable(supply_max_c=48.0, return_max_c=40.0)
    rack = ModelTable(kind="boiler-rack", loop=loop)
    replace(MACHINE, model=rack, setpoint_c=20.0, safety=SafetyTable(overheat_c=50.0))


async def hours(bench: Bench, count: float) -> None:
    bench.now_us += round(count * HOUR_S * 1e6)
    await bench.second()


async def test_a_tank_that_was_not_disinfected_in_time_is_an_alarm_until_it_is(linux: FakeLinux) -> None:
    linux.write(SENSOR, "55000")
    bench = bench_of(linux, TANK, 55.0)
    commands = HeatCommands(bench.heater)
    await hours(bench, 35.9)
    status = commands.status()
    assert (status["disinfected_ago_s"], status["disinfection_due"], status["alarms"]) == (None, True, [])
    assert "water    no disinfection is known of, one is due" in status_lines(status)
    await hours(bench, 0.2)
    assert commands.status()["alarms"] == [ALARM.format(36)]
    assert '"problem": "ON"' in state_payload(commands.status(), 0, 0)
    linux.write(SENSOR, "71000")
    await bench.second(130)
    status = commands.status()
    assert (status["disinfected_ago_s"], status["disinfection_due"], status["alarms"]) == (8.0, False, [])
    linux.write(SENSOR, "55000")
    await hours(bench, 5.0)
    status = commands.status()
    assert "water    disinfected 5.0 h ago" in status_lines(status)
    assert '"disinfected_h": 5,' in state_payload(status, 0, 0)


async def test_a_tank_that_is_switched_off_is_no_alarm_until_it_is_on_again(linux: FakeLinux) -> None:
    linux.write(SENSOR, "55000")
    bench = bench_of(linux, TANK, 55.0)
    commands = HeatCommands(bench.heater)
    linux.write(SENSOR, "71000")
    await bench.second(130)
    linux.write(SENSOR, "55000")
    commands.wish("off")
    await hours(bench, 240.0)
    status = commands.status()
    assert (status["alarms"], bench.heater.problems, status["disinfection_due"]) == ([], (), True)
    assert "water    disinfected 240.0 h ago, one is due when it is on again" in status_lines(status)
    commands.wish("auto")
    await bench.second()
    assert commands.status()["alarms"] == [ALARM.format(240)]
    assert "water    disinfected 240.0 h ago, one is due" in status_lines(commands.status())


def test_a_simulated_tank_that_is_switched_off_is_no_alarm() -> None:
    settings = HeaterSettings(kind="simulated", sink="tank", cores=1, watts_per_core=100.0, setpoint_c=50.0)
    settings = replace(settings, model=tank(), room=RoomSettings(start_c=50.0))
    assert not HeatCommands(played(SimulatedHeater(settings, 0), 72, Wish.OFF)).status()["alarms"]


async def test_time_that_a_machine_slept_counts(linux: FakeLinux) -> None:
    linux.write(SENSOR, "55000")
    bench = bench_of(linux, TANK, 55.0)
    await bench.second(2)
    bench.asleep_s = 40 * HOUR_S
    await bench.second()
    assert bench.heater.problems == (ALARM.format(40),)


def test_a_heater_too_weak_to_disinfect_its_tank_says_so() -> None:
    settings = HeaterSettings(kind="simulated", sink="tank", cores=1, watts_per_core=100.0, setpoint_c=50.0)
    settings = replace(settings, model=tank(), room=RoomSettings(start_c=50.0))
    heater = played(SimulatedHeater(settings, 0), 72)
    assert HeatCommands(heater).status()["alarms"] == [ALARM.format(72)]


def test_a_simulated_tank_says_when_it_was_disinfected() -> None:
    settings = HeaterSettings(kind="simulated", sink="tank", cores=16, watts_per_core=125.0, setpoint_c=55.0)
    settings = replace(settings, model=tank(), room=RoomSettings(start_c=59.0))
    status = HeatCommands(played(SimulatedHeater(settings, 0), 12)).status()
    # As hot as that it stays for hours, so it is done again and again.
    assert 0 <= status["disinfected_ago_s"] <= HOUR_S
    assert (status["disinfection_due"], status["alarms"]) == (False, [])


async def test_no_water_is_told_of_where_none_is_disinfected(linux: FakeLinux) -> None:
    bench = bench_of(linux, ModelTable(), 20.0)
    await bench.second()
    status = HeatCommands(bench.heater).status()
    assert (status["disinfected_ago_s"], status["disinfection_due"]) == (None, None)
    assert not [line for line in status_lines(status) if line.startswith("water")]


async def test_status_says_what_a_sink_is_kept_at(linux: FakeLinux) -> None:
    linux.write(SENSOR, "40000")
    linux.write(OUTSIDE, "0")
    bench = bench_of(linux, RACK, 20.0, outside_sensor="hwmon:room/temp3")
    await bench.second(2)
    first = status_lines(HeatCommands(bench.heater).status())[0]
    assert first.startswith("sink     40.00 °C of 47.79 °C, for a setpoint of 20 °C (the plain setpoint), by the first")


class Life:
    """A tank's heater from a start to an end, on a machine whose clocks are the test's."""

    def __init__(self, linux: FakeLinux, folder: Path, at_h: float, *, boot: str = "a", wall_s: float = NOON_S) -> None:
        """at_h: of the world.  wall_s: what the clock on the wall showed at the world's begin."""
        self.bench = bench_of(linux, TANK, 55.0)
        self._at_s, self.boot, self.wall_s = at_h * HOUR_S, boot, wall_s
        self._booted_s = self._at_s if boot != "a" else 0.0
        self.keeper = HeatKeeper(folder / "heat.json", self.bench.heater, self.bench.settings, self.moment)

    def moment(self) -> Moment:
        at_s = self._at_s + self.bench.now_us / 1e6
        return Moment(self.boot, at_s - self._booted_s, self.wall_s + at_s)

    async def hours(self, count: float) -> None:
        await hours(self.bench, count)
        self.keeper.look()

    def ago_h(self) -> float | None:
        ago_s = HeatCommands(self.bench.heater).status()["disinfected_ago_s"]
        return None if ago_s is None else round(ago_s / HOUR_S, 1)


async def disinfected(linux: FakeLinux, folder: Path, *, wall_s: float = NOON_S) -> None:
    """A life that ends at 10 h, eight hours after its tank was disinfected."""
    life = Life(linux, folder, 0.0, wall_s=wall_s)
    linux.write(SENSOR, "71000")
    await life.hours(2.0)
    await life.bench.second(130)
    linux.write(SENSOR, "55000")
    await life.hours(8.0)
    await life.keeper.write()


@pytest.mark.parametrize("boot", ["a", "b"])
async def test_when_a_tank_was_disinfected_outlives_restarts_though_it_is_due_after_each(
    linux: FakeLinux, tmp_path: Path, boot: str
) -> None:
    await disinfected(linux, tmp_path)
    second = Life(linux, tmp_path, 30.0, boot=boot)
    await second.hours(1.0)
    assert second.ago_h() == 29.0 and second.bench.heater.decision.aim_c == 72.0
    assert not second.bench.heater.problems
    await second.keeper.write()
    third = Life(linux, tmp_path, 40.1, boot="c")
    await third.hours(0.0)
    assert third.bench.heater.problems == (ALARM.format(38),)


async def test_how_long_no_tank_was_disinfected_outlives_restarts(linux: FakeLinux, tmp_path: Path) -> None:
    linux.write(SENSOR, "55000")
    first = Life(linux, tmp_path, 0.0)
    await first.hours(20.0)
    await first.keeper.write()
    second = Life(linux, tmp_path, 21.0, boot="b")
    await second.hours(16.0)
    assert (second.ago_h(), second.bench.heater.problems) == (None, (ALARM.format(37),))


async def test_a_clock_that_is_set_later_says_how_old_a_disinfection_is(linux: FakeLinux, tmp_path: Path) -> None:
    await disinfected(linux, tmp_path)
    second = Life(linux, tmp_path, 40.0, boot="b", wall_s=-40 * HOUR_S)
    await second.hours(1.0)
    assert second.ago_h() == 9.0
    second.bench.heater.thermostat.wish(second.bench.heater.thermostat.wished, second.bench.heater.inputs())
    second.wall_s = NOON_S
    await second.hours(1.1)
    assert (second.ago_h(), second.bench.heater.problems) == (40.1, (ALARM.format(40),))


async def test_a_clock_that_began_in_1970_makes_no_disinfection_decades_old(linux: FakeLinux, tmp_path: Path) -> None:
    await disinfected(linux, tmp_path, wall_s=0.0)
    second = Life(linux, tmp_path, 20.0, boot="b")
    await second.hours(1.0)
    assert (second.ago_h(), second.bench.heater.problems) == (None, ())
    await second.hours(36.0)
    assert second.bench.heater.problems == (ALARM.format(37),)
