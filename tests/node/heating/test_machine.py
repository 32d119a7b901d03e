"""A heater of real files: what it reads becomes tasks, power and joules; without its sensor it goes off."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.choose import hardware_of
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.power import PowerStep, PowerTable
from hearthmesh.node.heating.control.sensor import Sample
from hearthmesh.node.heating.control_settings import (
    MachineTable,
    ModbusTable,
    SafetyTable,
    ScheduleSettings,
    SensorTable,
)
from hearthmesh.node.heating.drivers.modbus import ModbusDevice
from hearthmesh.node.heating.drivers.modbus_output import ModbusOutput
from hearthmesh.node.heating.drivers.polled import PolledSensor
from hearthmesh.node.heating.drivers.polled_meter import PolledMeter
from hearthmesh.node.heating.drivers.register_map import Output
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater, meter_least_w, meter_most_w
from tests.node.heating.drivers.fake_linux import FakeLinux
from tests.node.heating.drivers.modbus_server import Server

SECOND_US = 1_000_000
SENSOR = "sys/class/hwmon/hwmon10/temp1_input"
LIMIT = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    made = FakeLinux(tmp_path)
    made.write(SENSOR, "19600")
    return made


class Bench:
    """A heater under a clock of the test's own, each of whose seconds begins with the sensors read anew."""

    def __init__(self, linux: FakeLinux, settings: HeaterSettings, table: PowerTable | None = None) -> None:
        self.now_us = 0
        self.cpu_us = 0
        self.settings = settings
        self.hardware = hardware_of(settings, lambda: self.now_us / 1e6)
        table = table or PowerTable.linear(4, 50.0)
        self.set_s = self.asleep_s = 0.0
        self.heater = MachineHeater(settings, self.hardware, table, 0, local=self._local)
        self.linux = linux

    def _local(self) -> LocalTime:
        return LocalTime(self.now_us / 1e6 + self.asleep_s + self.set_s, asleep_s=self.asleep_s)

    async def read(self) -> None:
        for sensor in self.hardware.to_read:
            if isinstance(sensor, PolledSensor):
                await sensor.read()

    async def second(self, count: int = 1, busy: int = 0, energy_uj: int = 0) -> None:
        for _ in range(count):
            self.now_us += SECOND_US
            self.cpu_us += busy * SECOND_US
            if energy_uj:
                self.linux.draw(energy_uj)
            await self.read()
            self.heater.advance(self.now_us, self.cpu_us)


def settings(linux: FakeLinux) -> HeaterSettings:
    return HeaterSettings(
        kind="machine",
        cores=4,
        watts_per_core=50.0,
        idle_watts=20.0,
        setpoint_c=20.0,
        sensors=SensorTable(lost_s=10.0, open_loop_s=30.0, recover_s=0.0),
        machine=MachineTable(
            root=linux.root,
            sensor="hwmon:room/temp1",
            surface_sensor="hwmon:room/temp2",
            poll_s=0.05,
            meter="rapl",
            rapl_limit=True,
        ),
    )


@pytest.fixture
def bench(linux: FakeLinux) -> Bench:
    return Bench(linux, settings(linux))


async def test_cold_sensor_becomes_tasks_and_power(bench: Bench, linux: FakeLinux) -> None:
    await bench.second()
    reading = bench.heater.reading()
    assert (reading.slots, reading.temperature_c) == (2, 19.6)
    # 80 W and 20 W idle, over two packages; the integral has begun to ask for more.
    assert int(linux.read(LIMIT)) == pytest.approx(50e6, rel=1e-3)
    linux.write(SENSOR, "20600")
    await bench.second()
    assert (bench.heater.reading().slots, linux.read(LIMIT)) == (0, "12500000")
    with trio.move_on_after(0):
        await bench.heater.run()
    assert linux.read(LIMIT) == "125000000"


async def test_meters_joules_are_counted_and_told_from_idle(bench: Bench) -> None:
    await bench.second()
    assert not bench.heater.measured
    await bench.second(10, busy=2, energy_uj=120_000_000)
    meter = bench.heater.meter
    assert bench.heater.measured
    assert meter.idle_uj == 11 * 20_000_000
    assert meter.work_uj == 10 * 100_000_000
    # Of the first second it is not known what it was good for: no sensor had been read.
    assert meter.useful_uj == meter.total_uj - 20_000_000
    assert bench.heater.attribute(5 * SECOND_US, 1 * SECOND_US) == (250_000, 250_000)


