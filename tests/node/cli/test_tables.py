"""How tables give way to a narrow terminal."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hearthmesh.node.cli.tables import Column, lay_out

PEER = "12D3KooWQdErqYDsLkW4G8D5Cs1xCUnp5xZ5LCnFJNJEtYuoS7ff"
COLUMNS = ("name", "state", ">°C", Column(">free slots", drop=1), Column("peer id", tail=8))
ROWS = [("kitchen", "alive", "19.25", "4", PEER), ("h2", "suspect", "8.00", "–", PEER)]


def test_what_has_room_is_whole() -> None:
    for width in (None, 200):
        layout = lay_out(COLUMNS, ROWS, width)
        assert layout.lines == (
            "name     state       °C  free slots  peer id",
            f"kitchen  alive    19.25           4  {PEER}",
            f"h2       suspect   8.00           –  {PEER}",
        )
        assert (layout.heading_lines, layout.omitted) == (1, ())


def test_ids_are_shortened_first_and_keep_their_ends() -> None:
    assert lay_out(COLUMNS, ROWS, 50).lines == (
        "name     state       °C  free slots  peer id",
        "kitchen  alive    19.25           4  …JNJEtYuoS7ff",
        "h2       suspect   8.00           –  …JNJEtYuoS7ff",
    )


def test_headings_are_folded_before_a_column_goes() -> None:
    layout = lay_out(COLUMNS, ROWS, 42)
    assert layout.lines == (
        "name     state       °C    free  peer id",
        "                          slots",
        "kitchen  alive    19.25       4  …tYuoS7ff",
        "h2       suspect   8.00       –  …tYuoS7ff",
    )
    assert (layout.heading_lines, layout.omitted) == (2, ())


def test_a_column_goes_when_nothing_else_gives_way_and_then_the_line_is_longer() -> None:
    layout = lay_out(COLUMNS, ROWS, 36)
    assert (layout.lines[1], layout.omitted) == ("kitchen  alive    19.25  …JEtYuoS7ff", ("free slots",))
    assert lay_out(COLUMNS, ROWS, 10).lines[1] == "kitchen  alive    19.25  …tYuoS7ff"


def test_an_empty_column_goes_without_a_word() -> None:
    rows = [(name, state, warmth, "–", peer) for name, state, warmth, _, peer in ROWS]
    layout = lay_out(COLUMNS, rows, 36)
    assert (len(layout.lines), layout.omitted) == (3, ())


def test_texts_are_folded_at_spaces_and_long_words_are_broken() -> None:
    columns = (">n", Column("why", folds=True))
    assert lay_out(columns, [("1", "it wants no work, " + "x" * 30), ("22", "")], 28).lines == (
        " n  why",
        " 1  it wants no work,",
        "    xxxxxxxxxxxxxxxxxxxxxxxx",
        "    xxxxxx",
        "22",
    )


@given(
    st.lists(st.tuples(*[st.text("ab 厨", max_size=12)] * 2, st.text("0123456789", max_size=60))), st.integers(1, 90)
)
def test_rows_fit_where_columns_may_give_way_and_whole_cells_are_whole(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    layout = lay_out(("a", Column("text", folds=True, drop=1), Column("id", tail=4)), rows, width)
    least = max([1, *(cell_len(row[0]) for row in rows)]) + 2 + max([2, *(min(5, len(row[2])) for row in rows)])
    assert max(map(cell_len, layout.lines)) <= max(width, least)
    starts = layout.lines[layout.heading_lines :]
    for name, _, number in rows:
        end = number if len(number) <= 5 else number[-4:]
        assert any(line.startswith(name.rstrip()) and line.endswith(end) for line in starts)
