"""`hearth testnet` and the client's commands against one, as a user types them."""

import contextlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
import wasmtime

from hearthmesh.node.cli.app import run
from hearthmesh.node.config import load_client_config, load_node_config
from hearthmesh.testnet.network import Testnet
from tests.end_to_end.jobs import HASH

from .leftovers import processes_of, sockets_of

ROOT = Path(__file__).parents[2]
HEARTH = (sys.executable, "-P", "-m", "hearthmesh.node")
HELLO = ROOT / "examples" / "hello" / "job.toml"
NODES = 3
SLOW = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
TRAP = '(module (memory (export "memory") 1) (func (export "_start") unreachable))'


@dataclass(frozen=True)
class Ran:
    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Street:
    """A detached test network of three nodes in a folder with a space."""

    folder: Path
    work: Path

    def run(self, *arguments: object, code: int = 0) -> Ran:
        """In this process: loading libp2p anew for each command would take most of the time."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HEARTH_CLIENT", str(self.folder / "client" / "client.toml"))
            patch.chdir(self.work)
            with redirect_stdout(out), redirect_stderr(err):
                found = run([str(argument) for argument in arguments])
        structlog.reset_defaults()
        ran = Ran(found, out.getvalue(), err.getvalue())
        assert found == code, ran
        return ran

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def on_terminal(self, columns: int, *arguments: object) -> list[str]:
        """The lines that a terminal of so many columns is given, without what steers it."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, columns))
        environment = {**os.environ, "HEARTH_CLIENT": str(self.folder / "client" / "client.toml"), "TERM": "dumb"}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        command = [*HEARTH, *map(str, arguments)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, cwd=self.work, env=environment) as process:
            os.close(theirs)
            said = b""
            with contextlib.suppress(OSError):  # the terminal's end, once nobody holds the other one
                while part := os.read(ours, 1 << 16):
                    said += part
            os.close(ours)
            assert process.wait(60) == 0, said
        return said.decode().replace("\r\n", "\n").splitlines()

    def net(self, *arguments: object, code: int = 0) -> Any:
        return self.json("testnet", *arguments, "--folder", self.folder, code=code)

    def job(self, name: str, wat: str, text: str) -> Path:
        (self.work / f"{name}.wasm").write_bytes(bytes(wasmtime.wat2wasm(wat)))
        path = self.work / f"{name}.toml"
        path.write_text(f'program = "{name}.wasm"\n{text}')
        return path


