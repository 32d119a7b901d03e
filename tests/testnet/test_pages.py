"""docs/testnet.md lists the keys of rooms.toml as they are."""

from pathlib import Path

from hearthmesh.node.settings.describe import describe, replace_block
from hearthmesh.testnet.rooms import RoomsFile

PAGE = Path(__file__).parents[2] / "docs" / "testnet.md"


def test_the_table_of_room_keys_is_fresh() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert replace_block(text, "room keys", describe(RoomsFile)) == text
