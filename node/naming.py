"""Which node somebody means."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..crypto.identity import node_id_from_text, peer_id_text

# Of a peer id.
PART_CHARS_MIN = 6


def find_node(text: str, names: Mapping[bytes, str], known: Collection[bytes] = ()) -> bytes:
    """By its name in `names`, a whole peer id, or a part of one of those or of `known`. Raises ValueError."""
    named = [node for node, name in names.items() if name == text]
    if len(named) == 1:
        return named[0]
    if named:
        raise ValueError(f'"{text}": {len(named)} known nodes have that name; give a peer id')
    try:
        return node_id_from_text(text)
    except ValueError:
        heard_of = {*names, *known} if len(text) >= PART_CHARS_MIN else set()
        matching = sorted(node for node in heard_of if text in peer_id_text(node))
    if len(matching) == 1:
        return matching[0]
    what = f"{len(matching)} known nodes have it in their id" if matching else "no node that is known here"
    raise ValueError(
        f'"{text}": {what}; give a name or peer id as hearth peers shows it, or at least {PART_CHARS_MIN} '
        "characters of the id from anywhere in it"
    )
