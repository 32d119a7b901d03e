"""`hearth trust`: a client's memory of a node, in numbers and in words."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from pathlib import Path

import pytest

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.cli.app import run
from hearthmesh.node.cli.names import Names
from hearthmesh.node.client.memory import ClientMemory, read_memory
from hearthmesh.protocol.verification.judging import TRUST_ROW
from hearthmesh.protocol.verification.trust import HALF_LIFE_S, Standing

NODE, OTHER = bytes(31) + b"\x01", bytes(31) + b"\x02"


def remember(memory: ClientMemory, row: Standing) -> None:
    memory.remember(TRUST_ROW, sha256(row.node + row.runtime.encode()).digest(), row.to_bytes())


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """Settings of a client that has compared results of two nodes."""
    mesh = tmp_path / "mesh.toml"
    mesh.write_text("")
    config = tmp_path / "client.toml"
    config.write_text('[client]\nstate = "state"\nmdns = true\n[mesh]\ndefinition = "mesh.toml"\n')
    (tmp_path / "state").mkdir()
    memory = ClientMemory(tmp_path / "state" / "memory")
    now_s = int(time.time())
    remember(memory, Standing(NODE, "wasm", 3, 3, 0, now_s - 5))
    remember(memory, Standing(NODE, "wasm", 100, 100, 1, now_s - HALF_LIFE_S - 5))
    remember(memory, Standing(OTHER, "native povray", 4, 9, 2, now_s))
    memory.close()
    return config


def shown(client: Path, node: str, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert run(["trust", node, "--client", str(client), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_score_is_explained(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(client, peer_id_text(NODE), capsys)
    (row,) = found["runtimes"]  # type: ignore[misc]
    assert (row["runtime"], row["streak"], row["streak_then"], row["wrong"]) == ("wasm", 50, 100, 1)
    assert row["checked_share"] == 0.02
    assert run(["trust", peer_id_text(OTHER), "--client", str(client)]) == 0
    said = capsys.readouterr().out
    assert "native povray: 9 right and 2 wrong in all, 4 right in a row" in said
    assert "until 10 are, all of its results are compared" in said


def test_a_part_of_the_peer_id_is_enough(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(client, peer_id_text(NODE)[-8:], capsys)["node"] == peer_id_text(NODE)


def test_of_a_stranger_nothing_is_known(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(client, peer_id_text(bytes(31) + b"\x03"), capsys)["runtimes"] == []


@pytest.mark.parametrize("node", ["12D3KooW", "abc", "nothing", ""])
def test_a_node_that_cannot_be_told_is_bad_input(client: Path, node: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trust", node, "--client", str(client)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_torn_end_of_the_memory_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    memory = ClientMemory(path)
    remember(memory, Standing(NODE, "wasm", 1, 1, 0, 7))
    remember(memory, Standing(OTHER, "wasm", 1, 1, 0, 7))
    memory.close()
    path.write_bytes(path.read_bytes()[:-3])
    assert len(read_memory(path)) == 1
    path.write_bytes(b"\xff" * 50)
    assert read_memory(path) == {}


def test_a_node_that_was_met_is_known_by_its_name(client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Names(client.parent / "state").learn([{"name": "attic", "peer_id": peer_id_text(NODE)}])
    assert shown(client, "attic", capsys)["node"] == peer_id_text(NODE)
