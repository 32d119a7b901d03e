"""Telling a Modbus device, at a real server in a process of its own: bounded, read back, safe when nobody controls."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.config import HeaterSettings
from hearthmesh.node.heating.choose import hardware_of
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control_settings import MachineTable, MeterModbusTable, ModbusTable
from hearthmesh.node.heating.drivers.interface import Allowed, DriverError
from hearthmesh.node.heating.drivers.modbus import ModbusDevice
from hearthmesh.node.heating.drivers.modbus_output import ModbusOutput
from hearthmesh.node.heating.drivers.polled import PolledSensor
from hearthmesh.node.heating.drivers.register_map import Output, Quantity, load_register_map
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater
from hearthmesh.node.settings.schema import Conflict
from hearthmesh.node.toml import ConfigError
from tests.node.heating.drivers.modbus_server import Server, words

MAP = load_register_map("plain-boiler")
WARM = Allowed(watts=3200.0, share=0.8, cores=4.0, setpoint_c=21.5)
COLD = Allowed(watts=20.0, share=0.0, cores=0.0, setpoint_c=7.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server(apart=True)
    yield made
    made.close()


@pytest.fixture
def device(server: Server) -> Iterator[ModbusDevice]:
    made = ModbusDevice("127.0.0.1", server.port, 1)
    yield made
    made.close()


def output(device: ModbusDevice, name: str) -> ModbusOutput:
    return ModbusOutput(device, name, MAP.output(name), lambda: 0.0)


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("power_limit_w", ("holding", 10, 2), ([0, 3200], [0, 20], [0, 0])),
        ("setpoint_c", ("holding", 12, 1), ([215], [70], [50])),
        ("relay", ("coil", 0, 1), ([1], [0], [0])),
        ("pump", ("coil", 1, 1), ([1], [1], [1])),
    ],
)
def test_device_says_what_it_was_told_and_what_is_safe_afterwards(
    device: ModbusDevice, name: str, place: tuple[str, int, int], expected: tuple[list[int], list[int], list[int]]
) -> None:
    made = output(device, name)
    for allowed, registers in zip((WARM, COLD), expected, strict=False):
        made.settle(made.value(allowed, 0.0))
        assert device.read(*place) == registers
    made.settle(made.value(WARM, 0.0))
    made.release()
    assert device.read(*place) == expected[-1]


def test_device_that_does_otherwise_is_told_of(device: ModbusDevice) -> None:
    """The boiler of the test has a limit of its own."""
    made = output(device, "power_limit_w")
    assert made.value(replace(WARM, watts=1e9), 0.0) == 20_000.0
    with pytest.raises(DriverError, match="power_limit_w: was told 20000, and says 5000"):
        made.settle(20_000.0)


ROUNDED = Output(register=20, follows="watts", high=3000.0)


def writes(device: ModbusDevice) -> int:
    return device.read("holding", 21, 1)[0]


def test_device_that_rounds_what_it_is_told_is_told_once(device: ModbusDevice) -> None:
    made = ModbusOutput(device, "limit", replace(ROUNDED, resolution=10.0), lambda: 0.0)
    for value, kept in ((1234.0, 1230), (1239.0, 1230), (1240.0, 1240), (9.0, 0), (0.0, 0)):
        for _ in range(3):
            made.settle(value)
        assert device.read("holding", 20, 1) == [kept]
    assert writes(device) == 3, "what it says already is what it could say"
    device.write("holding", 20, [10], single=False)
    before = writes(device)
    made.settle(0.0)
    assert device.read("holding", 20, 1) == [0] and writes(device) == before + 1, "a multiple has to be exact"


def test_device_that_refuses_is_told_less_and_less_often_and_at_once_when_it_says_something_else(
    device: ModbusDevice,
) -> None:
    now_s = [0.0]
    made = ModbusOutput(device, "limit", ROUNDED, lambda: now_s[0])
    told, before = [], writes(device)
    for step in range(400):
        now_s[0] = 5.0 * step
        with pytest.raises(DriverError, match="limit: was told 1234, and says 1230"):
            made.settle(1234.0)
        if writes(device) != before:
            told.append(now_s[0])
            before = writes(device)
    pauses = [after - first for first, after in zip(told, told[1:], strict=False)]
    assert pauses[:6] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0] and set(pauses[6:]) == {300.0}
    device.write("holding", 20, [500], single=False)
    before = writes(device)
    with pytest.raises(DriverError):
        made.settle(1234.0)
    assert device.read("holding", 20, 1) == [1230] and writes(device) == before + 1


def test_value_that_somebody_else_changed_is_put_right(device: ModbusDevice, server: Server) -> None:
    made = output(device, "power_limit_w")
    made.settle(3200.0)
    server.write(10, [0, 1])
    made.settle(3200.0)
    assert device.read("holding", 10, 2) == [0, 3200]


def test_bits_are_read_as_contacts_are_wired(device: ModbusDevice) -> None:
    device.write("coil", 5, [1])
    found = [
        device.value(Quantity(register=register, table=table, invert=invert))
        for table, register in (("coil", 5), ("coil", 6), ("discrete", 5))
        for invert in (False, True)
    ]
    # Inputs are a memory of their own: nothing was written there.
    assert found == [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]


def test_device_that_is_away_is_an_error() -> None:
    with pytest.raises(DriverError, match="does not answer"):
        output(ModbusDevice("127.0.0.1", 1, 1), "relay").settle(1.0)


def test_relay_rests_before_it_comes_on_again_and_a_pump_runs_on(device: ModbusDevice) -> None:
    relay, pump = output(device, "relay"), output(device, "pump")
    story = [(0, WARM), (10, COLD), (11, WARM), (69, WARM), (70, WARM), (71, COLD)]
    assert [relay.value(allowed, at_s) for at_s, allowed in story] == [1, 0, 0, 0, 1, 0]
    # After the start as well: what was before, nobody knows.
    story = [(0, COLD), (179, COLD), (180, COLD), (190, WARM), (200, COLD), (379, COLD), (380, COLD), (381, WARM)]
    assert [pump.value(allowed, at_s) for at_s, allowed in story] == [1, 1, 0, 1, 1, 1, 0, 1]


def test_limit_of_zero_watts_turns_the_relay_off(device: ModbusDevice) -> None:
    assert output(device, "relay").value(replace(WARM, share=0.0), 0.0) == 0.0


@given(
    st.sampled_from(["int16", "uint16", "int32", "uint32", "float32", "float64"]),
    st.sampled_from(["big", "little"]),
    st.sampled_from([0.1, 1.0, 10.0]),
    st.floats(0, 3000),
)
def test_value_that_is_written_is_the_one_that_is_read(kind: str, order: str, scale: float, value: float) -> None:
    made = Output(register=0, follows="watts", high=3000.0, type=kind, word_order=order, scale=scale)
    assert made.quantity.value(made.words(value)) == pytest.approx(value, abs=scale * 0.5001, rel=1e-6)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('follows = "watts"\nhigh = 70_000.0', "uint16 cannot hold 70000"),
        ('follows = "watts"\nhigh = 10.0\nlow = 20.0', "above high"),
        ('follows = "watts"\nhigh = 10.0\nsafe = 20.0', "not from low to high"),
        ('follows = "watts"\nhigh = 10.0\ntype = "float32"\nsingle = true', "not one register"),
        ('follows = "on"\nhigh = 1.0\nresolution = 1.0', "not 0 for what is on or off"),
        ('follows = "wishes"\nhigh = 10.0', "follows"),
    ],
)
def test_map_that_could_do_harm_is_refused(tmp_path: Path, lines: str, problem: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'name = "x"\n[outputs.limit]\nregister = 1\n{lines}\n')
    with pytest.raises(ConfigError, match=problem):
        load_register_map(str(path))
    with pytest.raises(DriverError, match="no output valve; there are: power_limit_w, pump, relay, setpoint_c"):
        MAP.output("valve")


class Lossy:
    """A boiler's relay (coil 0) and pump (coil 1) behind a gateway that loses answers of the pump."""

    unit, address = 1, "lossy"

    def __init__(self) -> None:
        self.coils = [0, 0]
        self.lost = self.pump_reads = 0
        self.told: list[tuple[int, int]] = []

    def read(self, table: str, register: int, count: int) -> list[int]:
        if register == 1:
            self.pump_reads += 1
            if self.lost:
                self.lost -= 1
                raise DriverError("no answer")
        return [self.coils[register]]

    def write(self, table: str, register: int, words: list[int], *, single: bool) -> None:
        self.told.append((register, words[0]))
        self.coils[register] = words[0]


