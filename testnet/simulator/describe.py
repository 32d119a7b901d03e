"""The tables of docs/simulator.md, made from the checkers and mutants themselves."""

from __future__ import annotations

from pathlib import Path

from ...node.settings.describe import replace_block
from .checkers import ALL
from .mutants import MUTANTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "simulator.md"


def checker_table() -> str:
    """One row a checker; the invariant's number is the design's."""
    rows = ["| name | invariant | what holds |", "|---|---|---|"]
    for checker in ALL:
        words = " ".join((checker.__doc__ or "").split())
        rows.append(f"| `{checker.name}` | {checker.invariant or '–'} | {words} |")
    return "\n".join(rows)


def mutant_table() -> str:
    rows = ["| what is broken | caught by |", "|---|---|"]
    rows += [f"| {mutant.name} | {' or '.join(f'`{name}`' for name in mutant.caught_by)} |" for mutant in MUTANTS]
    return "\n".join(rows)


def refreshed(page: str) -> str:
    """The page with both tables as they are now."""
    return replace_block(replace_block(page, "checkers", checker_table()), "mutants", mutant_table())


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
