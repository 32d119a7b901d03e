"""Where each key of a TOML text stands. `tomllib` forgets it, and an error without a line helps nobody."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")
_SPACES = re.compile(r"[ \t]*")


def locate(text: str) -> dict[KeyPath, int]:
    """Line (from 1) of every key, table header and array element of a text that `tomllib` accepted.

    A table that only headers of tables in it name stands where the first of them does. Paths are keys from the root
    on, with the position for an element of an array: ("node", "listen", 2).
    """
    return _Locator(text).run()


def locate_last(text: str) -> tuple[KeyPath, int, int] | None:
    """What a text ends with, that was given before: a key with its value, or a table's header.

    text: one that `tomllib` accepted but for that, or its beginning, up to an inline table's key and value.
    The shortest path that was given before, the line where it is given again, and that where it was given, 0 if that
    is unknown; None if the text ends otherwise.
    """
    return _Locator(text).run_to_last()


class _Locator:
    """One pass over a valid text; `at` is the next unread character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        # What was read last: its path, the table that it is in, where it begins and ends.
        self._last: tuple[KeyPath, KeyPath, int, int] = (), (), 0, 0
        # Where keys were given a value first, and tables a header.
        self._values: dict[KeyPath, int] = {}
        self._headers: dict[KeyPath, int] = {}
        self._implied: dict[KeyPath, int] = {}
        self._starts = [0] + [match.end() for match in re.finditer("\n", text)]
        self._elements: dict[KeyPath, int] = {}

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        self.lines = self._implied | self.lines
        return self.lines

    def run_to_last(self) -> tuple[KeyPath, int, int] | None:
        """See `locate_last`."""
        try:
            self.run()
        except (AssertionError, IndexError):  # it ends in the middle; perhaps of an inline table, after a value
            blank = _BLANK.match(self.text, self._last[3])
            if blank is None or blank.end() < len(self.text):
                return None
        path, table, start, _ = self._last
        if not path:
            return None
        line, prefixes = self.line_at(start), [path[:end] for end in range(1, len(path) + 1)]
        for prefix in prefixes:
            if self._values.get(prefix, start) < start:
                return prefix, line, self._before(self._values[prefix], line)
        for prefix in prefixes[len(table) :]:
            if self._headers.get(prefix, start) < start:
                return prefix, line, self._before(self._headers[prefix], line)
        before = (self._implied | self.lines).get(path, line)
        return path, line, before if before < line else 0

    def _before(self, at: int, line: int) -> int:
        """The line of what was given there, 0 if it is the same."""
        found = self.line_at(at)
        return found if found < line else 0

    def _header(self) -> KeyPath:
        start = self.at
        is_element = self.text.startswith("[[", start)
        self.at += 2 if is_element else 1
        keys = self._keys()
        self.at += 2 if is_element else 1
        path: KeyPath = ()
        for key in keys[:-1] if is_element else keys:
            path += (key,)
            self._implied.setdefault(path, self.line_at(start))
            if path in self._elements:
                path += (self._elements[path] - 1,)
        if is_element:
            path += (keys[-1],)
            self._note(path, start)
            self._elements[path] = self._elements.get(path, 0) + 1
            path += (self._elements[path] - 1,)
        self._note(path, start)
        named = path[:-1] if isinstance(path[-1], int) else path
        self._last = named, (), start, self.at
        self._headers.setdefault(named, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for key in self._keys():
            path += (key,)
            self._note(path, start)
        self.at += 1  # "="
        self._skip(_SPACES)
        self._value(path)
        self._last = path, table, start, self.at
        self._values.setdefault(path, start)

    def _value(self, path: KeyPath) -> None:
        first = self.text[self.at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if first in "\"'" else _SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        self._skip(_BLANK)
        position = 0
        while self.text[self.at] != "]":
            self._note((*path, position), self.at)
            self._value((*path, position))
            self._skip(_BLANK)
            position += 1
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        self._skip(_BLANK)
        while self.text[self.at] != "}":
            self._pair(path)
            self._skip(_BLANK)
        self.at += 1

    def _keys(self) -> list[str]:
        """A dotted key, up to the "=" or "]" after it."""
        keys = []
        while True:
            self._skip(_SPACES)
            if self.text[self.at] in "\"'":
                token = self._skip(_STRING)
                keys.append(str(tomllib.loads(f"key = {token}")["key"]))
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_SPACES)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None, f"not a valid TOML text at character {self.at}"
        self.at = match.end()
        return match.group()

    def _note(self, path: KeyPath, at: int) -> None:
        self.lines.setdefault(path, self.line_at(at))

    def line_at(self, at: int) -> int:
        return bisect_right(self._starts, at)
