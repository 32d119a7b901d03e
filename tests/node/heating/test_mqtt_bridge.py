"""The bridge at a real broker in a process of its own, with a client that stands in for Home Assistant."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion
from structlog.testing import capture_logs
from trio.testing import MockClock

from hearthmesh.node.config import HeaterSettings, RoomSettings
from hearthmesh.node.heating.choose import hardware_of
from hearthmesh.node.heating.commands import HeatCommands
from hearthmesh.node.heating.control.power import PowerTable
from hearthmesh.node.heating.control_settings import MachineTable, MqttTable
from hearthmesh.node.heating.drivers.polled import PolledSensor
from hearthmesh.node.heating.local_time import LocalTime
from hearthmesh.node.heating.machine import MachineHeater
from hearthmesh.node.heating.mqtt.bridge import BrokerAddress, MqttBridge
from hearthmesh.node.heating.mqtt.homeassistant import Topics
from hearthmesh.node.heating.mqtt.start import run_bridge
from hearthmesh.node.heating.observed import What
from hearthmesh.node.heating.simulated import SimulatedHeater
from hearthmesh.node.ports import monotonic_us
from hearthmesh.testnet.ports import ReservedPort
from tests.listening import wait_for
from tests.node.heating.drivers.fake_linux import FakeLinux

LIMIT = "constraint_0_power_limit_uw"
TOPICS = Topics("homeassistant", "hearthmesh", "abc123")
SETTINGS = HeaterSettings(kind="simulated", cores=2, room=RoomSettings(start_c=20.2))


@pytest.fixture
def port() -> Iterator[int]:
    """Nobody else is given it meanwhile."""
    reserved = ReservedPort()
    yield reserved.port
    reserved.release()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def broker(port: int, folder: Path) -> Iterator[None]:
    """Listens when this yields."""
    config = folder / "broker.yaml"
    config.write_text(
        f"listeners: {{default: {{type: tcp, bind: '127.0.0.1:{port}'}}}}\n"
        "plugins: {amqtt.plugins.authentication.AnonymousAuthPlugin: {allow_anonymous: true}}\n"
    )
    command = [sys.executable, "-c", "from amqtt.scripts.broker_script import main; main()", "-c", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, lambda: listens(port))
        yield
    finally:
        process.kill()
        process.wait()


class Home:
    """Hears everything, says what it is told to. last: by topic.  heard: all of it, without what was retained."""

    def __init__(self, port: int) -> None:
        self.last: dict[str, str] = {}
        self.heard: list[str] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_message = self._hear
        self.client.reconnect_delay_set(1, 1)
        self.client.connect_async("127.0.0.1", port)
        self.client.loop_start()

    def _hear(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self.last[message.topic] = message.payload.decode()
        if not message.retain:
            self.heard.append(message.topic)

    def state(self, key: str) -> object:
        return json.loads(self.last.get(TOPICS.state, "{}")).get(key)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(120):
        while not condition():
            await trio.sleep(0.02)


async def test_dial_on_the_wall_reaches_power_and_hardware_within_one_period(port: int, tmp_path: Path) -> None:
    """A heater of real files, whose control loop the test turns: once after the command was heard, and no more."""
    linux = FakeLinux(tmp_path / "machine")
    machine = MachineTable(root=linux.root, sensor="hwmon:room/temp1", rapl_limit=True)
    settings = HeaterSettings(kind="machine", cores=2, watts_per_core=50.0, idle_watts=0.0, machine=machine)
    hardware = hardware_of(settings, lambda: heater.inputs().now_s)
    heater = MachineHeater(settings, hardware, PowerTable.linear(2, 50.0), 0, local=LocalTime)
    (sensor,) = hardware.sensors
    assert isinstance(sensor, PolledSensor)
    await sensor.read()
    commands, heard = HeatCommands(heater), trio.Event()
    commands.on_change = lambda: heard.set()
    heard_of = {"zigbee/window": What.WINDOW, "zigbee/hall": What.PRESENCE}
    address = BrokerAddress("127.0.0.1", port)
    bridge = MqttBridge(address, TOPICS, "Kitchen", heater, commands, low_c=5.0, high_c=25.0, heard=heard_of)
    now_us = 0

    async def says(topic: str, payload: str) -> tuple[int, str]:
        """Tasks and the package's limit, one control period after it was heard."""
        nonlocal heard, now_us
        heard = trio.Event()
        home.client.publish(topic, payload, qos=1)
        with trio.fail_after(60):
            await heard.wait()
        now_us += 500_000
        return heater.advance(now_us, 0).slots, linux.read("sys/class/powercap/intel-rapl:0/" + LIMIT)

    with broker(port, tmp_path):
        home = Home(port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bridge.run)
                await until(lambda: home.last.get(TOPICS.availability) == "online")
                assert await says(TOPICS.command("temperature"), "25") == (2, "50000000")
                assert await says(TOPICS.command("mode"), "off") == (0, "12500000")
                assert await says(TOPICS.command("preset"), "boost") == (2, "50000000")
                assert await says("zigbee/window", '{"contact": false, "battery": 80}') == (0, "12500000")
                # Closed again: tasks come after their dwell time.
                assert await says("zigbee/window", '{"contact": true, "battery": 80}') == (0, "50000000")
                assert commands.status()["window_open"] is False
                await says("zigbee/hall", '{"occupancy": false}')
                assert commands.status()["present"] is False
                nursery.cancel_scope.cancel()
        finally:
            home.close()


