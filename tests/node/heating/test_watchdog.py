"""The watchdog, with real processes: a node that hangs or dies leaves no heat on; one that wakes gets its own back."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from hearthmesh.node.heating import watchdog

# A node's control loop and one of its workers: it prints the worker's number, then beats for as long as it runs.
NODE = """
import sys, time, json
from hearthmesh.node.heating.drivers.interface import SafeWrite
from hearthmesh.node.heating.guard import Guard
from hearthmesh.node.heating.burner import Burner
load = Burner()
load.set(1.0)
guard = Guard(0.5, [SafeWrite(*each) for each in json.loads(sys.argv[1])])
guard.beat(0.0)
print(load.pids[0], guard._process.pid, flush=True)
for line in sys.stdin if sys.argv[2] == "step" else iter(lambda: time.sleep(0.05) or "beat", None):
    if line.strip() == "leave":
        guard.leave()
        load.close()
        break
    guard.beat(time.monotonic())
"""


@pytest.fixture
def actuator(tmp_path: Path) -> Path:
    path = tmp_path / "power_limit_uw"
    path.write_text("90000000")
    return path


@pytest.fixture
def node(actuator: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], int, int]]]:
    started: list[subprocess.Popen[str]] = []

    def start(how: str) -> tuple[subprocess.Popen[str], int, int]:
        command = [sys.executable, "-c", NODE, json.dumps([[str(actuator), "12500000"]]), how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        worker, watchdog = process.stdout.readline().split()
        return process, int(worker), int(watchdog)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def state(pid: int) -> str:
    """R, S, T, Z of /proc; "gone"."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def ignores(pid: int, number: signal.Signals) -> bool:
    mask = Path(f"/proc/{pid}/status").read_text().split("SigIgn:")[1].split()[0]
    return bool(int(mask, 16) >> (number - 1) & 1)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():
            await trio.sleep(0.02)


async def test_node_that_hangs_is_stopped_and_one_that_wakes_goes_on(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    process, worker, _ = node("loop")
    os.kill(process.pid, signal.SIGSTOP)
    await until(lambda: state(worker) == "T")
    assert actuator.read_text() == "12500000"
    os.kill(process.pid, signal.SIGCONT)
    await until(lambda: state(worker) in "RS")
    await until(lambda: actuator.read_text() == "90000000")


async def test_node_that_dies_leaves_the_least_power_behind(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    process, worker, watchdog = node("loop")
    process.kill()
    process.wait()
    await until(lambda: actuator.read_text() == "12500000")
    await until(lambda: state(worker) in ("Z", "gone"))
    await until(lambda: state(watchdog) in ("Z", "gone"))


async def test_node_that_leaves_in_order_leaves_all_as_it_is(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    process, _, watchdog = node("step")
    process.communicate("leave\n")
    assert process.returncode == 0
    await until(lambda: state(watchdog) in ("Z", "gone"))
    assert actuator.read_text() == "90000000"


async def test_node_that_takes_long_to_leave_leaves_all_as_it_is(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    """It does not beat any more, so the watchdog acts; then it says that it leaves."""
    process, _, watchdog = node("step")
    await until(lambda: actuator.read_text() == "12500000")
    process.communicate("leave\n")
    await until(lambda: state(watchdog) in ("Z", "gone"))
    assert actuator.read_text() == "90000000"


async def test_node_that_wrote_meanwhile_has_the_last_word(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    """It put its files back while the watchdog had turned the heat off already."""
    process, _, watchdog = node("step")
    await until(lambda: actuator.read_text() == "12500000")
    actuator.write_text("125000000")
    process.communicate("leave\n")
    await until(lambda: state(watchdog) in ("Z", "gone"))
    assert actuator.read_text() == "125000000"


async def test_signals_to_the_whole_terminal_do_not_end_the_watchdog(
    node: Callable[[str], tuple[subprocess.Popen[str], int, int]], actuator: Path
) -> None:
    process, worker, watchdog = node("loop")
    await until(lambda: ignores(watchdog, signal.SIGTERM) and ignores(watchdog, signal.SIGINT))
    os.kill(watchdog, signal.SIGTERM)
    os.kill(watchdog, signal.SIGINT)
    os.kill(process.pid, signal.SIGSTOP)
    await until(lambda: state(worker) == "T")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("4845 0000 0006 01 05 0000 0000", True),
        ("4845 0000 0003 01 85 02", False),  # the device refuses
        ("4846 0000 0006 01 05 0000 0000", False),  # an answer to something else
        ("4845", False),
        ("", False),
    ],
)
def test_device_counts_as_told_only_if_it_says_so(answer: str, told: bool) -> None:
    request = "48450000000601050000" + "0000"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def device() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(260))
                connection.sendall(bytes.fromhex(answer))

        heard: list[bytes] = []
        thread = threading.Thread(target=device)
        thread.start()
        assert watchdog._ask(f"127.0.0.1:{server.getsockname()[1]}", request) is told
        thread.join()
    assert heard == [bytes.fromhex(request)]


def test_device_that_is_not_there_is_not_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not watchdog._ask(f"127.0.0.1:{free.getsockname()[1]}", "00")
    assert not watchdog._ask("no port", "00")