def wait_for(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """What is seen once it is as wanted; the limit bounds a hang only."""
    deadline_s = time.monotonic() + 120.0
    while not wanted(seen := look()):
        assert time.monotonic() < deadline_s, seen
    return seen


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    root = tmp_path_factory.mktemp("commands")
    (root / "work").mkdir()
    found = Street(root / "a street", root / "work")
    up = found.net("up", "-n", NODES, "--detach")
    assert list(up["nodes"]) == ["h1", "h2", "h3"]
    assert up["client"] == str(found.folder / "client" / "client.toml")
    try:
        yield found
    finally:
        net = Testnet(found.folder)
        found.net("down")
        assert processes_of(found.folder) == [] and sockets_of(net) == []


def test_ps_shows_each_node(street: Street) -> None:
    rows = street.net("ps")["nodes"]
    assert [(row["name"], row["state"]) for row in rows] == [("h1", "running"), ("h2", "running"), ("h3", "running")]
    for row in rows:
        assert len(row["links"]) >= 2 and row["pid"] and row["temperature_c"] < row["setpoint_c"]
    assert "h3" in street.run("testnet", "ps", "--folder", street.folder).stdout


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_narrow_terminal_shows_names_states_and_numbers_whole(street: Street, columns: int) -> None:
    nodes = street.net("ps")["nodes"]
    shown = street.on_terminal(columns, "testnet", "ps", "--folder", street.folder)
    assert max(map(len, shown)) <= columns
    for node in nodes:
        (line,) = (line for line in shown if line.split()[:1] == [node["name"]])
        assert line.split()[1:3] == ["running", str(node["pid"])] and "…" not in line.split("  ")[:6]
        assert columns == 60 or node["peer_id"][-8:] in line
    peers = wait_for(
        lambda: street.on_terminal(columns, "peers"), lambda seen: sum(line.startswith("h") for line in seen) == NODES
    )
    assert max(map(len, peers)) <= columns
    for node in nodes:
        assert any(line.split()[:2] == [node["name"], "alive"] and node["peer_id"][-8:] in line for line in peers)


def test_a_running_network_is_not_started_twice(street: Street) -> None:
    again = street.run("testnet", "up", "--folder", street.folder, code=2)
    assert again.stderr.count("\n") == 1 and "3 nodes run there already" in again.stderr
    wipe = street.run("testnet", "kill", "h1", "h9", "--folder", street.folder, code=2)
    assert 'there is no node "h9"; there are: h1, h2, h3' in wipe.stderr
    assert [row["state"] for row in street.net("ps")["nodes"]] == ["running"] * 3


def test_a_node_says_how_it_is(street: Street) -> None:
    config = street.folder / "nodes" / "h2" / "node.toml"
    status = street.json("node", "status", "--config", config)
    assert (status["name"], status["draining"], status["storage_failed"]) == ("h2", False, "")
    text = street.run("node", "status", "--state", config.parent / "state").stdout
    assert "h2" in text and "°C" in text and "link" in text


def test_a_state_folder_is_run_once(street: Street) -> None:
    ran = street.run("node", "--config", street.folder / "nodes" / "h2" / "node.toml", code=2)
    assert "in use by process" in ran.stderr and ran.stderr.count("\n") == 1


def test_peers_are_listed_with_their_rooms(street: Street) -> None:
    """Each session hears of the nodes anew, and says what it has heard by then: all of it, given time."""
    peers = wait_for(lambda: street.json("peers")["peers"], lambda peers: len(peers) == NODES)
    assert [peer["name"] for peer in peers] == ["h1", "h2", "h3"]
    assert {"peer_id", "status", "roles", "sink", "temperature_c", "free_slots", "cores"} <= set(peers[0])
    wait_for(lambda: street.run("peers").stdout, lambda shown: "tank" in shown)


def test_a_job_goes_from_submission_to_verified_files(street: Street) -> None:
    submitted = street.json("submit", HELLO)
    assert (submitted["name"], submitted["tasks"], len(submitted["job"])) == ("hello", 10, 64)
    assert street.json("submit", HELLO)["job"] == submitted["job"]
    lines = street.run("watch", "--last", "--json").stdout.splitlines()
    last = json.loads(lines[-1])
    assert (last["job"], last["done"], last["failed"]) == (submitted["job"], 10, 0)
    assert sum(worker["done"] for worker in last["workers"]) == 10
    assert "10 of 10 tasks" in street.run("watch", "--last").stdout
    fetched = street.json("results", submitted["job"][:8], "--folder", "out put")
    assert (fetched["results"], fetched["fetched"], fetched["failed"]) == (10, 10, {})
    out = street.work / "out put"
    for index in range(10):
        assert str(index) in (out / str(index) / "stdout").read_text()
    assert street.json("results", "--last", "--folder", "out put")["fetched"] == 0
    (out / "3" / "stdout").unlink()
    assert street.json("results", "--last", "--folder", "out put", "--no-follow")["fetched"] == 1
    silent = street.run("logs", "--last")
    assert (silent.stdout, silent.stderr) == ("", "none of 10 results failed or wrote to standard error\n")
    why = street.run("why", "--last", 3).stdout
    assert why.startswith(f"{submitted['job'][:12]}…:3: ")
    assert street.json("why", "--last", 3)["about"] == f"{submitted['job']}:3"
    again = street.json("results", "--last", "--folder", "second")
    assert (again["results"], again["fetched"], again["done"]) == (10, 10, 10)
    assert street.json("verify", "second")["incomplete"] is False
    status = street.json("status", "--last")
    assert (status["state"], status["accepted"], status["tasks"]) == ("accepted", 10, 10)
    jobs = {row["job"]: row for row in street.json("jobs")["jobs"]}
    assert jobs[submitted["job"]]["state"] == "accepted"
    assert street.json("cancel", "--last")["cancelled"] is False


def test_failed_tasks_are_told_with_their_standard_error(street: Street) -> None:
    job = street.job("trap", TRAP, 'tasks = 2\n[results]\nfolder = "trapped"\n')
    ran = street.json("submit", job, "--follow", code=1)
    assert ran["failed"] == {"0": -1, "1": -1}
    assert ran["folder"] == str(street.work / "trapped")
    logs = [json.loads(line) for line in street.run("logs", "--last", "--json").stdout.splitlines()]
    assert sorted((line["task"], line["exit"]) for line in logs) == [(0, -1), (1, -1)]
    assert "unreachable" in street.run("logs", "--last", "--task", 1).stdout
    assert "the job's tasks are 0 to 1" in street.run("logs", "--last", "--task", 2, code=2).stderr
    assert street.run("status", "--last", code=1).stdout.startswith("trap ")
    said = street.run("submit", job).stdout
    assert "already known: " in said and ", 2 of 2 done, 2 failed; --again makes a new one" in said


def test_a_cancelled_job_ends_what_waits_for_it(street: Street) -> None:
    job = street.job("slow", SLOW, "tasks = 50\n[limits]\nwall_s = 600\n")
    street.run("submit", job)
    assert street.json("cancel", "--last")["cancelled"] is True
    assert street.json("status", "--last", code=1)["state"] == "cancelled"
    waited = street.run("results", "--last", code=1)
    assert "was cancelled" in waited.stderr and waited.stdout == ""


def test_an_unknown_job_is_named(street: Street) -> None:
    assert "no peer that was reached knows it" in street.run("status", "feedfeed", code=2).stderr
    assert "is no job id" in street.run("watch", "xyz", code=2).stderr


def test_ctrl_c_ends_a_command_quietly(street: Street) -> None:
    street.run("submit", street.job("endless", SLOW, "tasks = 4\n[limits]\nwall_s = 600\n"))
    environment = {**os.environ, "HEARTH_CLIENT": str(street.folder / "client" / "client.toml")}
    command = [*HEARTH, "watch", "--last", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as watch:
        assert watch.stdout is not None and watch.stderr is not None
        assert json.loads(watch.stdout.readline())["state"] == "running"
        watch.send_signal(signal.SIGINT)
        assert (watch.wait(60), watch.stderr.read()) == (130, "")
    street.run("cancel", "--last")


def test_a_file_that_cannot_fit_is_refused_before_it_is_copied(street: Street) -> None:
    with (street.work / "huge").open("wb") as file:
        file.truncate(1 << 43)
    job = street.job("huge", TRAP, 'tasks = 1\n[files]\ndata = "huge"\n')
    said = street.run("submit", job, code=2).stderr
    assert said.count("\n") == 1 and "8796.1 GB together, the largest part is" in said and "there is room for" in said
    assert list((street.folder / "client" / "state" / "blobs" / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGTERM, 'tasks = 1\n[files]\ndata = "large"\n'),
        (signal.SIGINT, 'tasks = 1\n[files]\ndata = "large"\n'),
        (signal.SIGHUP, 'tasks = 1\n[files]\ndata = "large"\n'),
        (signal.SIGINT, 'inputs_from = "many"\n'),
    ],
)
def test_a_submission_that_is_stopped_while_it_copies_leaves_nothing(
    street: Street, number: signal.Signals, text: str
) -> None:
    disk = os.statvfs(street.folder)
    if disk.f_bavail * disk.f_frsize < 7 << 30:
        pytest.skip(f"less than 7 GiB are free at {street.folder}: the copy would be refused")
    with (street.work / "large").open("wb") as file:
        file.truncate(6 << 30)
    (street.work / "many").mkdir(exist_ok=True)
    for index in range(6144 if "many" in text else 0):
        with (street.work / "many" / str(index)).open("wb") as file:
            file.truncate((1 << 20) - 8)
    job = street.job("large", TRAP, text)
    blobs = street.folder / "client" / "state" / "blobs"
    kept = sorted(blobs.rglob("*.*"))
    # What is under nohup, or in the background of a shell, hands on what it ignores.
    with subprocess.Popen(
        ["env", "--default-signal", *HEARTH, "submit", str(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HEARTH_CLIENT": str(street.folder / "client" / "client.toml")},
    ) as submit:
        assert submit.stdout is not None and submit.stderr is not None
        assert submit.stderr.readline() == "copying the job's files: 1048.6 kB of 6.4 GB\n"
        submit.send_signal(number)
        assert submit.wait(60) == 128 + number
        assert (submit.stdout.read(), "Traceback" in submit.stderr.read()) == ("", False)
    assert list((blobs / "tmp").iterdir()) == []
    assert sorted(blobs.rglob("*.*")) == kept


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "tasks = 1\n[limits]\nmemory_mb = 60000\n",
            "4: limits.memory_mb: not taken: a task may need 60000 MiB, and no",
        ),
        ('tasks = 1\nruntime = "native"\n', '1: program: not taken: no node of 3 allows the command "refused.wasm"'),
    ],
)
def test_what_no_node_takes_is_said_with_its_line(street: Street, text: str, complaint: str) -> None:
    wait_for(lambda: street.json("peers")["peers"], lambda peers: len(peers) == NODES)
    job = street.job("refused", SLOW, text)
    said = street.run("submit", job, code=2).stderr
    assert said.startswith(f"hearth: {job}:{complaint}") and said.count("\n") == 1


