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


def test_every_test_that_a_page_names_is_there() -> None:
    """As `test_file.py`, `test_name` or `test_file.py::test_name`; examples for the reader's own are in blocks."""
    tests: dict[str, set[str]] = {}
    for path in ROOT.glob("tests/**/*.py"):  # two folders may have files of one name
        tests.setdefault(path.name, set()).update(re.findall(r"def (test_\w+)", path.read_text()))
    names = set().union(*tests.values())
    for page, text in _prose():
        for file in re.findall(r"\btest_\w+\.py", text):
            assert file in tests, f"{page} names {file}"
        for file, name in re.findall(r"\b(?:(test_\w+\.py)::)?(test_\w+)\b(?!\.py)", text):
            assert name in (tests[file] if file else names), f"{page} names {file or 'a test'}, {name}"


def test_every_file_that_a_page_names_is_there() -> None:
    """By its path from the root."""
    for page, text in _prose():
        for path in re.findall(r"`((?:crypto|docs|examples|node|protocol|testnet|tests)/[\w/.-]+)`", text):
            assert (ROOT / path).exists(), f"{page} names {path}"


def _prose() -> list[tuple[str, str]]:
    """The pages, without blocks of code."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    return [(page.name, re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)) for page in pages]


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
