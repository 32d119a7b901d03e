"""From a settings object to the TOML text that reads back as an equal one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage import files
from ..toml import dotted
from .schema import settings_of


def settings_text(settings: object, *, defaults: bool = True) -> str:
    """Every key that has a value, tables after the keys of their parent. defaults: those that stand at theirs too."""
    lines: list[str] = []
    _write_table(settings, (), lines, defaults)
    return "\n".join(lines).strip("\n") + "\n"


def write_settings(path: Path, settings: object, *, heading: str = "", defaults: bool = True) -> None:
    """Replace the file as a whole: a reader sees the old or the new one. Raises OSError.

    heading: a comment to begin with, maybe of several lines.  defaults: as in `settings_text`.
    """
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    replace_file(path, f"{comment}\n" * bool(comment) + settings_text(settings, defaults=defaults))


def replace_file(path: Path, text: str) -> None:
    """As `write_settings`, for a text as it is."""
    files.replace_file(path, text.encode())


def _write_table(settings: object, path: tuple[str, ...], lines: list[str], defaults: bool) -> None:
    tables: list[tuple[tuple[str, ...], object]] = []
    pairs: list[str] = []
    for setting in settings_of(type(settings)):
        value = getattr(settings, setting.name)
        here = (*path, setting.name)
        if value is None or not (defaults or setting.required or value != setting.default):
            continue
        if setting.is_table:
            tables.append((here, value))
        elif setting.is_table_of_tables:
            tables.extend(((*here, name), entry) for name, entry in value.items())
        else:
            pairs.append(f"{setting.name} = {literal(value)}")
    if path and (pairs or (defaults and not tables)):
        lines += ["", f"[{dotted(path)}]"]
    lines += pairs
    for here, value in tables:
        _write_table(value, here, lines, defaults)


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(name)} = {literal(entry)}" for name, entry in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return "[" + ", ".join(literal(entry) for entry in value) + "]"