def test_nodes_are_killed_frozen_and_started_again(street: Street) -> None:
    assert street.net("freeze", "h3") == {"frozen": ["h3"]}
    assert street.net("kill", "h2") == {"killed": ["h2"]}
    states = {row["name"]: row["state"] for row in street.net("ps")["nodes"]}
    assert states == {"h1": "running", "h2": "dead", "h3": "frozen"}
    assert "it does not run (dead)" in street.run("testnet", "kill", "h2", "--folder", street.folder, code=2).stderr
    assert street.net("thaw", "h3") == {"thawed": ["h3"]}
    assert street.net("restart", "h2") == {"restarted": ["h2"]}
    assert [row["state"] for row in street.net("ps")["nodes"]] == ["running"] * 3


def test_what_a_user_writes_into_settings_stays(street: Street) -> None:
    node = street.folder / "nodes" / "h2" / "node.toml"
    with node.open("a") as settings:
        settings.write("\n[limits]\ninbound_connections = 77\n")
    client = street.folder / "client" / "client.toml"
    client.write_text("# mine\n" + client.read_text())
    written = node.read_text(), client.read_text()
    before = {row["name"]: row["peer_id"] for row in street.net("ps")["nodes"]}
    assert street.net("restart", "h2") == {"restarted": ["h2"]}
    assert (node.read_text(), client.read_text()) == written
    assert load_node_config(node).limits.inbound_connections == 77
    status = street.json("node", "status", "--config", node)
    assert status["peer_id"] == before["h2"] and status["links"]
    assert status["addresses"] == [
        address for address in load_client_config(client).client.bootstrap if before["h2"] in address
    ]
    # As the README of examples/render has it, on a machine that may have no POV-Ray.
    povray = (ROOT / "examples" / "render" / "povray.toml").read_text()
    node.write_text(written[0] + povray.replace("/usr/bin/povray", "/bin/sh").replace("/etc/povray", "/etc"))
    assert load_node_config(node).native.commands["povray"].memory_mb == 512
    node.write_text("[nod]\n")
    broken = street.run("testnet", "restart", "h2", "--folder", street.folder, code=2).stderr
    assert "h2 ended while it started" in broken and '"nod"' in broken
    node.write_text(written[0])
    street.net("restart", "h2")


