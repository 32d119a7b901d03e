"""The tables of docs/chaos.md, from the code: `python -m hearthmesh.testnet.chaos.describe` writes them."""

from __future__ import annotations

from pathlib import Path

from ...node.settings.describe import replace_block
from ..history.check import CHECKS
from .disturbances import DISTURBANCES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "chaos.md"


def refreshed(text: str) -> str:
    """The page with fresh tables."""
    disturbances = [f"| `{each.name}` | {each.what} |" for each in DISTURBANCES.values()]
    checks = [f"| `{name}` | {what} |" for name, what in CHECKS.items()]
    text = replace_block(text, "disturbances", "\n".join(["| name | what is done |", "|---|---|", *disturbances]))
    return replace_block(text, "checks", "\n".join(["| check | what holds |", "|---|---|", *checks]))


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
