"""docs/chaos.md lists the disturbances and the checks that there are."""

from hearthmesh.testnet.chaos.describe import PAGE, refreshed


def test_the_tables_are_fresh() -> None:
    """`python -m hearthmesh.testnet.chaos.describe` writes them."""
    text = PAGE.read_text(encoding="utf-8")
    assert refreshed(text) == text
