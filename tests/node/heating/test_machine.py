"""A heater of real files: what it reads becomes tasks, power and joules; without its sensor it goes off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.choose import hardware_of
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control_settings import MachineTable, ModbusTable, SensorTable
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater
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

    def __init__(self, linux: FakeLinux, settings: HeaterSettings) -> None:
        self.now_us = 0
        self.cpu_us = 0
        hardware = hardware_of(settings, lambda: self.now_us / 1e6)
        table = PowerTable.linear(4, 50.0)
        self.heater = MachineHeater(settings, hardware, table, 0, local=lambda: LocalTime(self.now_us / 1e6))
        self.linux = linux

    async def second(self, count: int = 1, busy: int = 0, energy_uj: int = 0) -> None:
        for _ in range(count):
            self.now_us += SECOND_US
            self.cpu_us += busy * SECOND_US
            if energy_uj:
                self.linux.draw(energy_uj)
            await trio.testing.wait_all_tasks_blocked(0.02)
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


@asynccontextmanager
async def running(linux: FakeLinux, chosen: HeaterSettings) -> AsyncIterator[Bench]:
    bench = Bench(linux, chosen)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.heater.run)
        with trio.fail_after(60):
            while bench.heater.inputs().samples[0] is None or bench.heater.inputs().surface_c is None:
                await trio.sleep(0.01)
        yield bench
        nursery.cancel_scope.cancel()


async def reread(bench: Bench, temperature_c: float) -> None:
    with trio.fail_after(60):
        while (sample := bench.heater.inputs().samples[0]) is None or sample.value != pytest.approx(temperature_c):
            await trio.sleep(0.01)


async def test_cold_sensor_becomes_tasks_and_power(linux: FakeLinux) -> None:
    async with running(linux, settings(linux)) as bench:
        await bench.second()
        reading = bench.heater.reading()
        assert (reading.slots, reading.temperature_c) == (2, 19.6)
        # 80 W and 20 W idle, over two packages; the integral has begun to ask for more.
        assert int(linux.read(LIMIT)) == pytest.approx(50e6, rel=1e-3)
        linux.write(SENSOR, "20600")
        await reread(bench, 20.6)
        await bench.second()
        assert (bench.heater.reading().slots, linux.read(LIMIT)) == (0, "12500000")
    assert linux.read(LIMIT) == "125000000"


async def test_meters_joules_are_counted_and_told_from_idle(linux: FakeLinux) -> None:
    async with running(linux, settings(linux)) as bench:
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


async def test_silent_meter_falls_back_to_the_estimate(linux: FakeLinux) -> None:
    async with running(linux, settings(linux)) as bench:
        await bench.second(2)
        linux.path("sys/class/powercap/intel-rapl:0/energy_uj").unlink()
        await bench.second(1, busy=2)
        assert not bench.heater.measured
        assert bench.heater.meter.work_uj == 100_000_000


async def test_lost_sensor_ends_in_no_power_at_all(linux: FakeLinux) -> None:
    async with running(linux, settings(linux)) as bench:
        await bench.second()
        linux.path(SENSOR).unlink()
        await bench.second(12)
        assert HeatCommands(bench.heater).status()["goes_by"] == "open loop"
        assert bench.heater.decision.granted_w <= 40.0
        await bench.second(40)
        status = HeatCommands(bench.heater).status()
        assert (status["goes_by"], status["slots"], status["alarms"]) == ("off", 0, ["sensor 1 is lost"])
        assert linux.read(LIMIT) == "12500000"


async def test_hot_surface_stops_everything(linux: FakeLinux) -> None:
    async with running(linux, settings(linux)) as bench:
        await bench.second()
        linux.write("sys/class/hwmon/hwmon10/temp2_input", "76000")
        with trio.fail_after(60):
            while bench.heater.inputs().surface_c != 76.0:
                await trio.sleep(0.01)
        await bench.second()
        assert bench.heater.decision.blocked
        assert bench.heater.reading().slots == 0


async def test_actuator_that_fails_does_not_end_the_control(linux: FakeLinux) -> None:
    async with running(linux, replace(settings(linux))) as bench:
        linux.path(LIMIT).unlink()
        await bench.second(3)
        assert bench.heater.reading().slots == 2


async def test_loop_over_modbus_has_its_sensor_and_its_meter_there(linux: FakeLinux) -> None:
    server = Server()
    try:
        server.write(0, [196])
        server.write(40_000, [0x5375, 0x6E53, 203, 105])
        server.write(40_004 + 16, [150, 0, 0, 0, 0])
        machine = MachineTable(
            sensor="modbus:supply_c",
            poll_s=0.05,
            meter="sunspec",
            modbus=ModbusTable(host="127.0.0.1", port=server.port, map="plain-loop"),
        )
        chosen = replace(settings(linux), machine=machine)
        bench = Bench(linux, chosen)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.heater.run)
            await reread(bench, 19.6)
            with trio.fail_after(60):
                while not bench.heater.measured:
                    await bench.second(busy=2)
                    await trio.sleep(0.02)
            before = bench.heater.meter.total_uj
            await bench.second(busy=2)
            assert bench.heater.meter.total_uj - before == 150_000_000
            assert bench.heater.decision.believed.temperature_c == pytest.approx(19.6)
            nursery.cancel_scope.cancel()
    finally:
        server.close()
