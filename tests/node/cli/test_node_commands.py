"""`hearth node` and its own commands; that a node runs is shown with the test network."""

import json
import os
from pathlib import Path

import pytest

from hearthmesh.crypto.identity import Identity
from hearthmesh.node.config import load_node_config
from hearthmesh.node.heating.drivers.found import FoundValues
from hearthmesh.node.heating.drivers.rapl import RaplLimit
from tests.node.heating.drivers.fake_linux import FakeLinux

from .conftest import Hearth


def test_init_makes_a_key_and_settings_that_can_be_read(hearth: Hearth, tmp_path: Path) -> None:
    hearth("mesh", "init", "street", "--folder", "m")
    made = hearth("node", "init", "kitchen", "--mesh", "m/mesh.toml", "--json").json
    config = load_node_config(tmp_path / "kitchen" / "node.toml")
    assert Identity.load(config.node.state / "identity.key").peer_id == made["peer_id"]
    assert (config.node.name, config.node.listen) == ("kitchen", ("/ip4/0.0.0.0/tcp/4001",))


def test_init_says_how_to_be_admitted(hearth: Hearth) -> None:
    out = hearth("node", "init", "kitchen").out
    assert "hearth mesh invite 12D3Koo" in out and "mesh.toml to kitchen/mesh.toml" in out


def test_init_never_replaces_settings_or_keys(hearth: Hearth) -> None:
    hearth("node", "init", "kitchen")
    assert "kitchen/node.toml: is there already" in hearth("node", "init", "kitchen").complaint
    Path("kitchen/node.toml").unlink()
    assert "identity.key: is there already" in hearth("node", "init", "kitchen").complaint


def test_every_setting_is_explained_in_the_new_file(hearth: Hearth) -> None:
    hearth("node", "init", "kitchen")
    text = Path("kitchen/node.toml").read_text()
    for part in (
        "#sink = ",
        "#cores = 1  # for example\n",
        '#preset = "lan"\n',
        "[heater.room]",
        "#[native.commands.NAME]",
        "# Name for people.",
        "#tasks_per_job",
    ):
        assert part in text


def test_commented_defaults_are_what_the_program_uses(hearth: Hearth, tmp_path: Path) -> None:
    hearth("mesh", "init", "street", "--folder", ".")
    hearth("node", "init", ".", "--name", "kitchen", "--mesh", "mesh.toml")
    as_written = load_node_config(tmp_path / "node.toml")
    text, examples, tables = [], 0, True
    for line in Path("node.toml").read_text().splitlines():
        tables = tables and "NAME" not in line
        if line.startswith("#") and not line.startswith("# ") and tables:
            examples += line.endswith("# for example")
            line = "" if line.endswith("# for example") else line.removeprefix("#")
        text.append(line)
    Path("node.toml").write_text("\n".join(text))
    assert examples > 3
    assert load_node_config(tmp_path / "node.toml") == as_written


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "node.toml: no such file"),
        ("[node]\nname = 3\n", "node.toml: mesh.definition: is missing"),
        (
            '[mesh]\ndefinition = "mesh.toml"\n[heater]\nsetpiont_c = 20\n',
            'node.toml:4: [heater] has no key "setpiont_c"',
        ),
        ('[mesh]\ndefinition = "none.toml"\n', "node.toml:2: mesh.definition: no such file none.toml"),
        ("[mesh\n", "node.toml:1: not TOML"),
    ],
)
def test_wrong_settings_are_named_with_file_line_and_key(hearth: Hearth, text: str | None, complaint: str) -> None:
    hearth("mesh", "init", "street")
    if text is not None:
        Path("node.toml").write_text(text)
    assert complaint in hearth("node", "--config", "node.toml").complaint


def test_status_of_a_node_that_does_not_run(hearth: Hearth) -> None:
    hearth("node", "init", "kitchen")
    ran = hearth("node", "status", "--state", "kitchen/state")
    assert "no node answers at" in ran.complaint
    assert "none: no such state folder" in hearth("node", "status", "--state", "none").complaint


def test_a_node_does_not_outlive_a_parent_that_is_gone(hearth: Hearth) -> None:
    assert "which this node belongs to, is gone" in hearth("node", "--with-parent", "999999999").complaint


def test_calibrating_without_a_meter_estimates_and_says_so(hearth: Hearth, tmp_path: Path) -> None:
    hearth("mesh", "init", "street", "--folder", ".")
    hearth("node", "init", ".", "--name", "kitchen", "--mesh", "mesh.toml")
    ran = hearth("calibrate", "--seconds", "0.1", "--settle", "0", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert (found["measured"], found["idle_w"]) == (False, None)
    assert [step["cores"] for step in found["steps"]] == list(range(1, len(os.sched_getaffinity(0)) + 1))
    kept = json.loads((tmp_path / "state" / "power.json").read_text())
    assert [step["watts"] for step in kept["steps"]] == pytest.approx(
        [step["watts"] for step in found["steps"]], abs=1e-3
    )


def test_calibrating_after_a_crash_is_not_bound_by_the_least_power_that_was_left(
    hearth: Hearth, tmp_path: Path
) -> None:
    linux = FakeLinux(tmp_path / "machine")
    hearth("mesh", "init", "street", "--folder", ".")
    hearth("node", "init", ".", "--name", "kitchen", "--mesh", "mesh.toml")
    settings = tmp_path / "node.toml"
    text = settings.read_text()
    assert text.count('#root = "/"') == 1
    settings.write_text(text.replace('#root = "/"', f"root = {json.dumps(str(linux.root))}"))
    found = FoundValues(tmp_path / "state" / "found.json", linux.root)
    limit = RaplLimit(linux.root, found)
    found.keep()
    for write in limit.safe_writes():
        Path(write.where).write_text(write.text)
    ran = hearth("calibrate", "--seconds", "0.1", "--settle", "0")
    assert ran.code == 0
    assert [Path(write.where).read_text() for write in limit.safe_writes()] == ["125000000"] * 2
    assert "put back what a node had found there" in ran.out
    assert not (tmp_path / "state" / "found.json").exists()


@pytest.mark.parametrize(
    ("option", "address", "problem"),
    [
        ("--listen", "/ip4/127.0.0.1", "expected an address"),
        ("--listen", "somewhere", "--listen somewhere: "),
        ("--bootstrap", "/ip4/127.0.0.1/tcp/4001", "ending in /p2p/"),
    ],
)
def test_a_wrong_address_on_the_command_line_is_named(hearth: Hearth, option: str, address: str, problem: str) -> None:
    hearth("mesh", "init", "street", "--folder", "m")
    hearth("node", "init", "kitchen", "--mesh", "m/mesh.toml")
    complaint = hearth("node", "--config", "kitchen/node.toml", option, address).complaint
    assert complaint.startswith(f"{option} {address}: ") and problem in complaint


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("window ajar", "window ajar: expected open, closed or unknown"),
        ("presence perhaps", "presence perhaps: expected home, away or unknown"),
        ("limit lots", "limit lots: expected watts, or none"),
        ("limit 5 --for ever", "--for ever: expected a time like 90s, 30m, 2h or 1d"),
        ("set manual", "give the temperature itself"),
    ],
)
def test_a_wrong_word_to_the_heater_is_told_in_one_line(hearth: Hearth, command: str, complaint: str) -> None:
    assert complaint in hearth("heat", *command.split(" ")).complaint
