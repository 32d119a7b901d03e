"""Interval maps and sets against plain dictionaries and sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.protocol.intervals import IntervalMap, IntervalSet

SPAN = 40
ranges = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN)).map(lambda pair: (min(pair), max(pair)))
edits = st.lists(st.tuples(ranges, st.one_of(st.none(), st.integers(0, 3))), max_size=30)


def as_dict(intervals: IntervalMap[int]) -> dict[int, int]:
    return {index: value for lo, hi, value in intervals for index in range(lo, hi)}


def as_set(intervals: IntervalSet) -> set[int]:
    return {index for lo, hi in intervals for index in range(lo, hi)}


@given(edits)
def test_map_equals_a_dictionary_of_numbers(edits: list[tuple[tuple[int, int], int | None]]) -> None:
    intervals, model = IntervalMap[int](), dict[int, int]()
    for (lo, hi), value in edits:
        before = dict(model)
        for index in range(lo, hi):
            if value is None:
                model.pop(index, None)
            else:
                model[index] = value
        changed = intervals.remove(lo, hi) if value is None else intervals.assign(lo, hi, value)
        assert changed == (before != model)
        assert as_dict(intervals) == model
        assert [intervals.get(index) for index in range(SPAN)] == [model.get(index) for index in range(SPAN)]


@given(edits)
def test_map_never_keeps_two_neighbours_with_equal_values(edits: list[tuple[tuple[int, int], int | None]]) -> None:
    intervals = IntervalMap[int]()
    for (lo, hi), value in edits:
        intervals.update(lo, hi, lambda old, new=value: new if old is None else old)
    entries = list(intervals)
    for (_, hi, left), (lo, _, right) in zip(entries, entries[1:], strict=False):
        assert hi < lo or (hi == lo and left != right)


@given(edits, ranges)
def test_pieces_tile_the_range(edits: list[tuple[tuple[int, int], int | None]], asked: tuple[int, int]) -> None:
    intervals = IntervalMap[int]()
    for (lo, hi), value in edits:
        intervals.remove(lo, hi) if value is None else intervals.assign(lo, hi, value)
    cursor = asked[0]
    for lo, hi, value in intervals.pieces(*asked):
        assert lo == cursor and hi > lo
        assert {intervals.get(index) for index in range(lo, hi)} == {value}
        cursor = hi
    assert cursor == asked[1]


@given(edits, ranges)
def test_pieces_are_counted_as_they_are_found(
    edits: list[tuple[tuple[int, int], int | None]], asked: tuple[int, int]
) -> None:
    intervals, members = IntervalMap[int](), IntervalSet()
    for (lo, hi), value in edits:
        intervals.remove(lo, hi) if value is None else intervals.assign(lo, hi, value)
        members.discard(lo, hi) if value is None else members.add(lo, hi)
    lo, hi = asked
    if lo < hi:
        assert intervals.count(lo, hi) == sum(value is not None for _, _, value in intervals.pieces(lo, hi))
        assert members.count(lo, hi) == len(members.overlap(lo, hi))
    assert members.covers(lo, hi) == (not members.gaps(lo, hi))


@given(st.lists(st.tuples(ranges, st.booleans()), max_size=30), ranges)
def test_set_equals_a_set_of_numbers(edits: list[tuple[tuple[int, int], bool]], asked: tuple[int, int]) -> None:
    intervals, model = IntervalSet(), set[int]()
    for (lo, hi), add in edits:
        numbers = set(range(lo, hi))
        if add:
            assert intervals.add(lo, hi) == len(numbers - model)
            model |= numbers
        else:
            assert intervals.discard(lo, hi) == len(numbers & model)
            model -= numbers
        assert as_set(intervals) == model
        assert intervals.total == len(model)
        entries = list(intervals)
        assert all(hi < lo for (_, hi), (lo, _) in zip(entries, entries[1:], strict=False))
    wanted = set(range(*asked))
    assert {i for lo, hi in intervals.overlap(*asked) for i in range(lo, hi)} == wanted & model
    assert {i for lo, hi in intervals.gaps(*asked) for i in range(lo, hi)} == wanted - model


def test_a_million_untouched_tasks_are_one_interval() -> None:
    free = IntervalSet((0, 1_000_000))
    free.discard(500, 600)
    assert list(free) == [(0, 500), (600, 1_000_000)]