@pytest.mark.parametrize(("lost", "goes_off"), [(1, False), (2, False), (3, True)])
async def test_heat_outlives_answers_of_its_pump_that_are_lost_up_to_three_in_a_row(lost: int, goes_off: bool) -> None:
    lossy, now_s = Lossy(), 1000.0
    device: ModbusDevice = lossy  # type: ignore[assignment]
    pump = ModbusOutput(device, "pump", MAP.output("pump"), lambda: now_s, 0.01)
    relay = ModbusOutput(device, "relay", MAP.output("relay"), lambda: now_s, 0.01, pump=pump)
    async with trio.open_nursery() as nursery:
        for each in (pump, relay):
            each.apply(WARM)
            nursery.start_soon(each.run)
        await until(lambda: lossy.coils == [1, 1])
        for _ in range(3):
            lossy.told.clear()
            lossy.lost = lost
            await until(lambda: not lossy.lost)
            lossy.pump_reads = 0
            await until(lambda: lossy.pump_reads > 3)
            if goes_off:
                await until(lambda: lossy.told == [(0, 0)])
                now_s += 60.0
                await until(lambda: lossy.coils == [1, 1])
            else:
                assert (lossy.told, relay.problem) == ([], "")
        # One that says that it does not run is believed at once.
        lossy.told.clear()
        lossy.coils[1] = 0
        lossy.write = lambda *words, **single: None  # type: ignore[method-assign]
        await until(lambda: pump.problem == "pump: was told 1, and says 0")
        assert relay.value(WARM, now_s) == 0.0
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.02)


