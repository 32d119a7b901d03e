"""Settings files to begin with: every key is there, explained; what stands at its default is commented out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..settings.schema import Setting, allowed, settings_of
from ..settings.write import literal

# Behind a value that is not the default: the comment above says what holds while the line is one.
EXAMPLE = "  # for example"


def settings_template(cls: type[Any], values: Mapping[str, Mapping[str, Any]], heading: str) -> str:
    """TOML text of a settings class made of tables. values: the keys to set, by dotted table."""
    lines = [f"# {line}" for line in heading.splitlines()]
    for setting in settings_of(cls):
        _table(setting.kind, setting.name, setting.key.help, values, lines)
    return "\n".join(lines) + "\n"


def _table(cls: type[Any], path: str, text: str, values: Mapping[str, Mapping[str, Any]], lines: list[str]) -> None:
    settings = settings_of(cls)
    given = values.get(path, {})
    lines += ["", f"# {text}", f"[{path}]"]
    for setting in settings:
        if setting.is_table or setting.is_table_of_tables:
            continue
        lines.append(f"# {setting.key.help} {_range(setting)}".rstrip())
        if setting.name in given:
            lines.append(f"{setting.name} = {literal(given[setting.name])}")
        else:
            lines.append(f"#{setting.name} = {_example(setting)}")
    for setting in settings:
        if setting.is_table:
            _table(setting.kind, f"{path}.{setting.name}", setting.key.help, values, lines)
        elif setting.is_table_of_tables:
            lines += ["", f"# {setting.key.help} One table a name:", f"#[{path}.{setting.name}.NAME]"]
            for entry in settings_of(setting.value_kind):
                lines.append(f"#{entry.name} = {_example(entry).removesuffix(EXAMPLE)}  # {entry.key.help}")


def _range(setting: Setting) -> str:
    words = allowed(setting.kind, setting.key)
    absent = f"; left out: {setting.key.absent}" if setting.key.absent else ""
    return f"({words}{absent})"


def _example(setting: Setting) -> str:
    """The default; where there is none an example, and marked as one."""
    if setting.default is not None:
        return literal(setting.default)
    value = {bool: "false", int: "1", float: "1.0", tuple: "[]"}.get(setting.kind, '"…"')
    return f"{value}{EXAMPLE}"
