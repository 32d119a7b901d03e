"""Parts of the docs that are made from the code: the diagrams of the protocol's pages, the tables of
wire.md and limits.md.

`python -m tests.protocol.pages` puts them into the pages; tests compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, get_type_hints

from msgspec import inspect

from hearthmesh.protocol.granting import TASK_TRANSITIONS
from hearthmesh.protocol.limits import BOUNDS
from hearthmesh.protocol.lives import (
    DELIVERY_TRANSITIONS,
    KEPT_TRANSITIONS,
    NODE_TRANSITIONS,
    SUBMISSION_TRANSITIONS,
)
from tests.docs_diagrams import DOCS, render_table
from tests.protocol.wire import BODIES, MESSAGES

DIAGRAMS: dict[str, Mapping[Any, Enum]] = {
    "job.md": SUBMISSION_TRANSITIONS,
    "leases.md": TASK_TRANSITIONS,
    "stealing.md": NODE_TRANSITIONS,
    "replicas.md": KEPT_TRANSITIONS,
    "results.md": DELIVERY_TRANSITIONS,
}
_LIMITS_PART = re.compile(r"(?<=<!-- limits -->\n).*(?=<!-- end -->)", re.DOTALL)
_WIRE_PART = re.compile(r"(?<=<!-- from the code -->\n).*(?=<!-- end -->)", re.DOTALL)


def wire_tables() -> str:
    """Every message and record with its fields and bounds, and the structs within them."""
    parts: dict[type[Any], None] = {}
    lines = ["## Messages", ""]
    for struct in MESSAGES:
        info = inspect.type_info(struct)
        assert isinstance(info, inspect.StructType)
        lines += _section(f"{info.tag} {struct.__name__}", info, parts)
    lines += ["## Records", ""]
    for kind, body in BODIES.items():
        info = inspect.type_info(body)
        assert isinstance(info, inspect.StructType)
        lines += _section(f"{int(kind)} {kind.name}: {body.__name__}", info, parts)
    lines += ["## Parts", ""]
    for part in parts:
        info = inspect.type_info(part)
        assert isinstance(info, inspect.StructType)
        lines += _section(part.__name__, info, {})
    return "\n".join(lines)


def _section(title: str, info: inspect.StructType, parts: dict[type[Any], None]) -> list[str]:
    text = " ".join((info.cls.__doc__ or "").split("\n\n")[0].split())
    hints = get_type_hints(info.cls)
    lines = [f"### {title}", ""]
    # msgspec and dataclasses give a struct without a docstring none.
    if text and text != (info.cls.__base__.__doc__ or "").strip():
        lines += [text, ""]
    if info.fields:
        lines += ["| field | type |", "|---|---|"]
    for field in info.fields:
        assert field.name in hints
        lines.append(f"| {field.name} | {_type(field.type, parts)} |")
    return [*lines, ""] if info.fields else lines


def _type(info: inspect.Type, parts: dict[type[Any], None]) -> str:
    match info:
        case inspect.IntType():
            return f"int {_number(info.ge)} … {_number(info.le)}"
        case inspect.BoolType():
            return "bool"
        case inspect.BytesType():
            return f"bytes {_length(info.min_length, info.max_length)}".strip()
        case inspect.StrType():
            pattern = f", `{info.pattern}`".replace("|", "\\|") if info.pattern else ""
            return f"text {_length(info.min_length, info.max_length)}".strip() + pattern
        case inspect.VarTupleType():
            return f"list {_length(info.min_length, info.max_length)} of {_type(info.item_type, parts)}"
        case inspect.TupleType():
            return f"({', '.join(_type(each, parts) for each in info.item_types)})"
        case inspect.UnionType():
            return " or ".join(_type(each, parts) for each in info.types)
        case inspect.NoneType():
            return "nil"
        case inspect.StructType():
            parts[info.cls] = None
            for field in info.fields:
                _type(field.type, parts)
            return str(info.cls.__name__)
    raise AssertionError(f"no text for {info}")


def _length(least: int | None, most: int | None) -> str:
    if most is None:
        return ""
    return f"({most})" if least == most else f"({least or 0} … {most:,})"


def _number(value: float | None) -> str:
    """Powers of two as such."""
    assert value is not None
    number = int(value)
    for power in range(20, 64):
        for sign in (1, -1):
            if number == sign * (1 << power):
                return f"{'-' if sign < 0 else ''}2^{power}"
            if number == sign * (1 << power) - 1:
                return f"2^{power} - 1"
    return f"{number:,}"


def with_tables(page: str) -> str:
    """The text of wire.md with its generated part as it should be."""
    tables = wire_tables()
    return _WIRE_PART.sub(lambda _old: "\n" + tables + "\n", page)


def with_limits(page: str) -> str:
    """The text of limits.md with its table as it should be."""
    lines = ["| limit | at most | what is over it |", "|---|---|---|"]
    lines += [f"| `{limit}` | {bound.most} | {bound.then} |" for limit, bound in BOUNDS.items()]
    return _LIMITS_PART.sub(lambda _old: "\n".join(lines) + "\n", page)


def write(names: Iterable[str]) -> None:
    for name in names:
        path = DOCS / name
        before, _, rest = path.read_text(encoding="utf-8").partition("```mermaid\n")
        _, _, after = rest.partition("```")
        path.write_text(f"{before}```mermaid\n{render_table(DIAGRAMS[name])}```{after}", encoding="utf-8")
    wire = DOCS / "wire.md"
    wire.write_text(with_tables(wire.read_text(encoding="utf-8")), encoding="utf-8")
    limits = DOCS / "limits.md"
    limits.write_text(with_limits(limits.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write(DIAGRAMS)