async def test_heater_tells_its_boiler_and_says_when_that_does_otherwise(server: Server, device: ModbusDevice) -> None:
    server.write(0, [195])
    modbus = ModbusTable(
        host="127.0.0.1", port=server.port, map="plain-boiler", outputs=("power_limit_w", "setpoint_c", "relay", "pump")
    )
    machine = MachineTable(sensor="modbus:supply_c", window="modbus:window", modbus=modbus)
    settings = HeaterSettings(kind="machine", cores=4, watts_per_core=2000.0, idle_watts=100.0, machine=machine)
    now_us = 0
    hardware = hardware_of(settings, lambda: now_us / 1e6)
    heater = MachineHeater(settings, hardware, PowerTable.linear(4, 2000.0), 0, local=LocalTime)

    async def period(supply: int) -> None:
        nonlocal now_us
        server.write(0, [supply])
        for sensor in hardware.to_read:
            assert isinstance(sensor, PolledSensor)
            await sensor.read()
        now_us += 500_000
        heater.advance(now_us, 0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heater.run)
        await period(195)
        await until(lambda: device.read("coil", 0, 2) == [1, 1])
        # Half a kelvin below, at the proportional law's 8,000 W a kelvin, and the idle power.
        await until(lambda: abs(device.read("holding", 10, 2)[1] - 4100) < 5)
        assert device.read("holding", 12, 1) == [200]
        await period(188)
        await until(lambda: bool(heater.problems))
        assert HeatCommands(heater).status()["alarms"] == ["power_limit_w: was told 8100, and says 5000"]
        nursery.cancel_scope.cancel()
    assert (device.read("coil", 0, 2), device.read("holding", 10, 3)) == ([0, 1], [0, 0, 50])


PUMPED = """
name = "a pump that may stick"
[quantities.supply_c]
register = 0
scale = 0.1
[outputs.limit_w]
register = 30
follows = "watts"
high = 20_000.0
requires = "circulation"
[outputs.relay]
register = 6
table = "coil"
follows = "on"
high = 1.0
requires = "circulation"
[outputs.circulation]
register = 7
table = "coil"
follows = "pump"
high = 1.0
"""


