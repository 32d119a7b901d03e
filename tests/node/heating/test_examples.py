"""The examples' settings are read as they are, and say what their comments promise."""

from pathlib import Path

import pytest

from hearthmesh.node.config import NodeConfig, load_node_config
from hearthmesh.node.heating.assembly import thermostat_settings
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control.thermostat import Inputs, Thermostat
from hearthmesh.node.heating.drivers.register_map import load_register_map

HEATERS = Path(__file__).parents[3] / "examples" / "heaters"


def loaded(name: str, folder: Path) -> NodeConfig:
    (folder / "mesh.toml").touch()
    path = folder / "node.toml"
    path.write_text((HEATERS / name).read_text())
    return load_node_config(path)


@pytest.mark.parametrize("path", sorted(HEATERS.glob("*.toml")), ids=lambda path: path.stem)
def test_example_is_read_and_makes_a_thermostat(path: Path, tmp_path: Path) -> None:
    heater = loaded(path.name, tmp_path).heater
    table = PowerTable.linear(heater.core_count, heater.watts_per_core)
    thermostat = Thermostat(thermostat_settings(heater, table))
    assert thermostat.update(Inputs(now_s=0.0, wall_s=0.0, samples=(None,), power_w=0.0)).granted_w == 0


@pytest.mark.parametrize("path", sorted(HEATERS.glob("*.toml")), ids=lambda path: path.stem)
def test_who_copies_an_example_heats_no_neighbours_room(path: Path, tmp_path: Path) -> None:
    assert not loaded(path.name, tmp_path).node.zone


def test_the_three_are_what_they_say(tmp_path: Path) -> None:
    room, rack, laptop = (loaded(f"{name}.toml", tmp_path) for name in ("room-radiator", "boiler-rack", "laptop"))
    assert room.heater.machine.second_sensor and room.heater.schedule.week
    assert room.heater.burn.enabled and room.heater.mqtt.window_topics
    bundled = load_register_map(rack.heater.machine.modbus.map).outputs
    assert set(rack.heater.machine.modbus.outputs) <= set(bundled)
    # A controller of plain registers is no SunSpec device as well.
    assert rack.heater.machine.meter_device.host != rack.heater.machine.modbus.host
    assert rack.heater.year_round and rack.node.relay_service and rack.heater.sink == "pool"
    assert (laptop.heater.kind, laptop.node.roles, laptop.execution.nice) == ("none", ("worker",), 19)
