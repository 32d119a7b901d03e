"""Numbers with their nouns."""

from hearthmesh.protocol.words import counted


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(n, "task") for n in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]
    assert counted(2, "axis", "axes") == "2 axes"