async def test_silent_meter_falls_back_to_the_estimate(bench: Bench, linux: FakeLinux) -> None:
    await bench.second(2)
    linux.path("sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    await bench.second(1, busy=2)
    assert not bench.heater.measured
    assert bench.heater.meter.work_uj == 100_000_000


async def test_counter_that_begins_anew_is_no_energy(bench: Bench, linux: FakeLinux) -> None:
    await bench.second(1)
    await bench.second(10, busy=2, energy_uj=120_000_000)
    before, factor = bench.heater.meter, bench.heater.thermostat.loop.factor
    linux.write("sys/class/powercap/intel-rapl:0/energy_uj", "0")
    await bench.second(1, busy=2)
    # By the table meanwhile: 2 cores of 50 W, and 20 W of the idle machine.
    assert not bench.heater.measured
    assert bench.heater.meter.total_uj - before.total_uj == 120_000_000
    assert bench.heater.attribute(2 * SECOND_US, bench.now_us - SECOND_US) == (100_000, 100_000)
    await bench.second(1, busy=2, energy_uj=120_000_000)
    assert bench.heater.measured
    assert bench.heater.meter.total_uj - before.total_uj == 240_000_000
    assert bench.heater.thermostat.loop.factor == pytest.approx(factor, rel=0.01)
    assert bench.heater.problems == ()


@pytest.mark.parametrize("watts", [1e30, 1.7e38, math.inf, math.nan, 900.0])
@pytest.mark.parametrize("period_s", [0.05, 1.0, 60.0])
async def test_meter_that_tells_what_cannot_be_is_an_alarm_and_enters_no_books(
    bench: Bench, watts: float, period_s: float
) -> None:
    said = [120.0]

    class Watts:
        def latest(self) -> Sample:
            return Sample(said[0], bench.now_us / 1e6)

    most_w = meter_most_w(200.0, 20.0)
    assert most_w == 880.0
    meter = PolledMeter(Watts(), lambda: bench.now_us / 1e6, 1.0, most_w)  # type: ignore[arg-type]
    bench.heater._hardware = replace(bench.hardware, meter=meter)
    for said[0] in (120.0, 120.0, watts, watts, 120.0, 120.0, 120.0):
        bench.now_us += round(period_s * SECOND_US)
        bench.cpu_us += round(2 * period_s * SECOND_US)
        bench.heater.advance(bench.now_us, bench.cpu_us)
        assert bench.heater._power_w == pytest.approx(120.0)
        assert bench.heater.thermostat.loop.factor == 1.0
    assert bench.heater.measured
    assert bench.heater.meter.total_uj == pytest.approx(120e6 * bench.now_us / SECOND_US)
    said[0] = watts
    await bench.second(12, busy=2)
    assert not bench.heater.measured
    assert [problem.partition(",")[0] for problem in bench.heater.problems] == ["the meter tells more than 880 W"]
    said[0] = 120.0
    await bench.second(2, busy=2)
    assert (bench.heater.measured, bench.heater.problems) == (True, ())


async def test_any_meter_is_bounded_though_it_was_read_late(bench: Bench) -> None:
    class Counter:
        total_uj = 0

        def energy_uj(self) -> int:
            return self.total_uj

    meter = Counter()
    bench.heater._hardware = replace(bench.hardware, meter=meter)
    await bench.second(1, busy=2)
    # What a second of 120 W brought, in a step of 50 ms.
    bench.now_us += 50_000
    meter.total_uj += 126_000_000
    bench.heater.advance(bench.now_us, bench.cpu_us)
    assert bench.heater.measured
    meter.total_uj += 10**36
    await bench.second(1, busy=2)
    assert not bench.heater.measured
    assert bench.heater._power_w == pytest.approx(120.0)


CALIBRATED = PowerTable([PowerStep(cores, 50.0 * cores, True) for cores in (1, 2, 3, 4)])


class Told:
    """A meter behind Modbus that tells what the test says, for one or more heaters of the bench."""

    def __init__(self, bench: Bench, watts: float) -> None:
        self.watts = watts
        self._bench = bench
        clock = lambda: bench.now_us / 1e6  # noqa: E731
        meter = PolledMeter(self, clock, 1.0, meter_most_w(200.0, 20.0), least_w=meter_least_w(200.0))  # type: ignore[arg-type]
        bench.heater._hardware = replace(bench.hardware, meter=meter)

    def latest(self) -> Sample:
        return Sample(self.watts, self._bench.now_us / 1e6)


@pytest.mark.parametrize("table", [CALIBRATED, None])
async def test_meter_may_be_eight_seconds_late_at_full_power(linux: FakeLinux, table: PowerTable | None) -> None:
    bench = Bench(linux, settings(linux), table)
    told = Told(bench, 0.0)
    await bench.second(2)
    for _ in range(3):
        for watts, busy, seconds in ((0.0, 4, 8), (220.0, 4, 50), (220.0, 0, 8), (0.0, 0, 30)):
            told.watts = watts
            for _ in range(seconds):
                await bench.second(1, busy=busy)
                assert (bench.heater.measured, bench.heater.problems) == (True, ())


def test_small_heaters_meter_may_be_some_watts_off_at_rest() -> None:
    assert (meter_least_w(40.0), meter_least_w(2000.0)) == (-5.0, -40.0)


async def test_meter_that_is_turned_round_enters_no_books(bench: Bench) -> None:
    told = Told(bench, -20.0)
    await bench.second(10)
    told.watts = -215.0
    await bench.second(300, busy=4)
    assert (bench.heater.measured, bench.heater._power_w) == (False, 220.0)
    assert bench.heater.attribute(100 * SECOND_US, bench.now_us - 60 * SECOND_US)[0] == 5_000_000
    assert bench.heater.problems == (
        "the meter tells less than -5 W: it is turned round, or power flows back through it; the power is estimated",
    )
    # A meter's own error at rest is none.
    told.watts = -3.0
    await bench.second(2)
    assert (bench.heater.measured, bench.heater.problems) == (True, ())


@pytest.mark.parametrize(("table", "watts"), [(CALIBRATED, 40.0), (CALIBRATED, 0.0), (None, 0.0)])
async def test_meter_that_tells_nothing_of_busy_cores_is_doubted_until_it_does(
    linux: FakeLinux, table: PowerTable | None, watts: float
) -> None:
    bench = Bench(linux, settings(linux), table)
    told = Told(bench, watts)
    await bench.second(60)
    assert (bench.heater.measured, bench.heater.problems) == (True, ())
    await bench.second(60, busy=4)
    assert (bench.heater.measured, bench.heater._power_w) == (False, 220.0)
    # What the first seconds cost is lost.
    assert bench.heater.meter.work_uj >= 48 * 200_000_000
    (problem,) = bench.heater.problems
    assert problem.startswith("the meter tells next to nothing of what busy cores draw by ")
    # At rest it shows nothing that would prove it.
    await bench.second(60)
    assert (bench.heater.measured, len(bench.heater.problems)) == (False, 1)
    told.watts = 220.0
    await bench.second(30, busy=4)
    assert (bench.heater.measured, bench.heater.problems) == (True, ())


@pytest.mark.parametrize(("table", "share"), [(CALIBRATED, 0.3), (None, 0.05)])
async def test_meter_that_sees_a_part_or_is_late_is_believed(
    linux: FakeLinux, table: PowerTable | None, share: float
) -> None:
    bench = Bench(linux, settings(linux), table)
    told = Told(bench, 0.0)
    await bench.second(2)
    for busy in (4, 0, 1, 0, 3, 4, 0, 2) * 3:
        # Two seconds late.
        await bench.second(2, busy=busy)
        told.watts = share * 50.0 * busy
        await bench.second(13, busy=busy)
        assert (bench.heater.measured, bench.heater.problems) == (True, ())


async def test_lost_sensor_ends_in_no_power_at_all(bench: Bench, linux: FakeLinux) -> None:
    await bench.second()
    linux.path(SENSOR).unlink()
    await bench.second(12)
    assert HeatCommands(bench.heater).status()["goes_by"] == "open loop"
    assert bench.heater.decision.granted_w <= 40.0
    await bench.second(40)
    status = HeatCommands(bench.heater).status()
    assert (status["goes_by"], status["slots"], status["alarms"]) == ("off", 0, ["sensor 1 is lost"])
    assert linux.read(LIMIT) == "12500000"


@pytest.mark.parametrize(("sensor", "says"), [("temp2_input", "76000"), ("temp1_input", None)])
async def test_boiler_with_its_own_thermostat_gets_its_lowest_setpoint_where_nothing_may_heat(
    bench: Bench, linux: FakeLinux, sensor: str, says: str | None
) -> None:
    output = Output(register=0, follows="setpoint", low=5.0, high=60.0, safe=5.0)
    boiler = ModbusOutput(ModbusDevice("127.0.0.1", 9, 1), "setpoint_c", output, lambda: bench.now_us / 1e6)
    told: list[float] = []
    monitored = replace(bench.hardware, actuators=(boiler,))
    boiler.apply = lambda allowed: told.append(boiler.value(allowed, 0.0))  # type: ignore[method-assign]
    bench.heater._hardware = monitored
    await bench.second()
    assert told[-1] == 20.0
    path = f"sys/class/hwmon/hwmon10/{sensor}"
    if says is None:
        linux.path(path).unlink()
    else:
        linux.write(path, says)
    await bench.second(60)
    assert bench.heater.decision.granted_w == 0.0
    assert told[-1] == 5.0


async def test_hot_surface_stops_everything(bench: Bench, linux: FakeLinux) -> None:
    await bench.second()
    assert bench.heater.reading().slots == 2
    linux.write("sys/class/hwmon/hwmon10/temp2_input", "76000")
    await bench.second()
    assert bench.heater.decision.blocked
    assert bench.heater.reading().slots == 0


SURFACE = "sys/class/hwmon/hwmon10/temp2_input"
SURFACE_UNKNOWN = "nothing tells how hot the surface is"


async def test_surface_that_is_lost_means_little_power_for_a_while_and_then_none(
    bench: Bench, linux: FakeLinux
) -> None:
    linux.write(SENSOR, "18000")
    await bench.second()
    assert bench.heater.decision.granted_w == 200.0
    linux.path(SURFACE).unlink()
    await bench.second(12)
    decision, status = bench.heater.decision, HeatCommands(bench.heater).status()
    assert (decision.granted_w, decision.limit.reason) == (40.0, SURFACE_UNKNOWN)
    assert bench.heater.reading().capacity_w == 40.0
    assert (status["surface_c"], status["alarms"]) == (None, ["the surface's sensor is lost"])
    await bench.second(40)
    assert (bench.heater.decision.granted_w, bench.heater.reading().slots) == (0.0, 0)
    assert bench.heater.reading().reason == f"no power now: {SURFACE_UNKNOWN}"
    assert bench.heater.reading().capacity_w == 0.0
    linux.write(SURFACE, "41000")
    await bench.second()
    assert (bench.heater.decision.granted_w, bench.heater.decision.alarms) == (200.0, ())


@pytest.mark.parametrize("says", ["-127000", "nan"])
async def test_surface_that_cannot_be_or_never_told_anything_lets_little_or_nothing_run(
    linux: FakeLinux, says: str
) -> None:
    linux.write(SENSOR, "18000")
    linux.write(SURFACE, says)
    bench = Bench(linux, settings(linux))
    await bench.second(2)
    assert (bench.heater.decision.granted_w, len(bench.heater.decision.alarms)) == (0.0, 1)


async def test_surface_that_stands_still_while_the_power_does_not_is_frozen(bench: Bench, linux: FakeLinux) -> None:
    await bench.second(2)
    minutes = 0
    while not bench.heater.decision.alarms:
        minutes += 1
        # The room's own sensor is fine.
        linux.write(SENSOR, str(19_600 + minutes))
        bench.now_us += 59 * SECOND_US
        bench.cpu_us += 59 * 4 * SECOND_US
        linux.draw(59 * 220_000_000)
        await bench.second(1, busy=4, energy_uj=220_000_000)
    assert bench.heater.decision.alarms == ("the surface's sensor is frozen",)
    # 200 W more than at first are 10 K within hours, and the first 2 K of them soon.
    assert minutes == 14
    assert bench.heater.decision.granted_w <= 40.0


@pytest.mark.parametrize("sensor", [SENSOR, SURFACE])
async def test_block_holds_though_the_sensor_is_lost_that_caused_it(
    bench: Bench, linux: FakeLinux, sensor: str
) -> None:
    await bench.second()
    linux.write(sensor, "76000")
    await bench.second(20)
    assert bench.heater.decision.blocked
    linux.path(sensor).unlink()
    for _ in range(60):
        await bench.second()
        assert (bench.heater.decision.blocked, bench.heater.decision.granted_w) == (True, 0.0)
    linux.write(sensor, "19600" if sensor == SENSOR else "41000")
    await bench.second(2)
    assert not bench.heater.decision.blocked


async def test_surface_too_hot_to_be_true_stops_everything_all_the_same(bench: Bench, linux: FakeLinux) -> None:
    await bench.second()
    linux.write(SURFACE, "850000")
    await bench.second(2)
    assert (bench.heater.decision.blocked, bench.heater.decision.granted_w) == (True, 0.0)
    assert "the surface's sensor is implausible" in bench.heater.decision.alarms


async def test_contacts_tell_of_windows_and_presence_until_they_fall_silent(linux: FakeLinux, tmp_path: Path) -> None:
    window, hall = tmp_path / "window", tmp_path / "hall"
    window.write_text("0")
    hall.write_text("1")
    chosen = settings(linux)
    machine = replace(chosen.machine, window=f"file:{window}", presence=f"file:{hall}")
    bench = Bench(linux, replace(chosen, machine=machine, schedule=ScheduleSettings(away_after_s=5.0)))
    commands = HeatCommands(bench.heater)
    await bench.second()
    assert (bench.heater.reading().slots, commands.status()["present"]) == (2, True)
    window.write_text("1")
    await bench.second()
    assert (bench.heater.reading().slots, commands.status()["window_open"]) == (0, True)
    window.write_text("0")
    hall.write_text("0")
    await bench.second(7)
    assert (commands.status()["setpoint_c"], commands.status()["reason"]) == (16.0, "nobody is at home")
    hall.unlink()
    await bench.second(12)
    assert (commands.status()["present"], commands.status()["setpoint_c"]) == (None, 20.0)


async def test_warm_summer_leaves_its_floor_and_winter_nothing(linux: FakeLinux) -> None:
    linux.write(SENSOR, "22000")
    linux.write("sys/class/hwmon/hwmon10/temp3_input", "24000")
    chosen = settings(linux)
    chosen = replace(
        chosen,
        machine=replace(chosen.machine, outside_sensor="hwmon:room/temp3"),
        safety=SafetyTable(summer_floor_w=60.0),
        sensors=replace(chosen.sensors, frozen_s=0.0, outside_frozen_s=0.0),
    )
    bench = Bench(linux, chosen)
    for _ in range(49):
        await bench.second()
        bench.now_us += 3600 * SECOND_US
    await bench.second()
    reading = bench.heater.reading()
    assert (HeatCommands(bench.heater).status()["season"], reading.slots, bench.heater.duty) == ("summer", 2, 0.6)
    assert (reading.deficit_w < 0, reading.useful, reading.horizon_wh) == (True, False, 0.0)
    await bench.second(10, busy=1)
    assert bench.heater.meter.work_useful_uj == 0
    # Inside the band too: it asks for work, as for heat that is of no use.
    linux.write(SENSOR, "20200")
    await bench.second(60)
    assert (bench.heater.reading().slots, bench.heater.reading().useful) == (2, False)
    linux.write("sys/class/hwmon/hwmon10/temp3_input", "-5000")
    cold = Bench(linux, chosen)
    await cold.second()
    assert cold.heater.reading().slots == 0


async def test_limit_holds_though_the_clock_is_set(bench: Bench, linux: FakeLinux) -> None:
    linux.write(SENSOR, "18000")
    commands = HeatCommands(bench.heater)
    await bench.second()
    commands.limit(50.0, in_s=0.0, for_s=60.0)
    for bench.set_s in (-3600.0, 1.7e9):
        await bench.second()
        assert commands.status()["limit_w"] == 50.0


async def test_limit_and_boost_end_while_the_machine_sleeps(bench: Bench, linux: FakeLinux) -> None:
    linux.write(SENSOR, "18000")
    commands = HeatCommands(bench.heater)
    await bench.second()
    commands.limit(50.0, in_s=0.0, for_s=3600.0)
    commands.wish("boost")
    await bench.second()
    assert (commands.status()["mode"], commands.status()["limit_w"]) == ("boost", 50.0)
    bench.asleep_s = 7200.0
    await bench.second()
    assert (commands.status()["mode"], commands.status()["limit_reason"]) == ("auto", "slow return after a power limit")


async def test_limit_from_the_grid_its_rebound_and_its_floor_reach_the_hardware(bench: Bench, linux: FakeLinux) -> None:
    linux.write(SENSOR, "18000")
    commands = HeatCommands(bench.heater)
    await bench.second()
    assert (bench.heater.reading().slots, linux.read(LIMIT)) == (4, "110000000")
    commands.limit(50.0, in_s=0.0, for_s=60.0)
    await bench.second()
    # The two packages together draw what the limit says, the idle machine's 20 W included.
    assert (bench.heater.reading().slots, linux.read(LIMIT)) == (1, "25000000")
    # Afterwards at most 70 % for a while; and below the floor of comfort no limit holds.
    await bench.second(61)
    assert linux.read(LIMIT) == "80000000"
    commands.limit(0.0, in_s=0.0, for_s=600.0)
    await bench.second()
    assert bench.heater.reading().slots == 0
    for reading in ("17500", "16900"):
        linux.write(SENSOR, reading)
        await bench.second(30)
    assert (bench.heater.reading().slots, linux.read(LIMIT)) == (4, "110000000")


async def test_actuator_that_fails_does_not_end_the_control(bench: Bench, linux: FakeLinux) -> None:
    linux.path(LIMIT).unlink()
    await bench.second(3)
    assert bench.heater.reading().slots == 2


async def test_each_device_that_fails_is_an_alarm_and_logged_once(linux: FakeLinux) -> None:
    chosen = settings(linux)
    bench = Bench(linux, replace(chosen, machine=replace(chosen.machine, cgroup="hearth.slice")))
    quota, energy = "sys/fs/cgroup/hearth.slice/cpu.max", "sys/class/powercap/intel-rapl:1/energy_uj"
    kept = {name: linux.read(name) for name in (LIMIT, quota)}
    for name in (*kept, energy):
        linux.path(name).unlink()
    with capture_logs() as logs:
        await bench.second(20)
    assert len([log for log in logs if log["event"] == "heater.driver"]) == 3
    assert [problem.partition(": ")[0] for problem in bench.heater.problems] == [
        str(linux.path(name)) for name in (LIMIT, quota, energy)
    ]
    for name, text in kept.items():
        linux.write(name, text)
    await bench.second()
    assert [problem.partition(": ")[0] for problem in bench.heater.problems] == [str(linux.path(energy))]


async def test_what_others_wrote_is_written_again(bench: Bench, linux: FakeLinux) -> None:
    """A system's power profile, or the watchdog of an earlier life that came late."""
    await bench.second()
    granted = int(linux.read(LIMIT))
    linux.write(LIMIT, "12500000")
    await bench.second(59)
    assert linux.read(LIMIT) == "12500000"
    await bench.second(2)
    assert int(linux.read(LIMIT)) == pytest.approx(granted, rel=0.1)


async def test_loop_over_modbus_has_its_sensor_and_its_meter_there(linux: FakeLinux) -> None:
    server = Server()
    try:
        server.write(0, [196])
        server.write(40_000, [0x5375, 0x6E53, 203, 105])
        server.write(40_004 + 16, [150, 0, 0, 0, 0])
        machine = MachineTable(
            sensor="modbus:supply_c",
            meter="sunspec",
            modbus=ModbusTable(host="127.0.0.1", port=server.port, map="plain-loop"),
        )
        bench = Bench(linux, replace(settings(linux), machine=machine))
        await bench.second(2, busy=2)
        before = bench.heater.meter.total_uj
        await bench.second(busy=2)
        assert bench.heater.measured
        assert bench.heater.meter.total_uj - before == 150_000_000
        assert bench.heater.decision.believed.temperature_c == pytest.approx(19.6)
        bench.hardware.close()
    finally:
        server.close()


@pytest.mark.parametrize(("milli", "cores"), [("18000", 4.0), ("21000", 0.4), ("40000", 0.0)])
async def test_quota_leaves_what_runs_the_cores_that_it_may_use_beside_the_node_s_own(
    linux: FakeLinux, milli: str, cores: float
) -> None:
    linux.write("sys/fs/cgroup/tasks/cpu.max", "max 100000")
    chosen = settings(linux)
    bench = Bench(linux, replace(chosen, machine=replace(chosen.machine, cgroup="tasks")))
    linux.write(SENSOR, milli)
    bench.now_us = SECOND_US
    await bench.read()
    bench.heater.advance(bench.now_us, bench.cpu_us, running=4)
    assert linux.read("sys/fs/cgroup/tasks/cpu.max") == f"{round((cores + 0.25) * 100_000)} 100000"
