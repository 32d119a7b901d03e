"""State diagrams of the docs, made from the machines' own transition tables.

`python -m tests.docs_diagrams` prints those of the tables named below, to be pasted into their pages; a test
beside each machine fails when a page and its table differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
_DIAGRAM = re.compile(r"^```mermaid\n(stateDiagram-v2\n.*?)```$", re.MULTILINE | re.DOTALL)


def render_table(transitions: Mapping[tuple[Enum, object], Enum]) -> str:
    """A mermaid state diagram: one arrow for each pair of states, with all findings that lead along it.

    transitions: {(state, finding): next state}. The first state named is where one begins. A finding is shown
    by its value if it is an Enum's, by its name if it is a class.
    """
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, finding), after in transitions.items():
        arrows.setdefault((before.name.lower(), after.name.lower()), []).append(_label(finding))
    first = next(iter(arrows))[0]
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {before} --> {after}: {', '.join(labels)}" for (before, after), labels in arrows.items()]
    return "\n".join(lines) + "\n"


def documented_diagram(page: str, number: int = 0) -> str:
    """The number-th state diagram of docs/`page`. Raises IndexError if there are fewer."""
    return _DIAGRAM.findall((DOCS / page).read_text(encoding="utf-8"))[number]  # type: ignore[no-any-return]


def _label(finding: object) -> str:
    if isinstance(finding, Enum):
        return str(finding.value)
    return finding.__name__ if isinstance(finding, type) else str(finding)


if __name__ == "__main__":
    from hearthmesh.protocol.liveness import TRANSITIONS

    print(render_table(TRANSITIONS), end="")
