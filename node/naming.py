"""Which node somebody means."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..crypto.identity import node_id_from_text, peer_id_text

# Of a peer id.
PART_CHARS_MIN = 6


def find_node(text: str, names: Mapping[bytes, str], known: Collection[bytes] = ()) -> bytes:
    """By a whole peer id, its name in `names`, or a part of the id of one of those or of `known`. Raises ValueError.

    Ids go first: names are the nodes' own word, and one may say that it is called what another's id is.
    """
    if (whole := whole_id(text)) is not None:
        return whole
    named = [node for node, name in names.items() if name == text]
    if len(named) == 1:
        return named[0]
    if named:
        raise ValueError(f'"{text}": {len(named)} known nodes have that name; give a peer id')
    heard_of = {*names, *known} if len(text) >= PART_CHARS_MIN else set()
    matching = sorted(node for node in heard_of if text in peer_id_text(node))
    if len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} known nodes have it in their id" if matching else "no node that is known here"
    raise ValueError(
        f'"{text}": {what}; give a name or peer id as hearth peers shows it, or at least {PART_CHARS_MIN} '
        "characters of the id from anywhere in it"
    )


def whole_id(text: str) -> bytes | None:
    """The node whose peer id that is, whether it is known or not; None if it is no peer id."""
    try:
        return node_id_from_text(text)
    except ValueError:
        return None
