"""From a located TOML document to a settings object, or to one line that says what is wrong and where."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..toml import ConfigError, Document, dotted, shown
from .locate import KeyPath
from .schema import Conflict, Key, Setting, allowed, settings_of

T = TypeVar("T")
_ENTRY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")


def read_settings(document: Document, cls: type[T], path: KeyPath = (), table: Any = None, **known: Any) -> T:
    """The settings object of a table of the document, of its root by default.

    known: values for fields of cls that are not keys of the file.
    Raises ConfigError for the first problem in the order of the file's keys, unknown keys first.
    """
    content = document.root if table is None else table
    settings = settings_of(cls)
    _refuse_unknown(document, path, content, settings)
    values: dict[str, Any] = dict(known)
    for setting in settings:
        here = (*path, setting.name)
        if setting.name in content:
            values[setting.name] = _value(document, here, content[setting.name], setting)
        elif setting.is_table:
            values[setting.name] = read_settings(document, setting.kind, here, {})
        elif setting.required:
            raise _missing(document, here, setting)
        elif isinstance(setting.default, Path):
            values[setting.name] = document.folder / setting.default
    try:
        return cls(**values)
    except Conflict as conflict:
        raise document.error((*path, conflict.key), conflict.problem, conflict.hint) from conflict


def _refuse_unknown(
    document: Document, path: KeyPath, content: Mapping[str, Any], settings: tuple[Setting, ...]
) -> None:
    names = [setting.name for setting in settings]
    for name in content:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        guess = f"did you mean {shown(near[0])}? " if near else ""
        table = f"[{dotted(path)}]" if path else "the file"
        raise ConfigError(
            document.path,
            document.line((*path, name)),
            "",
            f"{table} has no key {shown(name)}",
            f"{guess}allowed: {', '.join(names)}",
        )


def _missing(document: Document, path: KeyPath, setting: Setting) -> ConfigError:
    wanted = allowed(setting.kind, setting.key)
    return document.error(path, "is missing", f"wanted: {wanted}. {setting.key.help}")


def _value(document: Document, path: KeyPath, value: Any, setting: Setting) -> Any:
    if setting.is_table:
        if not isinstance(value, dict):
            raise _expected(document, path, value, setting.kind, setting.key)
        return read_settings(document, setting.kind, path, value)
    if setting.kind is Mapping:
        return _mapping(document, path, value, setting)
    if setting.kind is tuple:
        if not isinstance(value, list):
            raise _expected(document, path, value, tuple, setting.key)
        _bound_items(document, path, len(value), setting.key)
        return tuple(_text(document, (*path, place), entry, setting.key) for place, entry in enumerate(value))
    return _plain(document, path, value, setting.kind, setting.key)


def _mapping(document: Document, path: KeyPath, value: Any, setting: Setting) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _expected(document, path, value, Mapping, setting.key)
    _bound_items(document, path, len(value), setting.key)
    entries: dict[str, Any] = {}
    for name, entry in value.items():
        here = (*path, name)
        if not _ENTRY_NAME.fullmatch(name):
            rule = "letters, digits, _ . - (the first a letter, digit or _), at most 128 characters"
            raise document.error(here, "not a usable name", rule)
        if not setting.is_table_of_tables:
            entries[name] = _plain(document, here, entry, setting.value_kind, setting.key)
        elif isinstance(entry, dict):
            entries[name] = read_settings(document, setting.value_kind, here, entry)
        else:
            raise _expected(document, here, entry, Mapping, setting.key)
    return entries


def _plain(document: Document, path: KeyPath, value: Any, kind: type[Any], key: Key) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise _expected(document, path, value, kind, key)
        return value
    if kind in (int, float):
        return _number(document, path, value, kind, key)
    text = _text(document, path, value, key)
    return _path(document, path, text, key) if kind is Path else text


def _number(document: Document, path: KeyPath, value: Any, kind: type[Any], key: Key) -> int | float:
    numeric = isinstance(value, int) or (kind is float and isinstance(value, float) and math.isfinite(value))
    if not numeric or isinstance(value, bool):
        raise _expected(document, path, value, kind, key)
    if (key.low is not None and value < key.low) or (key.high is not None and value > key.high):
        raise _expected(document, path, value, kind, key)
    number: int | float = kind(value)
    return number


def _text(document: Document, path: KeyPath, value: Any, key: Key) -> str:
    if not isinstance(value, str) or (key.choices and value not in key.choices):
        raise _expected(document, path, value, str, key)
    if len(value) > key.length:
        raise document.error(path, f"{len(value)} characters long", f"at most {key.length} are allowed")
    if "\0" in value:
        raise document.error(path, "holds a NUL character")
    if key.check is not None:
        try:
            key.check(value)
        except ValueError as error:
            raise document.error(path, f"{error}, got {shown(value)}") from error
    return value


def _path(document: Document, path: KeyPath, text: str, key: Key) -> Path:
    """Relative to the file's folder; "~" is the user's home."""
    if not text:
        raise document.error(path, "expected a path, got an empty text")
    try:
        place = document.folder / Path(text).expanduser()
        found = {"file": place.is_file, "folder": place.is_dir}.get(key.exists, lambda: True)()
    except (OSError, RuntimeError) as error:
        raise document.error(path, f"cannot be used: {error}") from error
    if not found:
        where = f"paths are relative to the folder of {document.path.name}"
        raise document.error(path, what_is_wrong(text, place, key.exists), where)
    return place


def what_is_wrong(text: str, place: Path, kind: str) -> str:
    """With a path that leads to no file or folder. text: as it was written.  kind: "file" or "folder"."""
    if not text:
        return f"is empty, and has to name a {kind}"
    if place.exists():
        return f"{text} is no {'regular file' if kind == 'file' else kind}"
    return f"no such {kind} {text}"


def _bound_items(document: Document, path: KeyPath, count: int, key: Key) -> None:
    if count > key.items:
        raise document.error(path, f"{count} entries", f"at most {key.items} are allowed")


def _expected(document: Document, path: KeyPath, value: Any, kind: type[Any], key: Key) -> ConfigError:
    return document.error(path, f"expected {allowed(kind, key)}, got {shown(value)}")
