"""docs/simulator.md lists the checkers and mutants that there are."""

from hearthmesh.testnet.simulator.describe import PAGE, refreshed


def test_the_tables_are_fresh() -> None:
    """`python -m hearthmesh.testnet.simulator.describe` writes them."""
    text = PAGE.read_text(encoding="utf-8")
    assert refreshed(text) == text
