"""The book: what raises a streak, what ends it, and that it fades."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.verification.trust import HALF_LIFE_S, TrustBook

NODE = bytes(32)


def test_right_results_add_up_and_one_wrong_ends_the_streak() -> None:
    book = TrustBook()
    book.found_right(NODE, "wasm", 12, 100)
    assert book.streak(NODE, "wasm", 100) == 12 and book.streak(NODE, "native ls", 100) == 0
    row = book.found_wrong(NODE, "wasm", 101)
    assert (row.streak, row.right, row.wrong) == (0, 12, 1)


def test_a_streak_halves_every_half_life() -> None:
    book = TrustBook()
    book.found_right(NODE, "wasm", 40, 0)
    assert [book.streak(NODE, "wasm", n * HALF_LIFE_S) for n in range(4)] == [40, 20, 10, 5]
    assert book.streak(NODE, "wasm", 1 << 50) == 0


def test_a_wrong_result_is_made_up_for_by_many_right_ones() -> None:
    book = TrustBook()
    assert not book.doubts(NODE)
    book.found_wrong(NODE, "wasm", 1)
    assert book.doubts(NODE)
    book.found_right(NODE, "wasm", 19, 1)
    assert book.doubts(NODE)
    book.found_right(NODE, "wasm", 1, 1)
    assert not book.doubts(NODE)


@given(st.binary(max_size=100))
def test_a_damaged_row_is_left_out(data: bytes) -> None:
    book = TrustBook()
    book.restore(data)
    assert len(book) == 0


def test_a_row_comes_back_as_it_was() -> None:
    book, other = TrustBook(), TrustBook()
    other.restore(book.found_right(NODE, "wasm", 3, 7).to_bytes())
    assert other.standing(NODE, "wasm") == book.standing(NODE, "wasm")
