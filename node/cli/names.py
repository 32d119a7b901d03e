"""Names of nodes that this client met, kept in its state folder: the mesh forgets those of the dead. A convenience."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .authority import write_atomically

NAMES_MAX = 1000


class Names:
    def __init__(self, state: Path) -> None:
        self._path = state / "nodes.json"

    def known(self) -> dict[str, str]:
        """Names by peer id, the longest known first; nothing if the file cannot be read."""
        try:
            found: Any = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        pairs = found.items() if isinstance(found, dict) else ()
        return {peer: name for peer, name in pairs if isinstance(name, str)}

    def learn(self, members: Iterable[Mapping[str, Any]]) -> None:
        """Of those who are there now. Who had one of their names before, had it first and loses it."""
        before = self.known()
        met = {str(member["peer_id"]): str(member["name"]) for member in members if member["name"]}
        taken = set(met.values())
        kept = {peer: name for peer, name in before.items() if peer not in met and name not in taken}
        names = dict(list((kept | met).items())[-NAMES_MAX:])
        if names == before:
            return
        try:
            write_atomically(self._path, json.dumps(names).encode())
        except OSError:
            return

    def absent(self, members: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows as `members` has them, of those who are no longer among them: name and peer id only."""
        rows = list(members)
        there, taken = {row["peer_id"] for row in rows}, {row["name"] for row in rows}
        return [
            {"name": name, "peer_id": peer}
            for peer, name in self.known().items()
            if peer not in there and name not in taken
        ]
