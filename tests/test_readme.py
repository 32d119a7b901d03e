"""The README shows what really was printed, and names only what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_recorded_demo_is_the_one_on_file() -> None:
    shown = re.search(r"<!-- demo -->\n```text\n(.*?)\n```\n<!-- /demo -->", README, re.S)
    assert shown is not None
    assert shown.group(1) == (ROOT / "docs" / "demo.txt").read_text().rstrip("\n")
    assert "VERIFIED" in shown.group(1)


def test_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_imports_run_down_only() -> None:
    below = {"testnet": set(), "node": {"testnet"}, "protocol": {"testnet", "node"}}
    below["crypto"] = {"testnet", "node", "protocol"}
    for layer, forbidden in below.items():
        for path in (ROOT / layer).rglob("*.py"):
            found = set(re.findall(r"^\s*from \.{2,}(\w+)", path.read_text(), re.M))
            found |= set(re.findall(r"^\s*(?:from|import) hearthmesh\.(\w+)", path.read_text(), re.M))
            assert not found & forbidden, f"{path.relative_to(ROOT)} imports {found & forbidden}"


def test_protocol_asks_the_world_for_nothing() -> None:
    impure = re.compile(r"^\s*(?:import|from)\s+(trio|time|random|os|socket|threading|secrets|asyncio)\b", re.M)
    for path in (ROOT / "protocol").rglob("*.py"):
        assert not impure.search(path.read_text()), f"{path.relative_to(ROOT)} must stay pure"


def test_no_page_speaks_of_where_it_was_made() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]:
        assert "/work/" not in path.read_text(), path.name


def test_every_test_that_the_threat_model_names_is_there() -> None:
    names = re.findall(r"`((?:tests/[\w/]+|test_\w+)(?:\.py)?)`", (ROOT / "docs" / "threat-model.md").read_text())
    assert len(names) > 15
    for name in names:
        found = (ROOT / name).exists() if name.startswith("tests/") else any((ROOT / "tests").rglob(name))
        assert found, name
