"""A node is meant by its name, its peer id, or a part of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from hearthmesh.crypto.identity import peer_id_text
from hearthmesh.node.control import ControlError, ask
from hearthmesh.node.naming import find_node
from hearthmesh.protocol.records import RecordKind
from tests.end_to_end.inside import inside, until_linked

HALL, BATH, GONE = (bytes(31) + bytes([number]) for number in (1, 2, 3))
NAMES = {HALL: "hall", BATH: "bath"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [("hall", HALL), (peer_id_text(BATH), BATH), (peer_id_text(BATH)[-8:], BATH), (peer_id_text(GONE)[-8:], GONE)],
)
def test_a_node_is_found(text: str, meant: bytes) -> None:
    assert find_node(text, NAMES, {GONE}) == meant


def test_a_whole_peer_id_needs_not_be_known() -> None:
    assert find_node(peer_id_text(GONE), {}) == GONE


@pytest.mark.parametrize("text", ["", "attic", "12D3Ko", peer_id_text(GONE)[-8:], peer_id_text(HALL)[-3:]])
def test_who_cannot_be_told_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"give a name or peer id") as told:
        find_node(text, NAMES)
    assert "\n" not in str(told.value)


def test_nobody_hides_behind_a_name_that_is_anothers_id() -> None:
    names = {HALL: "hall", BATH: peer_id_text(HALL), GONE: peer_id_text(HALL)}
    assert find_node(peer_id_text(HALL), names) == HALL
    assert find_node(peer_id_text(HALL), {BATH: peer_id_text(HALL)}) == HALL


def test_a_name_that_two_have_is_nobodys() -> None:
    with pytest.raises(ValueError, match="2 known nodes have that name"):
        find_node("hall", {HALL: "hall", BATH: "hall"})


async def test_a_running_node_is_asked_about_another_by_name(tmp_path: Path) -> None:
    async with inside(tmp_path) as mesh:
        hall, bath = [await mesh.start(name) for name in ("hall", "bath")]
        await until_linked(bath, 1)
        while len(list(hall.mesh.tables.rows(RecordKind.MEMBER))) < 2:  # a name comes with its node's record
            await hall.driver.changed()
        found = await ask(hall.folder.control_socket, {"do": "trust", "node": "bath"})
        assert found == {"node": bath.membership.identity.peer_id, "convicted": False, "proof": None}
        with pytest.raises(ControlError, match="give a name or peer id"):
            await ask(hall.folder.control_socket, {"do": "trust", "node": "attic"})
