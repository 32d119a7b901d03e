"""Reference tables of settings classes, for the pages under docs/.

`python -m hearthmesh.node.settings docs` writes them into the pages; a test fails where a page is stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from .schema import Setting, allowed, plain, settings_of


def describe(cls: type[Any], path: str = "") -> str:
    """A Markdown table of the class's own keys, then one for each of its tables under a heading."""
    own: list[str] = []
    tables: list[str] = []
    for setting in settings_of(cls):
        here = f"{path}.{setting.name}" if path else setting.name
        if setting.is_table:
            tables.append(describe(setting.kind, here))
        elif setting.is_table_of_tables:
            tables.append(describe(setting.value_kind, f"{here}.NAME"))
        else:
            own.append(_row(setting))
    sections = []
    if own:
        heading = f"### `[{path}]`" if path else "### Top level"
        header = ["| key | allowed | default | meaning |", "|---|---|---|---|"]
        sections.append("\n".join([heading, "", *header, *own]))
    return "\n\n".join(sections + tables)


def replace_block(page: str, name: str, block: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- end name -->` replaced. Raises ValueError."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page has no block {name!r}")
    return f"{before}{begin}{block}\n{end}{after}"


def _row(setting: Setting) -> str:
    cells = (f"`{setting.name}`", _allowed(setting), _default(setting), setting.key.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _allowed(setting: Setting) -> str:
    key = setting.key
    if setting.kind is Mapping:
        entry = "path" if setting.value_kind is Path else "text"
        text = f"a table of at most {key.items} names, each with a {entry}"
    elif setting.kind is tuple:
        what = "of " + allowed(str, key) if key.choices else "texts"
        text = f"an array of at most {key.items} {what}".replace("of one of", "of")
    else:
        text = allowed(setting.kind, key)
    return f"{text} to an existing {key.exists}" if key.exists else text


def _default(setting: Setting) -> str:
    if setting.required:
        return "**required**"
    if setting.key.absent:
        return setting.key.absent
    value = setting.default
    if value is None or value == "" or value == () or value == {}:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"`{plain(value)}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{entry}`" for entry in value)
    assert not is_dataclass(value)
    return f"`{value}`"