def test_the_readmes_python_runs_as_it_stands(street: Street) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    place = street.folder / "client"
    shutil.copy(HASH, place / "hash.wasm")
    ran = subprocess.run([sys.executable, "-P", "-c", snippet], cwd=place, capture_output=True, text=True, timeout=120)
    (place / "hash.wasm").unlink()
    assert (ran.returncode, ran.stderr) == (0, "")
    *lines, outputs = ran.stdout.splitlines()
    digests = [sha256(text).digest() for text in (b"one", b"two")]
    assert sorted(line.split()[0] for line in lines) == ["0", "1"]
    assert outputs == str(digests)


def test_a_network_is_parted_and_healed(street: Street) -> None:
    assert street.net("partition", "h1|h2,h3") == {"groups": [["h1"], ["h2", "h3"]]}
    assert street.net("heal") == {"healed": ["h1", "h2", "h3"]}


def test_logs_of_a_node_are_shown(street: Street) -> None:
    assert any("node.started" in line for line in street.net("logs", "h1", "-n", 1000)["lines"])
    assert street.run("testnet", "logs", "h1", "-n", 2, "--folder", street.folder).stdout.count("\n") == 2


def test_a_foreground_network_ends_with_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "fore ground"
    command = [*HEARTH, "testnet", "up", "-n", "1", "--json", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as up:
        assert up.stdout is not None
        assert list(json.loads(up.stdout.readline())["nodes"]) == ["h1"]
        up.send_signal(signal.SIGINT)
        assert up.wait(60) == 130
    assert processes_of(folder) == [] and sockets_of(Testnet(folder)) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("up", "-n", "0"), "0 nodes; 1 to 64 are possible"),
        (("up", "--rooms", "none.toml"), "none.toml: no such file"),
        (("ps",), "there is no test network; hearth testnet up makes one"),
        (("down",), "there is no test network"),
        (("logs", "h1"), "there is no test network"),
    ],
)
def test_wrong_input_is_answered_with_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = subprocess.run([*HEARTH, "testnet", *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert complaint in done.stderr
