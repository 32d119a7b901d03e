"""Dwell times: changes lie apart, and safety does not wait."""

from hypothesis import given
from hypothesis import strategies as st

from hearthmesh.node.heating.control.dwell import Dwell

path = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=60)


@given(path)
def test_level_holds_for_its_time(wanted: list[tuple[int, int]]) -> None:
    dwell, now_s, last_change_s, level = Dwell(60.0), 0, None, 0
    for wait_s, each in wanted:
        now_s += wait_s
        found = dwell.update(each, now_s)
        if found != level:
            assert last_change_s is None or now_s - last_change_s >= 60
            level, last_change_s = found, now_s


@given(path, st.integers(0, 8))
def test_ceiling_is_obeyed_at_once(wanted: list[tuple[int, int]], ceiling: int) -> None:
    dwell, now_s = Dwell(60.0), 0
    for wait_s, each in wanted:
        now_s += wait_s
        assert dwell.update(each, now_s, ceiling=ceiling) <= ceiling


def test_hand_on_the_dial_waits_for_nothing() -> None:
    dwell = Dwell(60.0)
    assert dwell.update(3, 0) == 3
    assert dwell.update(1, 10) == 3
    dwell.release()
    assert dwell.update(1, 10) == 1


def test_wish_that_lasts_comes_true_when_the_time_is_over() -> None:
    dwell = Dwell(60.0)
    assert [dwell.update(level, at_s) for at_s, level in ((0, 2), (30, 5), (59, 5), (60, 5))] == [2, 2, 2, 5]
