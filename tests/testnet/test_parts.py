"""Rooms, ports and processes of a test network, each alone."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hearthmesh.node.toml import ConfigError
from hearthmesh.testnet.errors import TestnetError
from hearthmesh.testnet.ports import ReservedPort
from hearthmesh.testnet.process import Process, spawn
from hearthmesh.testnet.registry import NodeEntry, Registry
from hearthmesh.testnet.rooms import NODES_MAX, RoomPlan, load_rooms, plan_rooms

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = spawn(SLEEP, tmp_path / "log")
    yield process
    process.send(signal.SIGKILL)
    try:
        os.waitpid(process.pid, 0)
    except ChildProcessError:
        return


# -- rooms -----------------------------------------------------------------------------------------------


def rooms(tmp_path: Path, text: str) -> dict[str, RoomPlan]:
    path = tmp_path / "rooms.toml"
    path.write_text(text)
    return dict(load_rooms(path))


def test_rooms_are_read_in_their_order(tmp_path: Path) -> None:
    found = rooms(tmp_path, '[rooms.kitchen]\nstart_c = 15\n[rooms.boiler]\nsink = "tank"\nyear_round = true\n')
    assert found == {"kitchen": RoomPlan(start_c=15.0), "boiler": RoomPlan(sink="tank", year_round=True)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "rooms.toml: rooms: is missing"),
        ("[rooms]\n", "rooms.toml:1: rooms: empty"),
        (
            "[rooms.kitchen]\nstrat_c = 15\n",
            'rooms.toml:2: [rooms.kitchen] has no key "strat_c"; did you mean "start_c"?',
        ),
        (
            '[rooms.kitchen]\nstart_c = "warm"\n',
            "rooms.toml:2: rooms.kitchen.start_c: expected a number from -60 to 150",
        ),
        ('[rooms.k]\nsink = "sea"\n', "rooms.toml:2: rooms.k.sink: expected one of"),
        ("[rooms.a]\n[rooms._b]\n", "rooms.toml:2: rooms._b: cannot be a node's name"),
        ("\n[room.a]\n", 'rooms.toml:2: the file has no key "room"; did you mean "rooms"?'),
    ],
)
def test_a_wrong_room_is_named_with_file_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rooms(tmp_path, text)
    assert str(refused.value).removeprefix(f"{tmp_path}/").startswith(complaint)


def test_rooms_are_filled_up_with_default_ones() -> None:
    plans = plan_rooms(3, {"h2": RoomPlan(start_c=1.0)})
    assert list(plans) == ["h2", "h1", "h3"]
    assert plans["h2"].start_c == 1.0 and plans["h1"].year_round


def test_default_rooms_differ_and_are_all_cold() -> None:
    plans = plan_rooms(8, None)
    assert list(plans) == [f"h{number}" for number in range(1, 9)]
    assert len({plan.start_c for plan in plans.values()}) == 8
    assert all(plan.start_c < plan.setpoint_c for plan in plans.values())


@pytest.mark.parametrize("n", [0, -1, NODES_MAX + 1])
def test_a_network_has_a_sensible_number_of_nodes(n: int) -> None:
    with pytest.raises(TestnetError, match="are possible"):
        plan_rooms(n, None)


def test_more_rooms_than_nodes_are_refused() -> None:
    with pytest.raises(TestnetError, match="2 rooms for 1 nodes"):
        plan_rooms(1, {"a": RoomPlan(), "b": RoomPlan()})


# -- ports -----------------------------------------------------------------------------------------------


def test_a_reserved_port_is_listened_on_by_one_and_handed_to_no_other() -> None:
    reserved = ReservedPort()
    others = [ReservedPort() for _ in range(50)]
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", reserved.port))
        listener.listen()
        again = ReservedPort(reserved.port)
        with socket.create_connection(("127.0.0.1", reserved.port)):
            ports = {held.port for held in (*others, again)}
    assert reserved.port not in ports and len(ports) == 51
    for held in (reserved, again, *others):
        held.release()


def test_a_free_port_is_had_again() -> None:
    first = ReservedPort()
    first.release()
    second = ReservedPort(first.port)
    second.release()
    assert second.port == first.port


# -- processes -------------------------------------------------------------------------------------------


async def test_a_process_runs_freezes_and_ends(sleeper: Process) -> None:
    assert sleeper.state == "running"
    sleeper.send(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert sleeper.state == "frozen"
    assert not await sleeper.wait_gone(0.01)
    sleeper.send(signal.SIGKILL)
    assert await sleeper.wait_gone(60.0)
    assert (sleeper.state, sleeper.send(signal.SIGTERM)) == ("gone", False)


@pytest.mark.parametrize("change", [{"started_ticks": 1}, {"boot": "another boot"}])
async def test_another_process_with_the_same_id_is_never_signalled(sleeper: Process, change: dict[str, object]) -> None:
    earlier = replace(sleeper, **change)  # type: ignore[arg-type]
    assert earlier.state == "gone"
    assert not earlier.send(signal.SIGKILL)
    assert await earlier.wait_gone(0.0)
    assert sleeper.state == "running"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of the system call is that of x86-64")
async def test_a_process_is_there_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    """While it dies, its first thread may be a zombie already, and its files and ports still held by others."""
    script = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('alone', flush=True)\n"
        "ctypes.CDLL(None).syscall(60, 0)\n"  # exit, of this thread only
    )
    process = spawn((sys.executable, "-c", script), tmp_path / "log")
    stat = Path(f"/proc/{process.pid}/stat")
    with trio.fail_after(60):
        while " Z " not in stat.read_text():
            await trio.sleep(0.01)
    assert process.state == "running"
    assert not await process.wait_gone(0.01)
    assert process.send(signal.SIGKILL)
    assert await process.wait_gone(60.0)
    assert process.state == "gone"


def test_a_process_that_nobody_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process is not None and process.state == "gone"
    child.wait()
    assert Process.of(child.pid) is None


async def test_output_goes_to_the_log(tmp_path: Path) -> None:
    process = spawn((sys.executable, "-c", "print('out'); import sys; print('err', file=sys.stderr)"), tmp_path / "log")
    assert await process.wait_gone(60.0)
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


# -- the registry ----------------------------------------------------------------------------------------


def test_what_was_registered_is_read_back(tmp_path: Path, sleeper: Process) -> None:
    registry = Registry(tmp_path)
    entry = NodeEntry("12D3", 4001).with_process(sleeper)
    registry.write({"h1": entry, "h2": NodeEntry("12D4")})
    assert Registry(tmp_path).nodes() == {"h1": entry, "h2": NodeEntry("12D4")}
    assert Registry(tmp_path).nodes()["h1"].process == sleeper
    registry.update("h1", entry.with_process(None))
    assert registry.nodes()["h1"].process is None


def test_a_registry_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(TestnetError, match="there is no test network; hearth testnet up makes one"):
        Registry(tmp_path).nodes()
    for damaged in (b'{"version": 2, "nodes": {}}', b'{"version": 1, "nodes": {"\xff": {}}}'):
        Registry(tmp_path).path.write_bytes(damaged)
        with pytest.raises(TestnetError, match="damaged"):
            Registry(tmp_path).nodes()


def test_one_command_at_a_time_changes_a_network(tmp_path: Path) -> None:
    with Registry(tmp_path).changing():
        with pytest.raises(TestnetError, match="another command is starting or stopping nodes"):
            with Registry(tmp_path).changing():
                pass
