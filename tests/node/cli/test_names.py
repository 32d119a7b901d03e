"""A client remembers who was in the mesh, by name."""

from pathlib import Path

import pytest

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.cli import names as names_module
from hearthmesh.node.cli.errors import UserError
from hearthmesh.node.cli.names import Names
from hearthmesh.node.cli.why import _resolve

HALL = {"name": "hall", "peer_id": "12D3KooWhall"}
BATH = {"name": "bath", "peer_id": "12D3KooWbath"}


def test_who_is_gone_keeps_its_name(tmp_path: Path) -> None:
    Names(tmp_path).learn([HALL, BATH])
    Names(tmp_path).learn([HALL])
    assert Names(tmp_path).absent([HALL]) == [BATH]


def test_a_name_is_of_who_has_it_now(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.learn([HALL, BATH])
    again = {"name": "bath", "peer_id": "12D3KooWnewer"}
    assert names.absent([HALL, again]) == []
    names.learn([again])
    assert names.known() == {"12D3KooWhall": "hall", "12D3KooWnewer": "bath"}


def test_names_are_bounded_and_the_newest_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "NAMES_MAX", 2)
    for number in range(4):
        Names(tmp_path).learn([{"name": f"n{number}", "peer_id": f"p{number}"}])
    assert Names(tmp_path).known() == {"p2": "n2", "p3": "n3"}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b'{"p": 3}', b"\xff"])
def test_a_file_that_cannot_be_read_holds_no_names(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "nodes.json").write_bytes(content)
    assert Names(tmp_path).known() == {}


def test_why_says_that_a_node_is_gone(tmp_path: Path) -> None:
    names = Names(tmp_path)
    names.learn([BATH])
    with pytest.raises(UserError, match="bath: was in the mesh and is not now"):
        _resolve("bath", [HALL], names)
    with pytest.raises(UserError, match="no node of that name"):
        _resolve("attic", [HALL], names)


def test_why_is_asked_of_whose_id_it_is_and_not_of_who_is_called_so(tmp_path: Path) -> None:
    hall = {"name": "hall", "peer_id": peer_id_text(bytes(32))}
    liar = {"name": hall["peer_id"], "peer_id": peer_id_text(bytes(31) + b"\1")}
    assert _resolve(hall["peer_id"], [liar, hall], Names(tmp_path)) == (bytes(32), "hall")
    with pytest.raises(UserError, match="no node of that name or peer id"):
        _resolve(hall["peer_id"], [liar], Names(tmp_path))
    Names(tmp_path).learn([hall])
    with pytest.raises(UserError, match="hall: was in the mesh and is not now"):
        _resolve(hall["peer_id"], [liar], Names(tmp_path))