async def test_what_requires_a_pump_is_off_while_that_refuses_or_is_silent(
    server: Server, device: ModbusDevice, tmp_path: Path
) -> None:
    path = tmp_path / "pumped.toml"
    path.write_text(PUMPED)
    modbus = ModbusTable(host="127.0.0.1", port=server.port, map=str(path), outputs=("limit_w", "relay", "circulation"))
    machine = MachineTable(sensor="modbus:supply_c", modbus=modbus)
    now_s = 0.0
    hardware = hardware_of(HeaterSettings(kind="machine", machine=machine), lambda: now_s)
    limit, relay, pump = hardware.actuators

    def told() -> tuple[list[int], list[int]]:
        return device.read("coil", 6, 2), device.read("holding", 30, 1)

    def apply(allowed: Allowed) -> None:
        nonlocal now_s
        now_s += 400.0
        for each in hardware.actuators:
            each.apply(allowed)

    device.write("coil", 8, [1])
    async with trio.open_nursery() as nursery:
        for each in hardware.actuators:
            nursery.start_soon(each.run)
        apply(COLD)
        await until(lambda: told() == ([0, 0], [20]))
        apply(WARM)
        await until(lambda: pump.problem == "circulation: was told 1, and says 0" and told() == ([0, 0], [0]))
        device.write("coil", 8, [0])
        apply(WARM)
        await until(lambda: told() == ([1, 1], [3200]) and not pump.problem)
        # It sticks again, and somebody turns it off.
        device.write("coil", 8, [1])
        device.write("coil", 7, [0])
        apply(WARM)
        await until(lambda: told() == ([0, 0], [0]))
        assert (limit.problem, relay.problem) == ("", "")
        apply(COLD)
        await until(lambda: told() == ([0, 0], [20]))
        nursery.cancel_scope.cancel()
    device.write("coil", 8, [0])
    for each in hardware.actuators:
        each.release()
    assert told() == ([0, 1], [0])
    hardware.close()


@pytest.mark.parametrize(
    ("requires", "problem"),
    [
        ("relay", "limit requires relay, which is no pump among them"),
        ("valve", "limit requires valve, which is no pump among them"),
    ],
)
def test_map_that_requires_what_is_no_pump_is_refused(tmp_path: Path, requires: str, problem: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        f'name = "x"\n[outputs.limit]\nregister = 1\nfollows = "watts"\nhigh = 9.0\nrequires = "{requires}"\n'
        '[outputs.relay]\nregister = 2\nfollows = "on"\nhigh = 1.0\n'
    )
    with pytest.raises(ConfigError, match=problem):
        load_register_map(str(path))


@pytest.mark.parametrize("meter", ["modbus", "sunspec"])
async def test_meter_may_be_another_device_than_the_boiler(server: Server, meter: str) -> None:
    other = Server()
    other.write(52, words("f", 412.5))
    other.write(40_000, [0x5375, 0x6E53, 213, 124])
    other.write(40_004 + 26, words("f", 412.5))
    server.write(2, [0, 99])
    try:
        machine = MachineTable(
            sensor="modbus:supply_c",
            meter=meter,
            modbus=ModbusTable(host="127.0.0.1", port=server.port, map="plain-boiler"),
            meter_modbus=MeterModbusTable(port=other.port, map="eastron-sdm630"),
        )
        hardware = hardware_of(HeaterSettings(kind="machine", machine=machine), lambda: 0.0)
        (watts,) = hardware.background
        assert isinstance(watts, PolledSensor)
        await watts.read()
        sample = watts.latest()
        assert sample is not None and sample.value == 412.5
        hardware.close()
    finally:
        other.close()


def test_meters_device_without_a_meter_there_is_refused() -> None:
    with pytest.raises(Conflict, match="the meter is neither modbus nor sunspec"):
        MachineTable(meter="rapl", meter_modbus=MeterModbusTable(host="192.0.2.31"))
    alone = MachineTable(meter="sunspec", meter_modbus=MeterModbusTable(host="192.0.2.31"))
    assert (alone.meter_device.host, alone.meter_device.unit) == ("192.0.2.31", 1)


# A node that beats once and then is killed.
NODE = """
import json, sys, time
from hearthmesh.node.heating.drivers.interface import SafeWrite
from hearthmesh.node.heating.guard import Guard
guard = Guard(30.0, [SafeWrite(*each) for each in json.loads(sys.argv[1])])
guard.beat(0.0)
print("beats", flush=True)
sys.stdin.read()
"""


async def test_watchdog_tells_the_device_when_the_node_is_killed(device: ModbusDevice) -> None:
    outputs = [output(device, name) for name in ("relay", "power_limit_w", "setpoint_c", "pump")]
    safe = [[each.where, each.text, each.device] for made in outputs for each in made.safe_writes()]
    for made in outputs:
        made.settle(made.value(WARM, 0.0))
    device.write("coil", 1, [0])
    command = [sys.executable, "-c", NODE, json.dumps(safe)]
    node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None and node.stdout.readline() == "beats\n"
    node.kill()
    node.communicate()
    await until(lambda: (device.read("coil", 0, 2), device.read("holding", 10, 3)) == ([0, 1], [0, 0, 50]))
