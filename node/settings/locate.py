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
    """What a text ends with, which `tomllib` accepted but for that: a key with its value, or a table's header.

    Its path, its line, and the line where it, or what it is in, was given before, 0 if it was not; None if the text
    ends otherwise.
    """
    locator = _Locator(text)
    try:
        locator.run()
    except (AssertionError, IndexError):  # it ends in the middle
        return None
    path, at = locator.last
    line = locator.line_at(at)
    before = [locator.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in locator.lines]
    return path, line, next((each for each in before if each < line), 0)


class _Locator:
    """One pass over a valid text; `at` is the next unread character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.last: tuple[KeyPath, int] = (), 0
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
        self.last = path, start
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table
        for key in self._keys():
            path += (key,)
            self._note(path, start)
        self.last = path, start
        self.at += 1  # "="
        self._skip(_SPACES)
        self._value(path)

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
