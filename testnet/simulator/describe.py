"""The tables of docs/simulator.md, made from the checkers, mutants and scenarios themselves."""

from __future__ import annotations

from pathlib import Path

from ...node.settings.describe import replace_block
from .checkers import ALL
from .mutants import MUTANTS
from .scenario_mutants import BROKEN
from .scenarios import SCENARIOS

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


def scenario_table() -> str:
    """One row a scenario, with what is broken there to show that it can fail, and who notices."""
    rows = ["| scenario | where it went wrong | broken here too | caught by |", "|---|---|---|---|"]
    for scenario in SCENARIOS:
        mutants = [broken for broken in BROKEN if broken.scenario == scenario.name]
        whats = "<br>".join(broken.what for broken in mutants) or "–"
        names = "<br>".join(" or ".join(f"`{name}`" for name in broken.caught_by) for broken in mutants) or "–"
        rows.append(f"| `{scenario.name}` | {scenario.failed} | {whats} | {names} |")
    return "\n".join(rows)


def refreshed(page: str) -> str:
    """The page with all tables as they are now."""
    for name, table in (("checkers", checker_table), ("mutants", mutant_table), ("scenarios", scenario_table)):
        page = replace_block(page, name, table())
    return page


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