class Kitchen:
    """A heater whose loop turns each 50 ms, with its bridge."""

    def __init__(self, port: int) -> None:
        self.heater = SimulatedHeater(SETTINGS, monotonic_us())
        self.commands = HeatCommands(self.heater)
        address = BrokerAddress("127.0.0.1", port)
        self.bridge = MqttBridge(
            address, TOPICS, "Kitchen", self.heater, self.commands, low_c=5.0, high_c=25.0, period_s=0.05
        )
        self.turns = 0

    async def turn_forever(self) -> None:
        while True:
            self.heater.advance(monotonic_us(), 0)
            self.turns += 1
            await trio.sleep(0.05)


async def test_home_finds_sets_and_loses_its_heater(port: int, tmp_path: Path) -> None:
    kitchen = Kitchen(port)
    with broker(port, tmp_path):
        home = Home(port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kitchen.turn_forever)
                nursery.start_soon(kitchen.bridge.run)
                await until(lambda: home.last.get(TOPICS.availability) == "online")
                await until(lambda: home.state("mode") == "auto")
                told = json.loads(home.last[TOPICS.discovery])
                assert told["components"]["climate"]["temperature_command_topic"] == TOPICS.command("temperature")
                home.client.publish(TOPICS.command("temperature"), "22", qos=1)
                await until(lambda: home.state("tasks") == 2 and home.state("setpoint_c") == 22.0)
                assert home.state("action") == "idle", "no work has come"
                home.client.publish(TOPICS.command("mode"), "scorch", qos=1)
                home.client.publish(TOPICS.command("mode"), "x" * 5000, qos=1)
                home.client.publish(TOPICS.command("mode"), "off", qos=1)
                await until(lambda: home.state("mode") == "off" and home.state("tasks") == 0)
                home.heard.clear()
                home.client.publish(TOPICS.birth, "online", qos=1)
                await until(lambda: TOPICS.discovery in home.heard and TOPICS.state in home.heard)
                nursery.cancel_scope.cancel()
            await until(lambda: home.last.get(TOPICS.availability) == "offline")
        finally:
            home.close()


async def test_heater_goes_on_without_a_broker_and_greets_it_when_it_is_back(port: int, tmp_path: Path) -> None:
    kitchen = Kitchen(port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kitchen.turn_forever)
        nursery.start_soon(kitchen.bridge.run)
        await turned(kitchen, 10)
        kitchen.commands.bridge_problem = "of an earlier try"
        for _ in range(2):
            # A new broker remembers nothing; what was told before is told again.
            with broker(port, tmp_path):
                await greeted(port)
            await turned(kitchen, 10)
        assert kitchen.commands.status()["alarms"] == []
        nursery.cancel_scope.cancel()


async def test_client_that_died_is_told_of_and_tried_again(autojump_clock: MockClock) -> None:
    settings = replace(SETTINGS, mqtt=MqttTable(host="homeassistant..local"))
    heater = SimulatedHeater(settings, 0)
    commands = HeatCommands(heater)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:

            async def bridge() -> None:
                await run_bridge(settings, heater, commands, device="abc123", name="Kitchen")

            nursery.start_soon(bridge)
            while [log["event"] for log in logs].count("mqtt.failed") < 3:
                await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
    (alarm,) = commands.status()["alarms"]
    assert alarm.startswith("mqtt: homeassistant..local: ") and alarm.endswith("it is tried again each minute")


async def greeted(port: int) -> None:
    home = Home(port)
    try:
        await until(lambda: TOPICS.discovery in home.last and home.last.get(TOPICS.availability) == "online")
    finally:
        home.close()


async def turned(kitchen: Kitchen, times: int) -> None:
    wanted = kitchen.turns + times
    await until(lambda: kitchen.turns >= wanted)
