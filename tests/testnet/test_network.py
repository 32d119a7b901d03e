"""Test networks as a library: real processes in folders of their own."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hearthmesh.node.secrecy.folder import memory_folder
from hearthmesh.testnet.errors import TestnetError
from hearthmesh.testnet.fixture import MakeTestnet
from hearthmesh.testnet.fixture import testnet as _testnet
from hearthmesh.testnet.network import Testnet, _reachable, running
from hearthmesh.testnet.process import Process
from hearthmesh.testnet.rooms import RoomPlan

from .leftovers import processes_of, sockets_of

testnet = _testnet


# Bounds a hang only.
WITHIN_S = 120.0


async def until(net: Testnet, name: str, links: int) -> None:
    """Wait until a node reports so many links."""
    with trio.fail_after(WITHIN_S):
        while True:
            status = await net.nodes[name].status_or_none()
            if status is not None and len(status["links"]) == links:
                return
            await trio.sleep(0.05)


async def test_a_network_lives_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "a street"
    async with running(folder, rooms={"kitchen": RoomPlan(start_c=12.5), "bath": RoomPlan()}) as net:
        with trio.fail_after(WITHIN_S):
            while None in (statuses := await net.statuses()).values():
                pass  # one was too busy to answer at once
        warmth = {name: status["temperature_c"] for name, status in statuses.items() if status}
        assert list(warmth) == ["kitchen", "bath"]
        assert 11.0 < warmth["kitchen"] < 13.0
        kitchen, bath = net.nodes["kitchen"], net.nodes["bath"]
        assert (kitchen.state, bath.state) == ("running", "running")
        assert len(processes_of(folder)) >= 2

        port = kitchen.entry.port
        kitchen.kill()
        assert (kitchen.state, kitchen.pid) == ("dead", None)
        await kitchen.wait_gone()
        with pytest.raises(TestnetError, match="kitchen: it does not run"):
            kitchen.freeze()
        await until(net, "bath", 0)
        await kitchen.restart()
        assert (kitchen.state, kitchen.entry.port) == ("running", port)

        bath.freeze()
        assert bath.state == "frozen" and await bath.status_or_none() is None
        bath.thaw()
        assert (await bath.status(timeout_s=WITHIN_S))["name"] == "bath"

        assert await net.partition(["kitchen"]) == [["kitchen"], ["bath"]]
        await until(net, "kitchen", 0)
        await net.heal()
        await until(net, "kitchen", 1)
        events, after = await kitchen.events()
        assert after >= len(events) > 0
        bath.freeze()
    assert {node.state for node in net.nodes.values()} == {"stopped"}
    assert processes_of(folder) == [] and sockets_of(net) == []


async def test_a_network_that_was_down_comes_back_with_its_keys(testnet: MakeTestnet, tmp_path: Path) -> None:
    async with testnet(n=1, folder=tmp_path) as net:
        first = net.nodes["h1"].peer_id
    async with testnet(folder=tmp_path) as net:
        assert [(name, node.peer_id) for name, node in net.nodes.items()] == [("h1", first)]
        with pytest.raises(TestnetError, match="h1 still run"):
            net.wipe()
    net.wipe()
    assert not tmp_path.exists()


async def test_what_a_killed_node_had_in_memory_is_wiped_with_the_network(testnet: MakeTestnet, tmp_path: Path) -> None:
    """A node that leaves in order removes it; one that is killed leaves it to its next start, which never comes."""
    async with testnet(n=2, folder=tmp_path) as net:
        digest = hashlib.sha256(os.fsencode(tmp_path.resolve() / "nodes" / "h1" / "state")).hexdigest()
        secrets = memory_folder() / f"hearthmesh-{digest[:24]}"
        (secrets / "program").write_text("confidential")
        net.nodes["h1"].kill()
    assert secrets.exists()
    net.wipe()
    assert not secrets.exists()


async def test_two_networks_start_at_once_and_never_meet(testnet: MakeTestnet) -> None:
    peers: dict[str, list[str]] = {}

    async def one(name: str, others_up: trio.Event, up: trio.Event) -> None:
        async with testnet(n=2) as net:
            up.set()
            await others_up.wait()
            statuses = await net.statuses()
            own = {node.peer_id for node in net.nodes.values()}
            linked = {link["peer"] for status in statuses.values() if status for link in status["links"]}
            assert linked <= own
            peers[name] = [node.entry.port for node in net.nodes.values()]

    a, b = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a", b, a)
        nursery.start_soon(one, "b", a, b)
    assert len({*peers["a"], *peers["b"]}) == 4


async def test_a_node_that_cannot_start_takes_the_others_down(tmp_path: Path) -> None:
    net = Testnet.create(tmp_path, 2)
    (net.nodes["h2"].folder / "state" / "certificate").write_bytes(b"junk")
    with pytest.raises(TestnetError, match="h2 ended while it started: .*certificate: malformed"):
        await net.start(with_parent=True)
    assert processes_of(tmp_path) == [] and sockets_of(net) == []
    assert {node.state for node in net.nodes.values()} == {"stopped"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_node_that_is_told_to_stop_leaves_in_order(
    testnet: MakeTestnet, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    async with testnet(n=1, folder=tmp_path) as net:
        node = net.nodes["h1"]
        assert await node.stop() == "left"
        command = [sys.executable, "-P", "-m", "hearthmesh.node", "node", "--json", "--config", node.config_path]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            while '"node.started"' not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            _, log = process.communicate(timeout=60)
        assert (process.returncode, '"node.left"' in log) == (code, True)
        assert sockets_of(net) == []


async def test_nodes_die_with_a_program_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, trio\n"
        "from pathlib import Path\n"
        "from hearthmesh.testnet.network import running\n"
        "async def main():\n"
        "    async with running(Path(sys.argv[1]), 1) as net:\n"
        "        print('up', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdout.readline() == b"up\n"
        process = Testnet(tmp_path).nodes["h1"].process
        assert process is not None and process.state == "running"
        program.send_signal(signal.SIGKILL)
        assert await process.wait_gone(60.0)
    net = Testnet(tmp_path)
    assert net.nodes["h1"].state == "dead"
    assert await net.down() == {"h1": "was gone"}
    assert sockets_of(net) == []


async def test_a_folder_holds_one_network(tmp_path: Path) -> None:
    Testnet.create(tmp_path, 1)
    with pytest.raises(TestnetError, match="holds a test network already"):
        Testnet.create(tmp_path, 1)


async def test_an_attempt_that_broke_off_is_made_again(tmp_path: Path) -> None:
    Testnet.create(tmp_path, 1)
    (tmp_path / "testnet.json").unlink()
    again = Testnet.create(tmp_path, 2)
    assert list(again.nodes) == ["h1", "h2"]
    again.wipe()
    assert sockets_of(again) == []


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([["h1"]], [["h1"], ["h2", "h3"]]),
        ([["h1", "h2"], ["h3"]], [["h1", "h2"], ["h3"]]),
        ([["h1"], ["h2"]], [["h1"], ["h2"], ["h3"]]),
        ([["h3"], []], [["h3"], ["h1", "h2"]]),
    ],
)
async def test_nodes_not_named_form_a_group_of_their_own(
    tmp_path: Path, groups: list[list[str]], expected: list[list[str]]
) -> None:
    assert await Testnet.create(tmp_path, 3).partition(*groups) == expected


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ([["h1", "h9"]], 'there is no node "h9"; there are: h1, h2'),
        ([["h1"], ["h1"]], "a node can be in one group only"),
        ([["h1", "h2"]], "nobody is left to be parted from"),
        ([], "nobody is left to be parted from"),
    ],
)
async def test_senseless_partitions_are_refused(tmp_path: Path, groups: list[list[str]], complaint: str) -> None:
    with pytest.raises(TestnetError, match=complaint):
        await Testnet.create(tmp_path, 2).partition(*groups)


def test_who_is_connected_over_others_is_reached() -> None:
    assert list(_reachable({"a": ["b"], "b": [], "c": ["b"], "d": ["e"], "e": []})) == ["a", "b", "c"]
    assert _reachable({}) == {}


async def test_a_process_that_took_over_an_id_is_not_touched(tmp_path: Path) -> None:
    net = Testnet.create(tmp_path, 1)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as foreign:
        taken = Process.of(foreign.pid)
        assert taken is not None
        entry = net.nodes["h1"].entry.with_process(Process(foreign.pid, taken.started_ticks - 1, taken.boot))
        net._registry.update("h1", entry)
        assert net.nodes["h1"].state == "dead"
        with pytest.raises(TestnetError, match="does not run"):
            net.nodes["h1"].kill()
        assert await net.down() == {"h1": "was gone"}
        assert foreign.poll() is None
        foreign.kill()
