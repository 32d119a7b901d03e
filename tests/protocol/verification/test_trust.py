"""The book: what raises a streak, what ends it, and that it fades."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.verification.trust import HALF_LIFE_S, WRONG_WEIGHS, TrustBook

NODE = bytes(32)
NEWS = st.tuples(st.sampled_from("abc"), st.sampled_from(("wasm", "native ls")), st.integers(0, 30))


class Counted(bytes):
    """Counts what it is compared with."""

    times = 0

    def __eq__(self, other: object) -> bool:
        type(self).times += 1
        return bytes(self) == other

    __hash__ = bytes.__hash__


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


def test_whether_a_node_is_doubted_is_known_without_a_look_at_all_rows() -> None:
    book = TrustBook()
    for number in range(200):
        book.found_wrong(number.to_bytes(32, "big"), "wasm", 1)
    assert book.doubts(Counted((7).to_bytes(32, "big"))) and not book.doubts(Counted((200).to_bytes(32, "big")))
    assert Counted.times <= 2


@given(st.lists(NEWS, max_size=60))
def test_doubts_are_what_the_rows_that_are_left_say(news: list[tuple[str, str, int]]) -> None:
    """right: so many, or with 0 a wrong one. Only two rows have room."""
    book = TrustBook()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hearthmesh.protocol.verification.trust.PAIRS_MAX", 2)
        for name, runtime, right in news:
            node = name.encode() * 32
            if right:
                book.found_right(node, runtime, right, 1)
            else:
                book.found_wrong(node, runtime, 1)
            doubtful = {row.node for row in book if row.wrong * WRONG_WEIGHS > row.right}
            assert {each for each in (b"a" * 32, b"b" * 32, b"c" * 32) if book.doubts(each)} == doubtful


@given(st.binary(max_size=100))
def test_a_damaged_row_is_left_out(data: bytes) -> None:
    book = TrustBook()
    book.restore(data)
    assert len(book) == 0


def test_a_row_comes_back_as_it_was() -> None:
    book, other = TrustBook(), TrustBook()
    other.restore(book.found_right(NODE, "wasm", 3, 7).to_bytes())
    assert other.standing(NODE, "wasm") == book.standing(NODE, "wasm")
