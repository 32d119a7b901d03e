"""Who is at home and which windows are open, as far as anything tells: contacts, brokers, the owner."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum

SOURCES_MAX = 64
# The source whose word holds until there is another.
OWNER = "owner"
_TRUE = frozenset({"on", "true", "1", "yes", "open", "opened", "home", "present", "occupied", "detected"})
_FALSE = frozenset({"off", "false", "0", "no", "closed", "close", "not_home", "away", "absent", "clear"})
_PLAIN = frozenset({"open", "opened", "closed", "close"})
_UNKNOWN = frozenset({"", "unknown", "unavailable", "none", "null"})


class What(Enum):
    PRESENCE = "presence"
    WINDOW = "window"


# In a JSON object: the first of these keys that it has, and whether true means that somebody is there, or it is open.
# A contact that is closed is a window that is closed; one that is called open is open all the same.
_KEYS: dict[What, tuple[tuple[str, bool], ...]] = {
    What.PRESENCE: (("presence", True), ("occupancy", True), ("state", True)),
    What.WINDOW: (("contact", False), ("open", True), ("window", True), ("state", True)),
}


def parse_observed(what: What, payload: bytes) -> bool | None:
    """Whether somebody is there, or it is open; None for what says that it does not know.

    A word like ON, open, not_home, or a JSON object as sensors' gateways send them. Raises ValueError for all else.
    """
    text = payload.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        return _of_object(what, text)
    return _of_word(text)


def _of_word(text: str) -> bool | None:
    word = text.strip().strip('"').lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    if word in _UNKNOWN:
        return None
    raise ValueError(f"neither yes nor no: {text[:40]!r}")


def _of_object(what: What, text: str) -> bool | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"no JSON: {text[:40]!r}") from None
    for key, means in _KEYS[what]:
        if key in found:
            said = _of_word(str(found[key]))
            literal = means or str(found[key]).strip().lower() in _PLAIN
            return said if said is None or literal else not said
    raise ValueError(f"none of {', '.join(key for key, _ in _KEYS[what])} in {text[:40]!r}")


class Observed:
    """now_s: of a clock that never goes back.  believe_s: what a source said counts for so long, if it may age."""

    def __init__(self, now_s: Callable[[], float], believe_s: float) -> None:
        self._now_s = now_s
        self._believe_s = believe_s
        self._said: dict[What, dict[str, tuple[bool, float | None]]] = {what: {} for what in What}
        # By source, the words that it said last.
        self._words: dict[What, dict[str, bytes]] = {what: {} for what in What}

    def tell(
        self,
        what: What,
        source: str,
        value: bool | None,
        *,
        ages: bool = True,
        words: bytes = b"",
        retained: bool = False,
    ) -> None:
        """value None: the source does not know any more. Sources beyond SOURCES_MAX are not heard.

        retained: said at an unknown time, with these words: where they are the last that were heard, they are no news.
        """
        said, heard = self._said[what], self._words[what]
        if retained and heard.get(source) == words:
            return
        if source in heard or len(heard) < SOURCES_MAX:
            heard[source] = words
        if value is None:
            said.pop(source, None)
        elif source in said or len(said) < SOURCES_MAX:
            said[source] = (value, self._now_s() if ages else None)

    def said_by(self, source: str) -> tuple[tuple[What, bool], ...]:
        """What it said last, of what it knows."""
        return tuple((what, said[source][0]) for what, said in self._said.items() if source in said)

    def found(self, what: What) -> bool | None:
        """True if any source says so, False if none does and one at least says no; None where nothing tells."""
        oldest_s = self._now_s() - self._believe_s
        fresh = [value for value, at_s in self._said[what].values() if at_s is None or at_s >= oldest_s]
        return any(fresh) if fresh else None
