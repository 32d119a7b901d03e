"""Each command explains itself, quickly."""

import os
import subprocess
import sys

import pytest

from .conftest import Hearth

COMMANDS = [
    *("mesh init", "mesh key", "mesh invite", "mesh revoke", "mesh cosign", "mesh show"),
    *("node", "node init", "node status"),
    *("heat status", "heat set", "heat limit", "heat tempo", "heat presence", "heat window", "calibrate", "doctor"),
    *("submit", "status", "watch", "results", "logs", "cancel", "jobs", "peers"),
    *("demo", "bench"),
    *(f"testnet {name}" for name in "up ps kill freeze thaw restart partition heal logs down".split()),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_examples_and_json(hearth: Hearth, command: str) -> None:
    ran = hearth(*command.split(), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"Usage: hearth {command}" in ran.out
    assert f"  hearth {command}" in ran.out
    assert "Examples:" in ran.out and "--json" in ran.out


@pytest.mark.parametrize("group", ["mesh", "node", "heat", "testnet", "sim"])
def test_each_group_has_help_with_examples_and_json(hearth: Hearth, group: str) -> None:
    ran = hearth(group, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert "Examples:" in ran.out and f"  hearth {group} " in ran.out and "--json" in ran.out


def test_the_program_lists_its_commands(hearth: Hearth) -> None:
    ran = hearth("--help")
    assert ran.code == 0
    for name in ("mesh", "node", "submit", "results", "testnet"):
        assert f"\n  {name}" in ran.out


def test_version_is_printed(hearth: Hearth) -> None:
    ran = hearth("--version")
    assert (ran.code, ran.out.startswith("hearth ")) == (0, True)


@pytest.mark.parametrize("arguments", [["--help"], ["submit", "--help"], ["mesh", "init", "--help"]])
def test_help_loads_neither_libp2p_nor_wasmtime(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from hearthmesh.node.cli.app import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'libp2p', 'wasmtime', 'trio', 'cryptography', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'help loads {heavy}' if heavy else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "problem", "command"),
    [
        (["frobnicate"], "no such command", "hearth"),
        (["submit"], "missing argument", "hearth submit"),
        (["submit", "--foo", "job.toml"], "no such option: --foo", "hearth submit"),
        (["mesh", "invite"], "missing argument", "hearth mesh invite"),
        (["logs", "ab", "--task", "x"], "invalid value for '--task'", "hearth logs"),
        (["testnet", "up", "-n", "many"], "invalid value for '-n'", "hearth testnet up"),
    ],
)
def test_a_wrong_command_line_is_answered_with_one_line(
    hearth: Hearth, arguments: list[str], problem: str, command: str
) -> None:
    complaint = hearth(*arguments).complaint
    assert complaint.lower().startswith(problem)
    assert complaint.endswith(f"; see {command} --help")


@pytest.mark.parametrize("group", ["", "mesh", "testnet"])
def test_a_group_without_a_command_shows_its_help(hearth: Hearth, group: str) -> None:
    ran = hearth(*group.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: hearth") and "Commands:" in ran.err


_INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "hearthmesh.node.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
# What runs in the background of a shell is started with it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from hearthmesh.node.__main__ import main
main()
"""


def test_ctrl_c_while_it_still_imports_ends_without_a_word() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_WHILE_IMPORTING, "--version"], capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")
