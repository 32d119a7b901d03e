"""Modbus at a real server in a process of its own: register maps, SunSpec meters, and devices that fall silent."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.sensor import Sample
from hearthmesh.node.heating.drivers.interface import DriverError
from hearthmesh.node.heating.drivers.modbus import ModbusDevice, ModbusValue, SunSpecMeter
from hearthmesh.node.heating.drivers.polled_meter import PolledMeter
from hearthmesh.node.heating.drivers.register_map import BUNDLED, Quantity, load_register_map
from hearthmesh.node.toml import ConfigError
from tests.node.heating.drivers.modbus_server import Server, words


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def device(server: Server) -> Iterator[ModbusDevice]:
    made = ModbusDevice("127.0.0.1", server.port, 1)
    yield made
    made.close()


def test_bundled_maps_are_read_from_a_real_server(server: Server, device: ModbusDevice) -> None:
    meter, loop = load_register_map("eastron-sdm630"), load_register_map("plain-loop")
    server.write(52, words("f", 412.5))
    server.write(72, words("f", 3.25))
    assert device.value(meter.quantity("power_w")) == 412.5
    assert device.value(meter.quantity("energy_wh")) == 3250.0
    server.write(0, [478, 0xFFFB])
    sensor = ModbusValue(device, loop.quantity("supply_c"), "modbus:supply_c")
    assert sensor.read_c() == pytest.approx(47.8)
    assert device.value(loop.quantity("return_c")) == pytest.approx(-0.5)


@pytest.mark.parametrize(("power", "scale", "expected"), [(412, 0, 412.0), (0xFF38, 1, -2000.0), (4125, 0xFFFF, 412.5)])
def test_sunspec_meter_of_integers_is_found_behind_other_models(
    server: Server, device: ModbusDevice, power: int, scale: int, expected: float
) -> None:
    server.write(40_000, [0x5375, 0x6E53, 1, 66])
    server.write(40_070, [203, 105])
    server.write(40_072 + 16, [power, 1, 2, 3, scale])
    assert SunSpecMeter(device).read_c() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("int16", [0x8000]), ("uint16", [0xFFFF]), ("int32", [0x8000, 0]), ("uint32", [0xFFFF, 0xFFFF])],
)
@pytest.mark.parametrize("order", ["big", "little"])
def test_meter_that_does_not_know_its_power_tells_none(
    server: Server, device: ModbusDevice, kind: str, said: list[int], order: str
) -> None:
    quantity = Quantity(register=2, type=kind, word_order=order)
    meter = ModbusValue(device, quantity, "modbus:power_w", meter=True)
    server.write(2, said if order == "big" else said[::-1])
    with pytest.raises(DriverError, match="modbus:power_w: the meter tells no power"):
        meter.read_c()
    server.write(2, [0] * len(said))
    assert meter.read_c() == 0.0


def test_sunspec_meter_of_floats_is_found_too(server: Server, device: ModbusDevice) -> None:
    server.write(40_000, [0x5375, 0x6E53, 213, 124])
    server.write(40_004 + 26, words("f", 1234.5))
    assert SunSpecMeter(device).read_c() == 1234.5


def test_device_without_a_meter_says_so(server: Server, device: ModbusDevice) -> None:
    with pytest.raises(DriverError, match="no SunSpec models"):
        SunSpecMeter(device).read_c()
    server.write(40_000, [0x5375, 0x6E53, 1, 66])
    server.write(40_070, [0xFFFF, 0])
    with pytest.raises(DriverError, match="no meter among its models"):
        SunSpecMeter(device).read_c()
    server.write(40_070, [203, 105])
    server.write(40_072 + 16, [0x8000, 0, 0, 0, 0])
    with pytest.raises(DriverError, match="tells no power"):
        SunSpecMeter(device).read_c()


def test_device_that_is_away_is_an_error_and_comes_back(server: Server) -> None:
    device = ModbusDevice("127.0.0.1", server.port, 1)
    server.write(7, [21])
    assert device.read("holding", 7, 1) == [21]
    server.process.kill()
    server.process.wait()
    with pytest.raises(DriverError, match="127.0.0.1"):
        device.read("holding", 7, 1)
    device.close()


def test_host_that_is_no_name_is_a_device_that_is_away() -> None:
    device = ModbusDevice("192.0.2..30", 502, 1)
    with pytest.raises(DriverError, match=r"192.0.2..30:502 unit 1: "):
        device.read("holding", 7, 1)
    with pytest.raises(DriverError, match=r"192.0.2..30:502 unit 1: "):
        device.write("coil", 7, [1])
    device.close()


def test_registers_that_are_not_there_are_an_error(device: ModbusDevice) -> None:
    with pytest.raises(DriverError, match="input 60000 to 60001 cannot be read"):
        device.read("input", 60_000, 2)


@given(st.sampled_from(["h", "H", "i", "I", "q", "Q"]), st.data(), st.sampled_from(["big", "little"]))
def test_numbers_come_out_as_they_went_in(layout: str, data: st.DataObject, order: str) -> None:
    kind = {"h": "int16", "H": "uint16", "i": "int32", "I": "uint32", "q": "int64", "Q": "uint64"}[layout]
    bits = 8 * struct.calcsize(layout)
    low = -(1 << (bits - 1)) if layout.islower() else 0
    number = data.draw(st.integers(low, low + (1 << bits) - 1))
    quantity = Quantity(register=0, type=kind, word_order=order)
    kept = words(layout, number)
    assert quantity.value(kept if order == "big" else kept[::-1]) == float(number)


@pytest.mark.parametrize("word", [0x7FC0, 0x7F80, 0xFF80])
def test_float_that_is_no_number_is_refused(word: int) -> None:
    with pytest.raises(DriverError, match="no number"):
        Quantity(register=0, type="float32").value([word, 0])


def test_every_bundled_map_can_be_read() -> None:
    for path in BUNDLED.glob("*.toml"):
        assert load_register_map(path.stem).quantities


def test_map_that_is_wrong_or_absent_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="no such register map; bundled are eastron-sdm630"):
        load_register_map("nowhere")
    path = tmp_path / "own.toml"
    path.write_text('name = "x"\n[quantities.power_w]\nregister = 70000\n')
    with pytest.raises(ConfigError, match="from 0 to 65_535"):
        load_register_map(str(path))
    with pytest.raises(DriverError, match="no quantity heat; there are: energy_wh, power_w"):
        load_register_map("eastron-sdm630").quantity("heat")


def test_meter_holds_its_power_between_readings_and_is_silent_when_that_is_old() -> None:
    clock, reading = [0.0], [Sample(100.0, 0.0)]

    class Watts:
        def latest(self) -> Sample:
            return reading[0]

    meter = PolledMeter(Watts(), lambda: clock[0], 1.0)  # type: ignore[arg-type]
    assert meter.energy_uj() == 0
    clock[0] = 2.0
    assert meter.energy_uj() == 200_000_000
    reading[0] = Sample(-50.0, 2.0)
    clock[0] = 3.0
    assert meter.energy_uj() == 200_000_000
    clock[0] = 8.0
    with pytest.raises(DriverError, match="not answered"):
        meter.energy_uj()
