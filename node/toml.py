"""Reading a TOML file so that whatever is wrong with it can be said with file, line and key."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings.locate import KeyPath, locate, locate_last

FILE_BYTES_MAX = 1024 * 1024
_SHOWN_MAX = 120
_LOCATION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TWICE = (
    *("Cannot overwrite a value", "Cannot declare ", "Cannot mutate immutable namespace "),
    *("Cannot redefine namespace ", "Duplicate inline table key "),
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class ConfigError(Exception):
    """What a user has to mend in a file. Its text is one line: file:line: key: problem; hint.

    line: from 1, 0 if the problem has none.  key: dotted; empty where `problem` itself says which.
    """

    def __init__(self, file: Path, line: int, key: str, problem: str, hint: str = "") -> None:
        place = f"{file}:{line}" if line else str(file)
        text = ": ".join(part for part in (place, key, problem) if part)
        super().__init__(one_line(f"{text}; {hint}" if hint else text))
        self.file = file
        self.line = line
        self.key = key
        self.problem = problem
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Document:
    """A file's parsed content, and where each key of it stands."""

    path: Path
    root: dict[str, Any]
    lines: dict[KeyPath, int]

    @property
    def folder(self) -> Path:
        """What relative paths in the file are relative to."""
        return self.path.absolute().parent

    def line(self, path: KeyPath) -> int:
        """Line of a key, or of the nearest table around it that is written down; 0 if there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def error(self, path: KeyPath, problem: str, hint: str = "") -> ConfigError:
        return ConfigError(self.path, self.line(path), dotted(path), problem, hint)


def read_toml(path: Path) -> Document:
    """Parse a file of at most FILE_BYTES_MAX.

    Raises ConfigError: no such file, not readable, too big, not UTF-8, or a syntax error with its line.
    """
    text = _read_text(path).replace("\r\n", "\n")
    try:
        root = tomllib.loads(text)
        lines = locate(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, text, str(error)) from error
    except ValueError as error:  # an integer of thousands of digits
        raise ConfigError(path, 0, "", f"not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(path, 0, "", "arrays or tables are nested too deeply") from error
    return Document(path, root, lines)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(path, 0, "", "no such file") from error
    except OSError as error:
        raise ConfigError(path, 0, "", f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(path, 0, "", f"longer than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, line, "", "not UTF-8 text", "save the file as UTF-8") from error


def _syntax_error(path: Path, text: str, message: str) -> ConfigError:
    found = _LOCATION.search(message)
    if found is None:
        return ConfigError(path, 0, "", f"not TOML: {message}")
    line = int(found[1]) if found[1] else text.count("\n") + 1
    problem = message[: found.start()]
    if problem.startswith(_TWICE):
        # `tomllib` says where the second one ends, and of a value not even its key.
        read = _up_to(text, line, int(found[2])) if found[1] else text
        last = next(filter(None, (locate_last(read + end) for end in ("", "]", "]]"))), None)
        if last is not None:
            key, at, before = last
            return ConfigError(path, at, dotted(key), "not TOML: given twice", f"see line {before}" if before else "")
    hint = "text needs quotes" if problem == "Invalid value" else ""
    if text.startswith("\ufeff"):
        hint = "the file begins with a byte order mark; save it as UTF-8 without one"
    return ConfigError(path, line, "", f"not TOML: {problem[:1].lower()}{problem[1:]}", hint)


def _up_to(text: str, line: int, column: int) -> str:
    """What stands before a line and column, both from 1."""
    lines = text.split("\n")
    return "\n".join([*lines[: line - 1], lines[line - 1][: column - 1]])


def dotted(path: KeyPath) -> str:
    """A key path as it is written in TOML, with positions in brackets: node.listen[2]."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else shown(part)
            text += f".{key}" if text else key
    return text


def shown(value: object) -> str:
    """A value as a user would recognise it: TOML's spelling, cut to a readable length."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…"
        return json.dumps(cut, ensure_ascii=False)
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "an integer beyond 64 bits"
    return str(value)


def one_line(text: str) -> str:
    """The text with every character escaped that would break the line or steer a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
