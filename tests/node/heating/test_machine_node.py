"""A whole node on a heater of real files: cold makes it heat, a hand stops it, and hanging turns the heat off.

Alone: neither its peers nor its broker are there, and no work is.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import trio

from hearthmesh.node.cli.app import run
from hearthmesh.node.control import ControlError, ask
from hearthmesh.node.storage.folder import StateFolder
from tests.node.heating.drivers.fake_linux import FakeLinux

LIMIT = "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"


@pytest.fixture
def linux(tmp_path: Path) -> FakeLinux:
    return FakeLinux(tmp_path / "machine")


@pytest.fixture
def start(
    tmp_path: Path, linux: FakeLinux, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    monkeypatch.chdir(tmp_path)
    assert run(["mesh", "init", "street", "--folder", "."]) == 0
    assert run(["mesh", "invite", "--new", "kitchen", "--folder", "."]) == 0
    path = tmp_path / "kitchen" / "node.toml"
    path.write_text(
        f"""
[mesh]
definition = "mesh.toml"
[node]
name = "kitchen"
listen = []
bootstrap = ["/ip4/127.0.0.1/tcp/{dead_port()}/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"]
[heater]
kind = "machine"
cores = 4
watts_per_core = 50.0
[heater.machine]
root = {json.dumps(str(linux.root))}
sensor = "hwmon:room/temp1"
poll_s = 0.1
rapl_limit = true
[heater.burn]
enabled = true
after_s = 1.0
[heater.mqtt]
host = "127.0.0.1"
port = {dead_port()}
[heater.safety]
watchdog_s = 2.0
"""
    )
    command = [sys.executable, "-m", "hearthmesh.node", "node", "--config", str(path)]
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def dead_port() -> int:
    """Where nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_heating(linux: FakeLinux) -> bool:
    """The file is empty for a moment when it is written, as the kernel's are not."""
    return 70e6 < int(linux.read(LIMIT) or "0") < 90e6


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(120):
        while not condition():
            await trio.sleep(0.05)


async def heat_of(node: subprocess.Popen[bytes], door: Path, **request: object) -> dict[str, object]:
    with trio.fail_after(120):
        while True:
            try:
                found: dict[str, object] = (await ask(door, {"do": "heat", "what": "status"} | request))["heat"]
                return found
            except ControlError:
                assert node.poll() is None
                await trio.sleep(0.05)


async def test_killed_node_is_as_it_was_told(start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "kitchen" / "state")
    node = start()
    await heat_of(node, folder.control_socket, what="limit", watts=90.0, for_s=36_000.0)
    await heat_of(node, folder.control_socket, what="set", mode="off")
    await until(lambda: folder.heat.exists() and b'"off"' in folder.heat.read_bytes())
    node.kill()
    node.wait()
    node = start()
    told = await heat_of(node, folder.control_socket)
    assert (told["mode"], told["slots"], told["limit_w"]) == ("off", 0, 90.0)
    node.kill()
    node.wait()
    folder.heat.write_bytes(b"\x00" * 100)
    node = start()
    told = await heat_of(node, folder.control_socket)
    assert told["mode"] == "auto"
    assert any("put aside" in str(each) for each in cast("list[str]", told["alarms"]))
    assert folder.heat.with_name("heat.json.unread").read_bytes() == b"\x00" * 100


async def test_node_heats_obeys_and_is_watched(
    start: Callable[[], subprocess.Popen[bytes]], linux: FakeLinux, tmp_path: Path
) -> None:
    node = start()
    door = StateFolder(tmp_path / "kitchen" / "state").control_socket

    async def heat(**request: object) -> dict[str, object]:
        return await heat_of(node, door, **request)

    async def energy() -> dict[str, float]:
        found = (await heat())["energy_j"]
        assert isinstance(found, dict)
        return found

    with trio.fail_after(120):
        while (await heat())["slots"] == 0:
            await trio.sleep(0.05)
    await until(lambda: is_heating(linux))
    with trio.fail_after(120):
        while (await energy())["burn"] < 10.0:
            await trio.sleep(0.05)
    assert (await energy())["paid"] == 0.0
    # The answer comes from the first control period after the command, which has told the hardware.
    told = await heat(what="set", mode="off")
    assert (told["slots"], told["granted_w"], told["burn_cores"]) == (0, 0.0, 0.0)
    assert linux.read(LIMIT) == "12500000"
    await heat(what="set", mode="comfort")
    await until(lambda: is_heating(linux))
    os.kill(node.pid, signal.SIGSTOP)
    await until(lambda: linux.read(LIMIT) == "12500000")
    os.kill(node.pid, signal.SIGCONT)
    await until(lambda: is_heating(linux))
    node.send_signal(signal.SIGTERM)
    await until(lambda: node.poll() is not None)
    assert node.returncode == 0
    assert linux.read(LIMIT) == "125000000"


async def test_machine_is_as_it_was_once_a_node_has_left_though_others_were_killed_before(
    start: Callable[[], subprocess.Popen[bytes]], linux: FakeLinux, tmp_path: Path
) -> None:
    """Each life asks for the same power, too, where nothing but what was found says how much there is."""
    linux.write(LIMIT.replace("power_limit", "max_power"), "0")
    kept = StateFolder(tmp_path / "kitchen" / "state").found
    for _ in range(2):
        node = start()
        await until(lambda: is_heating(linux))
        node.kill()
        node.wait()
        await until(lambda: linux.read(LIMIT) == "12500000")
        assert kept.exists()
        node = start()
        await until(lambda: is_heating(linux))
        node.send_signal(signal.SIGTERM)
        with trio.fail_after(120):
            assert await trio.to_thread.run_sync(node.wait) == 0
        assert linux.read(LIMIT) == "125000000"
        assert not kept.exists()
